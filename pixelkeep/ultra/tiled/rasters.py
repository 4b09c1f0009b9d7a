"""Tiles of an image that is too large for memory, read by a thread in runs while the network looks at other tiles."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import ceil, floor
from typing import NamedTuple

import cv2
import numpy as np
import torch

from pixelkeep.datasets.images.rasters import Raster, Window
from pixelkeep.tiling import Grid, Merged, merge
from pixelkeep.tiling.run import Progress, collect
from pixelkeep.tiling.runs import Run, runs
from pixelkeep.ultra.tiled.images import TileEngine, in_pixels

READ = 24_000_000  # bytes of an image, as stored, that are read at once
WIDEST = 16_384  # columns that are read at once, because OpenCV resizes no more than 32767


class Part(NamedTuple):
    """A run of an image's tiles: pixels at the network's scale, uint8 (h, w, C), and whether each tile holds data."""

    pixels: np.ndarray
    run: Run
    filled: np.ndarray


@torch.inference_mode()
def detect_in_raster(engine: TileEngine, raster: Raster, progress: Progress | None = None) -> tuple[Merged, int]:
    """Return the detections in an image, with boxes in its own pixels, and how many of its tiles hold no data.

    Tiles without data are not looked at. No more than three runs of tiles of the image are in memory at a time.

    Args:
        engine: Engine that looks at tiles.
        raster: The image.
        progress: Function called with the number of tiles that are done and the number of all tiles.

    Raises:
        DataError: The file is damaged.
    """
    grid = engine.grid(raster)
    nothing = engine.nothing()
    found = [nothing] * len(grid)
    empty = 0
    for part in _read_ahead(raster, grid, engine.batch):
        corner = np.tile(part.run.around[:2], 2)
        canvas = engine.on_device(part.pixels)
        numbers = part.run.numbers[part.filled]
        empty += len(part.run.numbers) - len(numbers)
        for start in range(0, len(numbers), engine.batch):
            chosen = numbers[start : start + engine.batch]
            for number, rows in zip(chosen, engine.look(canvas, grid.windows[chosen] - corner), strict=True):
                found[number] = rows
            if progress is not None:
                progress(int(chosen[-1]) + 1, len(grid))
    if grid.whole:
        found[-1] = engine.look_at_whole(raster.overview(engine.tiles.imgsz), grid)
    merged = merge(collect(found, grid), grid, engine.tiles.merge)
    return in_pixels(merged, grid, raster.shape), empty


def _read_ahead(raster: Raster, grid: Grid, batch: int) -> Iterator[Part]:
    """Yield the parts of an image, and read the next one while the caller works on the current one."""
    height, width = raster.shape
    scale = width / grid.width, height / grid.height
    rows = ceil((grid.windows[0, 3] - grid.windows[0, 1]) * scale[1]) + 2
    raster.rows = rows
    widest = min(WIDEST, READ / (raster.pixel_bytes * rows)) / scale[0]
    coming = runs(grid, int(widest), batch)
    with ThreadPoolExecutor(1) as reader:
        waiting = reader.submit(_read, raster, next(coming), grid, scale)
        for run in [*coming, None]:
            part = waiting.result()
            if run is not None:
                waiting = reader.submit(_read, raster, run, grid, scale)
            yield part


def _read(raster: Raster, run: Run, grid: Grid, scale: tuple[float, float]) -> Part:
    """Read a run of tiles, and resize it to the network's scale as if the whole image were resized."""
    around = _source(run.around, scale, raster.shape, margin=1)
    pixels, valid = raster.read(around)
    filled = np.ones(len(run.numbers), bool)
    if valid is not None:
        for i, tile in enumerate(grid.windows[run.numbers]):
            x1, y1, x2, y2 = _source(tile, scale, raster.shape, margin=0)
            filled[i] = valid[y1 - around.y1 : y2 - around.y1, x1 - around.x1 : x2 - around.x1].any()
    if scale != (1, 1) and filled.any():
        pixels = _resized(pixels, around, run.around, scale)
    return Part(pixels, run, filled)


def _source(window: tuple, scale: tuple[float, float], shape: tuple[int, int], margin: int) -> Window:
    """Return the window of the image that a window at the network's scale shows, with a margin for interpolation."""
    margin = 0 if scale == (1, 1) else margin
    across, down = scale
    x1, y1, x2, y2 = (int(side) for side in window)
    height, width = shape
    low = (max(0, floor(x1 * across) - margin), max(0, floor(y1 * down) - margin))
    return Window(*low, min(width, ceil(x2 * across) + margin), min(height, ceil(y2 * down) + margin))


def _resized(pixels: np.ndarray, source: Window, window: tuple, scale: tuple[float, float]) -> np.ndarray:
    """Resize an image's pixels to a window (h, w, C) at the network's scale, as if the whole image were resized."""
    across, down = scale
    x1, y1, x2, y2 = window
    way = np.array(  # maps the centre of an output pixel to its place in the image
        [
            [across, 0, (x1 + 0.5) * across - 0.5 - source.x1],
            [0, down, (y1 + 0.5) * down - 0.5 - source.y1],
        ]
    )
    how = {"flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_REPLICATE}
    planes = (np.ascontiguousarray(plane) for plane in np.moveaxis(pixels, 2, 0))
    return np.stack([cv2.warpAffine(plane, way, (x2 - x1, y2 - y1), **how) for plane in planes], axis=2)
