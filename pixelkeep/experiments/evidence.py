"""A contrast on its way from its file to its answer: data, trainings, and what of them can be shared with others.

Folders: ``ROOT/data`` holds data with dev cut out, ``ROOT/FORM/CONTRAST`` is a comparison's folder as ``pixelkeep
compare`` makes it, with the trainings' figures on dev, and ``val`` beside those of each training that was scored there.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from ultralytics.utils import LOGGER

from pixelkeep.datasets.definitions.spec import read_mapping
from pixelkeep.errors import choices
from pixelkeep.experiments.arms import read_run, rebuild_truth
from pixelkeep.experiments.contrasts import Contrast, Form, best_family
from pixelkeep.experiments.deadline import Deadline
from pixelkeep.experiments.dev_split import SPLITS
from pixelkeep.experiments.document import group_images
from pixelkeep.experiments.grid import HELD, Cell, Grid, plan, train_missing
from pixelkeep.experiments.identity import FILE, OWN
from pixelkeep.experiments.outcome import Outcome, judge
from pixelkeep.ultra.commands.validation import validate
from pixelkeep.ultra.data.resolving import resolve_data
from pixelkeep.ultra.running import runs
from pixelkeep.ultra.running.scope import VALIDATION
from pixelkeep.ultra.running.settings import merge

ON_VAL = "val"  # the folder of what was scored on val, in a training's folder and in a contrast's
FAILED, WHOLE = "failed.json", "whole.json"


@dataclass(frozen=True)
class Place:
    """Where evidence is made.

    Attributes:
        root: The folder of everything.
        form: full or early.
        machine: Settings that belong to the machine: ``device``, ``workers``.
        path: The folder of the data, in place of its YAML's own.
        seeds: Trainings of each arm; None for those of the form.
    """

    root: Path
    form: str
    machine: dict
    path: str | None = None
    seeds: int | None = None

    def folder(self, contrast: str) -> Path:
        """Return the folder of a contrast."""
        return self.root / self.form / contrast


@dataclass(frozen=True)
class Begun:
    """A contrast whose trainings are laid out."""

    contrast: Contrast
    form: Form
    grid: Grid
    best: str | None

    @property
    def missing(self) -> list[Cell]:
        """Trainings that are not done."""
        return [cell for cell in self.grid.cells if not cell.done]

    def trainings(self) -> list[str]:
        """Return all trainings that are done, each with its figure, which tells it from another of the same name."""
        done = [cell for cell in self.grid.cells if cell.done]
        return sorted(f"{cell}: AP_S {read_run(cell.folder).result.AP_S} on dev" for cell in done)

    def train(self, until: Deadline) -> None:
        """Train what is missing and nobody else is at; note what failed."""
        failed = {str(cell): why for cell, why in train_missing(self.grid, until).items() if why != HELD}
        file = self.grid.folder / FAILED
        if failed:
            runs.write_json(file, _failed(file) | failed)

    def failed(self) -> dict[Cell, str]:
        """Return the trainings that failed and are still missing, with their reasons."""
        reasons = _failed(self.grid.folder / FAILED)
        return {cell: reasons[str(cell)] for cell in self.missing if str(cell) in reasons}

    def forget_failures(self) -> None:
        """Let what failed be tried again."""
        (self.grid.folder / FAILED).unlink(missing_ok=True)

    def on_dev(self) -> Outcome:
        """Compare what has been trained, on dev.

        Raises:
            DataError: There is nothing to compare yet.
        """
        groups = group_images(self.grid.truth, self.contrast.group)
        outcome = judge(self.grid, self.contrast.group, groups, self.failed())
        self.mark_whole()
        return outcome

    def mark_whole(self) -> None:
        """Note that nothing is missing, where that is so, for the contrasts that wait for this one."""
        if not self.missing:
            models = {arm.name: arm.model for arm in self.contrast.entrants(self.best) if not arm.settings}
            runs.write_json(self.grid.folder / WHOLE, {"models": models})

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
    form = contrast.form(place.form)
    best = None
    if contrast.best_of:
        if waiting := [name for name in contrast.best_of if not _is_whole(place.folder(name))]:
            return f"waits for {choices(waiting)}"
        best = _best(contrast, place)
    data = contrast.dev.cut_once(resolve_data(contrast.data, place.path), place.root / "data")
    settings = form.settings | place.machine | {"plots": False, "data": str(data)}
    folder = place.folder(contrast.name)
    settings |= {"project": str(folder.parent), "name": folder.name}
    arms = contrast.entrants(best)
    merged = merge(settings | {"model": arms[0].model}, command="train")
    grid = plan(arms, place.seeds or form.seeds, merged, contrast.baseline, contrast.match)
    if best:
        runs.write_json(folder / "best.json", {"family": best})
    reuse(grid)
    relocate(grid)
    return Begun(contrast, form, grid, best)


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
    with contextlib.suppress(FileExistsError, FileNotFoundError):  # another process does the same
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


def _failed(file: Path) -> dict[str, str]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def _is_whole(folder: Path) -> bool:
    """Whether a contrast has been compared on dev with nothing missing."""
    return (folder / WHOLE).is_file()


def _best(contrast: Contrast, place: Place) -> str:
    """Return the best family of those in the contrasts before; what has been found once stays."""
    kept = place.folder(contrast.name) / "best.json"
    if kept.is_file():
        return json.loads(kept.read_text(encoding="utf-8"))["family"]
    documents, models = [], {}
    for name in contrast.best_of:
        whole = json.loads((place.folder(name) / WHOLE).read_text(encoding="utf-8"))
        documents.append(json.loads((place.folder(name) / "comparison.json").read_text(encoding="utf-8")))
        models |= whole["models"]
    return best_family(documents, models)
