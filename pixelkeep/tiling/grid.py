"""Where the tiles of an image lie: windows that cover it exactly, and which of their borders are inside the image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

MOST_OVERLAP = 0.9  # of a tile: at 0.9 every pixel is looked at a hundred times


@dataclass(frozen=True, eq=False)
class Grid:
    """Windows over an image.

    Attributes:
        width: Of the image, in pixels.
        height: Of the image, in pixels.
        shared: Pixels that neighbours have in common; the last row and column may have more.
        windows: Int64 (n, 4): x1, y1, x2, y2, row by row; a window of the whole image comes last.
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
        """Which borders have image beyond them: bool (n, 4), left, top, right, bottom."""
        return self.windows != np.array([0, 0, self.width, self.height])

    @property
    def tiles(self) -> np.ndarray:
        """The windows without that of the whole image, all of one size: (n, 4)."""
        return self.windows[: len(self.windows) - self.whole]


def make_grid(width: int, height: int, tile: int, overlap: float = 0.2, *, whole: bool = False) -> Grid:
    """Return the windows of an image, all of one size.

    The last column and the last row are moved inwards rather than padded. A side shorter than ``tile`` is taken whole.

    Args:
        width: Of the image, in pixels.
        height: Of the image, in pixels.
        tile: Side of a tile in pixels.
        overlap: Share of a tile that neighbours have in common at least, 0 to 0.9.
        whole: Add a window of the whole image where there are several tiles.

    Raises:
        ValueError: A side below 1, or an overlap out of range.
    """
    if min(width, height, tile) < 1:
        raise ValueError(f"image {width} x {height} in tiles of {tile}: every side is 1 pixel at least")
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
    """Return where tiles begin along a side."""
    if side <= tile:
        return [0]
    return [*range(0, side - tile, step), side - tile]
