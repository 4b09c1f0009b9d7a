"""Border-aware merging: every object is found once, whatever its place, its size and the order of the tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tile_views import candidates, sorted_rows

from pixelkeep.tiling import Candidates, make_grid, merge


def test_border__one_object_once_at_any_place():
    """An object of any size at any offset gives one exact box if even its smallest part is reported."""
    rng = np.random.default_rng(0)
    for trial in range(150):
        tile, overlap = int(rng.integers(40, 200)), float(rng.choice([0.05, 0.1, 0.2, 0.35, 0.5, 0.75]))
        width, height = rng.integers(20, 800, 2)
        grid = make_grid(int(width), int(height), tile, overlap)
        sides = np.minimum(np.exp(rng.uniform(np.log(6), np.log(400), 2)), [width, height])
        corner = rng.uniform(0, np.array([width, height]) - sides + 1e-9)
        box = np.concatenate([corner, corner + sides])
        for jitter in (0.0, 0.5, *([1.0] if grid.shared >= 8 else [])):
            merged = merge(candidates(box, grid, rng, jitter=jitter), grid)
            assert len(merged.boxes) == 1, (trial, jitter)
            assert np.abs(merged.boxes.numpy() - box).max() <= jitter + 1e-9, (trial, jitter)


def test_border__without_overlap_parts_are_joined():
    """Tiles without overlap give parts that touch, and on whole pixels they join to the exact object."""
    rng = np.random.default_rng(1)
    for _ in range(200):
        grid = make_grid(*map(int, rng.integers(50, 500, 2)), int(rng.integers(40, 120)), 0.0)
        limits = [grid.width, grid.height]
        sides = np.minimum(rng.integers(4, 300, 2), limits)
        corner = rng.integers(0, np.array(limits) - sides + 1)
        box = np.concatenate([corner, corner + sides])
        merged = merge(candidates(box, grid, rng), grid)
        assert sorted_rows(merged.boxes).tolist() == [box.tolist()]


def crowd(rng: np.random.Generator, width: int, height: int, largest: float) -> np.ndarray:
    """Return boxes that do not overlap, many of them one pixel apart."""
    boxes: list[np.ndarray] = []
    for _ in range(300):
        sides = np.minimum(np.exp(rng.uniform(np.log(5), np.log(largest), 2)), [width, height])
        corner = rng.uniform(0, np.array([width, height]) - sides + 1e-9)
        if boxes and rng.random() < 0.5:
            other = boxes[rng.integers(len(boxes))]
            corner = np.array([other[2] + 1, other[1]])
        box = np.concatenate([corner, corner + sides])
        apart = [(box[:2] >= b[2:] + 1).any() or (b[:2] >= box[2:] + 1).any() for b in boxes]
        if all(apart) and (box[2:] <= [width, height]).all():
            boxes.append(box)
    return np.array(boxes)


@pytest.mark.parametrize("largest", [20, 60, 300])
def test_border__crowds(largest):
    """In crowds of boxes a pixel apart every object is found exactly once, and nothing else is."""
    rng = np.random.default_rng(largest)
    for _ in range(12):
        width, height = map(int, rng.integers(200, 700, 2))
        grid = make_grid(width, height, int(rng.integers(80, 200)), float(rng.choice([0.2, 0.35, 0.5])))
        boxes = crowd(rng, width, height, largest)
        merged = merge(candidates(boxes, grid, rng, least=0.01), grid)
        np.testing.assert_allclose(sorted_rows(merged.boxes), boxes[np.lexsort(boxes.T[::-1])], atol=1e-9)


GRID = make_grid(1152, 640, 640, 0.2)  # two tiles that overlap from x = 512 to 640


@pytest.mark.parametrize(
    "boxes",
    [
        [[600, 100, 640, 130], [641, 100, 680, 130]],  # on either side of the first tile's end
        [[600, 100, 639.5, 130], [640.5, 100, 680, 130]],
        [[470, 100, 511.5, 130], [512.5, 100, 560, 130]],  # on either side of the second tile's start
        [[100, 100, 511.5, 130], [512.5, 100, 1000, 130]],
        [[300, 100, 900, 130], [300, 131, 900, 161]],  # longer than the overlap, side by side
    ],
)
@pytest.mark.parametrize("jitter", [0.0, 0.3])
def test_border__a_pixel_apart_stay_two(boxes, jitter):
    """Two objects a pixel apart at a border give two boxes, one for each object."""
    rng = np.random.default_rng(0)
    merged = merge(candidates(boxes, GRID, rng, jitter=jitter), GRID)
    np.testing.assert_allclose(sorted_rows(merged.boxes), boxes, atol=jitter + 1e-9)


def test_border__without_overlap_a_pixel_apart_stay_two():
    """Without overlap an object that ends about a pixel before the border does not count as cut by it."""
    grid = make_grid(1280, 640, 640, 0.0)
    for end in (639, 639.3):
        boxes = [[600, 100, end, 130], [640, 100, 680, 130]]
        merged = merge(candidates(boxes, grid, np.random.default_rng(0)), grid)
        assert sorted_rows(merged.boxes).tolist() == boxes


@pytest.mark.parametrize("box", [[400, 50, 700, 90], [5, 300, 1150, 340], [0, 0, 1152, 640]])
def test_border__longer_than_overlap_and_tile(box):
    """An object longer than the overlap or a tile comes out whole, with the best score of its parts."""
    found = candidates(box, GRID, np.random.default_rng(0))
    merged = merge(found, GRID)
    assert merged.boxes.tolist() == [box]
    assert merged.scores.tolist() == [found.scores.max().item()]
    assert (merged.seams.candidates, merged.seams.objects, merged.seams.joined, merged.seams.cut) == (2, 1, 1, 0)


def row(*values: float, window: int, score: float, kind: int = 0) -> tuple:
    return list(values), score, kind, window


def made(*rows: tuple) -> Candidates:
    boxes, scores, kinds, windows = zip(*rows, strict=True)
    boxes, scores = (torch.tensor(part, dtype=torch.float64) for part in (boxes, scores))
    return Candidates(boxes, scores, torch.tensor(kinds), torch.tensor(windows))


def test_border__whole_box_wins_over_a_better_score():
    """A cut box gives way to the whole one of the neighbouring tile even if the cut one has the higher score."""
    found = made(row(600, 10, 640, 30, window=0, score=0.9), row(600, 10, 660, 30, window=1, score=0.4))
    merged = merge(found, GRID)
    assert merged.boxes.tolist() == [[600, 10, 660, 30]]
    assert merged.scores.tolist() == [0.4]


def test_border__poor_boxes_do_not_end_good_parts():
    """A part of a long object joins its other part instead of giving way to a low-scoring box inside the object."""
    parts = (row(300, 10, 640, 60, window=0, score=0.8), row(512, 10, 800, 60, window=1, score=0.8))
    faint = row(530, 10, 700, 60, window=1, score=0.002)
    merged = merge(made(*parts, faint), GRID)
    assert merged.boxes.tolist() == [[300, 10, 800, 60], [530, 10, 700, 60]]


def test_border__long_objects_that_overlap_stay_two():
    """Each part joins the one that fits it best, so objects that overlap by half stay apart."""
    boxes = [[300, 10, 900, 60], [300, 30, 900, 80]]
    merged = merge(candidates(boxes, GRID, np.random.default_rng(0)), GRID)
    assert sorted_rows(merged.boxes).tolist() == boxes
    assert merged.seams.joined == 2


def test_border__a_faint_box_does_not_displace_the_counterpart():
    """A part joins the more confident of two candidates even if a low-scoring one fits slightly better."""
    part, other = row(500, 10, 640, 60, window=0, score=0.8), row(512, 14, 800, 62, window=1, score=0.8)
    faint = row(516, 8, 700, 62, window=1, score=0.002)
    merged = merge(made(part, other, faint), GRID)
    assert merged.boxes.tolist() == [[500, 10, 800, 62], [516, 8, 700, 62]]


def test_border__parts_that_do_not_meet_are_not_joined():
    """Two objects a pixel apart, both near a border of one tile or the other in a narrow overlap, stay two."""
    grid = make_grid(300, 300, 82, 0.1)
    boxes = [[137, 68.9, 146.4, 84.3], [147.4, 68.9, 178.1, 86.3]]
    merged = merge(candidates(boxes, grid, np.random.default_rng(0)), grid)
    np.testing.assert_allclose(sorted_rows(merged.boxes), boxes)


def test_border__boxes_of_one_tile_are_left_alone():
    """Boxes from the same tile are never merged, however much they overlap."""
    found = made(row(10, 10, 50, 50, window=0, score=0.9), row(12, 10, 52, 50, window=0, score=0.8))
    assert len(merge(found, GRID).boxes) == 2


def test_border__class_by_class():
    """Boxes of two classes at one place stay two, and parts of different classes are not joined."""
    found = made(
        row(560, 10, 600, 40, window=0, score=0.9, kind=0),
        row(560, 10, 600, 40, window=1, score=0.8, kind=1),
        row(300, 100, 640, 140, window=0, score=0.7, kind=0),
        row(512, 100, 800, 140, window=1, score=0.6, kind=1),
    )
    assert len(merge(found, GRID).boxes) == 4


def test_border__tiny_boxes_a_pixel_off():
    """Two five-pixel boxes that differ by one pixel along each axis are one object."""
    found = made(row(560, 10, 565, 15, window=0, score=0.9), row(561, 11, 566, 16, window=1, score=0.8))
    assert merge(found, GRID).boxes.tolist() == [[560, 10, 565, 15]]


def test_border__slivers_a_little_off_give_way():
    """A box around an object's last two pixels gives way to the whole box, even if placed two pixels off."""
    found = made(row(500, 100, 512.2, 106, window=0, score=0.5), row(512, 102, 513.9, 108, window=1, score=0.9))
    assert merge(found, GRID).boxes.tolist() == [[500, 100, 512.2, 106]]


