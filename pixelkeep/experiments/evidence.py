"""Carries a contrast from its file to its answer: data, trainings, and arms shared with other contrasts.

``ROOT/data`` holds data with dev cut out. ``ROOT/FORM/CONTRAST`` is a comparison's folder as ``pixelkeep compare``
makes it, with the figures of the trainings on dev. A training that was scored on val has those figures in its
subfolder ``val``.
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

ON_VAL = "val"  # subfolder with figures on val, of a training and of a contrast
BEST, BF16 = "best.json", ("amp", "bf16")
SETTLED = "settled.json"  # exists once nothing is left to train: mean AP_S on dev of each plain model


@dataclass(frozen=True)
class Place:
    """Where and how contrasts are run.

    Attributes:
        root: Folder that holds everything.
        form: Name of the form, ``full`` or ``early``.
        machine: Settings that belong to the machine: ``device`` and ``workers``.
        bf16: Whether the machine trains in bf16 if a form asks for that.
        path: Folder of the dataset, in place of the one in its YAML; None for that one.
        seeds: Number of trainings of each arm; None for the form's number.
    """

    root: Path
    form: str
    machine: dict
    bf16: bool
    path: str | None = None
    seeds: int | None = None

    def folder(self, contrast: str) -> Path:
        """Return the folder of a contrast by its name."""
        return self.root / self.form / contrast


@dataclass(frozen=True)
class Begun:
    """A contrast whose trainings are laid out.

    Attributes:
        contrast: The contrast as its file describes it.
        form: The form, with the settings that this machine really trains with.
        grid: All trainings of the contrast.
        best: The family chosen as the best; None if there is none to choose.
        left_out: By name, why arms are left out: this family has no model for them.
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
        """Trainings that are still to be done, without those given up after repeated failures."""
        return [cell for cell in self.grid.cells if is_open(cell)]

    def trainings(self) -> list[str]:
        """Return the names of the finished trainings, each with its AP_S to tell it from another of the same name."""
        done = [cell for cell in self.grid.cells if cell.done]
        return sorted(f"{cell}: AP_S {read_run(cell.folder).result.AP_S} on dev" for cell in done)

    def train_next(self, until: Deadline) -> bool:
        """Train one open training that no other process holds, and return whether there was one."""
        found = train_next(self.grid, until)
        self.settle()
        return found

    def settle(self) -> None:
        """Write `SETTLED` if nothing is left to train, for the contrasts that wait for this one."""
        if self.open:
            return
        entrants, _ = self.contrast.entrants(self.best)
        models = {arm.name: arm.model for arm in entrants if not arm.settings}
        means = {model: _mean(self.grid, arm) for arm, model in models.items()}
        runs.write_json(self.grid.folder / SETTLED, {"means": means})

    def failed(self) -> dict[Cell, str]:
        """Return the trainings that failed and are still missing, each with its reason."""
        found = {cell: failure(cell) for cell in self.missing}
        return {cell: noted.reason for cell, noted in found.items() if noted}

    def forget_failures(self) -> None:
        """Delete the noted failures, so that the trainings are tried again."""
        for cell in self.missing:
            forget(cell)

    def on_dev(self) -> Outcome:
        """Compare the finished trainings on dev.

        Raises:
            DataError: There is nothing to compare yet.
        """
        groups = group_images(self.grid.truth, self.contrast.group)
        return judge(self.grid, self.contrast.group, groups, self.failed())

    def on_val(self) -> Outcome:
        """Score the finished trainings on val, unless they are already, and compare them there."""
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
    """Lay out the trainings of a contrast, or return in words which contrasts it waits for.

    Raises:
        PixelkeepError: The data, models or settings of the contrast cannot be used.
    """
    try:
        return _begin(contrast, place)
    except StorageError:
        raise
    except PixelkeepError as error:
        told = str(error).replace("--set path=", "--path ").replace("--group", "group")  # the names used here
        raise OptionError(f"contrast {contrast.name}: {told}") from error


