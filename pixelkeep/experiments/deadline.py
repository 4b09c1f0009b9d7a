"""A time at which trainings stop, each after an epoch that has been saved, so that they can be gone on with."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from ultralytics.utils import callbacks

EVENT = "on_model_save"  # Ultralytics' event after an epoch's checkpoints are written


class OutOfTime(BaseException):
    """The time is over. Like an interruption it is no failure of the training that it ends."""


class Deadline:
    """Stops trainings that begin inside of it, used as a context: after the last epoch that fits.

    Args:
        seconds: From now; None for no end.
        clock: Tells the time in seconds.
    """

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = None if seconds is None else clock() + seconds
        self._last: float | None = None  # when the last epoch ended

    @property
    def passed(self) -> bool:
        """Whether the time is over."""
        return self.over >= 0

    @property
    def over(self) -> float:
        """Seconds since the end; negative before it."""
        return float("-inf") if self._end is None else self._clock() - self._end

    def __enter__(self) -> Deadline:
        self._last = None
        callbacks.default_callbacks[EVENT].append(self._stop)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        callbacks.default_callbacks[EVENT].remove(self._stop)

    def _stop(self, trainer: object) -> None:
        """Stop where another epoch, as long as the last one, would end too late."""
        now, before = self._clock(), self._last
        self._last = now
        longest = 0.0 if before is None else now - before
        if self._end is not None and now + longest >= self._end:
            raise OutOfTime


NEVER = Deadline(None)
