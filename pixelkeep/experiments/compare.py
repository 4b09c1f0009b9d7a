"""Several models compared on the same images: trained where they are not yet, or read from run folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pixelkeep.errors import DataError, OptionError
from pixelkeep.experiments.arms import Arms, check_alike, read_run, rebuild_truth, require_baseline, sort_into_arms
from pixelkeep.experiments.document import describe, group_images
from pixelkeep.experiments.grid import Cell, plan, train_missing
from pixelkeep.report.comparison import as_markdown
from pixelkeep.report.html import as_page
from pixelkeep.ultra import runs
from pixelkeep.ultra.settings import merge
from pixelkeep.writing import write_text

FOR_RUNS = ("data", "device", "project", "name")  # flags that have an effect on runs that are there
TOLD = ("epochs", "batch", "optimizer", "lr0", "best", "pretrained", "fraction", "classes")  # of what runs share


@dataclass(frozen=True)
class Outcome:
    """What has been compared, the folder that holds it, and which trainings failed, with their reasons."""

    document: dict
    folder: Path
    failed: dict[Cell, str]

    def require_all(self) -> None:
        """Raise OptionError if a training failed: the comparison is there, and something is left to do."""
        if self.failed:
            cell, reason = next(iter(self.failed.items()))
            more = f" and {len(self.failed) - 1} more" if len(self.failed) > 1 else ""
            raise OptionError(f"{cell}{more} failed: {reason}; the same command tries again what is missing")


def compare_any(
    what: list[str],
    flags: dict,
    *,
    recipe: str | None = None,
    assignments: list[str] | None = None,
    seeds: int | None = None,
    baseline: str | None = None,
    group: str | None = None,
) -> Outcome:
    """Compare models, or runs where all words name folders.

    Args:
        what: Models or run folders.
        flags: Settings by name; None for those not given.
        recipe, assignments: As in :func:`pixelkeep.ultra.settings.merge`.
        seeds: How many trainings of each model; 3 by default.
        baseline, group: As in :func:`compare_models`.

    Raises:
        PixelkeepError: Something in this cannot be used.
    """
    lost = [word for word in what if len(Path(word).parts) > 1 and not Path(word).expanduser().exists()]
    if lost:
        raise OptionError(f"'{lost[0]}': no such run folder, model YAML or checkpoint")
    folders = [word for word in what if Path(word).is_dir()]
    if not folders:
        fixed = [part for part in assignments or [] if part.partition("=")[0].strip() == "model"]
        if fixed:
            raise OptionError(f"--set {fixed[0]}: the models to compare are those named without an option")
        merged = merge(flags | {"model": what[0]}, command="train", recipe=recipe, assignments=assignments)
        return compare_models(what, merged, seeds=3 if seeds is None else seeds, baseline=baseline, group=group)
    if len(folders) < len(what):
        other = next(word for word in what if word not in folders)
        raise OptionError(f"'{other}' is no run folder, and '{folders[0]}' is one; give either models or run folders")
    given = {"config": recipe, "set": assignments, "seeds": seeds} | flags
    useless = [f"--{key}" for key, value in given.items() if value is not None and key not in FOR_RUNS]
    if useless:
        raise OptionError(f"{', '.join(useless)}: without effect on runs that are there; leave it out")
    used = {key: value for key, value in flags.items() if key in FOR_RUNS}
    return compare_runs(what, **used, baseline=baseline, group=group)


def compare_models(
    models: list[str], settings: dict, *, seeds: int = 3, baseline: str | None = None, group: str | None = None
) -> Outcome:
    """Train what is not trained yet, one run for each model and seed, and compare.

    Args:
        models: Names, YAML files or checkpoints, two or more.
        settings: As :func:`pixelkeep.ultra.settings.merge` gives them, the same for all.
        seeds: How many trainings of each model.
        baseline: The model that the others are compared with; the first by default.
        group: Finds in an image's name what it is drawn together with, such as its video.

    Raises:
        PixelkeepError: Something in this cannot be used, or too little could be trained to compare.
    """
    if len(models) < 2:
        raise OptionError(f"one model, {models[0]}: give another to compare it with, such as yolov5-n")
    grid = plan(models, seeds, settings, baseline)
    groups = group_images(grid.truth, group) if group else None
    names = list(dict.fromkeys(cell.arm for cell in grid.cells))
    failed = train_missing(grid)
    arms = {name: [read_run(cell.folder) for cell in grid.cells if cell.arm == name and cell.done] for name in names}
    _require_two(arms, grid.baseline, failed)
    present = {name: members for name, members in arms.items() if members}
    check_alike([run for members in present.values() for run in members])
    document = describe(present, grid.baseline, grid.truth, group, groups, _shared(settings), settings.get("device"))
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
