"""Trains the cells of a comparison, in one process or in several.

A finished cell is not trained again, an interrupted cell resumes after its last epoch, and a cell that fails does not
stop the others.
"""

from __future__ import annotations

import json
import statistics
import time
import traceback
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from ultralytics.utils import LOGGER

from pixelkeep.errors import PixelkeepError, StorageError, choices, storage_error
from pixelkeep.experiments.deadline import NEVER, Deadline, OutOfTime
from pixelkeep.experiments.grid import Cell, Grid
from pixelkeep.report.tables import duration
from pixelkeep.ultra.commands import training
from pixelkeep.ultra.running import runs
from pixelkeep.writing import write_text

ERROR = "error.txt"
HELD = "another process is training it"
OVER = "time is up: stopped after an epoch"
TRIES = 2  # attempts per training in a campaign: a first failure may have been due to a full GPU


@dataclass(frozen=True)
class Failure:
    """The reason why a training failed last, and the number of times it has failed."""

    reason: str
    times: int


def failure(cell: Cell) -> Failure | None:
    """Return the failure noted for a cell; None if there is none. Only `train_next` notes failures."""
    try:
        return Failure(**json.loads(_note(cell).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def forget(cell: Cell) -> None:
    """Delete the failures noted for a cell, so that it is tried again."""
    _note(cell).unlink(missing_ok=True)


def is_open(cell: Cell) -> bool:
    """Return whether a cell is still to be trained: it is not done and has failed fewer than `TRIES` times."""
    return not cell.done and _times(cell) < TRIES


def _times(cell: Cell) -> int:
    found = failure(cell)
    return found.times if found else 0


def _note(cell: Cell) -> Path:
    # The note lies beside the lock, where all processes that share the cell find it.
    return cell.folder.with_name(f".{cell.folder.name}.failed.json")


def train_next(grid: Grid, until: Deadline) -> bool:
    """Train the first open cell that no other process holds; cells that failed before come after the others.

    Args:
        grid: The cells.
        until: When to stop: the training then stops after an epoch and can be resumed.

    Returns:
        Whether there was such a cell.

    Raises:
        StorageError: The disk is full or cannot be written to.
    """
    for cell in sorted(filter(is_open, grid.cells), key=_times):
        with _hold(cell) as held:
            if not held or not is_open(cell):  # another process holds the cell, or has trained it since
                continue
            LOGGER.info(f"{'continuing' if cell.interrupted else 'training'} {cell}")
            try:
                with until:
                    reason = _train(cell, grid.settings)
            except OutOfTime:
                LOGGER.info(OVER)
                return True
            if reason:
                runs.write_json(_note(cell), asdict(Failure(reason, _times(cell) + 1)))
                LOGGER.error(f"{cell} failed: {reason}")
            return True
    return False


def train_missing(grid: Grid, until: Deadline = NEVER) -> dict[Cell, str]:
    """Train the cells that are not done yet; return those that failed or were left out, each with a one-line reason.

    Args:
        grid: The cells.
        until: When to stop: no further cell begins, and the current training stops after an epoch and can be resumed.

    Raises:
        StorageError: The disk is full or cannot be written to.
        KeyboardInterrupt: The user has stopped the training; the log names the cells that are done.
    """
    missing = [cell for cell in grid.cells if not cell.done]
    if len(missing) < len(grid.cells):
        LOGGER.info(f"{len(grid.cells) - len(missing)} of {len(grid.cells)} trainings are done already")
    failed, timer = {}, _Timer(missing)
    try:
        for cell, left in timer:
            if until.passed:
                break
            with _hold(cell) as held:
                if cell.done:  # another process has trained it since this one began
                    continue
                reason = None if held else HELD
                if held:
                    verb = "continuing" if cell.interrupted else "training"
                    LOGGER.info(f"\n{grid.cells.index(cell) + 1}/{len(grid.cells)}  {verb} {cell}{left}")
                    with until:
                        reason = _train(cell, grid.settings)
                    timer.took(cell)
            if reason:
                failed[cell] = reason
                LOGGER.error(f"{cell} {'failed' if held else 'is left out'}: {reason}")
    except OutOfTime:
        LOGGER.info(OVER)
    except KeyboardInterrupt:
        done = [str(cell) for cell in grid.cells if cell.done]
        LOGGER.info(
            f"\nDone so far: {choices(done, len(done)) if done else 'nothing'}. The same command goes on from here."
        )
        raise
    return failed


@contextmanager
def _hold(cell: Cell) -> Iterator[bool]:
    """Lock a cell; yield whether this process got the lock. The system releases it however the process ends."""
    lock = FileLock(cell.folder.with_name(f".{cell.folder.name}.lock"), timeout=0)
    try:
        cell.folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        pass
    except OSError as error:
        if told := storage_error(error, cell.folder):
            raise told from error
        raise
    try:
        yield lock.is_locked
    finally:
        lock.release()


def _train(cell: Cell, settings: dict) -> str | None:
    """Train or resume a cell; return the reason if it failed, else None."""
    (cell.folder / ERROR).unlink(missing_ok=True)
    try:
        if cell.interrupted:
            machine = {key: settings[key] for key in training.MACHINE if key in settings}
            training.resume(str(cell.folder), machine, requested=True, assignments=None)
        else:
            own = {"project": str(cell.folder.parent), "name": cell.folder.name, "exist_ok": True}
            if cell.imgsz:
                own["imgsz"] = list(cell.imgsz)
            training.train({**settings, **cell.own, **own, "model": cell.model, "seed": cell.seed})
    except StorageError:
        raise  # would stop the other cells too
    except PixelkeepError as error:
        return " ".join(str(error).split())
    except Exception as error:  # whatever ends one training, such as the GPU's memory, must not end the others
        cell.folder.mkdir(parents=True, exist_ok=True)
        write_text(cell.folder / ERROR, traceback.format_exc())
        told = " ".join(str(error).split()) or "no message"
        return f"{type(error).__name__}: {told[:200]} (see {cell.folder / ERROR})"
    return None


class _Timer:
    """Iterates over cells and estimates the time that the remaining ones will take.

    A cell is expected to take the mean time of its arm's cells so far, or of all cells if the arm has none.
    """

    def __init__(self, cells: list[Cell]) -> None:
        self._cells = cells
        self._seen: dict[str, list[float]] = defaultdict(list)
        self._start = 0.0

    def __iter__(self) -> Iterator[tuple[Cell, str]]:
        for index, cell in enumerate(self._cells):
            left = sum(map(self._expected, self._cells[index:]))
            self._start = time.monotonic()
            yield cell, f", about {duration(left)} left" if index and left else ""

    def took(self, cell: Cell) -> None:
        """Record the training time since the cell was yielded; not for cells that another process holds or trained."""
        self._seen[cell.arm].append(time.monotonic() - self._start)

    def _expected(self, cell: Cell) -> float:
        seconds = self._seen.get(cell.arm) or [taken for each in self._seen.values() for taken in each]
        return statistics.fmean(seconds) if seconds else 0.0
