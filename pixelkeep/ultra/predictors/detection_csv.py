"""Detections as a table: one line per detection, in pixels of the image or frame."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

COLUMNS = ("image_id", "file_name", "frame", "category", "score", "x1", "y1", "x2", "y2")
ORIENTED = ("center_x", "center_y", "width", "height", "radians")
IDENTITY = ("track_id",)


def to_csv(records: Iterable[Mapping[str, Any]], tracked: bool = False, oriented: bool = False) -> str:
    """Return detections in COCO results form as CSV; ``frame`` stays empty for an image that is not a video frame.

    Args:
        records: One mapping per detection.
        tracked: Whether the detections have track identities, which go into the last column.
        oriented: Whether the detections are oriented boxes, whose centres, sides and angles get their own columns.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow((*COLUMNS, *(ORIENTED if oriented else ()), *IDENTITY[: int(tracked)]))
    for record in records:
        x, y, width, height = record["bbox"]
        fields = [record.get(name, "") for name in COLUMNS[:5]]
        corners = (round(value, 3) for value in (x, y, x + width, y + height))
        turned = record["obb"] if oriented else ()
        table.writerow([*fields, *corners, *turned, *(record[name] for name in IDENTITY[: int(tracked)])])
    return text.getvalue()
