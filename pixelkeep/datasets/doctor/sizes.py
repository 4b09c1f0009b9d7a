"""Objects as the network will see them: letterboxed to its input, with statistics of their sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pixelkeep.datasets.annotations.record import ImageRecord

MARKS = (8, 16, 32)  # pixels, sizes below which the share of objects is given
PERCENTILES = (1, 10, 50, 90, 99)
BORDERS = (0, 8, 16, 32, 96)  # pixels, lower limits of the size classes of original sizes

Size = tuple[int, int]  # height and width


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of a split that are trained on, i.e. all but those marked difficult.

    Attributes:
        records: The records of the images.
        image: Int64 (n,), the index of each object's image in ``records``.
        classes: Int64 (n,), the class number of each object.
        sides: Float64 (n, 2), width and height of each object in original pixels.
        boxes: Float64 (n, 4), x1 y1 x2 y2 of each object in pixels of the network's input.
    """

    records: Sequence[ImageRecord]
    image: np.ndarray
    classes: np.ndarray
    sides: np.ndarray
    boxes: np.ndarray

    @cached_property
    def original(self) -> np.ndarray:
        """Size of each object, the square root of its area, in original pixels, (n,)."""
        return np.sqrt(self.sides.prod(1))

    @cached_property
    def shown_sides(self) -> np.ndarray:
        """Width and height of each object in network pixels, (n, 2)."""
        return self.boxes[:, 2:] - self.boxes[:, :2]

    @cached_property
    def shown(self) -> np.ndarray:
        """Size of each object, the square root of its area, in network pixels, (n,)."""
        return np.sqrt(self.shown_sides.prod(1))

    @cached_property
    def counts(self) -> np.ndarray:
        """Number of objects in each image, int64 (images,)."""
        return np.bincount(self.image, minlength=len(self.records))


def collect(records: Sequence[ImageRecord], size: Size) -> Objects:
    """Return the objects of images, letterboxed to ``size``."""
    trained = [~record.difficult for record in records]
    boxes = [record.boxes[kept] for record, kept in zip(records, trained, strict=True)]
    shown = [letterboxed(own, record, size) for own, record in zip(boxes, records, strict=True)]
    everything = np.concatenate([np.zeros((0, 4)), *boxes])
    return Objects(
        records,
        np.repeat(np.arange(len(records)), [len(own) for own in boxes]),
        np.concatenate([np.zeros(0, np.int64), *(r.classes[kept] for r, kept in zip(records, trained, strict=True))]),
        everything[:, 2:] - everything[:, :2],
        np.concatenate([np.zeros((0, 4)), *shown]),
    )


def letterboxed(boxes: np.ndarray, record: ImageRecord, size: Size) -> np.ndarray:
    """Return boxes (n, 4) of an image in pixels of an input of ``size``, in which the image is centred (letterbox)."""
    scale = shrinkage(record, size)
    margin = [(size[1] - record.width * scale) / 2, (size[0] - record.height * scale) / 2]
    return boxes * scale + np.tile(margin, 2)


def shrinkage(record: ImageRecord, size: Size) -> float:
    """Return the scale factor of the letterbox: pixels of an input of ``size`` per pixel of the image."""
    return min(size[0] / record.height, size[1] / record.width)


def size_table(sides: np.ndarray, limits: Sequence[float]) -> dict[str, dict[str, float | None]]:
    """Return percentiles of sizes (n,) and the share of sizes below each limit; all None if there are no objects."""
    some = len(sides) > 0
    values = np.percentile(sides, PERCENTILES) if some else [None] * len(PERCENTILES)
    return {
        "percentiles": {str(p): None if v is None else float(v) for p, v in zip(PERCENTILES, values, strict=True)},
        "under": {f"{limit:g}": float((sides < limit).mean()) if some else None for limit in limits},
    }
