"""Tracks through frames with only some tiles processed: an object is not lost because its tile was not processed."""

from __future__ import annotations

import numpy as np
import pytest

from pixelkeep.tiling import make_grid
from pixelkeep.tiling.timed import Looked
from pixelkeep.ultra.tiled.budget import Budget, tiles_of
from pixelkeep.ultra.tiled.images import Tiles
from pixelkeep.ultra.tracking import config as tracker_config
from pixelkeep.ultra.tracking.config import load_tracker
from pixelkeep.ultra.tracking.tracker import Tracker

pytest.importorskip("lap")

BLANK = np.full((100, 400, 3), 114, np.uint8)
WINDOWS = np.array([[0, 0, 200, 100], [160, 0, 360, 100], [200, 0, 400, 100]])
STILL = (WINDOWS[:, 0] == 0, ~(WINDOWS[:, 0] == 0))  # masks of the tiles processed: the left one, or the others


def box(x: float, y: float = 40, side: float = 12, score: float = 0.9) -> np.ndarray:
    return np.array([[x, y, x + side, y + side, score, 0]], np.float32)


NOTHING = np.empty((0, 6), np.float32)


def preset(**changes):
    config = load_tracker("small-objects")
    vars(config).update({"gmc_method": "none", **changes})
    return config


@pytest.mark.parametrize("name", tracker_config.names())
def test_held__every_tracker_through_frames_not_looked_at(name):
    """A track outlives any number of frames in which its tile is not processed, and keeps its identity."""
    config = load_tracker(name)
    vars(config).update(gmc_method="none", track_buffer=5)
    tracker = Tracker(config)
    for _ in range(4):
        identities, _ = tracker.update(box(50, side=30), BLANK)
    for _ in range(20):
        assert len(tracker.update(NOTHING, BLANK, Looked(WINDOWS, STILL[1]))[0]) == 0
    found = [tracker.update(box(50, side=30), BLANK, Looked(WINDOWS, STILL[0]))[0].tolist() for _ in range(3)]
    assert identities.tolist() == [1] and found[-1] == [1]


@pytest.mark.parametrize("name", tracker_config.names())
def test_held__not_where_it_was_looked_for(name):
    """A track that is not found although its tile was processed ends as usual: holding changes nothing there."""
    ids = []
    for looked in (None, Looked(WINDOWS, np.ones(3, bool))):
        config = load_tracker(name)
        vars(config).update(gmc_method="none", track_buffer=5)
        tracker, given = Tracker(config), []
        frames = [box(50, side=30)] * 4 + [NOTHING] * 12 + [box(50, side=30)] * 4
        for rows in frames:
            given += tracker.update(rows, BLANK, looked)[0].tolist()
        ids.append(given)
    assert ids[0] == ids[1] and max(ids[0]) == 2


def test_held__a_track_that_has_just_begun():
    """An object seen once is not dropped before its tile is processed again, and is then followed."""
    for looked, expected in ((Looked(WINDOWS, STILL[1]), [1, 1]), (Looked(WINDOWS, STILL[0]), [2])):
        tracker, ids = Tracker(preset()), []
        tracker.update(NOTHING, BLANK)  # a track begun after the first frame must be seen a second time
        tracker.update(box(50), BLANK)
        for _ in range(3):
            tracker.update(NOTHING, BLANK, looked)
        for _ in range(2):
            ids += tracker.update(box(50), BLANK)[0].tolist()
        assert ids == expected


def test_held__moves_on_as_predicted():
    """A held track moves on by prediction, and its object is found again at the predicted place."""
    tracker = Tracker(preset())
    for frame in range(10):
        tracker.update(box(20 + 5 * frame), BLANK)
    for _ in range(8):
        tracker.update(NOTHING, BLANK, Looked(WINDOWS, STILL[1]))
    x1, _, x2, _ = tracker.places()[0]
    assert (x1 + x2) / 2 == pytest.approx(20 + 5 * 17 + 6, abs=3)
    assert tracker.update(box(20 + 5 * 18), BLANK, Looked(WINDOWS, STILL[0]))[0].tolist() == [1]


def test_held__one_lost_one_held():
    """Of two objects not found, the one whose tile was processed ages, and the other does not."""
    tracker = Tracker(preset(track_buffer=3))
    for _ in range(3):
        tracker.update(np.concatenate([box(50), box(380, side=10)]), BLANK)
    for _ in range(9):
        tracker.update(NOTHING, BLANK, Looked(WINDOWS, STILL[0]))
    assert len(tracker.places()) == 1 and tracker.places()[0, 0] > 300


def interleaved(looked_tells: bool) -> list[int]:
    """Return the identities given to an object whose tile is processed in every fourth frame."""
    tracker, given = Tracker(preset(track_buffer=3)), []
    tracker.update(NOTHING, BLANK)
    for frame in range(60):
        here = frame % 4 == 0
        looked = Looked(WINDOWS, STILL[0] if here else STILL[1])
        rows = box(20 + 0.5 * frame) if here else NOTHING
        given += tracker.update(rows, BLANK, looked if looked_tells else None)[0].tolist()
    return given


