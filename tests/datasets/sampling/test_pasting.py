"""Pasted copies of small objects cover nothing, are whole, keep their contrast and have no seam."""

from __future__ import annotations

import random

import numpy as np
import pytest

from pixelkeep.datasets.sampling import pasting
from pixelkeep.datasets.sampling.pasting import Cutting, candidates, cut_out, find_place, paste

SIDE = 200


def scene(seed: int, count: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Return a noisy, sloping background with objects that are brighter by 60, and the objects' boxes."""
    rng = np.random.default_rng(seed)
    image = np.linspace(60, 110, SIDE)[None, :, None] + rng.normal(0, 2, (SIDE, SIDE, 3))
    sides = rng.integers(2, 30, (count, 2))
    corners = rng.integers(0, SIDE - sides)
    boxes = np.hstack([corners, corners + sides]).astype(float)
    for x1, y1, x2, y2 in boxes.astype(int):
        image[y1:y2, x1:x2] += 60
    return np.clip(image, 0, 255).astype(np.uint8), boxes


def meets(one: np.ndarray, other: np.ndarray) -> bool:
    return min(one[2], other[2]) > max(one[0], other[0]) and min(one[3], other[3]) > max(one[1], other[1])


def test_candidates__small_and_alone():
    """A candidate is small, not too thin, inside the image with its margin, and clear of objects and regions."""
    boxes = np.array(
        [
            [20, 20, 30, 30],
            [60, 20, 70, 30],  # too near to the next
            [71, 20, 80, 30],
            [120, 20, 153, 53],  # too large
            [20, 100, 22, 130],  # too thin
            [0, 150, 10, 160],  # at the border
            [100, 100, 110, 110],  # in a region
            [150, 150, 182, 182],  # of exactly 32x32
        ]
    ).astype(float)
    regions = np.array([[90.0, 90, 400, 111]])
    assert candidates(boxes, regions, (SIDE, SIDE)).tolist() == [0, 7]
    assert candidates(boxes, np.zeros((0, 4)), (SIDE, SIDE)).tolist() == [0, 6, 7]
    assert candidates(boxes, np.zeros((0, 4)), (SIDE, 189)).tolist() == [0, 6]
    assert not len(candidates(np.zeros((0, 4)), regions, (SIDE, SIDE)))


@pytest.mark.parametrize("seed", range(6))
def test_pasted__never_over_anything(seed):
    """No copy meets an object, a region or another copy or leaves the image, and no other pixel changes."""
    chance = random.Random(seed)
    image, boxes = scene(seed, count=14)
    regions = np.array([[0.0, 0, 20, SIDE], [170, 100, 400, 300]])
    taken, before, made = np.vstack([boxes, regions]), image.copy(), 0
    touched = np.zeros((SIDE, SIDE), bool)
    for number in candidates(boxes, regions, (SIDE, SIDE)).tolist() * 6:
        cutting = cut_out(before, boxes[number], chance)
        place = find_place(image, taken, cutting, chance)
        if place is None:
            continue
        box = paste(image, cutting, *place)
        height, width = cutting.pixels.shape[:2]
        around = np.array([*place, place[0] + width, place[1] + height])
        assert (box[:2] >= around[:2]).all() and (box[2:] <= around[2:]).all() and (box[2:] > box[:2]).all()
        assert (around >= 0).all() and (around <= SIDE).all()
        assert not any(meets(around, other) for other in taken)
        touched[around[1] : around[3], around[0] : around[2]] = True
        taken, made = np.vstack([taken, around]), made + 1
    assert made > 1
    assert np.array_equal(image[~touched], before[~touched]) and (image[touched] != before[touched]).any()


def test_no_room__no_place():
    """There is no place if all is taken, the picture is smaller than the copy, or the background is too different."""
    image, chance = np.full((SIDE, SIDE, 3), 90, np.uint8), random.Random(0)
    image[80:90, 80:90] = 200
    cutting = cut_out(image, np.array([80.0, 80, 90, 90]), chance)
    nothing = np.zeros((0, 4))
    assert find_place(image, np.array([[80.0, 80, 90, 90]]), cutting, chance) is not None
    assert find_place(image, np.array([[0.0, 0, SIDE, SIDE]]), cutting, chance) is None
    assert find_place(image[:5, :5], nothing, cutting, chance) is None
    assert find_place(np.full_like(image, 150), nothing, cutting, chance) is None
    noise = np.random.default_rng(0).integers(0, 180, image.shape).astype(np.uint8)
    assert find_place(noise, nothing, cutting, chance) is None


def test_contrast__kept_on_other_ground():
    """On a background brighter by 20 the copy is brighter by 20, and its margin merges without a step."""
    source = np.full((60, 60, 2), [50, 90], np.uint8)
    source[20:30, 20:32] = [140, 60]
    cutting = cut_out(source, np.array([20.0, 20, 32, 30]), Fixed(1.0))
    image = np.full((60, 60, 2), [70, 110], np.uint8)
    box = paste(image, cutting, 10, 5)
    x1, y1, x2, y2 = box.astype(int)
    assert (x2 - x1, y2 - y1) == (12, 10) and (image[y1:y2, x1:x2] == [160, 80]).all()
    image[y1:y2, x1:x2] = [70, 110]
    assert (image == [70, 110]).all()


def test_seam__none_on_a_slope():
    """The rim of a copy differs from its new background by no more than rounding, whatever its own was like."""
    image, _ = scene(0, count=0)
    source, boxes = scene(1, count=40)
    for seed, number in enumerate(candidates(boxes, np.zeros((0, 4)), (SIDE, SIDE))):
        canvas = image.copy()
        cutting = cut_out(source, boxes[number], random.Random(seed))
        paste(canvas, cutting, 40, 60)
        height, width = cutting.pixels.shape[:2]
        rim = np.ones((height, width), bool)
        rim[1:-1, 1:-1] = False
        change = np.abs(canvas.astype(int) - image)[60 : 60 + height, 40 : 40 + width]
        assert change[rim].mean() < 2 and change[~rim].max() > 30
        alpha = cutting.alpha[..., 0]
        x1, y1, x2, y2 = cutting.box
        assert (alpha[int(np.ceil(y1)) : int(y2), int(np.ceil(x1)) : int(x2)] == 1).all()
        assert alpha[rim].max() < 0.35 and alpha.min() >= 0


class Fixed(random.Random):
    """A random generator whose ``uniform`` always returns one given value."""

    def __new__(cls, value: float):
        return super().__new__(cls)

    def __init__(self, value: float):
        super().__init__()
        self.value = value

    def uniform(self, low: float, high: float) -> float:
        return self.value


@pytest.mark.parametrize("scale", pasting.JITTER)
def test_scale__of_pixels_and_box_alike(scale):
    """A copy that is scaled up or down holds the object where its box says, to within a pixel."""
    image = np.zeros((80, 80, 1), np.uint8)
    image[30:50, 24:40] = 200
    cutting = cut_out(image, np.array([24.0, 30, 40, 50]), Fixed(scale))
    assert isinstance(cutting, Cutting) and cutting.pixels.ndim == 3
    ys, xs = np.nonzero(cutting.pixels[..., 0] > 100)
    assert cutting.box.tolist() == pytest.approx([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], abs=1)
    sides = cutting.box[2:] - cutting.box[:2]
    assert sides.tolist() == pytest.approx([16 * scale, 20 * scale], abs=0.5)
