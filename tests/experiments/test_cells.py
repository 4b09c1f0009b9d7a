"""Trainings shared by several processes: which is next, which failed, which are taken; training itself is a stub."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock

from pixelkeep.errors import OptionError
from pixelkeep.experiments import cells
from pixelkeep.experiments.cells import TRIES, failure, forget, is_open, train_next
from pixelkeep.experiments.deadline import NEVER, OutOfTime
from pixelkeep.experiments.grid import Cell, Grid


@pytest.fixture
def made(tmp_path) -> Grid:
    """Return a grid of two arms with two seeds each."""
    four = tuple(Cell(arm, arm, seed, tmp_path / arm / f"seed{seed}") for seed in (0, 1) for arm in "ab")
    return Grid(tmp_path, four, {}, "a", {})


@pytest.fixture
def trained(monkeypatch) -> tuple[list[str], dict[str, BaseException]]:
    """Return the list of what has been trained, and the exceptions that end trainings, by arm and seed."""
    done, ends = [], {}

    def train(settings: dict) -> None:
        folder = Path(settings["project"], settings["name"])
        key = f"{folder.parent.name}{folder.name[-1]}"
        done.append(key)
        if key in ends:
            raise ends[key]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.json").write_text("{}")

    monkeypatch.setattr(cells.training, "train", train)
    return done, ends


def test_next__one_after_the_other(made, trained):
    """Each call trains the next cell in order, and the last one says that none is left."""
    assert [train_next(made, NEVER) for _ in range(5)] == [True] * 4 + [False]
    assert trained[0] == ["a0", "b0", "a1", "b1"]


def test_next__what_others_hold_is_passed_over(made, trained):
    """A cell that another process is training is passed over and stays open."""
    made.cells[0].folder.parent.mkdir()
    with FileLock(made.cells[0].folder.with_name(".seed0.lock")):
        assert [train_next(made, NEVER) for _ in range(4)] == [True] * 3 + [False]
    assert trained[0] == ["b0", "a1", "b1"] and is_open(made.cells[0])


def test_failure__is_tried_after_the_others_and_no_more_than_twice(made, trained):
    """A failed cell is tried again after the others, twice in all by any process: failures are noted at once."""
    done, ends = trained
    ends["a0"] = OptionError("no\n room")
    assert [train_next(made, NEVER) for _ in range(7)] == [True] * 5 + [False] * 2
    assert done == ["a0", "b0", "a1", "b1", "a0"]
    noted = failure(made.cells[0])
    assert (noted.reason, noted.times) == ("no room", TRIES) and not is_open(made.cells[0])
    assert [failure(cell) for cell in made.cells[1:]] == [None] * 3
    forget(made.cells[0])
    ends.clear()
    assert train_next(made, NEVER) and made.cells[0].done


def test_next__the_end_of_time_is_no_failure(made, trained):
    """A training that ran out of time stays open, as if it had not been tried."""
    trained[1]["a0"] = OutOfTime()
    assert train_next(made, NEVER) and failure(made.cells[0]) is None and is_open(made.cells[0])
