"""The trainings of a comparison: a cell for each model and seed, all with the same settings.

``grid.json`` says what the cells were trained with, so that a folder never holds cells of different settings. A cell
that is done is not repeated, one that was interrupted goes on after its last epoch, and one that fails leaves the
others alone.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import time
import traceback
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ultralytics.cfg import DEFAULT_CFG_DICT
from ultralytics.utils import LOGGER

from pixelkeep.datasets.loading import load_split
from pixelkeep.datasets.spec import DatasetSpec
from pixelkeep.errors import OptionError, PixelkeepError, StorageError, choices
from pixelkeep.evaluation import sha256
from pixelkeep.experiments.arms import require_baseline
from pixelkeep.ultra import runs, training
from pixelkeep.ultra.checkpoints import check_weights
from pixelkeep.ultra.data import resolve_data
from pixelkeep.ultra.definitions import check_model, resolve_model
from pixelkeep.ultra.truth import build_truth
from pixelkeep.writing import write_text

# Not among what all cells share, or without effect on their figures.
APART = ("model", "seed", "data", "path", "plots", "verbose", *training.PLACE, *training.MACHINE)
FILE, PARTS = "grid.json", ("settings", "data", "models")
ERROR = "error.txt"


@dataclass(frozen=True)
class Cell:
    """One training: of an arm, with a seed, into a folder."""

    arm: str
    model: str
    seed: int
    folder: Path

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
    """

    folder: Path
    cells: tuple[Cell, ...]
    settings: dict
    baseline: str
    truth: dict


def plan(models: list[str], seeds: int, settings: dict, baseline: str | None = None) -> Grid:
    """Check models, data and what is in the folder already, and lay out the cells.

    Args:
        models: Names, YAML files or checkpoints.
        seeds: How many trainings of each; their seeds follow from ``seed`` on.
        settings: As :func:`pixelkeep.ultra.settings.merge` gives them. Without ``name``, the first folder of these
            settings is gone on with, else a new one made.
        baseline: One of the models; the first by default.

    Raises:
        PixelkeepError: A model or the data cannot be used, or the folder holds cells of other settings.
    """
    spec = resolve_data(settings.get("data"), settings.get("path"))
    resolved, definitions = {}, {}
    for model in models:
        path = resolve_model(model)
        arm = _arm(path)
        if arm in resolved:
            raise OptionError(f"two of the models are called '{arm}'; give each once, and files different names")
        definitions[arm] = _sha(path, check_model(path, spec.channels))
        resolved[arm] = path
    chosen = require_baseline(baseline and _arm(resolve_model(baseline)), resolved)
    truth, identity = _identity(definitions, settings, spec)
    folder = _place(settings.get("project"), settings.get("name"), identity)
    first = int(settings.get("seed", DEFAULT_CFG_DICT["seed"]))
    cells = tuple(
        Cell(arm, str(model), seed, folder / arm / f"seed{seed}")
        for seed in range(first, first + seeds)
        for arm, model in resolved.items()
    )
    return Grid(folder, cells, settings, chosen, truth)


def _arm(model: str | Path) -> str:
    return Path(model).stem


def _identity(definitions: dict[str, str], settings: dict, spec: DatasetSpec) -> tuple[dict, dict]:
    """Return the ground truth of the validation, and what decides the outcome of the cells."""
    if isinstance(settings.get("fraction"), list):
        raise OptionError(f"fraction: {settings['fraction']}; give one number, so that all is validated on")
    shared = {key: value for key, value in settings.items() if key not in APART and DEFAULT_CFG_DICT.get(key) != value}
    weights = shared.get("pretrained")
    if isinstance(weights, str):
        shared["pretrained"] = _sha(check_weights(weights), {})
    only = {key: settings[key] for key in ("classes", "single_cls") if settings.get(key) is not None}
    truths = {split: build_truth(load_split(spec, split).records, spec, **only)[0] for split in ("train", "val")}
    shas = {split: sha256(truth) for split, truth in truths.items()}
    return truths["val"], {"settings": shared, "data": shas, "models": definitions}


