"""The cells of a comparison trained, by one process or by several.

A cell that is done is not repeated, one that was interrupted goes on after its last epoch, and one that fails leaves
the others alone.
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
OVER = "the time is over: stopped after an epoch"
TRIES = 2  # of a training by the processes that share a campaign: what failed once may have met a full GPU


@dataclass(frozen=True)
class Failure:
    """Why a training failed the last time, and how often it has."""

    reason: str
    times: int


def failure(cell: Cell) -> Failure | None:
    """Return what is noted of a cell that failed where several processes share the work."""
    try:
        return Failure(**json.loads(_note(cell).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def forget(cell: Cell) -> None:
    """Let a cell that failed be tried as if it never had been."""
    _note(cell).unlink(missing_ok=True)


def is_open(cell: Cell) -> bool:
    """Whether a cell is still to be trained: neither done nor failed as often as it is tried."""
    return not cell.done and _times(cell) < TRIES


def _times(cell: Cell) -> int:
    found = failure(cell)
    return found.times if found else 0


def _note(cell: Cell) -> Path:
    return cell.folder.with_name(f".{cell.folder.name}.failed.json")  # beside the lock: of whoever shares the cell


def train_next(grid: Grid, until: Deadline) -> bool:
    """Train the first cell that is still to be trained and that nobody else is at, what failed before after the others.

    Returns:
        Whether there was one.

    Raises:
        StorageError: The disk does not allow any more.
    """
    for cell in sorted(filter(is_open, grid.cells), key=_times):
        with _hold(cell) as held:
            if not held or not is_open(cell):  # another process is at it, or was since
                continue
            LOGGER.info(f"{'going on with' if cell.interrupted else 'training'} {cell}")
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
    """Train what is not done yet, and return the cells that failed, each with its reason in one line.

    Args:
        grid: The cells.
        until: When to stop: no cell is begun then, and one that is at work stops after its epoch, to be gone on with.

    Raises:
        StorageError: The disk does not allow any more.
        KeyboardInterrupt: The user has stopped it; what is done has been named.
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
                if cell.done:  # by another process, since this one began
                    continue
                reason = None if held else HELD
                if held:
                    verb = "going on with" if cell.interrupted else "training"
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
    """Keep other processes from a cell; yield whether none is at it already. The system lets go of it at any end."""
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
    """Train a cell; return why it failed."""
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
        raise  # the others would meet it too
    except PixelkeepError as error:
        return " ".join(str(error).split())
    except Exception as error:  # whatever ends one training, such as the GPU's memory, must not end the others
        cell.folder.mkdir(parents=True, exist_ok=True)
        write_text(cell.folder / ERROR, traceback.format_exc())
        told = " ".join(str(error).split()) or "no message"
        return f"{type(error).__name__}: {told[:200]} (see {cell.folder / ERROR})"
    return None


class _Timer:
    """Goes through cells and says what time all that are left will take.

    A cell takes as long as those of its arm took on average; of an arm not seen yet, as all on average.
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
        """Note that the cell has been trained since it was yielded; others hold those that have not."""
        self._seen[cell.arm].append(time.monotonic() - self._start)

    def _expected(self, cell: Cell) -> float:
        seconds = self._seen.get(cell.arm) or [taken for each in self._seen.values() for taken in each]
        return statistics.fmean(seconds) if seconds else 0.0
