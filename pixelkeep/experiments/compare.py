"""Several models compared on the same images: trained where they are not yet, or read from run folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelkeep.errors import DataError, OptionError
from pixelkeep.experiments.arms import Arms, check_alike, read_run, rebuild_truth, require_baseline, sort_into_arms
from pixelkeep.experiments.document import describe, group_images
from pixelkeep.experiments.grid import Cell, plan, train_missing
from pixelkeep.report.comparison import as_markdown, as_text
from pixelkeep.report.html import as_page
from pixelkeep.ultra.running import runs
from pixelkeep.ultra.running.settings import merge
from pixelkeep.writing import write_text

FOR_RUNS = ("data", "device", "project", "name")  # flags that have an effect on runs that are there
TOLD = ("epochs", "batch", "optimizer", "lr0", "best", "pretrained", "fraction", "classes")  # of what runs share


@dataclass(frozen=True)
class Outcome:
    """What has been compared; ``print`` shows the tables that the command ends with.

    Attributes:
        document: All of it, as ``--json`` prints it and ``comparison.json`` holds it.
        folder: Where that, its page and the run folders are.
        failed: Which trainings failed, with their reasons.
    """

    document: dict
    folder: Path
    failed: dict[Cell, str]

    def __str__(self) -> str:
        return self.table

    @property
    def table(self) -> str:
        """The tables and notes as text, at most 80 columns wide."""
        return as_text(self.document)

    @property
    def page(self) -> Path:
        """The report as one HTML file."""
        return self.folder / "comparison.html"

    @property
    def verdicts(self) -> dict[tuple[str, str], str | None]:
        """By arm and metric whether it is better than the baseline, worse or not distinguishable; None: no verdict."""
        return {(d["arm"], d["metric"]): d["verdict"] for d in self.document["differences"]}

    @property
    def verdicts_at_equal_cost(self) -> dict[tuple[str, str], str | None]:
        """The same against all that the baseline becomes at the arm's cost; empty where that was not asked for."""
        return {(d["arm"], d["metric"]): d["verdict"] for d in self.document["equal_cost"]}

    def to_dict(self) -> dict:
        """Return the document."""
        return self.document

    def require_all(self) -> None:
        """Raise OptionError if a training failed: the comparison is there, and something is left to do."""
        if self.failed:
            cell, reason = next(iter(self.failed.items()))
            more = f" and {len(self.failed) - 1} more" if len(self.failed) > 1 else ""
            raise OptionError(f"{cell}{more} failed: {reason}; the same command tries again what is missing")


def compare(
    models_or_runs: Sequence[str | Path],
    data: str | Path | None = None,
    *,
    seeds: int | None = None,
    baseline: str | None = None,
    group: str | None = None,
    match: str | None = None,
    config: str | None = None,
    **settings: Any,
) -> Outcome:
    """Train models alike, several seeds each, or read finished runs, and say which is better by AP and AP_S.

    >>> found = pixelkeep.compare(["yolov5-n", "yolov5-spd-n"], "my.yaml", match="gflops", epochs=100)  # doctest: +SKIP
    >>> found.verdicts["yolov5-spd-n", "AP_S"]  # doctest: +SKIP
    'better'

    It does what ``pixelkeep compare`` does: the same call goes on where it was interrupted, and trains nothing twice.

    Args:
        models_or_runs: Two or more names, model YAMLs or checkpoints, or run folders.
        data: Dataset YAML or the name of a bundled one. For runs only where it is no longer where it was.
        seeds: Trainings of each model, 3 by default. One gives intervals of the images only, and no verdicts.
        baseline: What the others are compared with; the first by default.
        group: Regular expression that finds in a file name what is drawn together, such as the video.
        match: ``"gflops"`` or ``"latency"``: the baseline is also trained wider, and on larger images, until it costs
            as much as each other model within 3 %, and each has a verdict against all of these as well.
        config: A recipe: its name or a YAML file.
        settings: Any other setting of training by name, such as ``epochs``, ``imgsz``, ``device``, ``project`` and
            ``name``. For runs ``device``, ``project`` and ``name`` alone.

    Raises:
        PixelkeepError: Something in this cannot be used, or too little could be trained to compare. Single trainings
            that fail do not raise: see :attr:`Outcome.failed`.
    """
    if isinstance(models_or_runs, (str, Path)):
        raise OptionError(f"models_or_runs is '{models_or_runs}'; give a list of two or more")
    given = settings | {"data": None if data is None else str(data)}
    words = [str(word) for word in models_or_runs]
    return compare_any(words, given, recipe=config, seeds=seeds, baseline=baseline, group=group, match=match)


def compare_any(
    what: list[str],
    flags: dict,
    *,
    recipe: str | None = None,
    assignments: list[str] | None = None,
    seeds: int | None = None,
    baseline: str | None = None,
    group: str | None = None,
    match: str | None = None,
) -> Outcome:
    """Compare models, or runs where all words name folders.

    Args:
        what: Models or run folders.
        flags: Settings by name; None for those not given.
        recipe, assignments: As in :func:`pixelkeep.ultra.running.settings.merge`.
        seeds: How many trainings of each model; 3 by default.
        baseline, group, match: As in :func:`compare_models`.

    Raises:
        PixelkeepError: Something in this cannot be used.
    """
    if not what or (seeds is not None and seeds < 1):
        raise OptionError(f"{len(what)} models, {seeds} seeds: give two or more models, and one seed or more")
    lost = [word for word in what if len(Path(word).parts) > 1 and not Path(word).expanduser().exists()]
    if lost:
        raise OptionError(f"'{lost[0]}': no such run folder, model YAML or checkpoint")
    folders = [word for word in what if Path(word).is_dir()]
    if not folders:
        fixed = [part for part in assignments or [] if part.partition("=")[0].strip() == "model"]
        if fixed:
            raise OptionError(f"--set {fixed[0]}: the models to compare are those named without an option")
        merged = merge(flags | {"model": what[0]}, command="train", recipe=recipe, assignments=assignments)
        count = 3 if seeds is None else seeds
        return compare_models(what, merged, seeds=count, baseline=baseline, group=group, match=match)
    if len(folders) < len(what):
        other = next(word for word in what if word not in folders)
        raise OptionError(f"'{other}' is no run folder, and '{folders[0]}' is one; give either models or run folders")
    given = {"config": recipe, "set": assignments, "seeds": seeds, f"match-{match}": match} | flags
    useless = [f"--{key}" for key, value in given.items() if value is not None and key not in FOR_RUNS]
    if useless:
        raise OptionError(f"{', '.join(useless)}: without effect on runs that are there; leave it out")
    used = {key: value for key, value in flags.items() if key in FOR_RUNS}
    return compare_runs(what, **used, baseline=baseline, group=group)