def _sha(model: str | Path, definition: dict) -> str:
    """Return the hash of a checkpoint, else of the definition."""
    path = Path(model)
    content = path.read_bytes() if path.suffix == ".pt" else json.dumps(definition, sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()


def _place(project: str | None, name: str | None, identity: dict) -> Path:
    """Return the comparison's folder, made if need be, with the identity written down."""
    base = Path(project) if project else runs.RUNS / "compare"
    for number in range(1, 100_000):
        folder = base / (name or ("exp" if number == 1 else f"exp{number}"))
        known = _known(folder)
        differences = _differences(known, identity)
        if not differences:
            break
        if name:
            raise OptionError(
                f"{folder} cannot be gone on with: {choices(differences)}; give what was before, or another --name"
            )
    else:
        raise OptionError(f"cannot create a run folder {base / 'exp'}: all numbers up to 100000 are taken")
    with runs.storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
        runs.write_json(folder / FILE, {**identity, "models": known.get("models", {}) | identity["models"]})
    return folder.resolve()


def _known(folder: Path) -> dict:
    """Return the identity of the cells in a folder; empty where there are none."""
    file = folder / FILE
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return {}
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"foreign": f"it has no readable {FILE}, so it is something else"}
    whole = isinstance(known, dict) and all(isinstance(known.get(part), dict) for part in PARTS)
    return known if whole else {"foreign": f"its {FILE} is damaged"}


def _differences(known: dict, now: dict) -> list[str]:
    """Say in which settings two identities differ, as far as both know of them."""
    if not known or "foreign" in known:
        return [known["foreign"]] if known else []
    told = []
    before, after = known["settings"], now["settings"]
    for key in sorted(key for key in {*before, *after} if before.get(key) != after.get(key)):
        told.append(f"{key} was {_shown(key, before)} and is {_shown(key, after)}")
    for part, what in (("data", "the data of split"), ("models", "the definition of")):
        changed = [key for key in known[part] if key in now[part] and known[part][key] != now[part][key]]
        told += [f"{what} {key} has changed" for key in changed]
    return told


def _shown(key: str, settings: dict) -> str:
    value = settings.get(key, DEFAULT_CFG_DICT.get(key))
    return f"{value[:8]}..." if isinstance(value, str) and len(value) == 64 else str(value)  # hashes


def train_missing(grid: Grid) -> dict[Cell, str]:
    """Train what is not done yet, and return the cells that failed, each with its reason in one line.

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
            verb = "going on with" if cell.interrupted else "training"
            LOGGER.info(f"\n{grid.cells.index(cell) + 1}/{len(grid.cells)}  {verb} {cell}{left}")
            if reason := _train(cell, grid.settings):
                failed[cell] = reason
                LOGGER.error(f"{cell} failed: {reason}")
    except KeyboardInterrupt:
        done = [str(cell) for cell in grid.cells if cell.done]
        LOGGER.info(
            f"\nDone so far: {choices(done, len(done)) if done else 'nothing'}. The same command goes on from here."
        )
        raise
    return failed


def _train(cell: Cell, settings: dict) -> str | None:
    """Train a cell; return why it failed."""
    (cell.folder / ERROR).unlink(missing_ok=True)
    try:
        if cell.interrupted:
            machine = {key: settings[key] for key in training.MACHINE if key in settings}
            training.resume(str(cell.folder), machine, requested=True, assignments=None)
        else:
            place = {"project": str(cell.folder.parent), "name": cell.folder.name, "exist_ok": True}
            model = cell.model
            training.train({**settings, **place, "model": model, "seed": cell.seed})
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

    def __iter__(self) -> Iterator[tuple[Cell, str]]:
        for index, cell in enumerate(self._cells):
            left = sum(map(self._expected, self._cells[index:]))
            start = time.monotonic()
            yield cell, f", about {duration(left)} left" if index else ""
            self._seen[cell.arm].append(time.monotonic() - start)

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
