"""Choose which tiles of a video's next frame are looked at when there is no time for all of them.

There are two queues, which take turns tile by tile. One holds all tiles, the other the tiles where something is
expected: tracked objects, or what was found there last. Each queue gives the tile that has waited longest. So moving
objects are looked at more often, and no tile is forgotten: of n tiles, each is looked at again before 2n others have
been. This module works only with tile indices and seconds; the clock is an argument.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection

import numpy as np

Clock = Callable[[], float]  # returns seconds since an arbitrary start and never goes backwards
_RECENT = 0.3  # weight of the newest measurement in a running mean


class Turns:
    """The order in which a video's tiles are looked at.

    Args:
        tiles: Number of tiles.
        clock: Clock that measures how long tiles wait.

    Attributes:
        looked: Number of looks at tiles so far; a tile counts each time it is looked at.
        longest: Longest time in seconds that a tile has waited between two looks, or for its first look.
        longest_frames: The longest wait in frames; 1 if all tiles of every frame were looked at.
    """

    def __init__(self, tiles: int, clock: Clock = time.monotonic):
        self.clock = clock
        self.frames = 0
        self.looked = 0
        self.longest, self.longest_frames = 0.0, 1
        self._turn = np.arange(tiles) - tiles  # number of a tile's last look; at first, in the order of the tiles
        self._frame = np.zeros(tiles, int)
        self._since: np.ndarray | None = None  # time of each tile's last look, in seconds of the clock
        self._free = np.zeros(tiles, bool)  # tiles not yet looked at in this frame
        self._expected = np.zeros(tiles, bool)
        self._ordinary = True  # whether it is the turn of the queue of all tiles, not of the expected ones

    def __len__(self) -> int:
        return len(self._turn)

    @property
    def left(self) -> int:
        """Number of tiles of this frame that have not been looked at."""
        return int(self._free.sum())

    def begin(self, expected: Collection[int] = ()) -> None:
        """Begin the next frame.

        Args:
            expected: Indices of the tiles where something is expected.
        """
        if self._since is None:
            self._since = np.full(len(self), self.clock())
        self.frames += 1
        self._free[:] = True
        self._expected[:] = False
        self._expected[list(expected)] = True

    def take(self, count: int) -> np.ndarray:
        """Take the next tiles of this frame, at most ``count``, and return their indices in ascending order, int64."""
        return np.sort(np.array([self._next() for _ in range(min(count, self.left))], np.int64))

    def _next(self) -> int:
        queue = self._free if self._ordinary else self._free & self._expected
        self._ordinary = not self._ordinary
        waiting = np.flatnonzero(queue if queue.any() else self._free)
        tile = int(waiting[self._turn[waiting].argmin()])
        now = self.clock()
        self.longest = max(self.longest, now - self._since[tile])
        self.longest_frames = max(self.longest_frames, self.frames - int(self._frame[tile]))
        self._since[tile], self._frame[tile], self._turn[tile] = now, self.frames, self.looked
        self._free[tile] = False
        self.looked += 1
        return tile

    def waiting(self) -> tuple[float, int]:
        """Return the longest time that a tile has waited, or is waiting now, in seconds and in frames."""
        if self._since is None:
            return 0.0, 0
        now = max(self.longest, self.clock() - float(self._since.min()))
        return now, max(self.longest_frames, self.frames - int(self._frame.min()))


def frames_until_seen(tiles: int, a_frame: int) -> int:
    """Return within how many frames every tile is looked at again if each frame has time for ``a_frame`` tiles.

    Of the looks that follow a look at a tile, at least every other one comes from the queue of all tiles. That queue
    gives each other tile at most once before this tile's turn, so this tile is among the next 2 x ``tiles`` looks.
    """
    return math.ceil(2 * tiles / min(a_frame, tiles)) if a_frame < tiles else 1


class Costs:
    """The time that a tile takes, and the time that a frame takes besides its tiles.

    Both are running means in which the newest frames count most.
    """

    def __init__(self) -> None:
        self.tile: float | None = None  # seconds
        self.besides = 0.0

    def add_tiles(self, seconds: float, count: int) -> None:
        """Record that ``count`` tiles took ``seconds`` together."""
        each = seconds / count
        self.tile = each if self.tile is None else (1 - _RECENT) * self.tile + _RECENT * each

    def add_besides(self, seconds: float) -> None:
        """Record that everything in a frame besides its tiles took ``seconds``."""
        self.besides = seconds if not self.besides else (1 - _RECENT) * self.besides + _RECENT * seconds

    def fitting(self, seconds: float, most: int) -> int:
        """Return how many tiles, at most ``most``, can be looked at in ``seconds``; while the cost is unknown, one."""
        if self.tile is None:
            return min(1, most)
        return most if self.tile == 0 else min(most, max(0, math.floor(seconds / self.tile + 1e-9)))


class Pace:
    """The pace, in frames per second, at which a video is processed.

    Frames fall due one period after the other. A frame that is begun early, or on time, moves the frames that follow. A
    frame that is begun late leaves them where they are, and has less time itself.

    Args:
        rate: Frames per second.
        clock: Clock that gives the time in seconds.
    """

    def __init__(self, rate: float, clock: Clock = time.monotonic):
        self.rate = rate
        self.period = 1 / rate
        self.clock = clock
        self._due: float | None = None  # time at which the next frame falls due

    def missed(self) -> int:
        """Return how many frames have been missed since the last one that was begun; each is counted only once."""
        if self._due is None:
            return 0
        gone = max(0, math.floor((self.clock() - self._due) / self.period + 1e-9))
        self._due += gone * self.period
        return gone

    def ahead(self) -> float:
        """Return in how many seconds the next frame falls due; 0 if it is due already."""
        return 0.0 if self._due is None else max(0.0, self._due - self.clock())

    def begin(self) -> float:
        """Begin a frame and return the time until which it may run, in seconds of the clock."""
        now = self.clock()
        self._due = (now if self._due is None else min(now, self._due)) + self.period
        return self._due
