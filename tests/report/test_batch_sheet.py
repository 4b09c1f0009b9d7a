"""The sheet of a batch leaves small objects uncovered, has one legend and names above, and fits its width."""

from __future__ import annotations

import numpy as np
import pytest

from pixelkeep.report.batch_sheet import _GAP, _LINE, LEAST, MOST, WIDEST, Picture, batch_sheet
from pixelkeep.report.drawing import colour

NAMES = {0: "car", 1: "person"}


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def picture(image: np.ndarray, boxes: list, scores: list | None = None, name: str = "a.png") -> Picture:
    boxes = np.array(boxes, float).reshape(-1, 4)
    return Picture(name, image, boxes, np.arange(len(boxes)) % 2, None if scores is None else np.array(scores))


def place(number: int, columns: int, height: int, width: int) -> tuple[int, int]:
    """Return the row and column, in pixels, at which a picture begins."""
    return number // columns * (height + _LINE + _GAP) + _LINE, _GAP + number % columns * (width + _GAP)


@pytest.mark.parametrize("scores", [None, [0.9, 0.8, 0.7]])
def test_small_objects__pixels_unchanged(scores):
    """Without resizing no pixel of an object changes, and a ring of its class's colour (RGB) surrounds it."""
    image = noise(400, 640)
    boxes = [[100, 100, 106, 106], [110, 100, 116, 106], [300, 200, 340, 230]]
    sheet = np.asarray(batch_sheet([picture(image, boxes, scores), picture(image, [])], NAMES))
    top, left = place(0, 2, 400, 640)
    shown = sheet[top : top + 400, left : left + 640]
    for number, (x1, y1, x2, y2) in enumerate(boxes):
        assert np.array_equal(shown[y1:y2, x1:x2], image[y1:y2, x1:x2])
        assert tuple(shown[y1 - 2, x1 + 1]) == colour(number % 2)
    beside = sheet[top : top + 400, left + 640 + _GAP : left + 1280 + _GAP]
    assert np.array_equal(beside, image)  # nothing is drawn on an image without objects


def test_boxes__follow_the_size_of_their_image():
    """In an image enlarged five times, a box is five times as large and still surrounds its object."""
    image = np.full((64, 64, 3), 90, np.uint8)
    sheet = np.asarray(batch_sheet([picture(image, [[10, 20, 14, 26]])], NAMES))
    top, left = place(0, 1, 320, 320)
    changed = np.argwhere((sheet[top : top + 320, left : left + 320] != 90).any(2))
    assert (changed.min(0) == (100 - 3, 50 - 3)).all() and (changed.max(0) == (130 + 2, 70 + 2)).all()


def test_figures__of_predictions_alone():
    """Only predictions have a confidence beside them; a label changes nothing but a ring of three pixels."""
    image = np.full((400, 640, 3), 90, np.uint8)
    labelled, found = (
        np.asarray(batch_sheet([picture(image, [[300, 200, 320, 220]], scores)], NAMES)) for scores in (None, [0.87])
    )
    assert labelled.shape == found.shape
    assert (found != labelled).any()
    top, left = place(0, 1, 400, 640)
    ring = (labelled[top : top + 400, left : left + 640] != 90).any(2)
    assert ring[197:223, 297:323].sum() == ring.sum() == 26**2 - 20**2


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (4, 2), (5, 3), (16, 4), (17, 4)])
def test_size__fits_and_small_images_are_enlarged(count, columns):
    """A sheet has at most 16 images in rows; small ones are enlarged to the least side, large ones shrunk to fit."""
    for side in (64, 1280):
        sheet = batch_sheet([picture(noise(side, side), []) for _ in range(count)], NAMES)
        rows = -(-min(count, MOST) // columns)
        each = (sheet.width - _GAP) // columns - _GAP
        assert each == (LEAST if side == 64 else min(side, WIDEST // columns))
        assert sheet.height - rows * (each + _LINE + _GAP) in range(20, 40)  # what is left is the legend


def test_names__of_unknown_classes_and_long_files():
    """A class without a name is shown by its index, and a name of any length stays above its picture."""
    image = np.zeros((320, 320, 3), np.uint8)
    other = Picture("x" * 300, image, np.array([[10.0, 10, 20, 20]]), np.array([7]))
    sheet = batch_sheet([other, picture(image, [])], NAMES)
    assert sheet.width == 2 * (320 + _GAP) + _GAP
    top, left = place(1, 2, 320, 320)
    assert np.asarray(sheet)[:top, left + 200 : left + 320].max() < 40  # the neighbour's strip stays free
