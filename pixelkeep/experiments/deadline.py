"""A deadline at which trainings stop after an epoch whose checkpoint has been saved, so that they can be resumed."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from ultralytics.utils import callbacks

EVENT = "on_model_save"  # Ultralytics' event after an epoch's checkpoints are written


class OutOfTime(BaseException):
    """Raised when the time is over. A BaseException, as it is no failure of the training that it ends."""


class Deadline:
    """Context manager that stops trainings begun inside it after the last epoch that fits into the time.

    Args:
        seconds: Time from now in seconds; None for no deadline.
        clock: Function that returns the time in seconds.
    """

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = None if seconds is None else clock() + seconds
        self._last: float | None = None  # when the last epoch ended

    @property
    def passed(self) -> bool:
        """Whether the deadline has passed."""
        return self.over >= 0

    @property
    def over(self) -> float:
        """Seconds since the deadline; negative before it."""
        return float("-inf") if self._end is None else self._clock() - self._end

    def __enter__(self) -> Deadline:
        self._last = None
        callbacks.default_callbacks[EVENT].append(self._stop)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        callbacks.default_callbacks[EVENT].remove(self._stop)

    def _stop(self, trainer: object) -> None:
        """Raise OutOfTime if another epoch as long as the last one would end after the deadline."""
        now, before = self._clock(), self._last
        self._last = now
        longest = 0.0 if before is None else now - before
        if self._end is not None and now + longest >= self._end:
            raise OutOfTime


NEVER = Deadline(None)
