"""Drawings of classes and regions have the right colours in the right places, and one size for all frames."""

from __future__ import annotations

import numpy as np

from pixelkeep.report.drawing import LEAST_SIDE, colour
from pixelkeep.report.label_drawing import IGNORED, OPACITY, draw_classes, draw_regions

NAMES = {0: "land", 1: "water", 2: "a class with a name that is much too long for half of any picture's width, surely"}


def test_regions__each_pixel_has_its_class_colour():
    """Each class's colour is blended over its pixels, and the picture stays as it is where the mask is 255."""
    image = np.full((96, 96, 3), 100, np.uint8)
    classes = np.zeros((96, 96), np.uint8)
    classes[:, 32:64], classes[:, 64:] = 1, IGNORED
    drawn = draw_regions(image, classes, NAMES)
    factor = LEAST_SIDE // 96
    for column, expected in ((16, colour(0)), (48, colour(1))):
        mixed = (1 - OPACITY) * 100 + OPACITY * np.array(expected[::-1])
        assert np.abs(drawn[48 * factor, column * factor] - mixed).max() <= 1
    assert (drawn[48 * factor, 80 * factor] == 100).all()
    assert drawn[48 * factor, 32 * factor].max() <= 20  # the border between two classes


def test_regions__colours_of_the_picture_do_not_mix_with_those_of_classes():
    """Red and blue of one brightness look alike under a class's colour, and stay as they are where the mask is 255."""
    image = np.zeros((768, 768, 3), np.uint8)
    image[:, :384, 2], image[:, 384:, 0] = 76, 199  # by the weights 0.299 and 0.114 both are 22.7 in grey
    classes = np.zeros((768, 768), np.uint8)
    classes[384:] = IGNORED
    drawn = draw_regions(image, classes, NAMES)
    assert (drawn[100, 100] == drawn[100, 600]).all() and (drawn[600, 100] != drawn[600, 600]).any()
    assert np.abs(drawn[100, 100] - (0.5 * 23 + 0.5 * np.array(colour(0)[::-1]))).max() <= 1


def test_regions__nothing_said():
    """A mask without any class leaves the picture as it is, above the strip of the legend."""
    drawn = draw_regions(np.full((800, 800, 3), 50, np.uint8), np.full((800, 800), IGNORED, np.uint8), NAMES)
    assert (drawn[:800] == 50).all() and drawn.shape[0] > 800


def test_classes__bars_are_as_long_as_they_are_probable():
    """A bar of probability 0.5 is half as long as one of 1, in its class's colour."""
    image = np.zeros((768, 768, 3), np.uint8)

    def length(score: float) -> int:
        drawn = draw_classes(image, [1, 0], [score, 1 - score], NAMES)
        return int((drawn[768:] == colour(1)[::-1]).all(2).any(0).sum())

    assert abs(length(1.0) - 2 * length(0.5)) <= 3 and length(1.0) > 200


def test_classes__one_size_for_all_frames():
    """The strip has one height whatever the order of the classes, and texts stay out of the bars."""
    image = np.zeros((768, 768, 3), np.uint8)
    sizes = {draw_classes(image, order, [0.5, 0.3, 0.2], NAMES).shape for order in ([0, 1, 2], [2, 1, 0])}
    assert len(sizes) == 1 and sizes.pop()[0] > 768
    long = draw_classes(image, [2], [0.0], NAMES)[768:, 376:383]
    assert (long == long[0, 0]).all()
