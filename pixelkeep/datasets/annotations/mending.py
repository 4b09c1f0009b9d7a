"""Mend what can be mended in annotations without guessing: boxes over the border, repeated boxes, float noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from pixelkeep.datasets.annotations.problems import Problems
from pixelkeep.datasets.annotations.record import ImageRecord

ROUNDING = 0.5  # pixels that a box may reach over the border: attributed to rounding, so not reported as mended
GRID = 10  # decimals of a pixel: coarser than float64's noise in fractions of 100,000 pixels, finer than float32
OVER_THE_BORDER = "boxes across the image border, clipped"


def snap(boxes: np.ndarray) -> np.ndarray:
    """Return boxes in pixels without float64 noise, so that the same data gives equal boxes in every format."""
    return np.round(boxes, GRID)


def clip_boxes(boxes: np.ndarray, width: int, height: int, file: Path, problems: Problems) -> np.ndarray:
    """Return boxes (n, 4), x1 y1 x2 y2, clipped to an image of ``width`` x ``height`` pixels; record what was cut."""
    clipped = np.clip(boxes, 0, [width, height, width, height])
    over = int(is_over(boxes, clipped).sum())
    if over:
        problems.mend(OVER_THE_BORDER, file, f"{over} of {len(boxes)}")
    return clipped


def is_over(boxes: np.ndarray, clipped: np.ndarray) -> np.ndarray:
    """Return bool (n,), true for boxes that reached further over the border than rounding explains."""
    return np.abs(clipped - boxes).max(1, initial=0) > ROUNDING


def drop_repeated(record: ImageRecord, file: Path, problems: Problems) -> ImageRecord:
    """Return a record without the objects that repeat the class and the box of an earlier object."""
    first: dict[tuple, int] = {}
    for row, key in enumerate(zip(record.classes.tolist(), *record.boxes.T.tolist(), strict=True)):
        first.setdefault(key, row)
    n = len(record.classes)
    if len(first) == n:
        return record
    problems.mend("objects given twice, used once", file, f"{n - len(first)} of {n}")
    return keep_objects(record, np.array(list(first.values())))


def keep_objects(record: ImageRecord, kept: np.ndarray, **changes: object) -> ImageRecord:
    """Return a record with only the objects in the rows ``kept``.

    Args:
        record: The record to reduce.
        kept: Int (k,), rows of the objects that stay.
        changes: New values of other fields of the record.
    """
    fields = {
        "boxes": record.boxes[kept],
        "classes": record.classes[kept],
        "areas": record.areas[kept],
        "difficult": record.difficult[kept],
        "polygons": record.polygons and [record.polygons[row] for row in kept],
        "ids": None if record.ids is None else record.ids[kept],
    }
    return replace(record, **(fields | changes))


def set_aside(record: ImageRecord, classes: np.ndarray) -> ImageRecord:
    """Return a record in which the objects of ignored classes have become regions to ignore.

    Args:
        record: A record whose classes are label numbers.
        classes: Int (labels,), the network's class for each label number; -1 where the label is ignored.
    """
    found = classes[record.classes]
    kept, ignored = np.flatnonzero(found >= 0), np.flatnonzero(found < 0)
    return keep_objects(
        record,
        kept,
        classes=found[kept],
        regions=np.concatenate([record.regions, record.boxes[ignored]]),
        region_ids=_region_ids(record, ignored),
    )


def _region_ids(record: ImageRecord, ignored: np.ndarray) -> np.ndarray | None:
    """Return the ids of a record's regions, then those of the objects in rows ``ignored``, which become regions.

    None stands for regions without ids.
    """
    if record.ids is None or (record.region_ids is None and len(record.regions)):
        return None
    before = np.zeros(0, np.int64) if record.region_ids is None else record.region_ids
    return np.concatenate([before, record.ids[ignored]])
