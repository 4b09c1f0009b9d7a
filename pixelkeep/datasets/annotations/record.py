"""The record of one labelled image, the same for every dataset format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixelkeep.errors import DataError


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """One image and its annotations, in pixels of the image as it is stored.

    Attributes:
        path: The image file.
        width: Width of the image in pixels.
        height: Height of the image in pixels.
        boxes: Float64 (n, 4), x1 y1 x2 y2; x2 and y2 are exclusive, so that a box of one pixel has sides of 1.
        classes: Int64 (n,), the class number of each object, from 0.
        areas: Float64 (n,), the objects' areas as annotated; None to use the areas of the boxes.
        difficult: Bool (n,), objects that an evaluation leaves out; None if there are none.
        regions: Float64 (m, 4), x1 y1 x2 y2, rectangles in which no class is judged; None if there are none.
        polygons: For each box the outline that it encloses, float64 (k, 2); None if there are only boxes.
        image_id: The image's id in a COCO file; None if it has none.
        ids: Int64 (n,), the objects' annotation ids in a COCO file; None if they have none.
        region_ids: Int64 (m,), the regions' annotation ids in a COCO file; None if they have none.

    Raises:
        DataError: Lengths do not agree, a box is inverted or not finite, or a class or an area is negative.
    """

    path: Path
    width: int
    height: int
    boxes: np.ndarray
    classes: np.ndarray
    areas: np.ndarray | None = None
    difficult: np.ndarray | None = None
    regions: np.ndarray | None = None
    polygons: list[np.ndarray] | None = None
    image_id: int | None = None
    ids: np.ndarray | None = None
    region_ids: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Convert the arrays to their dtypes and check them."""
        boxes = self._corners("boxes", self.boxes)
        n = len(boxes)
        areas = box_areas(boxes) if self.areas is None else self.areas
        difficult = np.zeros(n, bool) if self.difficult is None else self.difficult
        regions = np.zeros((0, 4)) if self.regions is None else self.regions
        for name, values, dtype in (
            ("classes", self.classes, np.int64),
            ("areas", areas, np.float64),
            ("difficult", difficult, bool),
        ):
            values = np.array(values, dtype)
            if values.shape != (n,):
                raise DataError(f"{self.path}: {name} of shape {values.shape} for {n} boxes; it must be ({n},)")
            object.__setattr__(self, name, values)
        object.__setattr__(self, "path", self.path if isinstance(self.path, Path) else Path(self.path))
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "regions", self._corners("regions", regions))
        for name, count in (("ids", n), ("region_ids", len(self.regions))):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, self._ids(name, count))
        if n and self.classes.min() < 0:
            raise DataError(f"{self.path}: class {self.classes.min()}; classes count from 0")
        if not (np.isfinite(self.areas) & (self.areas >= 0)).all():
            raise DataError(f"{self.path}: areas {self.areas.tolist()}; they must be finite and not negative")

    def _ids(self, name: str, count: int) -> np.ndarray:
        """Return the ids in the field ``name`` as int64 (count,)."""
        ids = np.array(getattr(self, name), np.int64)
        if ids.shape != (count,):
            raise DataError(f"{self.path}: {name} of shape {ids.shape}; it must be ({count},)")
        return ids

    def _corners(self, name: str, values: np.ndarray) -> np.ndarray:
        """Return ``values`` as float64 (n, 4) with x1 <= x2 and y1 <= y2."""
        corners = np.array(values, np.float64)
        if corners.size == 0:
            return np.zeros((0, 4))
        if corners.ndim != 2 or corners.shape[1] != 4:
            raise DataError(f"{self.path}: {name} of shape {corners.shape}; it must be (n, 4): x1 y1 x2 y2")
        wrong = ~np.isfinite(corners).all(1) | (corners[:, 2] < corners[:, 0]) | (corners[:, 3] < corners[:, 1])
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise DataError(
                f"{self.path}: {name}[{row}] = {corners[row].tolist()}; x1 <= x2 and y1 <= y2 are needed, all finite"
            )
        return corners


def box_areas(boxes: np.ndarray) -> np.ndarray:
    """Return the areas (n,) of boxes (n, 4) given as x1 y1 x2 y2."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
