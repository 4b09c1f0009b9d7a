"""The trainings of a comparison: a cell for each model and seed, all with the same settings.

``grid.json`` says what the cells were trained with, so that a folder never holds cells of different settings. A cell
that is done is not repeated, one that was interrupted goes on after its last epoch, and one that fails leaves the
others alone.
"""

from __future__ import annotations

import statistics
import time
import traceback
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout
from ultralytics.cfg import DEFAULT_CFG_DICT
from ultralytics.utils import LOGGER

from pixelkeep.datasets.definitions.spec import DatasetSpec
from pixelkeep.errors import OptionError, PixelkeepError, StorageError, choices, storage_error
from pixelkeep.experiments.arms import require_baseline
from pixelkeep.experiments.deadline import NEVER, Deadline, OutOfTime
from pixelkeep.experiments.entrants import Entrant, entrants, require_unlike
from pixelkeep.experiments.equal import Equal, Several, find_equal, kinds_of, model_file
from pixelkeep.experiments.identity import OWN, identify, place, sha
from pixelkeep.experiments.matching import WIDTH, Baseline
from pixelkeep.experiments.sizes import as_size, rounded
from pixelkeep.ultra.commands import tasks, training
from pixelkeep.ultra.costs.multiples import stride_of
from pixelkeep.ultra.data.resolving import resolve_data
from pixelkeep.ultra.running import runs
from pixelkeep.ultra.weights.checkpoints import is_checkpoint
from pixelkeep.ultra.weights.definitions import check_model, resolve_model
from pixelkeep.writing import write_text

ERROR = "error.txt"
HELD = "another process is training it"


@dataclass(frozen=True)
class Cell:
    """One training: of an arm, with a seed, into a folder.

    Attributes:
        imgsz: Where it has an image size of its own.
        own: Settings by name in which its arm differs from the others.
    """

    arm: str
    model: str
    seed: int
    folder: Path
    imgsz: tuple[int, int] | None = None
    own: dict = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return f"{self.arm} seed {self.seed}"

    @property
    def done(self) -> bool:
        """Whether it went through to its final validation."""
        return runs.is_finished(self.folder)

    @property
    def interrupted(self) -> bool:
        """Whether there is an epoch to go on from."""
        return (self.folder / "weights" / "last.pt").is_file() and (self.folder / "settings.yaml").is_file()


@dataclass(frozen=True)
class Grid:
    """All trainings of a comparison.

    Attributes:
        folder: The folder above the cells.
        cells: Seed by seed: a comparison cut short has something of every model.
        settings: What all share.
        baseline: The arm that the others are compared with.
        truth: The ground truth that the cells are validated on, in COCO form.
        equal: The arms that the baseline has at equal cost; None where they were not asked for.
    """

    folder: Path
    cells: tuple[Cell, ...]
    settings: dict
    baseline: str
    truth: dict
    equal: Equal | Several | None = None


def plan(
    models: Sequence[str | Entrant],
    seeds: int,
    settings: dict,
    baseline: str | None = None,
    match: str | Sequence[str] | None = None,
) -> Grid:
    """Check models, data and what is in the folder already, and lay out the cells.

    Args:
        models: Names, YAML files or checkpoints, or arms with settings of their own.
        seeds: How many trainings of each; their seeds follow from ``seed`` on.
        settings: As :func:`pixelkeep.ultra.running.settings.merge` gives them. Without ``name``, the first folder
            of these settings is gone on with, else a new one made.
        baseline: One of the models or arms; the first by default.
        match: ``gflops``, ``latency`` or a list of both to train the baseline at the cost of each other model as well.

    Raises:
        PixelkeepError: A model or the data cannot be used, or the folder holds cells of other settings.
    """
    paths = [(entrant, _detector(entrant.model)) for entrant in entrants(models)]
    spec = resolve_data(settings.get("data"), settings.get("path"))
    resolved, definitions, own = {}, {}, {}
    for entrant, path in paths:
        arm = entrant.name or _arm(path)
        require_unlike(arm, resolved)
        definitions[arm] = check_model(path, spec.channels)
        resolved[arm], own[arm] = path, entrant.checked(settings)
    chosen = baseline if baseline in resolved else baseline and _arm(resolve_model(baseline))
    chosen = require_baseline(chosen, resolved)
    matched = kinds_of(match)
    if matched and is_checkpoint(resolved[chosen]):
        raise OptionError(f"match: the baseline {chosen} is a checkpoint, which cannot be made wider; name its model")
    truth, identity = identify({arm: sha(resolved[arm], made) for arm, made in definitions.items()}, settings, spec)
    identity[OWN] = {arm: values for arm, values in own.items() if values}
    folder = place(settings.get("project"), settings.get("name"), identity)
    kinds = {arm: (str(path), None) for arm, path in resolved.items()}
    equal = _equal(folder, matched, chosen, definitions, settings, spec, truth)
    for arm in equal.arms.values() if equal else ():
        model = model_file(folder, arm.name) if arm.kind == WIDTH else resolved[chosen]
        kinds[arm.name] = (str(model), None if arm.kind == WIDTH else arm.size)
        own[arm.name] = own[chosen]
    first = int(settings.get("seed", DEFAULT_CFG_DICT["seed"]))
    cells = tuple(
        Cell(arm, model, seed, folder / arm / f"seed{seed}", size, own[arm])
        for seed in range(first, first + seeds)
        for arm, (model, size) in kinds.items()
    )
    return Grid(folder, cells, settings, chosen, truth, equal)


def _equal(
    folder: Path, match: Sequence[str], baseline: str, definitions: dict, settings: dict, spec: DatasetSpec, truth: dict
) -> Equal | Several | None:
    """Look for the baseline at the cost of each other model, on data of this kind."""
    if not match:
        return None
    data = spec.channels, 1 if settings.get("single_cls") else len(spec.names)
    stride = stride_of(definitions[baseline], *data)
    size = rounded(as_size(settings.get("imgsz", DEFAULT_CFG_DICT["imgsz"])), stride)
    wide = sum(image["width"] >= image["height"] for image in truth["images"]) * 2 >= len(truth["images"])
    others = {arm: made for arm, made in definitions.items() if arm != baseline}
    plain = Baseline(baseline, definitions[baseline], size, stride, wide)
    found = [find_equal(folder, by, plain, others, data, settings.get("device")) for by in match]
    return found[0] if len(found) == 1 else Several(tuple(found))


def _detector(model: str) -> str | Path:
    path = resolve_model(model)
    task = tasks.of_model(path)
    if task is not tasks.DETECT:
        raise OptionError(
            f"model '{model}' is for {task.noun}; compare measures detection: train and val say what this one reaches"
        )
    return path


def _arm(model: str | Path) -> str:
    return Path(model).stem


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
        LOGGER.info("the time is over: stopped after an epoch")
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


def duration(seconds: float) -> str:
    """Return a time as people say it: 45 s, 12 min, 3.5 h.

    >>> duration(44.6), duration(720), duration(12600)
    ('45 s', '12 min', '3.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
