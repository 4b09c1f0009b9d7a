"""``pixelkeep.TiledDetector``: detection in images of any size from Python."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from numbers import Integral
from pathlib import Path

import numpy as np

from pixelkeep.datasets.images.pixels import read_pixels
from pixelkeep.datasets.images.rasters import Raster, open_raster
from pixelkeep.errors import DataError, OptionError, SourceError, choices, nearest
from pixelkeep.ultra.running.settings import check, half_precision
from pixelkeep.ultra.tiled.detections import Detections
from pixelkeep.ultra.tiled.images import AUTO, MERGE, OVERLAP, SMALLEST, Request, Tiles
from pixelkeep.ultra.tiled.predictor import TiledPredictor
from pixelkeep.ultra.tiled.rasters import detect_in_raster
from pixelkeep.ultra.tiled.results import OVERVIEW
from pixelkeep.ultra.weights.checkpoints import check_weights, load, model_of
from pixelkeep.ultra.weights.exported import Exported


class TiledDetector:
    """Finds objects in images of any size.

    Call it with one image, or stream many, of which the next is read while the network looks at the current one::

        detector = pixelkeep.TiledDetector("best.pt", tile=640)
        found = detector("large.png")
        for found in detector.stream(Path("pictures").glob("*.png")):
            print(found)

    The network is loaded once, so keep the detector. It must not be called from several threads at a time.

    Args:
        weights: A checkpoint (.pt) or an exported file of a detection model or of a model for oriented boxes, of this
            project or of Ultralytics.
        tile: Side of a tile in pixels of the image; "auto" for the scale that the model was trained at.
        overlap: Share of a tile that neighbouring tiles have in common, 0 to 0.9.
        full_image: Whether to look at the whole image once more, for objects larger than a tile.
        merge: How boxes of neighbouring tiles are merged: "border", "nms" or "ios"; see :mod:`pixelkeep.tiling.merge`.
        imgsz: Side in pixels at which the model sees a tile; the tile's own side by default.
        batch: Number of tiles that the model takes at once; None for a number that suits the device.
        conf: Lowest score of a detection.
        iou: IoU above which NMS drops a box inside a tile.
        max_det: Largest number of detections kept in a tile.
        classes: Numbers or names of the classes to look for; None for all.
        device: "cpu", or a GPU's number; None for the first GPU if there is one.
        half: Whether to use half precision, on a GPU.

    Raises:
        PixelkeepError: The weights or a value cannot be used.
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
        classes: Sequence[int | str] | None = None,
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
        if classes is not None:
            settings["classes"] = _numbers(classes, model_of(checkpoint).names)
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
        """The model's class names by number."""
        return self._predictor.model.names

    def __call__(self, image: str | Path | np.ndarray) -> Detections:
        """Return the detections in an image.

        Args:
            image: A file, or an array uint8 (H, W) or (H, W, C), with three channels as BGR, as OpenCV reads them.
                GeoTIFFs and images of 100 million pixels and more are read window by window.

        Raises:
            PixelkeepError: The image cannot be read, or is of another kind than the model takes.
        """
        return self._look(*self._read(image))

    def stream(self, images: Iterable[str | Path | np.ndarray]) -> Iterator[Detections]:
        """Yield the detections in each image, in order; the next is read while the network looks at the current one.

        No more than two images are in memory, so there may be any number of them, such as frames from a generator.

        Args:
            images: Images, each in a form that a call of the detector takes.

        Raises:
            PixelkeepError: An image cannot be used, as for a call; raised when its turn comes. This ends the stream. To
                continue after an image that cannot be read, call the detector image by image.
        """
        if isinstance(images, (str, Path)) or (isinstance(images, np.ndarray) and images.ndim < 4):
            raise OptionError("stream takes several images; call the detector itself for one")
        return self._stream(images)

    def _stream(self, images: Iterable[str | Path | np.ndarray]) -> Iterator[Detections]:
        coming = None
        with ThreadPoolExecutor(1) as reader:
            try:
                for image in images:
                    coming, read = reader.submit(self._read, image), coming
                    if read is not None:
                        yield self._look(*read.result())
                if coming is not None:
                    coming, read = None, coming
                    yield self._look(*read.result())
            finally:  # an error, or nobody wants the next one
                if coming is not None and coming.exception() is None and isinstance(coming.result()[1], Raster):
                    coming.result()[1].close()

    def _read(self, image: str | Path | np.ndarray) -> tuple[Path | None, np.ndarray | Raster]:
        """Return the file of an image, None for an array, and its pixels, or a raster if the image stays on disk."""
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
            with closing(raster):
                try:
                    found, _ = detect_in_raster(self._predictor.engine, raster)
                    pixels = raster.overview(OVERVIEW)
                except DataError as error:
                    raise SourceError(f"image '{path}': {error}") from error
        columns = (part.cpu().numpy() for part in (found.boxes, found.scores, found.classes))
        rotated = None if found.rotated is None else found.rotated.cpu().numpy()
        return Detections(*columns, self.names, pixels, path, found.seams, rotated, raster)

    def _checked(self, pixels: np.ndarray) -> np.ndarray:
        """Return the image as uint8 (H, W, C) with the channels that the model takes.

        Raises:
            OptionError: The image has another type or shape.
        """
        shape = pixels.shape
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        if pixels.ndim == 3 and pixels.shape[2] == 1 and self.channels == 3:
            pixels = np.repeat(pixels, 3, axis=2)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != self.channels or not pixels.size:
            right = f"uint8 (height, width, {self.channels}) of at least one pixel"
            raise OptionError(f"image of shape {shape} and type {pixels.dtype}; give {right}")
        return pixels


def _numbers(classes: Sequence[int | str], names: Mapping[int, str]) -> list[int]:
    """Return the numbers of classes that are given by number or name."""
    by_name = {name.casefold(): number for number, name in names.items()}
    numbers = []
    for item in [classes] if isinstance(classes, str) or not isinstance(classes, Iterable) else classes:
        number = by_name.get(item.casefold()) if isinstance(item, str) else item
        if not isinstance(number, Integral) or number not in names:
            hint = nearest(str(item), names.values())
            raise OptionError(f"classes {item}: no such class{hint} (classes: {choices(names.values(), 20)})")
        numbers.append(int(number))
    if not numbers:
        raise OptionError("classes: none is given; leave it out to look for all")
    return numbers
