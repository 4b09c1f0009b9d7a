"""Group the tiles of a large image into runs to read at once: neighbours in a row that fit into memory together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pixelkeep.tiling.grid import Grid


class Run(NamedTuple):
    """Neighbouring tiles: the indices of their windows, (n,), and the window around them, x1, y1, x2, y2."""

    numbers: np.ndarray
    around: tuple[int, int, int, int]


def runs(grid: Grid, widest: int, batch: int) -> Iterator[Run]:
    """Yield all tiles of a grid in runs, in the order of the tiles.

    Args:
        grid: Windows of the image; the window of the whole image is in no run.
        widest: Largest number of pixel columns that a run may span; each run has at least one tile.
        batch: Number of tiles that are looked at together; runs have a multiple of it where possible.
    """
    tiles = grid.tiles
    starts = np.flatnonzero(np.r_[True, tiles[1:, 1] != tiles[:-1, 1]])  # first tile of each row
    for row, end in zip(starts, [*starts[1:], len(tiles)], strict=True):
        at = row
        while at < end:
            count = int((tiles[at:end, 2] - tiles[at, 0] <= widest).sum())
            count = max(1, count - count % batch if batch < count < end - at else count)
            x1, y1 = tiles[at, :2]
            x2, y2 = tiles[at + count - 1, 2:]
            yield Run(np.arange(at, at + count), (int(x1), int(y1), int(x2), int(y2)))
            at += count
