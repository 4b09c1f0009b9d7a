"""Windows of epochs show all objects, borders and background as often as asked, the same for a seed."""

from __future__ import annotations

import numpy as np
import pytest

from pixelkeep.datasets.sampling.epoch_windows import EpochWindows
from pixelkeep.datasets.sampling.windows import Window, shown
from pixelkeep.tiling import make_grid

TILE = 64
SIZES = np.array([[256, 320], [64, 200], [40, 50], [300, 129], [256, 256]])  # height, width
NOTHING = np.zeros((0, 4))


def boxes(seed: int = 3, count: int = 9) -> list[np.ndarray]:
    """Return boxes of 4 to 30 pixels for each image, some at the edges; the last image has none."""
    rng = np.random.default_rng(seed)
    made = []
    for height, width in SIZES[:-1]:
        sides = rng.integers(4, 30, (count, 2))
        corners = (rng.random((count, 2)) * (np.array([width, height]) - sides)).astype(int)
        corners[0], corners[1] = 0, np.array([width, height]) - sides[1]
        made.append(np.hstack([corners, corners + sides]).astype(float))
    return [*made, NOTHING]


def windows(learnt=None, others=None, *, tile=TILE, empty=0.2, seed=0, sizes=SIZES) -> EpochWindows:
    learnt = boxes() if learnt is None else learnt
    return EpochWindows(sizes, learnt, others or [NOTHING] * len(sizes), tile, empty=empty, seed=seed)


def test_windows__lie_in_their_images_at_full_size():
    drawn = windows().epoch(0)
    for number in range(len(drawn)):
        image, window = drawn.window(number)
        height, width = SIZES[image]
        assert (window.width, window.height) == (min(TILE, width), min(TILE, height))
        assert window.x >= 0 and window.y >= 0
        assert window.x + window.width <= width and window.y + window.height <= height


def test_full__show_the_centre_of_an_object_and_empty_show_nothing():
    learnt, others = boxes(), [NOTHING, NOTHING, NOTHING, NOTHING, np.array([[10.0, 10.0, 60.0, 60.0]])]
    plan = windows(learnt, others, empty=0.4)
    for epoch in range(5):
        drawn = plan.epoch(epoch)
        assert drawn.empty.any()
        for number in range(len(drawn)):
            image, window = drawn.window(number)
            seen = shown(np.concatenate([learnt[image], others[image]]), window)
            middle = (learnt[image][:, :2] + learnt[image][:, 2:]) / 2 - (window.x, window.y)
            inside = ((middle >= 0) & (middle <= (window.width, window.height))).all(1)
            assert not (seen.share > 0).any() if drawn.empty[number] else inside.any()


@pytest.mark.parametrize("empty", [0.0, 0.1, 0.5])
def test_empty__are_the_share_that_is_set(empty):
    """Every epoch has the set share of empty windows, to within one window, if there is background."""
    plan = windows([boxes()[0], *[NOTHING] * 4], empty=empty)
    for epoch in range(3):
        drawn = plan.epoch(epoch)
        assert abs(drawn.empty.sum() - empty * len(drawn)) <= 0.5 / (1 - empty)


def test_empty__without_background_objects_fill_the_epoch():
    plan = windows([np.array([[0.0, 0.0, w, h]]) for h, w in SIZES], empty=0.5)
    drawn = plan.epoch(0)
    assert len(drawn) == len(plan) and not drawn.empty.any()


def test_epoch__is_as_long_as_the_grid_has_tiles_with_objects():
    """With objects everywhere, an epoch has as many full windows as detection's grid without overlap has tiles."""
    dense = [np.array([[x, y, x + 1, y + 1] for y in range(0, h, 2) for x in range(0, w, 2)], float) for h, w in SIZES]
    expected = sum(len(make_grid(w, h, TILE, 0.0)) for h, w in SIZES.tolist())
    assert len(windows(dense, empty=0.0)) == expected
    assert len(windows(dense, empty=0.5)) == 2 * expected
    assert len(windows(dense, empty=0.5).epoch(0)) == 2 * expected


def test_objects__are_all_seen_whole_over_epochs_and_alike_often():
    """In 60 epochs each object is whole in a window at least 20 times; a grid gives about once an epoch."""
    learnt = boxes()
    plan, counts = windows(learnt, empty=0.0), [np.zeros(len(each)) for each in learnt]
    for epoch in range(60):
        drawn = plan.epoch(epoch)
        for number in range(len(drawn)):
            image, window = drawn.window(number)
            counts[image] += shown(learnt[image], window, least=1.0).whole
    assert min(each.min() for each in counts if len(each)) >= 20


def test_places__any_offset_and_all_borders():
    """An object of one pixel far from the edges appears at every column of a window, evenly often."""
    sizes, found = np.array([[TILE, 10 * TILE]]), np.array([[5 * TILE + 7.0, 30.0, 5 * TILE + 8.0, 31.0]])
    plan = windows([found], tile=TILE, empty=0.0, sizes=sizes)
    columns = [int(found[0, 0]) - plan.epoch(epoch).places[0, 0] for epoch in range(64 * 30)]
    assert set(columns) == set(range(TILE))
    assert np.bincount(columns).std() < 3 * np.sqrt(30)
    cut = np.array([[100.0, 0.0, 120.0, 20.0]])  # at the upper edge
    places = np.array([windows([cut], empty=0.0, sizes=SIZES[:1], seed=seed).epoch(0).places[0] for seed in range(40)])
    assert (places[:, 1] == 0).mean() > 0.6  # 44 of 64 shifts put the cell across the edge, and it is moved back


def test_background__all_of_it_is_seen():
    """Background windows reach every pixel of an image without objects, including its corners."""
    plan, seen = windows([*boxes()[:1], *[NOTHING] * 4], empty=0.9), np.zeros(SIZES[4])
    for epoch in range(40):
        drawn = plan.epoch(epoch)
        for number in np.flatnonzero((drawn.images == 4) & drawn.empty):
            window: Window = drawn.window(number)[1]
            seen[window.rows, window.columns] += 1
    assert seen.min() > 0 and seen[0, 0] > 0.1 * seen.max()


def test_draws__depend_on_seed_and_epoch_alone():
    one, same, other = windows(seed=5), windows(seed=5), windows(seed=6)
    later = one.epoch(7)
    for epoch in (3, 7):
        first, second = one.epoch(epoch), same.epoch(epoch)
        assert (first.places == second.places).all() and (first.images == second.images).all()
    assert (later.places == one.epoch(7).places).all()  # whatever was drawn in between
    assert (later.places != one.epoch(8).places).any() and (later.places != other.epoch(7).places).any()
    assert len({len(one.epoch(epoch)) for epoch in range(20)}) == 1
    windows(seed=-1).epoch(0)  # any whole number is a seed


def test_small_images__are_shown_whole():
    plan = windows([NOTHING, NOTHING, boxes()[2], NOTHING, NOTHING], empty=0.0)
    assert len(plan) == 1 and plan.epoch(0).window(0) == (2, Window(0, 0, 50, 40))
