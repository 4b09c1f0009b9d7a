"""``pixelkeep.TiledDetector``: objects in images of any size, from Python."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ultralytics.engine.results import Results

from pixelkeep.datasets.images.pixels import read_pixels
from pixelkeep.datasets.images.rasters import Raster, open_raster
from pixelkeep.errors import DataError, OptionError, SourceError
from pixelkeep.tiling import Merged, Seams
from pixelkeep.ultra.running.settings import check, half_precision
from pixelkeep.ultra.tiled.images import AUTO, MERGE, OVERLAP, SMALLEST, Request, Tiles
from pixelkeep.ultra.tiled.predictor import TiledPredictor
from pixelkeep.ultra.tiled.rasters import detect_in_raster
from pixelkeep.ultra.tiled.results import OVERVIEW, as_result, on_map
from pixelkeep.ultra.weights.checkpoints import check_weights, load, model_of
from pixelkeep.ultra.weights.exported import Exported


@dataclass(frozen=True, eq=False, repr=False)
class Detections:
    """What was found in one image, from the highest score down; ``print`` says how many of what.

    Shapes: ``boxes`` float64 (n, 4) x1, y1, x2, y2 in pixels of the image, ``scores`` float64 (n,), ``classes`` int64
    (n,) numbers of ``names``; ``image`` uint8 (H, W, C), three channels as BGR; ``path`` is the image's file, if it has
    one; ``seams`` says what became of the boxes of tiles. ``rotated`` float64 (n, 5): centre x, y, width, height and
    radians of oriented boxes, which ``boxes`` are around. ``raster`` is an image that stays on disk, of which
    ``image`` is an overview.
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
        """Return the detections in COCO results form; category ids count from 1 in the order of ``names``."""
        sides = self.boxes[:, 2:] - self.boxes[:, :2]
        rows = zip(np.hstack([self.boxes[:, :2], sides]).tolist(), self.scores.tolist(), self.classes, strict=True)
        return [
            {"image_id": image_id, "category_id": int(number) + 1, "bbox": box, "score": score}
            for box, score, number in rows
        ]

    def plot(self, line_width: int | None = None) -> np.ndarray:
        """Return the annotated image, uint8 (H', W', 3) BGR; small ones are enlarged, a legend stands below."""
        return self._result().plot(line_width)

    def to_geojson(self, own: bool = False) -> dict[str, Any]:
        """Return the detections in map coordinates, of a georeferenced image: WGS 84, or those of its ``own`` system.

        Raises:
            DataError: The image does not say where on Earth it is.
        """
        reason = "it is none that was read in windows" if self.raster is None else self.raster.unmapped
        if reason:
            raise DataError(f"no GeoJSON of this image: {reason}")
        return on_map(self._result(), self.raster, own)

    def _result(self) -> Results:
        columns = (self.boxes, self.scores, self.classes, *([] if self.rotated is None else [self.rotated]))
        boxes, scores, classes, *rotated = (torch.as_tensor(column) for column in columns)
        found = Merged(boxes, scores, classes, self.seams, *rotated)
        image = self.image if self.raster is None else self.raster
        return as_result(found, image, str(self.path or "image"), self.names, overview=self.image)


