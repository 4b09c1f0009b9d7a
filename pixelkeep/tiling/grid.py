"""Where the tiles of an image lie: windows that cover the image exactly, and which of their borders lie inside it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

MOST_OVERLAP = 0.9  # share of a tile; at 0.9 every pixel is looked at a hundred times


@dataclass(frozen=True, eq=False)
class Grid:
    """The windows of an image.

    Attributes:
        width: Width of the image in pixels.
        height: Height of the image in pixels.
        shared: Number of pixels that neighbouring tiles have in common along a side; the last row and column may share
            more.
        windows: Windows x1, y1, x2, y2 in pixels, int64 (n, 4), row by row; a window of the whole image comes last.
        whole: Whether there is a window of the whole image besides the tiles.
    """

    width: int
    height: int
    shared: int
    windows: np.ndarray
    whole: bool = False

    def __len__(self) -> int:
        return len(self.windows)

    @cached_property
    def inner(self) -> np.ndarray:
        """Which borders of each window have image beyond them: bool (n, 4), left, top, right, bottom."""
        return self.windows != np.array([0, 0, self.width, self.height])

    @property
    def tiles(self) -> np.ndarray:
        """The windows except that of the whole image, all of one size: (n, 4)."""
        return self.windows[: len(self.windows) - self.whole]


def make_grid(width: int, height: int, tile: int, overlap: float = 0.2, *, whole: bool = False) -> Grid:
    """Return the grid of an image, whose tiles all have the same size.

    The last column and the last row are moved inwards rather than padded. If a side of the image is shorter than
    ``tile``, the tiles span all of it.

    Args:
        width: Width of the image in pixels.
        height: Height of the image in pixels.
        tile: Side of a tile in pixels.
        overlap: Least share of a tile that neighbours have in common, from 0 to 0.9.
        whole: Whether to add a window of the whole image if there are several tiles.

    Raises:
        ValueError: A side is below 1, or the overlap is out of range.
    """
    if min(width, height, tile) < 1:
        raise ValueError(f"image {width} x {height} in tiles of {tile}: every side must be at least 1 pixel")
    if not 0 <= overlap <= MOST_OVERLAP:
        raise ValueError(f"overlap {overlap} is not between 0 and {MOST_OVERLAP}")
    shared = min(math.ceil(tile * overlap - 1e-9), tile - 1)
    columns, rows = (_starts(side, tile, tile - shared) for side in (width, height))
    across, down = min(tile, width), min(tile, height)
    windows = [(x, y, x + across, y + down) for y in rows for x in columns]
    whole = whole and len(windows) > 1
    if whole:
        windows.append((0, 0, width, height))
    return Grid(width, height, shared, np.array(windows, np.int64), whole)


def _starts(side: int, tile: int, step: int) -> list[int]:
    """Return the coordinates at which tiles begin along a side."""
    if side <= tile:
        return [0]
    return [*range(0, side - tile, step), side - tile]
