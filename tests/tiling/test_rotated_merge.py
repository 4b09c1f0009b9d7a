"""Merging of rotated boxes: every object is found once at any place and angle, however its parts are reported."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from rotated_views import WAYS, candidates, clip, corners, report

from pixelkeep.tiling import METHODS, Candidates, make_grid, merge, polygons, shapes
from pixelkeep.tiling.run import collect

PI = math.pi


def draw_one(rng: np.random.Generator, width: int, height: int, largest: float) -> np.ndarray:
    """Return an object of random size and angle that lies inside the image."""
    while True:
        box = np.array([0, 0, *np.exp(rng.uniform(np.log(6), np.log(largest), 2)), rng.uniform(-PI / 4, 3 * PI / 4)])
        reach = np.ptp(corners(box), axis=0)
        if (reach < [width, height]).all():
            box[:2] = rng.uniform(reach / 2, np.array([width, height]) - reach / 2)
            return box


def same(found: np.ndarray, box: np.ndarray) -> float:
    """Return the IoU of two rotated boxes; OpenCV's is inaccurate where they are nearly identical."""
    turn = np.array([[np.cos(box[4]), -np.sin(box[4])], [np.sin(box[4]), np.cos(box[4])]])
    inside = clip((corners(found) - box[:2]) @ turn, np.array([-box[2], -box[3], box[2], box[3]]) / 2)
    shared = cv2.contourArea(inside.astype(np.float32)) if len(inside) > 2 else 0.0
    return shared / (found[2] * found[3] + box[2] * box[3] - shared)


@pytest.mark.parametrize("way", WAYS)
def test_rotated__one_object_once_at_any_place_and_angle(way):
    """An object that fits into a tile gives one box, which is exact where a tile shows the object whole."""
    rng = np.random.default_rng(0)
    for trial in range(30):
        tile, overlap = int(rng.integers(60, 200)), float(rng.choice([0.1, 0.2, 0.35, 0.5]))
        width, height = (int(side) for side in rng.integers(100, 600, 2))
        grid = make_grid(width, height, tile, overlap)
        box = draw_one(rng, width, height, tile / 1.5)
        whole = np.ptp(corners(box), axis=0).max() < grid.shared - 4
        for jitter in (0.0, 0.5):
            merged = merge(candidates(box, grid, rng, way, jitter=jitter), grid)
            assert len(merged.scores) == 1, (trial, jitter)
            fit = same(merged.rotated[0].numpy(), box)
            assert fit > (0.999 if whole and not jitter else 0.5), (trial, jitter, fit)


def draw_long(rng: np.random.Generator, tile: int, width: float, angle: float) -> np.ndarray:
    """Return an object in the middle of a 700 x 700 image that is longer than a tile."""
    return np.array([350, 350, rng.uniform(1.3, 2.5) * tile, width, angle])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("degrees", [*range(0, 180, 20), 43, 45, 47, 134, 136])
def test_rotated__longer_than_tiles_come_out_whole(way, degrees):
    """The parts of an object longer than a tile are joined to the exact object, at any angle."""
    rng = np.random.default_rng(degrees)
    for _ in range(2):
        tile = int(rng.integers(80, 200))
        grid = make_grid(700, 700, tile, 0.2)
        box = draw_long(rng, tile, rng.uniform(10, 0.6 * tile), np.deg2rad(degrees))
        found = candidates(box, grid, rng, way)
        merged = merge(found, grid)
        assert len(merged.scores) == 1 < len(found)
        assert same(merged.rotated[0].numpy(), box) > 0.99
        assert (merged.seams.objects, merged.seams.joined) == (1, 1)


@pytest.mark.parametrize("degrees", [10, 30, 60, 100, 150])
def test_rotated__wider_than_tiles_come_out_whole(degrees):
    """An object that no tile shows in full width is recovered from the angle of its parts and its ends."""
    rng = np.random.default_rng(degrees)
    for tile in (90, 120):
        grid = make_grid(700, 700, tile, 0.3)
        box = draw_long(rng, tile, 1.8 * tile, np.deg2rad(degrees))
        merged = merge(candidates(box, grid, rng, "turned"), grid)
        assert len(merged.scores) == 1
        assert same(merged.rotated[0].numpy(), box) > 0.99


