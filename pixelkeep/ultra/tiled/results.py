"""Detections in tiles as Ultralytics' results, for images in memory and for images that stay on disk."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, floor
from pathlib import Path
from typing import Any

import numpy as np
from ultralytics.engine.results import OBB, Boxes

from pixelkeep.datasets.images.rasters import Raster, Window
from pixelkeep.report.drawing import draw
from pixelkeep.report.geojson import to_geojson
from pixelkeep.report.oriented_drawing import draw_oriented
from pixelkeep.tiling import Merged
from pixelkeep.ultra.predictors.base import viewable
from pixelkeep.ultra.predictors.boxes import Detections
from pixelkeep.ultra.predictors.oriented import OrientedDetections
from pixelkeep.ultra.tiled.images import rows_of

OVERVIEW = 2048  # longer side in pixels of the overview of an image that is too large to be drawn whole
_MARGIN = 24  # pixels around an object that a crop may show


class _OnDisk:
    """Mixin for the results of an image of which only an overview is in memory, as ``orig_img``."""

    raster: Raster

    def shrink(self) -> np.ndarray:
        """Return how many pixels of the overview one pixel of the image takes, across and down."""
        return np.array(self.orig_img.shape[1::-1]) / self.orig_shape[::-1]

    def save_crop(self, save_dir: str | Path, file_name: str | Path = "im.jpg") -> None:
        """Write a crop of each object as ``save_dir/class/file_name``, numbered if that name is taken."""
        found = self.obb if self.obb is not None else self.boxes
        for box, score, number in zip(found.xyxy.tolist(), found.conf.tolist(), found.cls.tolist(), strict=True):
            low = [max(0, floor(side) - _MARGIN) for side in box[:2]]
            high = [
                min(limit, ceil(side) + _MARGIN) for side, limit in zip(box[2:], self.orig_shape[::-1], strict=True)
            ]
            pixels, _ = self.raster.read(Window(*low, *high))
            row = np.array([[*(np.array(box) - [*low, *low]), score, number]])
            Detections(pixels, path=self.path, names=self.names, boxes=row).save_crop(save_dir, file_name)


class RasterDetections(_OnDisk, Detections):
    """The detections in an image on disk."""

    def plot(self, line_width: int | None = None, **_: Any) -> np.ndarray:
        """Return the annotated overview, (H, W, 3) BGR."""
        found, shrink = self.boxes.cpu().numpy(), np.tile(self.shrink(), 2)
        shown = viewable(self.orig_img)
        return draw(shown, found.xyxy * shrink, found.cls, found.conf, self.names, line_width)


class OrientedRasterDetections(_OnDisk, OrientedDetections):
    """The detections in an image on disk, as oriented boxes."""

    def plot(self, line_width: int | None = None, **_: Any) -> np.ndarray:
        """Return the annotated overview, (H, W, 3) BGR."""
        found = self.obb.cpu().numpy()
        shown = viewable(self.orig_img)
        return draw_oriented(shown, found.xyxyxyxy * self.shrink(), found.cls, found.conf, self.names, line_width)


def as_result(
    found: Merged,
    image: np.ndarray | Raster,
    path: str,
    names: Mapping[int, str],
    *,
    overview: np.ndarray | None = None,
) -> Detections:
    """Return merged detections as a result that can be drawn and saved.

    Args:
        found: The detections, in pixels of the image.
        image: The image (H, W, C), or an image on disk.
        path: Path of the image's file.
        names: Class names by number.
        overview: Overview of an image on disk to draw on; None if it is not drawn.
    """
    rows = rows_of(found)
    if not isinstance(image, Raster):
        if found.rotated is None:
            return Detections(image, path=path, names=names, boxes=rows)
        return OrientedDetections(image, path=path, names=names, obb=rows)
    overview = np.zeros((1, 1, image.channels), np.uint8) if overview is None else overview
    kind = RasterDetections if found.rotated is None else OrientedRasterDetections
    result = kind(overview, path=path, names=names)
    result.raster, result.orig_shape = image, image.shape
    if found.rotated is None:
        result.boxes = Boxes(rows, image.shape)
    else:
        result.obb = OBB(rows, image.shape)
    return result


def on_map(result: Detections, raster: Raster, own: bool = False) -> dict[str, Any]:
    """Return the detections in a georeferenced image as GeoJSON.

    Args:
        result: The detections in the image.
        raster: The image.
        own: Whether to give coordinates in the image's own reference system rather than in WGS 84.

    Raises:
        DataError: The image's reference system cannot be named in GeoJSON.
    """
    records = result.records()
    if result.obb is not None:
        corners = np.array([record["segmentation"][0] for record in records]).reshape(-1, 4, 2)
    else:
        x1, y1, x2, y2 = result.boxes.xyxy.cpu().numpy().reshape(-1, 4).T
        corners = np.stack([np.stack(place, 1) for place in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))], 1)
    properties = [
        {
            "class": record["category"],
            "score": record["score"],
            "image": Path(result.path).name,
            "box": _corners(record),
        }
        | ({"obb": record["obb"]} if "obb" in record else {})
        for record in records
    ]
    return to_geojson(corners, properties, raster.source.crs, raster.source.transform, own)


def _corners(record: dict) -> list[float]:
    """Return the upright box of a record as x1, y1, x2, y2 in pixels."""
    x, y, width, height = record["bbox"]
    return [x, y, round(x + width, 3), round(y + height, 3)]
