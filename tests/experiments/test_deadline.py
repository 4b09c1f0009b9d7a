"""Trainings that stop after the last epoch that fits into the time."""

from __future__ import annotations

import pytest
from ultralytics.utils import callbacks

from pixelkeep.experiments.deadline import EVENT, NEVER, Deadline, OutOfTime


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return Clock.now


@pytest.fixture(autouse=True)
def start():
    Clock.now = 100.0


def saved(seconds: float) -> None:
    """Advance the clock by an epoch and call what a trainer made inside the deadline calls at its end."""
    Clock.now += seconds
    for callback in callbacks.default_callbacks[EVENT]:
        callback(None)


def test_deadline__stops_before_an_epoch_that_would_be_too_long():
    """With epochs of 30 s in 100 s, training stops after the third, at 90 s: a fourth would end at 120 s."""
    until = Deadline(100, Clock())
    with until:
        saved(30)
        saved(30)
        with pytest.raises(OutOfTime):
            saved(30)
    assert not until.passed


def test_deadline__the_last_epoch_may_end_just_in_time():
    """An epoch that would end one second before the deadline is still trained."""
    with Deadline(91, Clock()):
        saved(30)
        saved(30)  # another ends at 90
        with pytest.raises(OutOfTime):
            saved(30)


def test_deadline__passed_and_over():
    """A deadline says whether it has passed, and by how much."""
    until = Deadline(10, Clock())
    assert (until.passed, until.over) == (False, -10)
    Clock.now += 10
    assert until.passed
    Clock.now += 2.5
    assert until.over == 2.5


def test_deadline__every_training_has_its_own_epochs():
    """The time between two trainings does not count as an epoch."""
    until = Deadline(100, Clock())
    with until:
        saved(1)
    Clock.now += 60
    with until:
        saved(1)  # 62 of 100 seconds have passed, and how long the next epoch takes is unknown
        saved(1)


def test_deadline__leaves_nothing_behind():
    """Trainings after a deadline are not stopped by it, even where one inside it failed."""
    before = list(callbacks.default_callbacks[EVENT])
    with pytest.raises(ValueError, match="odd"), Deadline(0, Clock()):
        raise ValueError("odd")
    assert callbacks.default_callbacks[EVENT] == before


def test_never__does_not_end():
    """Without an end no training is stopped."""
    with NEVER:
        saved(1e9)
    assert not NEVER.passed and NEVER.over == float("-inf")


def test_out_of_time__is_no_failure():
    """OutOfTime is not caught by what catches the failures of a training."""
    assert not issubclass(OutOfTime, Exception)
