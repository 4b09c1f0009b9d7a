"""Detection in part of an image's tiles: with all tiles it equals tiled detection, with some only those are used."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pixelkeep.tiling import detect_in_tiles, make_grid
from pixelkeep.tiling.run import collect
from pixelkeep.tiling.schedule import Costs, Turns
from pixelkeep.tiling.timed import Looked, Timed, cut_at_unseen

GRID = make_grid(300, 200, 100, 0.2, whole=True)
OBJECTS = np.array([[5, 5, 20, 20], [85, 40, 99, 50], [120, 90, 132, 101], [60, 60, 240, 150], [290, 190, 299, 199]])


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def detector(clock: Clock, seconds: float, seen: list):
    """Return a detector that reports the visible parts of objects and takes ``seconds`` per window."""

    def look(windows: np.ndarray) -> list[torch.Tensor]:
        found = []
        for left, top, right, bottom in windows.tolist():
            clock.now += seconds
            seen.append((left, top, right, bottom))
            low, high = np.maximum(OBJECTS[:, :2], (left, top)), np.minimum(OBJECTS[:, 2:], (right, bottom))
            there = (high - low > 2).all(1)
            boxes = np.concatenate([low, high], 1) - (left, top, left, top)
            rows = np.column_stack([boxes, np.linspace(0.9, 0.5, len(OBJECTS)), np.zeros(len(OBJECTS))])[there]
            found.append(torch.from_numpy(rows.astype(np.float64)))
        return found

    return look


def timed(clock: Clock, seconds: float, turns: Turns | None = None, cost: float | None = None) -> Timed:
    turns, costs = turns or Turns(len(GRID), clock), Costs()
    turns.begin()
    if cost:
        costs.add_tiles(cost, 1)
    return Timed(turns, costs, clock.now + seconds)


@pytest.mark.parametrize("method", ["border", "nms", "ios"])
def test_timed__time_for_all_is_detection_in_tiles(method):
    """With time for every tile the result equals that of all tiles bit for bit."""
    clock = Clock()
    run = timed(clock, 1e9)
    found = run(detector(clock, 0.1, []), GRID, batch=3, method=method)
    expected = detect_in_tiles(detector(clock, 0.1, []), GRID, batch=3, method=method)
    assert torch.equal(found.boxes, expected.boxes) and torch.equal(found.scores, expected.scores)
    assert run.looked.all() and run.held.sum() >= 4


@pytest.mark.parametrize(("seconds", "tiles"), [(0.0, 1), (0.35, 3), (0.4, 4), (99, len(GRID))])
def test_timed__as_many_as_fit(seconds, tiles):
    """As many tiles of 0.1 s are processed as fit, at least one, and never the whole image in a batch with a tile."""
    clock, seen = Clock(), []
    run = timed(clock, seconds, cost=0.1)
    run(detector(clock, 0.1, seen), GRID, batch=2)
    assert len(seen) == tiles == run.looked.sum()
    assert {tuple(w) for w in GRID.windows[run.looked].tolist()} == set(seen)
    assert clock.now <= max(0.1, seconds) + 1e-9


def test_timed__measures_what_tiles_take():
    """In the first frame, of unknown cost, one tile is processed first, and its measured cost is used from then on."""
    clock, seen = Clock(), []
    run = timed(clock, 0.5)
    run(detector(clock, 0.125, seen), GRID, batch=8)
    assert run.costs.tile == pytest.approx(0.125) and len(seen) == 4


def test_timed__frames_take_turns():
    """Over the frames all windows have their turn."""
    clock, turns, union = Clock(), Turns(len(GRID), Clock()), np.zeros(len(GRID), bool)
    turns.clock = clock
    for _ in range(len(GRID)):
        run = timed(clock, 0.25, turns, cost=0.1)
        run(detector(clock, 0.1, []), GRID, batch=4)
        union |= run.looked
    assert union.all()


def test_cut__left_out_where_nobody_looked():
    """A box cut by a border is dropped only if the tile beyond was not processed; other boxes are kept."""
    grid = make_grid(180, 100, 100, 0.2)  # two tiles: x from 0 to 100 and from 80 to 180
    one = torch.tensor([[70.0, 10, 100, 20, 0.9, 0], [0, 50, 10, 60, 0.8, 0], [30, 30, 40, 40, 0.7, 0]])
    found = collect([one, one[:0]], grid)
    assert cut_at_unseen(found, grid, np.array([True, False])).tolist() == [True, False, False]
    assert cut_at_unseen(found, grid, np.array([True, True])).tolist() == [False, False, False]


def test_cut__every_side():
    """In the middle one of nine tiles, boxes that touch any side are dropped while it is the only one processed."""
    grid = make_grid(260, 260, 100, 0.2)
    middle = torch.tensor([[0.0, 40, 9, 50], [40, 0, 50, 9], [91, 40, 100, 50], [40, 91, 50, 100], [40, 40, 50, 50]])
    rows = torch.cat([middle, torch.tensor([[0.9, 0]]).expand(5, 2)], 1)
    found = collect([rows if i == 4 else rows[:0] for i in range(9)], grid)
    looked = np.arange(9) == 4
    assert cut_at_unseen(found, grid, looked).tolist() == [True, True, True, True, False]
    for beyond, box in ((3, 0), (1, 1), (5, 2), (7, 3)):
        now = looked.copy()
        now[beyond] = True
        assert cut_at_unseen(found, grid, now).tolist() == [i not in (box, 4) for i in range(5)]


def test_looked__tells_where_something_would_have_been_found():
    """A box is judged by the windows that contain it, and a box too large for any by the windows that it overlaps."""
    looked = Looked(np.array([[0, 0, 100, 100], [80, 0, 180, 100]]), np.array([True, False]))
    boxes = np.array([[10, 10, 20, 20], [85, 10, 95, 20], [95, 10, 110, 20], [150, 10, 160, 20], [10, 10, 170, 20]])
    assert looked.tell(boxes).tolist() == [True, True, False, False, True]