class TiledDetector:
    """Finds objects in images of any size.

    One image at a time, or many, of which the next is read while the network looks at one::

        detector = pixelkeep.TiledDetector("best.pt", tile=640)
        found = detector("large.png")
        for found in detector.stream(Path("pictures").glob("*.png")):
            print(found)

    The network is loaded once; keep the detector. It is not to be called from several threads at a time.

    Args:
        weights: A checkpoint (.pt) or an exported file of a detection model, or of one of oriented boxes, of this
            project or of Ultralytics.
        tile: Side of a tile in pixels of the image; "auto" for the scale that the model was trained at.
        overlap: Share of a tile that neighbours have in common, 0 to 0.9.
        full_image: Look at the whole image once more, for objects larger than a tile.
        merge: "border", "nms" or "ios"; see :mod:`pixelkeep.tiling.merge`.
        imgsz: Side in pixels at which the model sees a tile; that of the tile by default.
        batch: Tiles that the model takes at once; None for what suits the device.
        conf: Lowest score.
        iou: IoU above which NMS drops a box inside a tile.
        max_det: Detections kept in a tile.
        device: "cpu", or a GPU's number; None for the first GPU if there is one.
        half: Half precision, on a GPU.

    Raises:
        PixelkeepError: Weights or a value that cannot be used.
    """

    def __init__(
        self,
        weights: str | Path,
        tile: int | str = 640,
        overlap: float = OVERLAP,
        full_image: bool = False,
        merge: str = MERGE,
        *,
        imgsz: int | None = None,
        batch: int | None = None,
        conf: float = 0.25,
        iou: float = 0.7,
        max_det: int = 300,
        device: str | int | None = None,
        half: bool = False,
    ):
        if tile is None:
            raise OptionError(f"tile None: give a number of pixels of at least {SMALLEST}, or '{AUTO}'")
        path = check_weights(weights, exported=True)
        checkpoint = load(path)
        given = dict(imgsz=imgsz, batch=batch, conf=conf, iou=iou, max_det=max_det, device=device)
        settings = {key: value for key, value in given.items() if value is not None}
        check(settings, "detect")
        if isinstance(model_of(checkpoint), Exported):
            model_of(checkpoint).fit(settings, path, tiled=True)
        request = Request(tile=tile, overlap=overlap, full_image=full_image, merge=merge)
        self.tiles: Tiles = request.resolve(checkpoint, settings)
        definition = model_of(checkpoint).yaml
        self.channels, self.stretch = definition.get("channels", 3), definition.get("stretch")
        settings |= half_precision() if half else {}
        settings |= dict(model=str(path), mode="predict", save=False, verbose=False, save_dir=tempfile.gettempdir())
        self._predictor = TiledPredictor(self.tiles, settings, False, self.channels, self.stretch)
        self._predictor.setup_model(None, verbose=False)

    @property
    def names(self) -> Mapping[int, str]:
        """The model's classes by number."""
        return self._predictor.model.names

    def __call__(self, image: str | Path | np.ndarray) -> Detections:
        """Return what is found in an image.

        Args:
            image: A file, or uint8 (H, W) or (H, W, C), three channels as BGR, as OpenCV reads them. GeoTIFFs and
                images of 100 million pixels and more are read window by window.

        Raises:
            PixelkeepError: The image cannot be read, or is of another kind than the model takes.
        """
        return self._look(*self._read(image))

    def stream(self, images: Iterable[str | Path | np.ndarray]) -> Iterator[Detections]:
        """Give what is found in each image, in their order; the next is read while the network looks at one.

        No more than two images are in memory, so there may be any number of them, as of frames that a generator gives.

        Args:
            images: Each as for a call.

        Raises:
            PixelkeepError: When its turn comes, as for a call. That is the end; to go on behind an image that cannot
                be read, call the detector image by image.
        """
        if isinstance(images, (str, Path)) or (isinstance(images, np.ndarray) and images.ndim < 4):
            raise OptionError("stream takes several images; call the detector itself for one")
        return self._stream(images)

    def _stream(self, images: Iterable[str | Path | np.ndarray]) -> Iterator[Detections]:
        with ThreadPoolExecutor(1) as reader:
            coming = None
            for image in images:
                following = reader.submit(self._read, image)
                if coming is not None:
                    yield self._look(*coming.result())
                coming = following
            if coming is not None:
                yield self._look(*coming.result())

    def _read(self, image: str | Path | np.ndarray) -> tuple[Path | None, np.ndarray | Raster]:
        """Return the file of an image, and its pixels, or the image itself where it is to stay on disk."""
        if isinstance(image, np.ndarray):
            return None, self._checked(image)
        if not isinstance(image, (str, Path)):
            raise OptionError(f"image of type {type(image).__name__}; give a file, or a NumPy array as OpenCV reads it")
        path = Path(image)
        if not path.is_file():
            there = "is a folder; give its images one by one, or to stream()" if path.is_dir() else "not found"
            raise SourceError(f"image '{path}' {there}")
        try:
            raster = open_raster(path, self.channels, self.stretch)
            return path, raster or self._checked(read_pixels(path, self.channels, self.stretch))
        except DataError as error:
            raise SourceError(f"image '{path}': {error}") from error

    def _look(self, path: Path | None, image: np.ndarray | Raster) -> Detections:
        raster, pixels = (image, None) if isinstance(image, Raster) else (None, image)
        if raster is None:
            found = self._predictor.engine(pixels)
        else:
            try:
                found, _ = detect_in_raster(self._predictor.engine, raster)
                pixels = raster.overview(OVERVIEW)
            except DataError as error:
                raise SourceError(f"image '{path}': {error}") from error
        columns = (part.cpu().numpy() for part in (found.boxes, found.scores, found.classes))
        rotated = None if found.rotated is None else found.rotated.cpu().numpy()
        return Detections(*columns, self.names, pixels, path, found.seams, rotated, raster)

    def _checked(self, pixels: np.ndarray) -> np.ndarray:
        """Return the image as (H, W, C) in the channels that the model takes."""
        shape = pixels.shape
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        if pixels.ndim == 3 and pixels.shape[2] == 1 and self.channels == 3:
            pixels = np.repeat(pixels, 3, axis=2)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != self.channels or not pixels.size:
            right = f"uint8 (height, width, {self.channels}) of at least one pixel"
            raise OptionError(f"image of shape {shape} and type {pixels.dtype}; give {right}")
        return pixels
