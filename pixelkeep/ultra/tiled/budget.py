"""``--tile`` with ``--fps``: look at as many tiles of each video frame as time allows, those that are due first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pixelkeep.tiling import Grid, make_grid
from pixelkeep.tiling.schedule import Clock, Costs, Turns, frames_until_seen
from pixelkeep.tiling.timed import Looked, Timed
from pixelkeep.ultra.tiled.images import Tiles

Places = Callable[[Any], np.ndarray]  # key of a video -> where objects are expected, (n, 4) xyxy in pixels of the frame


class _Video:
    """The tiles of one video or stream, and the order in which they are looked at."""

    def __init__(self, windows: np.ndarray, whole: bool, clock: Clock):
        self.windows = windows  # (n, 4), pixels of the frame
        self.tiles = len(windows) - whole
        self.turns = Turns(len(windows), clock)
        self.held = np.zeros(len(windows), bool)
        self.fewest = len(windows)

    def expected(self, places: np.ndarray | None) -> np.ndarray:
        """Return the numbers of the tiles to look at first.

        Args:
            places: Boxes (m, 4) xyxy where objects are expected; None to take the tiles in which something was found.
        """
        if places is None:
            return np.flatnonzero(self.held)
        if not len(places):
            return np.empty(0, np.int64)
        centres = (places[:, None, :2] + places[:, None, 2:]) / 2  # (m, 1, 2)
        tiles = self.windows[: self.tiles]
        inside = np.minimum(centres - tiles[None, :, :2], tiles[None, :, 2:] - centres).min(2)  # (m, tiles)
        return np.unique(inside.argmax(1))


class Budget:
    """Divides the time of each frame among its tiles.

    Args:
        clock: Function that returns the time in seconds.
        places: Function that returns where objects are expected; None if nothing is tracked.
        before: Result of :meth:`report` from earlier parts of the run.
    """

    def __init__(self, clock: Clock, places: Places | None = None, before: Mapping[Any, dict[str, Any]] | None = None):
        self.clock, self.places = clock, places
        self._before = dict(before or {})
        self.costs = Costs()
        self._videos: dict[Any, _Video] = {}
        self._ended = self._began = 0.0  # when the tiles of the last frame were done; when the current frame arrived
        self._left: float | None = None  # when the last frame had been written
        self._besides = 0.0

    def begin(self, reading: bool) -> None:
        """Record that a frame has arrived.

        Args:
            reading: Whether the frame was read on demand, rather than in parallel with the work on other frames.
        """
        now = self.clock()
        self._besides += now - self._left if reading and self._left is not None else 0.0
        self._began = now

    def end(self) -> None:
        """Record that everything that belongs to the frame has been written."""
        self._left = self.clock()
        self._besides += self._left - self._ended

    def next(self, key: Any, grid: Grid, shape: tuple[int, ...], until: float) -> Timed:
        """Return the search that looks at tiles of a video's next frame until the time is over.

        Args:
            key: Key of the video.
            grid: Windows of the frame, at the network's scale.
            shape: Height and width of the frame in its own pixels.
            until: Time on the clock, in seconds, at which the frame has to be done.
        """
        windows = grid.windows * np.tile([shape[1] / grid.width, shape[0] / grid.height], 2)
        video = self._videos.get(key)
        if video is None or not np.array_equal(video.windows, windows):
            if video is not None:  # a stream has changed its resolution
                self._before[key] = self.told(key)
            video = self._videos[key] = _Video(windows, grid.whole, self.clock)
        if self._besides:
            self.costs.add_besides(self._besides + self.clock() - self._began)
        self._besides = 0.0
        video.turns.begin(video.expected(self.places(key) if self.places else None))
        return Timed(video.turns, self.costs, until - self.costs.besides)

    def looked(self, key: Any, timed: Timed) -> Looked:
        """Record in which tiles something was found, and return which tiles were looked at, in pixels of the frame."""
        self._ended = self.clock()
        video = self._videos[key]
        video.held[timed.looked] = timed.held[timed.looked]
        video.fewest = min(video.fewest, int(timed.looked.sum()))
        return Looked(video.windows[: video.tiles], timed.looked[: video.tiles])

    def report(self) -> dict[Any, dict[str, Any]]:
        """Return for each video how many tiles were looked at and the longest time that one had to wait."""
        return {key: self.told(key) for key in {**self._before, **self._videos}}

    def told(self, key: Any) -> dict[str, Any]:
        """Return the report of one video, earlier parts of the run included."""
        if key not in self._videos:
            return self._before[key]
        now = _report(self._videos[key])
        return _together(self._before[key], now) if key in self._before else now


def _report(video: _Video) -> dict[str, Any]:
    turns = video.turns
    seconds, frames = turns.waiting()
    return {
        "tiles": len(turns),
        "tiles_looked_at": turns.looked,
        "tiles_skipped": turns.frames * len(turns) - turns.looked,
        "longest_unseen_frames": frames,
        "longest_unseen_s": round(seconds, 3),
        "bound_frames": frames_until_seen(len(turns), video.fewest),
    }


def _together(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the reports of two successive parts of a video into one."""
    both = {key: before[key] + now[key] for key in ("tiles_looked_at", "tiles_skipped")}
    most = ("longest_unseen_frames", "longest_unseen_s", "bound_frames")
    return {**now, **both, **{key: max(before[key], now[key]) for key in most}}


def tiles_of(tiles: Tiles, shape: tuple[int, ...]) -> np.ndarray:
    """Return the tiles of a frame in its own pixels, (n, 4); ``shape`` is its height and width."""
    height, width = (max(1, round(side * tiles.imgsz / tiles.size)) for side in shape[:2])
    grid = make_grid(width, height, tiles.imgsz, tiles.overlap)
    return grid.tiles * np.tile([shape[1] / width, shape[0] / height], 2)