def _begin(contrast: Contrast, place: Place) -> Begun | str:
    form = contrast.form(place.form)
    folder = place.folder(contrast.name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):  # one process searches, the others read what it found
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
    """Return the YAML of the dataset with dev cut out."""
    return dev.cut_once(resolve_data(data, path), folder)


def _check_group(contrast: Contrast, data: Path) -> None:
    """Check before anything is trained that the group expression matches every image's name."""
    spec = load_spec(data)
    for split in SPLITS.values():
        images = json.loads(spec.splits[split][0].read_text(encoding="utf-8"))["images"]
        below = spec.folders[split].relative_to(spec.root).as_posix()
        named = [{"id": image["id"], "file_name": f"{below}/{image['file_name']}"} for image in images]
        group_images({"images": named}, contrast.group)


def score(cell: Cell, settings: dict) -> None:
    """Validate the best epoch of a training on val, with the settings of its validation on dev."""
    kept = {key: settings[key] for key in ("data", "batch", "device", "workers", *VALIDATION) if key in settings}
    place = {"project": str(cell.folder), "name": ON_VAL, "exist_ok": True, "plots": False}
    size = {"imgsz": read_run(cell.folder).result.protocol.imgsz}
    best = str(cell.folder / "weights" / "best.pt")
    validate(kept | place | size | {"weights": best, "split": SPLITS["val"]})


def reuse(grid: Grid) -> None:
    """Replace the folders of arms that another contrast trains in the same way by links to that contrast's folders.

    The locks lie in these folders, so two contrasts never train the same cell at once.
    """
    own = _arms(grid.folder)
    for other in sorted(grid.folder.parent.glob(f"*/{FILE}")):
        there = {} if other.parent == grid.folder else _arms(other.parent)
        for name, identity in own.items():
            twin = next((arm for arm, its in there.items() if its == identity), None)
            if twin is not None:
                _link(grid.folder / name, other.parent / twin)


def _link(arm: Path, twin: Path) -> None:
    """Replace the folder of an arm by a link to its twin's, unless it has trainings or the twin's is empty."""
    if arm.is_symlink() or twin.is_symlink() or any(arm.glob("seed*")) or not any(twin.glob("*")):
        return
    for file in arm.glob("*.yaml"):  # definition of an arm of another width; the twin has it too
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # another process links it too, or has noted a failure in it
        if arm.is_dir():
            arm.rmdir()
        arm.symlink_to(os.path.relpath(twin, arm.parent), target_is_directory=True)


def relocate(grid: Grid) -> None:
    """Point interrupted trainings from another machine to the data here, which `plan` has checked to be the same."""
    for cell in grid.cells:
        if cell.interrupted and not cell.done:
            settings = read_mapping(cell.folder / "settings.yaml")
            if not Path(settings["data"]).is_file():
                runs.write_yaml(cell.folder / "settings.yaml", settings | {"data": grid.settings["data"]})


def _arms(folder: Path) -> dict[str, str]:
    """Return by arm a text that identifies its training; arms that are trained alike have the same text."""
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
    """Return the mean AP_S of an arm on dev; None if none of its trainings is done or a figure is undefined."""
    figures = [read_run(cell.folder).result.AP_S for cell in grid.cells if cell.arm == arm and cell.done]
    return statistics.fmean(figures) if figures and None not in figures else None


def _best(contrast: Contrast, place: Place) -> str:
    """Return the best family of the contrasts in best_of; once chosen, it is kept."""
    kept = place.folder(contrast.name) / BEST
    if kept.is_file():
        return json.loads(kept.read_text(encoding="utf-8"))["family"]
    means: dict[str, float | None] = {}
    for name in contrast.best_of:
        means |= json.loads((place.folder(name) / SETTLED).read_text(encoding="utf-8"))["means"]
    return best_family(means)
