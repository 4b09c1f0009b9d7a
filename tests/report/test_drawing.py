"""Drawings never touch an object's own pixels, however small it is, and the legend counts what was found."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pixelkeep.report import drawing
from pixelkeep.report.drawing import LEAST_SIDE, PALETTE, colour, draw

NAMES = {i: f"class{i}" for i in range(40)}


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def grid(height, width, side, gap):
    """Return square boxes in rows, with ``gap`` pixels between them."""
    step = side + gap
    corners = [(x, y) for y in range(gap, height - side, step) for x in range(gap, width - side, step)]
    return np.array([(x, y, x + side, y + side) for x, y in corners], float)


def enlarged(image):
    factor = -(-LEAST_SIDE // max(image.shape[:2]))
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC), factor


def inside(picture, box):
    x1, y1, x2, y2 = map(int, box)
    return picture[y1:y2, x1:x2]


def legend(picture, image_height):
    """Return the set of RGB colours in the legend, which is the rows below the picture."""
    return {tuple(int(v) for v in p[::-1]) for p in picture[image_height:].reshape(-1, 3)}


@pytest.mark.parametrize("line_width", [None, 1, 2, 3, 4, 5])
def test_small_objects__pixels_unchanged(line_width):
    """Without enlargement no pixel inside a box changes: lines, scores and dark edges stay outside all objects."""
    image = noise(800, 1000)
    boxes = grid(800, 1000, side=6, gap=24)
    n = len(boxes)
    out = draw(image, boxes, np.arange(n) % 3, np.linspace(0.99, 0.3, n), NAMES, line_width)
    assert all(np.array_equal(inside(out, b), inside(image, b)) for b in boxes)
    assert not np.array_equal(out[:800], image)


def test_dense_objects__pixels_unchanged():
    """No pixel inside dense boxes changes either: a score is drawn only where it covers no other box."""
    image = noise(900, 900)
    boxes = np.array([(x, y, x + 20, y + 20) for y in range(30, 850, 37) for x in range(30, 850, 37)], float)
    out = draw(image, boxes, np.zeros(len(boxes)), np.full(len(boxes), 0.5), NAMES)
    assert all(np.array_equal(inside(out, b), inside(image, b)) for b in boxes)


def test_scores__beside_the_box_or_left_out():
    """A lone box has its score above; between two other boxes the score is left out, and neither box is covered."""
    image = np.full((800, 800, 3), 90, np.uint8)
    lone = np.array([[400, 400, 420, 420]], float)
    free = draw(image, lone, [0], [0.87], NAMES)
    assert (free[370:390, 395:440] != 90).any()
    walls = np.array([[300, 330, 520, 392], [300, 428, 520, 490]], float)
    taken = draw(image, np.vstack([lone, walls]), [0, 1, 1], [0.87, 0.1, 0.1], NAMES)
    assert (inside(taken, walls[0]) == 90).all() and (inside(taken, walls[1]) == 90).all()


def test_surest_first__gets_the_place():
    """Where only one of two scores has room, the surer one is written."""
    image = np.full((800, 800, 3), 90, np.uint8)
    boxes = np.array([[400, 5, 412, 795], [415, 5, 427, 795]], float)  # room for one score only
    boxes[:, 1] = 60
    for surer in (0, 1):
        scores = np.array([0.9, 0.4] if surer == 0 else [0.4, 0.9])
        out = draw(image, boxes, [0, 1], scores, NAMES)
        above = {tuple(int(v) for v in p[::-1]) for p in out[20:52, 380:460].reshape(-1, 3)}
        assert colour(surer) in above and colour(1 - surer) not in above


@pytest.mark.parametrize("index", [0, 5, len(PALETTE)])
def test_edge__in_the_colour_of_the_class(index):
    """The line around a box is in its class's colour on all four sides, just outside the object."""
    image = np.full((800, 800, 3), 90, np.uint8)
    out = draw(image, [[300, 300, 340, 360]], [index], [0.5], NAMES, line_width=2)
    bgr = np.array(colour(index)[::-1])
    for y, x in ((330, slice(292, 300)), (330, slice(340, 348)), (slice(292, 300), 320), (slice(360, 368), 320)):
        assert (out[y, x] == bgr).all(axis=-1).any()