def test_rotated__parts_that_reach_over_their_borders():
    """The part of a box outside its tile counts for nothing; the other tile's box determines that end."""
    box = np.array([576, 300, 500, 40, 0.3])
    way = np.array([math.cos(0.3), math.sin(0.3)])
    longer = [np.array([*(box[:2] + sign * 60 * way), 620, 40, 0.3]) for sign in (1, -1)]  # 120 px too long at one end
    merged = merge(made(GRID, *((n, [*part[:4], 0.9, 0, 0.3]) for n, part in enumerate(longer))), GRID)
    assert len(merged.scores) == 1
    assert same(merged.rotated[0].numpy(), box) > 0.999


@pytest.mark.parametrize("seed", range(4))
def test_rotated__slivers_at_corners_of_tiles(seed):
    """The few pixels of an object in a tile's corner, reported a pixel off, do not become an object of their own."""
    rng = np.random.default_rng(seed)
    for _ in range(10):
        tile = int(rng.integers(80, 160))
        grid = make_grid(700, 700, tile, 0.2)
        box = draw_long(rng, tile, rng.uniform(10, 60), rng.uniform(0, PI))
        merged = merge(candidates(box, grid, rng, "smallest", jitter=1.0), grid)
        assert len(merged.scores) == 1
        assert same(merged.rotated[0].numpy(), box) > 0.6


@pytest.mark.parametrize("way", WAYS)
def test_rotated__rows_of_parked_cars(way):
    """Rotated objects two pixels apart across a border keep their number and their boxes."""
    rng = np.random.default_rng(2)
    grid = make_grid(400, 200, 160, 0.3)
    angle = np.deg2rad(35)
    along = np.array([-np.sin(angle), np.cos(angle)]) * 16
    cars = np.array([[120 + 60 * x, 40, 34, 14, angle] for x in range(4)])
    cars = np.concatenate([cars + np.array([*(along * n), 0, 0, 0]) for n in range(6)])
    merged = merge(candidates(cars, grid, rng, way, least=3.0), grid)
    assert len(merged.scores) == len(cars)
    best = [max(same(found, car) for found in merged.rotated.numpy()) for car in cars]
    assert min(best) > 0.999


def made(grid, *rows: tuple[int, list[float]]) -> Candidates:
    """Return candidates from window numbers and rows of centre, sides, score, class, radians in image pixels."""
    found = []
    for number, window in enumerate(grid.windows):
        own = [row for of, row in rows if of == number]
        part = torch.tensor(own, dtype=torch.float64).reshape(-1, 7)
        part[:, :2] -= torch.tensor(window[:2])
        found.append(part)
    return collect(found, grid)


GRID = make_grid(1152, 640, 640, 0.2)  # two tiles that overlap from x = 512 to 640


def test_rotated__whole_box_wins_over_a_better_score():
    """A cut rotated box gives way to the neighbouring tile's whole one even if the cut one has the higher score."""
    box = np.array([630, 300, 60, 20, 0.5])
    part = report(clip(corners(box), GRID.windows[0]), 0.5, "smallest")
    merged = merge(made(GRID, (0, [*part[:4], 0.9, 0, part[4]]), (1, [*box[:4], 0.4, 0, box[4]])), GRID)
    np.testing.assert_allclose(merged.rotated.numpy(), box[None], atol=1e-9)
    assert merged.scores.tolist() == [0.4]


def cut_pair(one: list[float], other: list[float], *numbers: int):
    """Return the merged result of two upright boxes x1, y1, x2, y2 that two of four tiles report as rotated ones."""
    grid = make_grid(1152, 1152, 640, 0.2)  # tiles begin at 0 and 512 on both axes and overlap from 512 to 640
    rows = [
        (number, [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, score, 0, 0.0])
        for number, (x1, y1, x2, y2), score in zip(numbers, (one, other), (0.9, 0.8), strict=True)
    ]
    return merge(made(grid, *rows), grid)


