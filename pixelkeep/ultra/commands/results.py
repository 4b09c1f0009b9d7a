"""detections.json, the document of ``detect --json``: how a run went, and what was found in each image or frame.

The results are written from the journal line by line, so that those of a long video need not fit in memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pixelkeep.ultra.commands.journal import NAME, entries
from pixelkeep.writing import staged

FILE = "detections.json"
PLACE = ("place", "frame", "at")  # place of a stream; number and time of a frame in its video or stream


def write_document(folder: Path, summary: dict[str, Any], objects: bool, rows: bool) -> None:
    """Write the document, one line for each key and for each image or frame.

    Args:
        folder: The run folder, which holds the journal.
        summary: Keys and values that say how the run went.
        objects: Whether the results of the task are objects.
        rows: Whether the journal holds the results; otherwise ``results`` is null.
    """
    with staged(folder / FILE) as path, path.open("w", encoding="utf-8") as file:
        file.write("{\n")
        file.writelines(f"  {_dump(key)}: {_dump(value)},\n" for key, value in summary.items())
        file.write('  "results": ')
        file.writelines(_listed(results(folder / NAME, objects)) if rows else ["null"])
        file.write("\n}\n")


def results(journal: Path, objects: bool) -> Iterator[dict[str, Any]]:
    """Yield what was found in each image or frame, in the form that docs/detect.md describes."""
    for _, entry in entries(journal):
        if "ended" in entry:
            continue
        found = entry.get("objects", [])
        where = {"file": entry["file"], "image_id": entry["image_id"]}
        where |= {name: entry[name] for name in PLACE if name in entry}
        yield where | ({"objects": [_object(row) for row in found]} if objects else dict(*found))


def _object(row: dict[str, Any]) -> dict[str, Any]:
    """Return an object in the document's form: two corners of its box, and all four of an oriented box."""
    x, y, width, height = row["bbox"]
    told = {"class": row["category_id"] - 1, "name": row["category"], "confidence": row["score"]}
    told["xyxy"] = [x, y, round(x + width, 3), round(y + height, 3)]
    if "obb" in row:
        (flat,) = row["segmentation"]
        told |= {"corners": [flat[i : i + 2] for i in range(0, len(flat), 2)], "obb": row["obb"]}
    return told | ({"track_id": row["track_id"]} if "track_id" in row else {})


def _listed(rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    """Yield a JSON list piece by piece, one element per line."""
    opening = "["
    for row in rows:
        yield f"{opening}\n    {_dump(row)}"
        opening = ","
    yield "[]" if opening == "[" else "\n  ]"


def _dump(value: Any) -> str:
    return json.dumps(value, allow_nan=False)
