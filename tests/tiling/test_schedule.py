"""Which tiles have their turn: waiting is bounded, expected tiles come more often, and frames keep their time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pixelkeep.tiling.schedule import Costs, Pace, Turns, frames_until_seen


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def gaps(looks: list[set[int]], tiles: int) -> int:
    """Return the largest number of frames between two looks at a tile, or from the start to the first look."""
    longest = 0
    for tile in range(tiles):
        frames = [-1, *(frame for frame, taken in enumerate(looks) if tile in taken), len(looks)]
        longest = max(longest, *(np.diff(frames)[:-1] if len(frames) > 2 else [math.inf]))
    return longest


@pytest.mark.parametrize("seed", range(40))
def test_turns__nobody_waits_longer_than_stated(seed):
    """Whichever tiles are expected and however many fit, each tile returns within the stated number of frames."""
    rng = np.random.default_rng(seed)
    tiles = int(rng.integers(1, 40))
    least = int(rng.integers(1, tiles + 1))
    turns, looks = Turns(tiles, Clock()), []
    stuck = rng.choice(tiles, int(rng.integers(0, tiles + 1)), replace=False)  # always expected: the worst case
    for _ in range(6 * frames_until_seen(tiles, least)):
        moving = rng.choice(tiles, int(rng.integers(0, tiles + 1)), replace=False)
        turns.begin(stuck if seed % 2 else moving)
        wanted = int(rng.integers(least, tiles + 1)) if seed % 3 else least
        taken: list[int] = []
        while len(taken) < wanted:  # in batches, as a network takes them
            taken += turns.take(min(int(rng.integers(1, 5)), wanted - len(taken))).tolist()
        assert len(set(taken)) == wanted
        looks.append(set(taken))
    assert gaps(looks, tiles) <= frames_until_seen(tiles, least)
    assert turns.longest_frames <= frames_until_seen(tiles, least)
    assert turns.waiting()[1] == max(turns.longest_frames, max(tile_waits(looks, tiles)))
    assert turns.looked == sum(map(len, looks))


def tile_waits(looks: list[set[int]], tiles: int) -> list[int]:
    """Return for each tile the number of frames from its last look to the last frame."""
    last = {tile: frame for frame, taken in enumerate(looks) for tile in taken}
    return [len(looks) - 1 - last[tile] for tile in range(tiles)]


def test_bound__is_reached():
    """The stated bound is tight: with one expected tile the others wait almost as long."""
    tiles = 8
    turns, looks = Turns(tiles, Clock()), []
    for _ in range(20 * tiles):
        turns.begin([tiles - 1])
        looks.append(set(turns.take(1).tolist()))
    assert frames_until_seen(tiles, 1) - 2 == 2 * (tiles - 1) <= gaps(looks, tiles) <= frames_until_seen(tiles, 1)


@pytest.mark.parametrize(("tiles", "a_frame", "expected"), [(10, 10, 1), (10, 12, 1), (10, 4, 5), (9, 4, 5), (1, 1, 1)])
def test_bound__numbers(tiles, a_frame, expected):
    """The bound is twice the tiles divided by the tiles a frame, rounded up, or 1 if all of them fit."""
    assert frames_until_seen(tiles, a_frame) == expected


def test_turns__nothing_expected_is_round_robin():
    """If no tile is expected, the tiles are taken in order, over and over."""
    turns, taken = Turns(5, Clock()), []
    for _ in range(10):
        turns.begin()
        taken += [int(turns.take(1)[0]), int(turns.take(1)[0])]
    assert taken == [0, 1, 2, 3, 4] * 4


def test_turns__expected_tiles_first():
    """A single expected tile is in every frame with time for two tiles and in every other frame with time for one."""
    for a_frame, share in ((2, 1.0), (1, 0.5)):
        turns, times = Turns(12, Clock()), 0
        for frame in range(240):
            turns.begin([7])
            times += 7 in turns.take(a_frame) and frame >= 24
        assert times / 216 == pytest.approx(share, abs=0.1)


def test_turns__expected_tiles_share_their_half():
    """With four looks a frame, three expected tiles of twenty take turns in two of them."""
    turns, times = Turns(20, Clock()), np.zeros(20, int)
    for _ in range(300):
        turns.begin([3, 8, 15])
        times[turns.take(4)] += 1
    assert times.sum() == 1200
    expected = times[[3, 8, 15]]
    assert (expected >= 200).all() and np.ptp(expected) < 20
    others = np.delete(times, [3, 8, 15])
    assert np.ptp(others) <= 2


def test_turns__all_at_once():
    """If there is time for all tiles, each is taken exactly once a frame."""
    turns = Turns(4, Clock())
    for _ in range(3):
        turns.begin([2])
        assert sorted([*turns.take(3), *turns.take(3)]) == [0, 1, 2, 3]
        assert len(turns.take(1)) == 0 and turns.left == 0
    assert turns.longest_frames == 1


def test_turns__seconds_waited():
    """The longest wait counts from look to look, from the start to a first look, and from the last look to now."""
    clock = Clock()
    turns = Turns(2, clock)
    assert turns.waiting() == (0.0, 0)
    turns.begin()
    turns.take(1)  # tile 0
    clock.now += 3
    turns.begin()
    assert turns.waiting()[0] == 3
    turns.take(1)  # tile 1, after waiting 3 seconds
    clock.now += 1
    turns.begin()
    turns.take(1)  # tile 0, after waiting 4 seconds
    assert turns.longest == 4 and turns.longest_frames == 2
    clock.now += 9
    assert turns.waiting() == (10.0, 2)  # tile 1 has waited longest


def test_costs__means_follow():
    """A cost is a mean of the measurements that weights recent ones most, and decides how many tiles fit."""
    costs = Costs()
    assert costs.fitting(100, 9) == 1 and costs.fitting(100, 0) == 0
    costs.add_tiles(0.4, 4)
    assert costs.tile == pytest.approx(0.1)
    assert [costs.fitting(seconds, 9) for seconds in (-1, 0, 0.05, 0.3, 5)] == [0, 0, 0, 3, 9]
    costs.add_tiles(0.2, 1)
    assert 0.1 < costs.tile < 0.2
    for _ in range(60):
        costs.add_tiles(0.2, 1)
    assert costs.tile == pytest.approx(0.2)
    costs.add_besides(0.03)
    assert costs.besides == pytest.approx(0.03)


def test_pace__what_is_in_time_has_the_whole_period():
    """A frame that begins early or on time has one period, no frame is missed, and spare time is not saved up."""
    clock = Clock()
    pace = Pace(10, clock)
    assert pace.ahead() == 0 and pace.missed() == 0
    for _ in range(5):
        assert pace.begin() - clock.now == pytest.approx(0.1)
        clock.now += 0.04
        assert pace.missed() == 0 and pace.ahead() == pytest.approx(0.06)


def test_pace__late_frames_have_less():
    """A frame that takes 30 ms too long shortens the next one by 30 ms."""
    clock = Clock()
    pace = Pace(10, clock)
    pace.begin()
    clock.now += 0.13
    assert pace.missed() == 0 and pace.ahead() == 0
    assert pace.begin() - clock.now == pytest.approx(0.07)


def test_pace__frames_gone_by():
    """If a frame takes 3.5 periods, the two that came and went meanwhile are missed, and the third is current."""
    clock = Clock()
    pace = Pace(10, clock)
    pace.begin()
    clock.now += 0.35
    assert pace.missed() == 2
    assert pace.missed() == 0
    assert pace.begin() - clock.now == pytest.approx(0.05)


@pytest.mark.parametrize("seed", range(5))
def test_pace__a_video_is_through_in_time(seed):
    """Whatever time their work takes, frames begun and frames missed together keep up with the frame rate."""
    rng, clock = np.random.default_rng(seed), Clock()
    pace, began, done = Pace(20, clock), clock.now, 0
    for work in rng.exponential(0.06, 400):
        done += pace.missed() + 1
        pace.begin()
        clock.now += work
    assert done >= (clock.now - began) * 20 - 2 - work * 20
    assert done <= 400 + (clock.now - began) * 20


def test_turns__keep_a_frame_in_its_time():
    """Turns, costs and pace together fit three tiles of 30 ms and 20 ms of other work into 10 frames a second."""
    clock = Clock()
    turns, costs, pace, tiles_a_frame = Turns(16, clock), Costs(), Pace(10, clock), []
    for _ in range(100):
        assert pace.missed() == 0
        until, count = pace.begin() - costs.besides, 0
        turns.begin([5])
        while turns.left and (count == 0 or costs.fitting(until - clock.now, turns.left)):
            taken = turns.take(1)
            clock.now += 0.03
            costs.add_tiles(0.03, len(taken))
            count += 1
        clock.now += 0.01
        costs.add_besides(0.01)
        tiles_a_frame.append(count)
    assert set(tiles_a_frame[1:]) <= {2, 3} and np.mean(tiles_a_frame) > 2.8
    assert turns.longest_frames <= frames_until_seen(16, 2)