@pytest.mark.parametrize(("height", "width"), [(64, 64), (100, 150), (767, 300), (768, 100), (1000, 2000)])
def test_enlarged__by_a_whole_factor(height, width):
    """Small pictures are enlarged by the smallest whole factor that gives the least side, larger ones are not."""
    image = noise(height, width)
    box = np.array([width // 2, height // 2, width // 2 + 5, height // 2 + 4])
    big, factor = enlarged(image)
    out = draw(image, [box], [1], [0.5], NAMES)
    assert out.shape[1] == width * factor and out.shape[0] > height * factor
    assert max(width, height) * factor >= LEAST_SIDE
    assert factor == 1 or max(width, height) * (factor - 1) < LEAST_SIDE
    assert np.array_equal(inside(out, box * factor), inside(big, box * factor))


@pytest.fixture
def written(monkeypatch):
    """A list of the positions and texts written into pictures, in order."""
    texts = []
    text = drawing.ImageDraw.ImageDraw.text

    def spy(self, xy, string, *args, **kwargs):
        texts.append((xy, string))
        return text(self, xy, string, *args, **kwargs)

    monkeypatch.setattr(drawing.ImageDraw.ImageDraw, "text", spy)
    return texts


def test_legend__counts_each_class(written):
    """The legend names each class found, and no other, with its count and colour."""
    image = np.full((800, 800, 3), 90, np.uint8)
    boxes = np.array([[100, 100, 110, 110], [200, 200, 210, 210], [300, 300, 310, 310]], float)
    out = draw(image, boxes, [2, 1, 2], [0.9, 0.8, 1.0], NAMES)
    texts = [string for _, string in written]
    assert {"class1 1", "class2 2", ".90", ".80", "1"} <= set(texts)
    assert not any("class0" in t for t in texts)
    assert {colour(1), colour(2)} <= legend(out, 800) and colour(0) not in legend(out, 800)


@pytest.mark.parametrize("width", [100, 300, 900])
def test_legend__fits_and_counts_what_is_left_out(written, width):
    """Where not all classes fit the picture's width, the legend says how many are left out."""
    image = np.full((900, width, 3), 90, np.uint8)
    classes = np.arange(40)
    boxes = np.array([(5, 20 * i + 20, 10, 20 * i + 25) for i in classes], float)
    draw(image, boxes, classes, np.full(40, 0.5), NAMES)
    named = [s for _, s in written if s.startswith("class")]
    (x, rest) = written[-1]
    assert rest == f"+{40 - len(named)} more"
    assert len(named) == 1 or x[0] + 8 * len(rest) <= width + 20


def test_legend__one_height_for_all_frames():
    """Frames have the same size whatever is found in them, as a video file needs."""
    image = noise(480, 640)
    boxes = grid(480, 640, side=10, gap=60)
    full = draw(image, boxes, np.arange(len(boxes)) % 40, np.full(len(boxes), 0.5), NAMES)
    assert full.shape == draw(image, np.zeros((0, 4)), [], [], NAMES).shape


def test_nothing_found__said(written):
    """An empty picture is unchanged and says so."""
    image = noise(800, 800)
    out = draw(image, np.zeros((0, 4)), [], [], NAMES)
    assert np.array_equal(out[:800], image)
    assert [string for _, string in written] == ["nothing found"]


def test_input__not_drawn_on():
    """The given picture is not changed, even if it is not enlarged."""
    image = noise(800, 800)
    before = image.copy()
    draw(image, [[10, 50, 30, 70]], [0], [0.5], NAMES)
    assert np.array_equal(image, before)


def test_figures__two_digits():
    """A confidence that rounds to one is 1, not .00."""
    assert drawing.figures(np.array([0.874, 0.05, 0.9949, 0.995, 0.9999, 1.0, 0.001])) == [
        ".87",
        ".05",
        ".99",
        "1",
        "1",
        "1",
        ".00",
    ]
