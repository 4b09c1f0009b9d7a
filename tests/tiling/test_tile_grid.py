"""The grid: exact windows, complete coverage of the image, and inner borders."""

from __future__ import annotations

import numpy as np
import pytest

from pixelkeep.tiling import make_grid

TABLE = [  # image width and height, tile, overlap; x1 of the columns, y1 of the rows, tile width and height
    (640, 640, 640, 0.2, [0], [0], (640, 640)),
    (641, 640, 640, 0.2, [0, 1], [0], (640, 640)),
    (1152, 640, 640, 0.2, [0, 512], [0], (640, 640)),
    (1153, 640, 640, 0.2, [0, 512, 513], [0], (640, 640)),
    (1280, 1280, 640, 0.0, [0, 640], [0, 640], (640, 640)),
    (3840, 2160, 640, 0.2, [0, 512, 1024, 1536, 2048, 2560, 3072, 3200], [0, 512, 1024, 1520], (640, 640)),
    (300, 200, 640, 0.2, [0], [0], (300, 200)),
    (1000, 200, 640, 0.25, [0, 360], [0], (640, 200)),
    (10, 3, 4, 0.5, [0, 2, 4, 6], [0], (4, 3)),
    (1, 1, 32, 0.9, [0], [0], (1, 1)),
]


@pytest.mark.parametrize("width, height, tile, overlap, columns, rows, size", TABLE)
def test_windows__table(width, height, tile, overlap, columns, rows, size):
    """Windows are as in the table: row by row, with the last of each row and column moved inwards."""
    grid = make_grid(width, height, tile, overlap)
    expected = [(x, y, x + size[0], y + size[1]) for y in rows for x in columns]
    assert grid.windows.tolist() == [list(window) for window in expected]


@pytest.mark.parametrize("overlap", [0.0, 0.1, 0.37, 0.5, 0.9])
def test_windows__cover_with_the_overlap_asked_for(overlap):
    """Every pixel is in a window, no window leaves the image, and neighbours overlap by the requested share."""
    rng = np.random.default_rng(3)
    for _ in range(40):
        width, height, tile = rng.integers(1, 300, 3)
        grid = make_grid(int(width), int(height), int(tile), overlap)
        seen = np.zeros((height, width), int)
        for x1, y1, x2, y2 in grid.windows:
            assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
            seen[y1:y2, x1:x2] += 1
        assert seen.min() == 1 or overlap > 0
        assert seen.min() >= 1
        columns = np.unique(grid.windows[:, 0])
        shared = tile - np.diff(columns)
        assert (shared >= min(tile * overlap, tile - 1) - 1e-9).all()
        assert (shared[:-1] == grid.shared).all()


def test_inner__borders_with_image_beyond():
    """A border is inner unless it is a border of the image."""
    grid = make_grid(1000, 640, 640, 0.2)
    assert grid.inner.tolist() == [[False, False, True, False], [True, False, False, False]]


def test_whole__last_and_without_inner_borders():
    """The window of the whole image is last, has no inner border, and is omitted if one tile covers the image."""
    grid = make_grid(1000, 640, 640, 0.2, whole=True)
    assert grid.windows[-1].tolist() == [0, 0, 1000, 640]
    assert not grid.inner[-1].any()
    assert len(grid.tiles) == 2
    single = make_grid(600, 640, 640, 0.2, whole=True)
    assert len(single) == len(single.tiles) == 1


@pytest.mark.parametrize("arguments", [(0, 5, 4, 0.2), (5, 5, 0, 0.2), (5, 5, 4, -0.1), (5, 5, 4, 0.91)])
def test_grid__refuses(arguments):
    """Invalid grid arguments are refused."""
    with pytest.raises(ValueError, match=r"at least 1 pixel|is not between"):
        make_grid(*arguments)
