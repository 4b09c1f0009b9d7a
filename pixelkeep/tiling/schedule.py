"""Which tiles of a video's next frame are looked at, where there is no time for all of them.

Two queues, which have their turns one after the other, tile by tile. In one stand all tiles; in the other, those where
something is expected: tracked objects, or what was found there last. Each gives the tile that has waited longest. So
what moves is looked at more often, and nothing is forgotten: of n tiles, each is looked at again before 2n others have
been. Knows numbers of tiles and seconds; the clock is given.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection

import numpy as np

Clock = Callable[[], float]  # seconds, from anywhere, never backwards
_RECENT = 0.3  # weight of the newest measurement in a mean


class Turns:
    """The order in which a video's tiles are looked at.

    Args:
        tiles: How many there are.
        clock: For how long a tile has waited.

    Attributes:
        looked: How many tiles have been looked at, each time counted.
        longest: Most seconds that a tile has waited between two looks, or for its first.
        longest_frames: The same in frames: 1 where each frame's tiles were all looked at.
    """

    def __init__(self, tiles: int, clock: Clock = time.monotonic):
        self.clock = clock
        self.frames = 0
        self.looked = 0
        self.longest, self.longest_frames = 0.0, 1
        self._turn = np.arange(tiles) - tiles  # of the last look; before the first one in the order of the tiles
        self._frame = np.zeros(tiles, int)
        self._since: np.ndarray | None = None  # seconds, of the clock
        self._free = np.zeros(tiles, bool)  # not yet looked at in this frame
        self._expected = np.zeros(tiles, bool)
        self._ordinary = True  # whose turn it is: the queue of all tiles, or that of the expected ones

    def __len__(self) -> int:
        return len(self._turn)

    @property
    def left(self) -> int:
        """How many tiles of this frame have not been looked at."""
        return int(self._free.sum())

    def begin(self, expected: Collection[int] = ()) -> None:
        """Begin the next frame.

        Args:
            expected: Numbers of the tiles where something is expected.
        """
        if self._since is None:
            self._since = np.full(len(self), self.clock())
        self.frames += 1
        self._free[:] = True
        self._expected[:] = False
        self._expected[list(expected)] = True

    def take(self, count: int) -> np.ndarray:
        """Return the numbers of the next tiles of this frame, int64, in the order of the tiles: at most ``count``."""
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
        """Return the longest that a tile has waited, or waits now, in seconds and in frames."""
        if self._since is None:
            return 0.0, 0
        now = max(self.longest, self.clock() - float(self._since.min()))
        return now, max(self.longest_frames, self.frames - int(self._frame.min()))


def frames_until_seen(tiles: int, a_frame: int) -> int:
    """Return within how many frames every tile is looked at again, where each frame has time for ``a_frame`` of them.

    Of the looks that follow that at a tile, at least every other one is the ordinary queue's. It gives each of the
    others once at most before this one, so this one is among the next 2 x ``tiles``.
    """
    return math.ceil(2 * tiles / min(a_frame, tiles)) if a_frame < tiles else 1


class Costs:
    """What a tile takes, and what a frame takes besides its tiles: means in which the newest frames count most."""

    def __init__(self) -> None:
        self.tile: float | None = None  # seconds
        self.besides = 0.0

    def add_tiles(self, seconds: float, count: int) -> None:
        """Take note of how long ``count`` tiles took."""
        each = seconds / count
        self.tile = each if self.tile is None else (1 - _RECENT) * self.tile + _RECENT * each

    def add_besides(self, seconds: float) -> None:
        """Take note of how long everything else of a frame took."""
        self.besides = seconds if not self.besides else (1 - _RECENT) * self.besides + _RECENT * seconds

    def fitting(self, seconds: float, most: int) -> int:
        """Return how many tiles, at most ``most``, can be looked at in ``seconds``; of unknown cost a single one."""
        if self.tile is None:
            return min(1, most)
        return most if self.tile == 0 else min(most, max(0, math.floor(seconds / self.tile + 1e-9)))


class Pace:
    """A number of frames a second that a video is got through at.

    Frames fall due one period after the other. One that is begun early, or on time, moves those that follow; one that
    is begun late leaves them where they are, and has less time itself.

    Args:
        rate: Frames a second.
        clock: Seconds.
    """

    def __init__(self, rate: float, clock: Clock = time.monotonic):
        self.rate = rate
        self.period = 1 / rate
        self.clock = clock
        self._due: float | None = None  # when the next frame comes

    def missed(self) -> int:
        """Return how many frames have come and gone since the one that was begun last; they are not counted again."""
        if self._due is None:
            return 0
        gone = max(0, math.floor((self.clock() - self._due) / self.period + 1e-9))
        self._due += gone * self.period
        return gone

    def ahead(self) -> float:
        """Return in how many seconds the next frame comes, 0 where it is there."""
        return 0.0 if self._due is None else max(0.0, self._due - self.clock())

    def begin(self) -> float:
        """Begin a frame, and return until when it has time, in seconds of the clock."""
        now = self.clock()
        self._due = (now if self._due is None else min(now, self._due)) + self.period
        return self._due
