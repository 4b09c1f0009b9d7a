"""Windows lie inside their image around their object, and show of a box what is left of its painted pixels."""

from __future__ import annotations

import random

import numpy as np
import pytest

from pixelkeep.datasets.sampling.windows import Window, shown, window_about

IMAGE = (60, 100)  # height, width


def boxes_within(rng: np.random.Generator, count: int, largest: int = 40) -> np.ndarray:
    sides = rng.integers(1, largest, (count, 2))
    corners = rng.integers(0, np.array(IMAGE)[::-1] - sides)
    return np.hstack([corners, corners + sides]).astype(float)


@pytest.mark.parametrize("size", [(32, 48), (20, 90), (80, 40)])
def test_window__inside_the_image_with_the_whole_box(size):
    """A window is as large as asked if the image is, lies inside it, and shows the whole of a box that fits."""
    chance = random.Random(0)
    for box in boxes_within(np.random.default_rng(0), 300, largest=19):
        window = window_about(box, size, IMAGE, chance)
        assert (window.height, window.width) == tuple(np.minimum(size, IMAGE))
        assert 0 <= window.x <= IMAGE[1] - window.width and 0 <= window.y <= IMAGE[0] - window.height
        assert shown(box[None], window, least=1.0).whole.all()


def test_window__everywhere_that_shows_the_box():
    """Every position that shows the whole box is drawn, both ends included, also for boxes between pixels."""
    for box, xs, ys in (
        (np.array([40.0, 30, 45, 33]), range(25, 41), range(23, 31)),
        (np.array([40.2, 30.9, 44.5, 32.1]), range(25, 41), range(23, 31)),
        (np.array([2.0, 1, 5, 4]), range(3), range(2)),
    ):
        chance, places = random.Random(1), set()
        for _ in range(4000):
            window = window_about(box, (10, 20), IMAGE, chance)
            places.add((window.x, window.y))
        assert places == {(x, y) for x in xs for y in ys}


def test_window__middle_of_what_is_larger():
    """A window that is smaller than its box shows the middle of the box."""
    window = window_about(np.array([10.0, 5, 90, 55]), (10, 20), IMAGE, random.Random(0))
    assert window == Window(40, 25, 20, 10)


def test_shown__what_painted_pixels_say():
    """Clipped boxes and visible shares equal those of boxes painted into an image and cut with it."""
    rng, chance = np.random.default_rng(2), random.Random(2)
    boxes = boxes_within(rng, 200)
    for window in (window_about(box, (30, 40), IMAGE, chance) for box in boxes[:20]):
        seen = shown(boxes, window, least=0.5)
        for index, box in enumerate(boxes.astype(int)):
            canvas = np.zeros(IMAGE, bool)
            canvas[box[1] : box[3], box[0] : box[2]] = True
            left = canvas[window.rows, window.columns]
            assert seen.share[index] == pytest.approx(left.sum() / canvas.sum())
            assert seen.visible[index] == left.any() and seen.whole[index] == (2 * left.sum() >= canvas.sum())
            if left.any():
                ys, xs = np.nonzero(left)
                assert seen.boxes[index].tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    assert not shown(np.zeros((0, 4)), window).whole.size


def test_sliver__of_either_side():
    """A remnant thinner than the least side is not visible, and a box without a size has no visible share."""
    window = Window(0, 0, 50, 50)
    boxes = np.array([[49.95, 0, 60, 10], [0, 49.8, 10, 60], [5, 5, 5, 9], [49.8, 0, 60, 10]])
    assert shown(boxes, window, sliver=0.1).visible.tolist() == [False, True, False, True]
    assert shown(boxes, window).share.tolist()[2] == 0
