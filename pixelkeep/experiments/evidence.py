"""A contrast on its way from its file to its answer: data, trainings, and what of them can be shared with others.

Folders: ``ROOT/data`` holds data with dev cut out, ``ROOT/FORM/CONTRAST`` is a comparison's folder as ``pixelkeep
compare`` makes it, with the trainings' figures on dev, and ``val`` beside those of each training that was scored there.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from filelock import FileLock
from ultralytics.utils import LOGGER

from pixelkeep.datasets.definitions.spec import load_spec, read_mapping
from pixelkeep.errors import OptionError, PixelkeepError, StorageError, choices
from pixelkeep.experiments.arms import read_run, rebuild_truth
from pixelkeep.experiments.cells import failure, forget, is_open, train_next
from pixelkeep.experiments.contrasts import Contrast, Form, best_family
from pixelkeep.experiments.deadline import Deadline
from pixelkeep.experiments.dev_split import SPLITS, DevSplit
from pixelkeep.experiments.document import group_images
from pixelkeep.experiments.grid import Cell, Grid, plan
from pixelkeep.experiments.identity import FILE, OWN
from pixelkeep.experiments.outcome import Outcome, judge
from pixelkeep.ultra.commands.validation import validate
from pixelkeep.ultra.data.resolving import resolve_data
from pixelkeep.ultra.running import runs
from pixelkeep.ultra.running.scope import VALIDATION
from pixelkeep.ultra.running.settings import merge

ON_VAL = "val"  # the folder of what was scored on val, in a training's folder and in a contrast's
BEST, BF16 = "best.json", ("amp", "bf16")
SETTLED = "settled.json"  # there as soon as nothing is left to train: the mean AP_S on dev of every plain model


@dataclass(frozen=True)
class Place:
    """Where evidence is made.

    Attributes:
        root: The folder of everything.
        form: full or early.
        machine: Settings that belong to the machine: ``device``, ``workers``.
        bf16: Whether it trains in bf16 where a form asks for that.
        path: The folder of the data, in place of its YAML's own.
        seeds: Trainings of each arm; None for those of the form.
    """

    root: Path
    form: str
    machine: dict
    bf16: bool
    path: str | None = None
    seeds: int | None = None

    def folder(self, contrast: str) -> Path:
        """Return the folder of a contrast."""
        return self.root / self.form / contrast


@dataclass(frozen=True)
class Begun:
    """A contrast whose trainings are laid out.

    Attributes:
        form: With the settings that this machine trains with.
        best: The family that was chosen; None where nothing is to be chosen.
        left_out: Arms that this family has no model for, with the reason.
    """

    contrast: Contrast
    form: Form
    grid: Grid
    best: str | None
    left_out: dict[str, str]

    @property
    def missing(self) -> list[Cell]:
        """Trainings that are not done."""
        return [cell for cell in self.grid.cells if not cell.done]

    @property
    def open(self) -> list[Cell]:
        """Trainings that are to be done: not those that failed as often as they are tried."""
        return [cell for cell in self.grid.cells if is_open(cell)]

    def trainings(self) -> list[str]:
        """Return all trainings that are done, each with its figure, which tells it from another of the same name."""
        done = [cell for cell in self.grid.cells if cell.done]
        return sorted(f"{cell}: AP_S {read_run(cell.folder).result.AP_S} on dev" for cell in done)

    def train_next(self, until: Deadline) -> bool:
        """Train one of the trainings that are to be done and nobody else is at; return whether there was one."""
        found = train_next(self.grid, until)
        self.settle()
        return found

    def settle(self) -> None:
        """Note that nothing is left to train, where that is so, for the contrasts that wait for this one."""
        if self.open:
            return
        entrants, _ = self.contrast.entrants(self.best)
        models = {arm.name: arm.model for arm in entrants if not arm.settings}
        means = {model: _mean(self.grid, arm) for arm, model in models.items()}
        runs.write_json(self.grid.folder / SETTLED, {"means": means})

    def failed(self) -> dict[Cell, str]:
        """Return the trainings that failed and are still missing, with their reasons."""
        found = {cell: failure(cell) for cell in self.missing}
        return {cell: noted.reason for cell, noted in found.items() if noted}

    def forget_failures(self) -> None:
        """Let what failed be tried again."""
        for cell in self.missing:
            forget(cell)

    def on_dev(self) -> Outcome:
        """Compare what has been trained, on dev.

        Raises:
            DataError: There is nothing to compare yet.
        """
        groups = group_images(self.grid.truth, self.contrast.group)
        return judge(self.grid, self.contrast.group, groups, self.failed())

    def on_val(self) -> Outcome:
        """Score all trainings on val, where they are not yet, and compare them there."""
        for cell in self.grid.cells:
            if cell.done and not runs.is_finished(cell.folder / ON_VAL):
                LOGGER.info(f"scoring {cell} on val")
                score(cell, self.grid.settings)
        scored = [cell.folder / ON_VAL for cell in self.grid.cells if runs.is_finished(cell.folder / ON_VAL)]
        truth = rebuild_truth(read_run(scored[0]), self.grid.settings["data"])
        groups = group_images(truth, self.contrast.group)
        where = dict(truth=truth, scored=lambda cell: cell.folder / ON_VAL, folder=self.grid.folder / ON_VAL)
        return judge(self.grid, self.contrast.group, groups, self.failed(), **where)


def begin(contrast: Contrast, place: Place) -> Begun | str:
    """Lay out a contrast's trainings, or return what it waits for.

    Raises:
        PixelkeepError: Its data, models or settings cannot be used.
    """
    try:
        return _begin(contrast, place)
    except StorageError:
        raise
    except PixelkeepError as error:
        told = str(error).replace("--set path=", "--path ").replace("--group", "group")  # as they are called here
        raise OptionError(f"contrast {contrast.name}: {told}") from error


def _begin(contrast: Contrast, place: Place) -> Begun | str:
    form = contrast.form(place.form)
    folder = place.folder(contrast.name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):  # what one process looks for, the others find
        data = _cut(contrast.data, place.path, contrast.dev, place.root / "data")
        _check_group(contrast, data)
        if waiting := [name for name in contrast.best_of if not (place.folder(name) / SETTLED).is_file()]:
            return f"waits for {choices(waiting)}"
        best = _best(contrast, place) if contrast.best_of else None
        arms, left_out = contrast.entrants(best)
        own = {key: value for key, value in form.settings.items() if place.bf16 or (key, value) != BF16}
        settings = own | place.machine | {"plots": False, "data": str(data)}
        settings |= {"project": str(folder.parent), "name": folder.name}
        merged = merge(settings | {"model": arms[0].model}, command="train")
        grid = plan(arms, place.seeds or form.seeds, merged, contrast.baseline, form.match)
        if best:
            runs.write_json(folder / BEST, {"family": best})
        reuse(grid)
        relocate(grid)
    begun = Begun(contrast, replace(form, settings=own), grid, best, left_out)
    begun.settle()
    return begun


@cache
def _cut(data: str, path: str | None, dev: DevSplit, folder: Path) -> Path:
    """Return the YAML of the data with dev cut out."""
    return dev.cut_once(resolve_data(data, path), folder)


def _check_group(contrast: Contrast, data: Path) -> None:
    """Refuse a group that is not in every image's name, before anything is trained."""
    spec = load_spec(data)
    for split in SPLITS.values():
        images = json.loads(spec.splits[split][0].read_text(encoding="utf-8"))["images"]
        below = spec.folders[split].relative_to(spec.root).as_posix()
        named = [{"id": image["id"], "file_name": f"{below}/{image['file_name']}"} for image in images]
        group_images({"images": named}, contrast.group)


