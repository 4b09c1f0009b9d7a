"""Runs of neighbouring tiles that are read together."""

from __future__ import annotations

import numpy as np
import pytest

from pixelkeep.tiling import make_grid
from pixelkeep.tiling.runs import runs


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("widest, batch", [(1, 4), (300, 1), (300, 4), (700, 4), (10**6, 3)])
def test_runs__every_tile_once_in_order(whole, widest, batch):
    """Runs contain every tile once and in order, and their windows are no wider than asked or than one tile."""
    grid = make_grid(1500, 400, 100, 0.2, whole=whole)
    parts = list(runs(grid, widest, batch))
    assert np.concatenate([part.numbers for part in parts]).tolist() == list(range(len(grid.tiles)))
    for part in parts:
        tiles = grid.windows[part.numbers]
        assert part.around == (*tiles[:, :2].min(0), *tiles[:, 2:].max(0))
        assert len(set(tiles[:, 1])) == 1
        assert part.around[2] - part.around[0] <= max(widest, 100)


def test_runs__hold_whole_batches():
    """Except for the last of a row, runs hold as many whole batches as fit."""
    grid = make_grid(1500, 100, 100, 0.0)
    assert [len(part.numbers) for part in runs(grid, 650, 4)] == [4, 4, 4, 3]
    assert [len(part.numbers) for part in runs(grid, 650, 1)] == [6, 6, 3]
