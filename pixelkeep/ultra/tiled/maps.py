"""GeoJSON files of the detections in georeferenced images, one file per image."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from ultralytics.utils import LOGGER

from pixelkeep.datasets.images.rasters import EXTRA, Raster, is_mapped
from pixelkeep.errors import DataError
from pixelkeep.ultra.predictors.boxes import Detections
from pixelkeep.ultra.tiled.results import on_map
from pixelkeep.writing import write_text

FOLDER = "geojson"  # folder of the files, inside the run folder


class MapFiles:
    """Writes ``geojson/NAME.geojson`` for each image that says where on Earth it is.

    Args:
        folder: The run folder.
        own: Whether to give coordinates in each image's own reference system rather than in WGS 84.
    """

    def __init__(self, folder: Path, own: bool = False):
        self.folder = folder / FOLDER
        self.own = own
        self._names: set[str] = set()
        self._without: set[Path] = set()

    def write(self, result: Detections, image: np.ndarray | Raster) -> str | None:
        """Write the detections in an image and return the file's name, or log why there is no file and return None."""
        path = Path(result.path)
        try:
            if reason := self._reason(path, image):
                raise DataError(reason)
            document = on_map(result, image, self.own)
        except DataError as error:
            if path not in self._without:  # warn once for all frames of a video
                LOGGER.warning(f"{path.name}: no GeoJSON: {error}")
            self._without.add(path)
            return None
        file = self.folder / f"{self._name(path.stem)}.geojson"
        write_text(file, json.dumps(document, allow_nan=False))
        return file.name

    def take(self, files: Iterable[str | None]) -> None:
        """Reserve the names of files that exist already, so that no other image gets one of them."""
        self._names.update(Path(file).stem for file in files if file)

    def _reason(self, path: Path, image: np.ndarray | Raster) -> str | None:
        if isinstance(image, Raster):
            return image.unmapped
        return f"that needs rasterio: {EXTRA}" if is_mapped(path) else "it does not say where on Earth it is"

    def _name(self, stem: str) -> str:
        """Return and reserve a name that no other image of the run has."""
        number = next(n for n in range(1, len(self._names) + 2) if _numbered(stem, n) not in self._names)
        self._names.add(_numbered(stem, number))
        return _numbered(stem, number)


def _numbered(stem: str, number: int) -> str:
    return stem if number == 1 else f"{stem}-{number}"