def one_match(gflops: bool, latency: bool) -> str | None:
    """Return the way in which costs are to be equal, of the two flags of the command line.

    Raises:
        OptionError: Both are given.
    """
    if gflops and latency:
        raise OptionError("--match-gflops and --match-latency: give one; the same command with the other adds its arms")
    return "gflops" if gflops else "latency" if latency else None


def compare_models(
    models: list[str],
    settings: dict,
    *,
    seeds: int = 3,
    baseline: str | None = None,
    group: str | None = None,
    match: str | None = None,
) -> Outcome:
    """Train what is not trained yet, one run for each model and seed, and compare.

    Args:
        models: Names, YAML files or checkpoints, two or more.
        settings: As :func:`pixelkeep.ultra.running.settings.merge` gives them, the same for all.
        seeds: How many trainings of each model.
        baseline: The model that the others are compared with; the first by default.
        group: Finds in an image's name what it is drawn together with, such as its video.
        match: ``gflops`` or ``latency``: the baseline is also trained wider, and on larger images, until it costs as
            much as each other model, which then has a verdict against the strongest of these as well.

    Raises:
        PixelkeepError: Something in this cannot be used, or too little could be trained to compare.
    """
    if len(models) < 2:
        raise OptionError(f"one model, {models[0]}: give another to compare it with, such as yolov5-n")
    grid = plan(models, seeds, settings, baseline, match)
    groups = group_images(grid.truth, group) if group else None
    names = list(dict.fromkeys(cell.arm for cell in grid.cells))
    failed = train_missing(grid)
    arms = {name: [read_run(cell.folder) for cell in grid.cells if cell.arm == name and cell.done] for name in names}
    own = {name: members for name, members in arms.items() if not (grid.equal and name in grid.equal.arms)}
    _require_two(own, grid.baseline, failed)
    present = {name: members for name, members in arms.items() if members}
    sizes = {cell.folder: list(cell.imgsz) for cell in grid.cells if cell.imgsz}
    check_alike([run for members in present.values() for run in members], sizes)
    facts = group, groups, _shared(settings), settings.get("device")
    document = describe(present, grid.baseline, grid.truth, *facts, grid.equal)
    document["failed"] = [{"arm": c.arm, "seed": c.seed, "reason": reason} for c, reason in failed.items()]
    return Outcome(_write(grid.folder, document), grid.folder, failed)


def compare_runs(
    folders: list[str],
    *,
    data: str | None = None,
    baseline: str | None = None,
    group: str | None = None,
    device: str | None = None,
    project: str | None = None,
    name: str | None = None,
) -> Outcome:
    """Compare runs that are there.

    Args:
        folders: Run folders of ``train`` or ``val``, two or more.
        data: The dataset, where it is no longer where it was.
        baseline, group: As in :func:`compare_models`.
        device: What latency is measured on.
        project, name: Where the comparison is written.

    Raises:
        PixelkeepError: A folder is no finished run, or the runs cannot be compared.
    """
    read = [read_run(Path(folder).resolve()) for folder in dict.fromkeys(folders)]
    check_alike(read)
    arms = sort_into_arms(read)
    chosen = require_baseline(baseline, arms)
    truth = rebuild_truth(read[0], data)
    groups = group_images(truth, group) if group else None
    settings = [run.settings for run in read]
    alike = {key for key in TOLD if len({str(entry.get(key)) for entry in settings}) == 1}
    shared = {key: value for key, value in _shared(settings[0]).items() if key in alike}
    document = describe(arms, chosen, truth, group, groups, shared, device) | {"failed": []}
    folder = runs.new_run(project, name, kind="compare")
    return Outcome(_write(folder, document), folder, {})


def _shared(settings: dict) -> dict:
    """Return what the report tells of the settings."""
    return {key: settings[key] for key in TOLD if settings.get(key) is not None}


def _require_two(arms: Arms, baseline: str, failed: dict[Cell, str]) -> None:
    """Raise DataError where there is nothing to compare, with the first reason."""
    empty = [name for name, members in arms.items() if not members]
    if baseline in empty or len(arms) - len(empty) < 2:
        cell, reason = next((c, r) for c, r in failed.items() if c.arm == (baseline if baseline in empty else empty[0]))
        raise DataError(f"nothing to compare: all trainings of {cell.arm} failed, first {cell}: {reason}")


def _write(folder: Path, document: dict) -> dict:
    """Write the document, its text and its page; return the document with the folder's name in it."""
    document = {"name": folder.name, **document}
    with runs.storage(folder):
        runs.write_json(folder / "comparison.json", document)
        write_text(folder / "comparison.md", as_markdown(document))
        write_text(folder / "comparison.html", as_page(document))
    return document
