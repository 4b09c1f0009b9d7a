"""Proves that size ranges include both borders and that the example in their documentation holds."""

import doctest

import numpy as np
import pytest

from pixelkeep.errors import OptionError
from pixelkeep.evaluation import AITOD_BINS, COCO_SIZES, AreaRange, areas


def test_contains__includes_both_borders():
    """Areas of exactly low**2 and high**2 lie in the range, the adjacent floats outside do not."""
    border = np.array([64.0, 256.0])
    tiny = AreaRange("tiny", 8, 16)
    assert tiny.contains(border).all()
    assert not tiny.contains(np.nextafter(border, [0, 1e9])).any()


def test_ranges__are_those_of_the_papers():
    """The ranges have the borders of COCO and AI-TOD, as sides in pixels."""
    assert [(size.name, size.low, size.high) for size in COCO_SIZES] == [("S", 0, 32), ("M", 32, 96), ("L", 96, 1e5)]
    assert [(size.low, size.high) for size in AITOD_BINS] == [(2, 8), (8, 16), (16, 32), (32, 64)]


def test_area__is_the_square_of_the_sides():
    """The area of a range is what pycocotools takes as areaRng."""
    assert COCO_SIZES[0].area == (0, 1024)


@pytest.mark.parametrize(("low", "high"), [(8, 8), (9, 8), (-1, 8), (float("nan"), 8)])
def test_range__must_rise(low, high):
    """A range that is empty, falls or starts below zero is refused."""
    with pytest.raises(OptionError, match="area range 'odd' runs from"):
        AreaRange("odd", low, high)


def test_docstring__example_holds():
    """The example in the documentation runs as printed."""
    assert doctest.testmod(areas) == (0, 1)