@pytest.mark.parametrize(
    "one, other, numbers, left",
    [
        ([400, 530, 600, 600], [636, 560, 640, 563], (2, 2), 2),  # same tile: the detector has separated them
        ([514, 530, 620, 639], [513, 638, 516, 640], (3, 0), 1),  # a sliver inside the other tile's box
        ([514, 530, 620, 639], [530, 637, 620, 640], (3, 0), 1),
        ([514, 530, 620, 639], [623, 637, 638, 640], (3, 0), 2),  # cut, but beside the box of the other tile
        ([514, 530, 620, 639], [500, 637, 560, 640], (3, 0), 2),  # extends beyond the other tile
        ([514, 530, 620, 700], [540, 560, 552, 570], (3, 0), 2),  # not cut: a separate object inside the other
        ([513, 530, 639, 600], [513, 530, 639, 600], (0, 3), 1),  # identical boxes, cut by different borders
        ([512, 513, 560, 540], [515, 513, 558, 538], (3, 2), 1),  # gives way to a box that it covers
    ],
)
def test_rotated__cut_boxes_inside_what_another_tile_shows(one, other, numbers, left):
    """A cut box gives way where another tile shows the same area in a larger box, and only there."""
    assert len(cut_pair(one, other, *numbers).scores) == left


def test_rotated__crossing_objects_stay_two():
    """Crossing objects with the same upright bounding box are told apart by angle, and by class."""
    rng = np.random.default_rng(0)
    pair = [[576, 300, 100, 12, PI / 4], [576, 300, 100, 12, -PI / 4]]
    assert len(merge(candidates(pair, GRID, rng, "turned"), GRID).scores) == 2
    box = [576.0, 300, 60, 20]
    assert len(merge(made(GRID, (0, [*box, 0.9, 0, 0.5]), (1, [*box, 0.8, 1, 0.5])), GRID).scores) == 2
    assert len(merge(made(GRID, (0, [*box, 0.9, 0, 0.5]), (1, [*box, 0.8, 0, 0.5])), GRID).scores) == 1


@pytest.mark.parametrize("method", METHODS)
def test_rotated__order_changes_not_a_bit(method):
    """Permuting the boxes gives the same tensors bit by bit."""
    rng = np.random.default_rng(5)
    grid = make_grid(400, 400, 120, 0.3)
    objects = np.array([draw_one(rng, 400, 400, 90) for _ in range(60)])
    found = candidates(objects, grid, rng, "smallest", jitter=2.0)
    found = Candidates(found.boxes, found.scores.mul(20).round().div(20), *(
        getattr(found, name) for name in ("classes", "windows", "rotated")))  # fmt: skip
    first = merge(found, grid, method)
    for seed in range(3):
        again = merge(found[torch.randperm(len(found), generator=torch.Generator().manual_seed(seed))], grid, method)
        for name in ("boxes", "scores", "classes", "rotated"):
            assert torch.equal(getattr(first, name), getattr(again, name))
        assert first.seams == again.seams


def test_rotated__order_of_twins_changes_nothing():
    """Two objects of equal bounding box, score and class are always ordered by their angles."""
    pair = [(0, [300.0, 300, 100, 12, 0.5, 0, angle]) for angle in (-PI / 4, PI / 4)]
    first, second = (merge(made(GRID, *rows), GRID).rotated for rows in (pair, pair[::-1]))
    assert len(first) == 2 and torch.equal(first, second)


def test_rotated__upright_ones_merge_as_upright():
    """Rotated boxes with an angle of 0, cut and whole, merge as upright boxes do."""
    rng = np.random.default_rng(3)
    grid = make_grid(500, 400, 150, 0.3)
    objects = np.array([[x, y, 20, 12, 0.0] for x in range(20, 480, 45) for y in range(20, 380, 33)])
    found = candidates(objects, grid, rng, "turned")
    upright = merge(Candidates(found.boxes, found.scores, found.classes, found.windows), grid)
    rotated = merge(found, grid)
    assert len(upright.scores) == len(rotated.scores) == len(objects)
    for boxes in (upright.boxes, rotated.boxes):
        rows = boxes.numpy()[np.lexsort(boxes.numpy().T[::-1])]
        expected = np.c_[objects[:, :2] - [10, 6], objects[:, :2] + [10, 6]]
        np.testing.assert_allclose(rows, expected[np.lexsort(expected.T[::-1])], atol=1e-9)