def test_border__full_image_completes_what_tiles_cut():
    """An object cut by all tiles takes the box from the window of the whole image."""
    grid = make_grid(1152, 640, 640, 0.2, whole=True)
    found = candidates([100, 100, 1100, 500], grid, np.random.default_rng(0))
    merged = merge(found, grid)
    assert merged.boxes.tolist() == [[100, 100, 1100, 500]]
    assert merged.scores.tolist() == [found.scores[-1].item()]
    assert merged.seams.joined == 0


def test_border__nothing_found():
    """Without candidates there are no boxes."""
    empty = candidates(np.zeros((0, 4)), GRID, np.random.default_rng(0))
    merged = merge(empty, GRID)
    assert merged.boxes.shape == (0, 4)
    assert merged.seams.report()["objects"] == 0


def test_border__seams_are_counted():
    """A cut box without counterpart counts as cut, and a box mostly inside another tile's box counts as doubled."""
    found = made(
        row(600, 10, 640, 30, window=0, score=0.9),
        row(100, 100, 300, 300, window=0, score=0.8),
        row(520, 100, 600, 180, window=0, score=0.8),
        row(540, 120, 560, 140, window=1, score=0.7),
    )
    report = merge(found, GRID).seams.report()
    assert {key: report[key] for key in ("candidates", "objects", "joined", "cut", "doubled")} == {
        "candidates": 4, "objects": 4, "joined": 0, "cut": 1, "doubled": 1,
    }  # fmt: skip
    assert report["cut_per_thousand"] == report["doubled_per_thousand"] == 250
