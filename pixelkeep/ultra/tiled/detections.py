"""The detections that ``pixelkeep.TiledDetector`` returns for an image, in the formats that ``detect`` writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ultralytics.engine.results import Results

from pixelkeep.datasets.images.rasters import Raster
from pixelkeep.errors import DataError
from pixelkeep.tiling import Merged, Seams
from pixelkeep.ultra.predictors.detection_csv import to_csv
from pixelkeep.ultra.tiled.results import as_result, on_map


@dataclass(frozen=True, eq=False, repr=False)
class Detections:
    """The detections in one image, by descending score; ``print`` shows the number of objects of each class.

    Attributes:
        boxes: float64 (n, 4) x1, y1, x2, y2 in pixels of the image.
        scores: float64 (n,).
        classes: int64 (n,), numbers of ``names``.
        names: Class names by number.
        image: uint8 (H, W, C), three channels as BGR.
        path: The image's file; None if it has none.
        seams: Counts of what became of the boxes of tiles.
        rotated: float64 (n, 5), centre x, y, width, height and radians of oriented boxes; None for upright ones.
            ``boxes`` enclose these as far as tiles show them.
        raster: An image that stayed on disk, of which ``image`` is an overview; its file is closed. None for others.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    names: Mapping[int, str]
    image: np.ndarray
    path: Path | None
    seams: Seams
    rotated: np.ndarray | None = None
    raster: Raster | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        height, width = self.image.shape[:2] if self.raster is None else self.raster.shape
        counts = Counter(self.names[int(number)] for number in self.classes)
        found = ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing"
        return f"Detections({found}; {self.path or 'image'}, {width} x {height})"

    def to_coco(self, image_id: int = 1) -> list[dict[str, Any]]:
        """Return the detections in COCO results form, as ``detect --save-json`` writes them.

        Category ids count from 1 in the order of ``names``; oriented boxes also have ``segmentation`` and ``obb``.
        """
        where = {"image_id": image_id} | ({} if self.path is None else {"file_name": self.path.name})
        return [where | record for record in self._result().records()]

    def to_csv(self, image_id: int = 1) -> str:
        """Return the detections as CSV with a header, as ``detect --save-csv`` writes them."""
        return to_csv(self.to_coco(image_id), oriented=self.rotated is not None)

    def save_txt(self, file: str | Path, save_conf: bool = False) -> None:
        """Write the detections as a YOLO label file, as ``detect --save-txt`` does; without detections none is written.

        Args:
            file: Path of the file; an existing file is replaced.
            save_conf: Whether to append the score to each line.
        """
        self._result().save_txt(file, save_conf)

    def plot(self, line_width: int | None = None) -> np.ndarray:
        """Return the annotated image, uint8 (H', W', 3) BGR; small images are enlarged, and a legend stands below."""
        return self._result().plot(line_width)

    def to_geojson(self, own: bool = False) -> dict[str, Any]:
        """Return the detections in a georeferenced image as GeoJSON in map coordinates.

        Args:
            own: Whether to give coordinates in the image's own reference system rather than in WGS 84.

        Raises:
            DataError: The image does not say where on Earth it is.
        """
        reason = "it was not read in windows" if self.raster is None else self.raster.unmapped
        if reason:
            raise DataError(f"no GeoJSON of this image: {reason}")
        return on_map(self._result(), self.raster, own)

    def _result(self) -> Results:
        columns = (self.boxes, self.scores, self.classes, *([] if self.rotated is None else [self.rotated]))
        boxes, scores, classes, *rotated = (torch.as_tensor(column) for column in columns)
        found = Merged(boxes, scores, classes, self.seams, *rotated)
        image = self.image if self.raster is None else self.raster
        return as_result(found, image, str(self.path or "image"), self.names, overview=self.image)