@pytest.mark.parametrize("method", ["nms", "ios"])
def test_rotated__other_methods_compare_polygons(method):
    """Boxes with an IoU of a third are merged only by ios, which divides by the smaller area."""
    one, other = (
        [300.0, 300, 80, 40, 0.9, 0, 0.7],
        [300 + 40 * math.cos(0.7), 300 + 40 * math.sin(0.7), 80, 40, 0.8, 0, 0.7],
    )
    merged = merge(made(GRID, (0, one), (0, [*other[:2], *other[2:]])), GRID, method, threshold=0.49)
    assert len(merged.scores) == (2 if method == "nms" else 1)
    if method == "ios":
        middle = [300 + 20 * math.cos(0.7), 300 + 20 * math.sin(0.7), 120, 40, 0.7]
        assert same(merged.rotated[0].numpy(), np.array(middle)) > 0.999


def test_polygons__areas_equal_opencv():
    """The intersection area of two rotated boxes equals OpenCV's."""
    rng = np.random.default_rng(4)
    pairs = rng.uniform([0, 0, 5, 5, 0] * 2, [40, 40, 60, 60, PI] * 2, (200, 10))
    a, b = (torch.tensor(pairs[:, part]) for part in (slice(0, 5), slice(5, 10)))
    found = polygons.areas(polygons.within_rotated(polygons.corners(a), b))
    for one, other, area in zip(a.numpy(), b.numpy(), found.tolist(), strict=True):
        shapes = [((r[0], r[1]), (r[2], r[3]), float(np.rad2deg(r[4]))) for r in (one, other)]
        _, points = cv2.rotatedRectangleIntersection(*shapes)
        expected = 0.0 if points is None else cv2.contourArea(cv2.convexHull(points))
        assert area == pytest.approx(expected, abs=0.05)


def test_polygons__far_from_the_corner():
    """Areas forty thousand pixels from the image's corner are as accurate as near it."""
    box = torch.tensor([[10.0, 10, 7, 5, 0.3]], dtype=torch.float64)
    far = box + torch.tensor([4e4, 4e4, 0, 0, 0])
    assert polygons.areas(polygons.within_rotated(polygons.corners(far), far)).item() == pytest.approx(35, abs=1e-6)
    assert polygons.smallest_around(polygons.corners(far)[0])[2:4].sort().values.tolist() == pytest.approx(
        [5, 7], abs=1e-4
    )


@pytest.mark.parametrize("degrees", [0, 23, 44, 45, 46, 67, 90, 110, 134, 135, 160])
@pytest.mark.parametrize("sides", [(30, 11), (11, 30)])
def test_polygons__filling_touches_all_sides(degrees, sides):
    """A rotated box is recovered from its upright bounds and angle, on a diagonal with its shorter side as well."""
    box = torch.tensor([50.0, 40, *sides, np.deg2rad(degrees)], dtype=torch.float64)
    around = polygons.bounds(polygons.corners(box[None]))[0]
    found = polygons.filling(around, box)
    assert len(found) == (1 if degrees in (44, 45, 46, 134, 135) else 2)  # a pixel would change the sides by many
    for answer in found:
        np.testing.assert_allclose(answer, box, atol=1e-9)
    part = box * box.new_tensor([0, 0, 1.0, 1.0, 1.0])
    part[2:4] = part[2:4].clamp(max=13)  # the part that a tile shows
    np.testing.assert_allclose(polygons.filling(around, part)[-1], box, atol=1e-9)


def test_polygons__nothing_fills():
    """No box at 30 degrees touches all sides of a long flat one."""
    flat = torch.tensor([0.0, 0, 100, 10])
    part = torch.tensor([50.0, 5, 90, 80, PI / 6])
    assert polygons.filling(flat, part) == []
    whole = shapes.join_rotated(part.expand(2, 5), flat.expand(2, 4))
    np.testing.assert_allclose(polygons.bounds(polygons.corners(whole[None]))[0], flat, atol=1e-4)