def test_held__tiles_that_take_turns():
    """An object whose tile is processed in every fourth frame is one track, but only if the tracker is told so."""
    assert set(interleaved(True)) == {1} and len(interleaved(True)) == 14
    assert interleaved(False) == []


class Clock:
    now = 10.0

    def __call__(self) -> float:
        return self.now


def test_budget__tracked_tiles_first():
    """The tile that holds a tracked place best is expected, one each; without tracking, tiles with detections are."""
    clock, grid = Clock(), make_grid(500, 100, 100, 0.2)
    assert len(grid) == 6
    places = np.array([[310, 40, 320, 50], [10, 10, 20, 20], [84, 40, 92, 48]])
    budget = Budget(clock, lambda key: places if key == "a" else np.empty((0, 4)))
    for key, expected in (("a", [0, 0, 3]), ("b", [])):
        timed = budget.next(key, grid, (200, 1000), clock.now + 1)
        video = budget._videos[key]
        scaled = video.expected(places * 2 if key == "a" else np.empty((0, 4)))
        assert set(scaled.tolist()) == set(expected) and len(timed.turns) == 6
    budget = Budget(clock)
    timed = budget.next("a", grid, (100, 500), clock.now + 1)
    timed.looked[[1, 2]], timed.held[[2]] = True, True
    looked = budget.looked("a", timed)
    assert looked.now.tolist() == [False, True, True, False, False, False]
    assert budget._videos["a"].expected(None).tolist() == [2]
    timed = budget.next("a", grid, (100, 500), clock.now + 1)
    timed.looked[[2, 4]], timed.held[[4]] = True, True
    budget.looked("a", timed)
    assert budget._videos["a"].expected(None).tolist() == [4]


def test_budget__what_else_a_frame_takes_is_kept_free():
    """Time for reading, drawing and writing is measured from the second frame and taken off the time for tiles."""
    clock, grid = Clock(), make_grid(300, 100, 100, 0.0)
    budget = Budget(clock)
    for frame in range(3):
        budget.begin(reading=True)
        clock.now += 0.01
        timed = budget.next("a", grid, (100, 300), clock.now + 1)
        assert clock.now + 1 - timed.until == pytest.approx(0.06 * (frame > 0))
        clock.now += 0.3  # time for its tiles
        budget.looked("a", timed)
        clock.now += 0.03
        budget.end()
        clock.now += 0.02  # time to read the next frame
    assert budget.costs.besides == pytest.approx(0.06)


@pytest.mark.parametrize("shape", [(100, 300), (300, 500)], ids=["as many tiles", "more tiles"])
def test_budget__another_resolution(shape):
    """A stream that changes its resolution has other tiles from then on, and earlier counts are kept."""
    clock = Clock()
    budget = Budget(clock)
    sides = [(300, 100), shape]
    for height, width in sides:
        grid = make_grid(width, height, 100, 0.0)
        for _ in range(3):
            timed = budget.next("a", grid, (height, width), clock.now + 1)
            timed.looked[timed.turns.take(1)] = True
            looked = budget.looked("a", timed)
            np.testing.assert_array_equal(looked.windows, grid.tiles)
    tiles = [height * width // 10_000 for height, width in sides]
    report = budget.report()["a"]
    assert report["tiles"] == tiles[1] and report["tiles_looked_at"] == 6
    assert report["tiles_skipped"] == 3 * sum(tiles) - 6 and report["bound_frames"] == 2 * max(tiles)


def test_budget__streams_are_not_read_on_demand():
    """Time between two frames of a stream is waiting time and is not counted as a cost."""
    clock, grid = Clock(), make_grid(300, 100, 100, 0.0)
    budget = Budget(clock)
    for _ in range(5):
        budget.begin(reading=False)
        timed = budget.next("a", grid, (100, 300), clock.now + 1)
        budget.looked("a", timed)
        clock.now += 0.03
        budget.end()
        clock.now += 9
    assert budget.costs.besides == pytest.approx(0.03)


@pytest.mark.parametrize("shape", [(480, 640), (1080, 1920), (90, 1000)])
def test_tiles_of__as_the_engine_cuts_them(shape):
    """A resumed run computes the tiles of the grid at the network's scale, in pixels of the frame."""
    tiles = Tiles(size=200, imgsz=320, overlap=0.3, full_image=True)
    windows = tiles_of(tiles, shape)
    assert windows[:, 0].min() == 0 and windows[:, 2].max() == pytest.approx(shape[1])
    assert windows[:, 3].max() == pytest.approx(shape[0])
    assert (windows[:, 2] - windows[:, 0]).max() <= 201
