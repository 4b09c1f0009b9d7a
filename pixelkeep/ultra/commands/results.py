"""detections.json, the document of ``detect --json``: how a run went, and what was found in each image or frame.

What was found is written from the journal line by line, so that a long video needs no memory for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pixelkeep.ultra.commands.journal import NAME, entries
from pixelkeep.writing import staged

FILE = "detections.json"
PLACE = ("place", "frame", "at")  # of a stream, and of a frame in its video or stream


def write_document(folder: Path, summary: dict[str, Any], objects: bool, rows: bool) -> None:
    """Write the document, a line for each key and for each image or frame.

    Args:
        folder: The run folder, with its journal.
        summary: How the run went.
        objects: Whether the task finds objects.
        rows: Whether the journal holds what was found; else ``results`` is null.
    """
    with staged(folder / FILE) as path, path.open("w", encoding="utf-8") as file:
        file.write("{\n")
        file.writelines(f"  {_dump(key)}: {_dump(value)},\n" for key, value in summary.items())
        file.write('  "results": ')
        file.writelines(_listed(results(folder / NAME, objects)) if rows else ["null"])
        file.write("\n}\n")


def results(journal: Path, objects: bool) -> Iterator[dict[str, Any]]:
    """Return what was found in each image or frame, as docs/detect.md describes it."""
    for _, entry in entries(journal):
        if "ended" in entry:
            continue
        found = entry.get("objects", [])
        where = {"file": entry["file"], "image_id": entry["image_id"]}
        where |= {name: entry[name] for name in PLACE if name in entry}
        yield where | ({"objects": [_object(row) for row in found]} if objects else dict(*found))


def _object(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row in COCO results form with both corners of its box, and of an oriented one all four."""
    x, y, width, height = row["bbox"]
    told = {"class": row["category_id"] - 1, "name": row["category"], "confidence": row["score"]}
    told["xyxy"] = [x, y, round(x + width, 3), round(y + height, 3)]
    if "obb" in row:
        (flat,) = row["segmentation"]
        told |= {"corners": [flat[i : i + 2] for i in range(0, len(flat), 2)], "obb": row["obb"]}
    return told | ({"track_id": row["track_id"]} if "track_id" in row else {})


def _listed(rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    """Return a JSON list piece by piece, an element a line."""
    opening = "["
    for row in rows:
        yield f"{opening}\n    {_dump(row)}"
        opening = ","
    yield "[]" if opening == "[" else "\n  ]"


def _dump(value: Any) -> str:
    return json.dumps(value, allow_nan=False)
