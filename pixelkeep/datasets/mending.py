"""What can be put right in annotations without guessing: boxes that reach over the border, and boxes given twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from pixelkeep.datasets.problems import Problems
from pixelkeep.datasets.record import ImageRecord

ROUNDING = 0.5  # pixels over the border that are put down to rounding and not counted


def clip_boxes(boxes: np.ndarray, width: int, height: int, file: Path, problems: Problems) -> np.ndarray:
    """Return boxes (n, 4) x1 y1 x2 y2 cut at the border of their image of ``width`` x ``height`` pixels."""
    clipped = np.clip(boxes, 0, [width, height, width, height])
    over = int((np.abs(clipped - boxes).max(1, initial=0) > ROUNDING).sum())
    if over:
        problems.mend("boxes over the border cut at it", file, f"{over} of {len(boxes)}")
    return clipped


def drop_repeated(record: ImageRecord, file: Path, problems: Problems) -> ImageRecord:
    """Return a record without objects that repeat the class and the box of an earlier one."""
    rows = np.column_stack([record.classes, record.boxes])
    _, first = np.unique(rows, axis=0, return_index=True)
    if len(first) == len(rows):
        return record
    problems.mend("objects given twice used once", file, f"{len(rows) - len(first)} of {len(rows)}")
    first.sort()
    return replace(
        record,
        boxes=record.boxes[first],
        classes=record.classes[first],
        areas=record.areas[first],
        difficult=record.difficult[first],
        polygons=record.polygons and [record.polygons[i] for i in first],
    )
