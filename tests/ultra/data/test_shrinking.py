"""Images that shrink far too much bring one warning, with the option that keeps their objects."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from ultralytics.utils import LOGGER

from pixelkeep.ultra.data.shrinking import ShrinkWarning, shrink_factor, warn_of_split


@pytest.fixture
def lines(caplog, monkeypatch):
    monkeypatch.setattr(LOGGER, "propagate", False)
    LOGGER.addHandler(caplog.handler)
    yield lambda: [record.getMessage() for record in caplog.records]
    LOGGER.removeHandler(caplog.handler)


def batch(*sizes: tuple[int, int], imgsz=(512, 640)) -> SimpleNamespace:
    """Return a stand-in for a predictor that has read images of the given sizes (rows, columns)."""
    images = [np.zeros((*size, 3), np.uint8) for size in sizes]
    return SimpleNamespace(batch=([f"/a/{i}.png" for i in range(len(sizes))], images, []), imgsz=list(imgsz))


def test_factor__the_side_that_shrinks_more():
    """The whole image has to fit, and 3072 rows into 512 shrink more than 2560 columns into 640."""
    assert shrink_factor(2560, 3072, [512, 640]) == 6 and shrink_factor(3840, 10, 640) == 6
    assert shrink_factor(320, 320, 640) == 0.5


def test_detect__first_far_larger_image_alone(lines):
    """One warning per run names the first image over twice the input's size, and tiles that keep its scale."""
    warn = ShrinkWarning()
    warn(batch((1024, 1280), (100, 100)))
    assert lines() == []
    warn(batch((100, 100), (3072, 3840), (9000, 9000)))
    warn(batch((9000, 9000)))
    (line,) = lines()
    assert line.endswith(
        " 1.png: shrinks 6.0-fold (from 3840x3072 to fit 640x512): an object of 32 pixels becomes 5.3; "
        "--tile 640 keeps its full size, a larger --imgsz more of it"
    )


@pytest.mark.parametrize("tiles", [True, False])
def test_split__names_tiles_where_there_are_any(lines, tiles):
    """The warning for training and validation suggests tiles too, for tasks that support them."""
    records = [SimpleNamespace(width=side, height=side) for side in (100, 3000, 2000)]
    warn_of_split(SimpleNamespace(records=records, problems=SimpleNamespace(split="val")), 500, tiles)
    (line,) = lines()
    assert "val: images shrink 4.0-fold (from 2000x2000 to fit 500x500): an object of 12 pixels becomes 3.0; " in line
    tiled = "--tile 500 keeps its full size, a larger --imgsz more of it"
    own = tiled if tiles else "a larger --imgsz keeps more of it"
    assert line.endswith(f"; {own}")
