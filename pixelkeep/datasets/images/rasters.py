"""Read images that are too large for memory or have map coordinates, window by window with GDAL (extra ``geo``).

These are TIFF, JPEG 2000, PNG and JPEG files with very many pixels, and TIFF and JPEG 2000 files of any size that say
where on Earth they are. Channels and depth follow the rules of :mod:`pixelkeep.datasets.images.pixels`. The levels of
a stretch come from the whole image, so that a window looks as it would in an image that was read whole.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from pixelkeep.datasets.images.headers import is_turned, read_header
from pixelkeep.datasets.images.levels import Levels, meaning, measure_levels
from pixelkeep.errors import DataError, OptionError

EXTRA = "pip install 'pixelkeep[geo]'"
DRIVERS = {".tif": "GTiff", ".tiff": "GTiff", ".jp2": "JP2OpenJPEG", ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
LARGE = 100_000_000  # number of pixels from which on an image is read in windows
CACHE = 64 << 20  # bytes of decoded blocks that GDAL keeps
MOST_BLOCK = 1 << 29  # bytes, the largest block that is accepted
READ = 24_000_000  # bytes of pixels, as stored, that are read at once when levels are measured


class Window(NamedTuple):
    """Part of an image in whole pixels, with x2 and y2 exclusive."""

    x1: int
    y1: int
    x2: int
    y2: int


@dataclass(eq=False)
class Raster:
    """An open image.

    Attributes:
        path: The image file.
        channels: Number of channels of the windows.
        source: The open rasterio dataset.
        stretch: Percentiles that become 0 and 255 if the image is deeper than eight bits.
        points: Whether the image has ground control points.
        rows: Height in pixels of the windows to come; if the file's blocks are as wide as the image, GDAL's cache is
            made large enough for so many rows.
    """

    path: Path
    channels: int
    source: Any
    stretch: tuple[float, float] | None
    points: bool = False
    rows: int = 1
    _levels: Levels | None = field(default=None, repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.source.height, self.source.width

    @property
    def pixel_bytes(self) -> int:
        """Size of one pixel in bytes, as it is stored."""
        return sum(np.dtype(kind).itemsize for kind in self.source.dtypes)

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray | None]:
        """Return part of the image, uint8 (h, w, channels), and bool (h, w), which of its pixels hold data.

        Three channels are BGR. None in place of the second value means that all pixels hold data. In deep images,
        pixels without data are 0.

        Raises:
            DataError: The file is damaged in this window.
        """
        raw, valid = self._read(window)
        return self.levels.apply(raw, valid), valid

    @property
    def cache(self) -> int:
        """Size of GDAL's cache of decoded blocks in bytes.

        Blocks as wide as the image are needed again for every window of a row. Decoding them each time would take far
        too long, so the cache then has room for a whole row of windows.
        """
        down, across = self.source.block_shapes[0]
        band = (self.rows + 2 * down) * across * self.pixel_bytes
        return CACHE if across < self.source.width else max(CACHE, band)

    @property
    def unmapped(self) -> str | None:
        """Why places in the image have no map coordinates; None if they have some."""
        if self.points and self.source.transform.is_identity:
            return "it has only ground control points; warp it to a map first (gdalwarp)"
        if self.source.transform.is_identity:
            return "it does not say where on Earth it is"
        return None if self.source.crs else "it does not say in which reference system its coordinates are"

    @property
    def levels(self) -> Levels:
        """How stored values become bytes; for a deep image the first access takes a pass over the whole image."""
        if self._levels is None:
            deep = self.source.dtypes[0] != "uint8"
            parts = ((*self._read(window), window[:2]) for window in self._all()) if deep else ()
            self._levels = measure_levels(parts, self.stretch if deep else None, self.shape, self.channels)
        return self._levels

    def overview(self, longest: int) -> np.ndarray:
        """Return the image, uint8 (h, w, channels), reduced by averaging to a longer side of at most ``longest``."""
        shrink = max(1.0, max(self.shape) / longest)
        height, width = (max(1, round(side / shrink)) for side in self.shape)
        raw, valid = self._read(Window(0, 0, *self.shape[::-1]), (height, width))
        return self.levels.apply(raw, valid)

    def close(self) -> None:
        """Close the file; the image's size and its place on the map remain available."""
        self.source.close()

    def _read(self, window: Window, size: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Return stored values (h, w, channels) and bool (h, w), where they are data (None for everywhere).

        With ``size``, height and width, the window is resampled to that size by averaging.
        """
        import rasterio
        from rasterio.enums import Resampling
        from rasterio.windows import Window as Place

        x1, y1, x2, y2 = window
        given = {"window": Place(x1, y1, x2 - x1, y2 - y1)}
        bands = {"indexes": _bands(self.source, self.channels), "resampling": Resampling.average}
        if size:
            given["out_shape"] = size
            bands["out_shape"] = (len(bands["indexes"]), *size)
        try:
            with rasterio.Env(GDAL_CACHEMAX=self.cache):
                raw = self.source.read(**given | bands)
                masked = any("all_valid" not in (flag.name for flag in flags) for flags in self.source.mask_flag_enums)
                valid = self.source.dataset_mask(**given) > 0 if masked else None
        except rasterio.errors.RasterioError as error:
            told = " ".join(str(error.__cause__ or error).split())[:120]
            raise DataError(f"cannot be read at column {x1}, row {y1} ({told}); it may be damaged") from error
        raw = np.ascontiguousarray(raw.transpose(1, 2, 0))  # (h, w, bands)
        return _as_channels(raw, self.source, self.channels), meaning(raw, valid)

    def _all(self) -> Iterator[Window]:
        """Yield windows of whole blocks and limited size that cover the image exactly once."""
        height, width = self.shape
        down, across = self.source.block_shapes[0]
        across *= _at_least_one(READ / (self.pixel_bytes * down * across))
        across = min(across, width)
        down *= _at_least_one(READ / (self.pixel_bytes * down * across))
        for y in range(0, height, down):
            for x in range(0, width, across):
                yield Window(x, y, min(x + across, width), min(y + down, height))


def _at_least_one(times: float) -> int:
    return max(1, int(times))


def open_raster(path: Path, channels: int = 3, stretch: tuple[float, float] | None = None) -> Raster | None:
    """Open an image to be read in windows; return None if it need not be or if GDAL cannot open it.

    Args:
        path: The image file.
        channels: See :func:`pixelkeep.datasets.images.pixels.read_pixels`, also for ``stretch``.
        stretch: For images deeper than eight bits the percentiles of each channel that become 0 and 255.

    Raises:
        DataError: The image has another number of channels or values of an unsupported type, is deeper than eight bits
            without a ``stretch``, is rotated by EXIF, or is stored in blocks that do not fit into memory. The message
            does not name the file.
        OptionError: The image is too large to be read whole, and rasterio is not installed.
    """
    driver = DRIVERS.get(path.suffix.lower())
    if driver is None:
        return None
    header = read_header(path)
    if header.pixels < LARGE and not (header.mapped or driver == "JP2OpenJPEG"):
        return None
    try:
        import rasterio
    except ImportError as error:
        if header.pixels < LARGE:
            return None
        need = f"an image of {LARGE:,} pixels or more is read in windows, by rasterio"
        raise OptionError(f"image '{path}': {need}; install it: {EXTRA}") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        try:
            # The driver is named because other drivers would follow references in a file to other places.
            source = rasterio.open(path, driver=driver)
        except rasterio.errors.RasterioError:
            return None
    if source.width * source.height < LARGE and (source.crs is None and source.transform.is_identity):
        source.close()
        return None
    try:
        if is_turned(path):
            raise DataError("is stored rotated (EXIF orientation), which windows cannot undo; save it upright")
        _check(source, channels, stretch)
        return Raster(path, channels, source, stretch, points=bool(source.gcps[0]))
    except DataError:
        source.close()
        raise


def is_mapped(path: Path) -> bool:
    """Return whether a TIFF says where on Earth it is, as far as its tags show without rasterio."""
    return path.suffix.lower() in DRIVERS and read_header(path).mapped


def _check(source: Any, channels: int, stretch: tuple[float, float] | None) -> None:
    """Refuse an image that cannot be shown to a network, or not in windows."""
    if len(_bands(source, channels)) not in {1: (1, 3), 3: (1, 3)}.get(channels, (channels,)):
        raise DataError(f"has {source.count} channels, not the {channels} that the dataset declares (channels:)")
    kind = np.dtype(source.dtypes[0])
    if kind != np.uint8 and (kind.kind not in "uif" or len(set(source.dtypes)) > 1):
        kinds = ", ".join(sorted(set(source.dtypes)))
        raise DataError(f"has values of type {kinds}; save it as uint8, uint16 or float32")
    if kind != np.uint8 and stretch is None:
        bits = 8 * kind.itemsize
        raise DataError(
            f"has {bits} bits a channel; declare 'stretch: [0.5, 99.5]' in the dataset YAML to train on it and use it"
        )
    down, across = source.block_shapes[0]
    if down * across * source.count * kind.itemsize > MOST_BLOCK:
        stored = f"is stored in blocks of {across:,} x {down:,} pixels, which do not fit into memory"
        raise DataError(f"{stored}; rewrite it in tiles: gdal_translate -co TILED=YES")


def _bands(source: Any, channels: int) -> list[int]:
    """Return the bands to read; for one or three channels, alpha is dropped, and so is the fourth band of four."""
    from rasterio.enums import ColorInterp

    every = list(range(1, source.count + 1))
    if channels not in (1, 3):
        return every
    colours = [band for band in every if source.colorinterp[band - 1] != ColorInterp.alpha]
    return colours[:3] if source.count == 4 else colours


def _as_channels(raw: np.ndarray, source: Any, channels: int) -> np.ndarray:
    """Return ``raw`` (h, w, bands) as (h, w, channels) in OpenCV's order: BGR first, then any further bands."""
    from rasterio.enums import ColorInterp

    if source.colorinterp[0] == ColorInterp.palette and channels in (1, 3):
        entries = source.colormap(1)
        raw = np.array([entries.get(value, (0, 0, 0))[:3] for value in range(256)], np.uint8)[raw[..., 0]]
    bands = raw.shape[2]
    if bands in (3, 4):
        raw = raw[..., [2, 1, 0, 3][:bands]]
    if bands == channels:
        return np.ascontiguousarray(raw)
    if channels == 3:
        return np.repeat(raw, 3, axis=2)
    grey = raw if raw.dtype in (np.uint8, np.uint16, np.float32) else raw.astype(np.float32)
    return cv2.cvtColor(np.ascontiguousarray(grey), cv2.COLOR_BGR2GRAY)[..., None]