def score(cell: Cell, settings: dict) -> None:
    """Validate a training's best epoch on val, as its training did on dev."""
    kept = {key: settings[key] for key in ("data", "batch", "device", "workers", *VALIDATION) if key in settings}
    place = {"project": str(cell.folder), "name": ON_VAL, "exist_ok": True, "plots": False}
    size = {"imgsz": read_run(cell.folder).result.protocol.imgsz}
    best = str(cell.folder / "weights" / "best.pt")
    validate(kept | place | size | {"weights": best, "split": SPLITS["val"]})


def reuse(grid: Grid) -> None:
    """Let arms be those of other contrasts that are trained alike: their folders become links to each other.

    Locks lie in these folders, so that two contrasts never train the same at once.
    """
    own = _arms(grid.folder)
    for other in sorted(grid.folder.parent.glob(f"*/{FILE}")):
        there = {} if other.parent == grid.folder else _arms(other.parent)
        for name, identity in own.items():
            twin = next((arm for arm, its in there.items() if its == identity), None)
            if twin is not None:
                _link(grid.folder / name, other.parent / twin)


def _link(arm: Path, twin: Path) -> None:
    """Make the folder of an arm a link to its twin's, unless something has been trained in it."""
    if arm.is_symlink() or twin.is_symlink() or any(arm.glob("seed*")) or not any(twin.glob("*")):
        return
    for file in arm.glob("*.yaml"):  # the definition of an arm of another width, which its twin has as well
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # another process does the same, or has noted a failure there
        if arm.is_dir():
            arm.rmdir()
        arm.symlink_to(os.path.relpath(twin, arm.parent), target_is_directory=True)


def relocate(grid: Grid) -> None:
    """Let trainings that another machine began find their data here; that it is the same the grid has checked."""
    for cell in grid.cells:
        if cell.interrupted and not cell.done:
            settings = read_mapping(cell.folder / "settings.yaml")
            if not Path(settings["data"]).is_file():
                runs.write_yaml(cell.folder / "settings.yaml", settings | {"data": grid.settings["data"]})


def _arms(folder: Path) -> dict[str, str]:
    """Return by arm what it is trained with, so that those that are alike have the same text."""
    known = json.loads((folder / FILE).read_text(encoding="utf-8"))
    shared = {key: known[key] for key in ("settings", "data")}
    arms = {name: [sha, known.get(OWN, {}).get(name)] for name, sha in known["models"].items()}
    for by in known["matched"].values():
        for entry in by.values():
            plain = [known["models"].get(entry["baseline"]), known.get(OWN, {}).get(entry["baseline"])]
            for name, made in entry["arms"].items():
                arms[name] = [*plain, name, {key: made[key] for key in ("imgsz", "width", "channels") if key in made}]
    return {name: json.dumps([shared, identity], sort_keys=True) for name, identity in arms.items()}


def _mean(grid: Grid, arm: str) -> float | None:
    """Return an arm's mean AP_S on dev; None where none of it is there, or it is undefined."""
    figures = [read_run(cell.folder).result.AP_S for cell in grid.cells if cell.arm == arm and cell.done]
    return statistics.fmean(figures) if figures and None not in figures else None


def _best(contrast: Contrast, place: Place) -> str:
    """Return the best family of those in the contrasts before; what has been found once stays."""
    kept = place.folder(contrast.name) / BEST
    if kept.is_file():
        return json.loads(kept.read_text(encoding="utf-8"))["family"]
    means: dict[str, float | None] = {}
    for name in contrast.best_of:
        means |= json.loads((place.folder(name) / SETTLED).read_text(encoding="utf-8"))["means"]
    return best_family(means)
