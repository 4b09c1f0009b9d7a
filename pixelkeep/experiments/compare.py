"""Compares several models on the same images, after training those not yet trained, or reads finished runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pixelkeep.errors import OptionError, choices, nearest
from pixelkeep.experiments.arms import ACROSS, check_alike, read_run, rebuild_truth, require_baseline, sort_into_arms
from pixelkeep.experiments.cells import train_missing
from pixelkeep.experiments.document import describe, group_images
from pixelkeep.experiments.entrants import Entrant
from pixelkeep.experiments.grid import plan
from pixelkeep.experiments.outcome import TOLD, Outcome, judge, shared_settings, write
from pixelkeep.ultra.running import runs
from pixelkeep.ultra.running.settings import merge

FOR_RUNS = ("data", "device", "project", "name")  # flags that have an effect on finished runs


def compare(
    models_or_runs: Sequence[str | Path],
    data: str | Path | None = None,
    *,
    seeds: int | None = None,
    baseline: str | None = None,
    group: str | None = None,
    match: str | None = None,
    config: str | None = None,
    arms: Sequence[str] = (),
    across: Sequence[str] = (),
    **settings: Any,
) -> Outcome:
    """Train models alike with several seeds each, or read finished runs, and judge which are better in AP and AP_S.

    >>> found = pixelkeep.compare(["yolov5-n", "yolov5-spd-n"], "my.yaml", match="gflops", epochs=100)  # doctest: +SKIP
    >>> found.verdicts["yolov5-spd-n", "AP_S"]  # doctest: +SKIP
    'better'

    Works as ``pixelkeep compare`` does: the same call resumes where it was interrupted and trains nothing twice.

    Args:
        models_or_runs: Two or more model names, model YAMLs or checkpoints; or two or more run folders.
        data: Dataset YAML or the name of a bundled dataset. For runs, needed only if the dataset has moved since.
        seeds: Number of trainings of each model, 3 by default. With one, intervals cover the images only, and there
            are no verdicts.
        baseline: Model that the others are compared with; the first by default.
        group: Regular expression whose match in the file name is the same for images that are resampled together,
            such as those of one video.
        match: ``"gflops"`` or ``"latency"``: the baseline is also trained wider, and on larger images, until it costs
            as much as each other model within 3 %, and each model has a verdict against all of these as well.
        config: Recipe, by name or as a YAML file.
        arms: Further arms with settings of their own, each as name, model and settings, such as
            ``"distance:yolov5-spd-n:nwd=0.5"``.
        across: Protocol fields in which runs differ because that is the question: one or several of ``"imgsz"``,
            ``"tile"``, ``"precision"`` and ``"format"``. For runs only.
        settings: Any other training setting by name, such as ``epochs``, ``imgsz``, ``device``, ``project`` and
            ``name``. For runs only ``device``, ``project`` and ``name``.

    Raises:
        PixelkeepError: An argument cannot be used, or too few models could be trained to compare. Single trainings
            that fail do not raise: see :attr:`Outcome.failed`.
    """
    if isinstance(models_or_runs, (str, Path)):
        raise OptionError(f"models_or_runs is '{models_or_runs}'; give a list of two or more")
    given = settings | {"data": None if data is None else str(data)}
    words = [str(word) for word in models_or_runs]
    rest = dict(seeds=seeds, baseline=baseline, group=group, match=match, arms=arms, across=across)
    return compare_any(words, given, recipe=config, **rest)


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
    arms: Sequence[str] = (),
    across: Sequence[str] = (),
) -> Outcome:
    """Compare models, or finished runs if all words name folders.

    Args:
        what: Models or run folders.
        flags: Settings by name; None for those not given.
        recipe, assignments: As in :func:`pixelkeep.ultra.running.settings.merge`.
        seeds: Number of trainings of each model; 3 by default.
        baseline, group, match: As in :func:`compare_models`.
        arms, across: As in :func:`compare`.

    Raises:
        PixelkeepError: An argument cannot be used, or too few models could be trained to compare.
    """
    entrants: list[str | Entrant] = [*what, *map(Entrant.read, arms)]
    if not entrants or (seeds is not None and seeds < 1):
        raise OptionError(f"{len(entrants)} models, {seeds} seeds: give two or more models, and one seed or more")
    lost = [word for word in what if len(Path(word).parts) > 1 and not Path(word).expanduser().exists()]
    if lost:
        raise OptionError(f"'{lost[0]}': no such run folder, model YAML or checkpoint")
    folders = [word for word in what if Path(word).is_dir()]
    if not folders:
        if across:
            raise OptionError(f"--across {across[0]}: only for run folders; models are scored as --set says")
        fixed = [part for part in assignments or [] if part.partition("=")[0].strip() == "model"]
        if fixed:
            raise OptionError(f"--set {fixed[0]}: leave it out; the models to compare are named without an option")
        first = what[0] if what else entrants[0].model
        merged = merge(flags | {"model": first}, command="train", recipe=recipe, assignments=assignments)
        if match and merged.get("tile"):
            told = "matches costs at the size of whole images, not of tiles"
            raise OptionError(f"--match-{match} {told}; leave out that option or tile={merged['tile']}")
        count = 3 if seeds is None else seeds
        return compare_models(entrants, merged, seeds=count, baseline=baseline, group=group, match=match)
    if len(folders) < len(what):
        other = next(word for word in what if word not in folders)
        raise OptionError(f"'{other}' is not a run folder, but '{folders[0]}' is; give either models or run folders")
    given = {"config": recipe, "set": assignments, "seeds": seeds, f"match-{match}": match, "arm": arms or None} | flags
    useless = [f"--{key}" for key, value in given.items() if value is not None and key not in FOR_RUNS]
    if useless:
        raise OptionError(f"{', '.join(useless)}: no effect on runs that exist already; leave it out")
    used = {key: value for key, value in flags.items() if key in FOR_RUNS}
    return compare_runs(what, **used, baseline=baseline, group=group, across=across)


def one_match(gflops: bool, latency: bool) -> str | None:
    """Return the kind of cost to match, ``gflops``, ``latency`` or None, from the two command-line flags.

    Raises:
        OptionError: Both are given.
    """
    if gflops and latency:
        raise OptionError("--match-gflops and --match-latency: give one; the same command with the other adds its arms")
    return "gflops" if gflops else "latency" if latency else None


def compare_models(
    models: Sequence[str | Entrant],
    settings: dict,
    *,
    seeds: int = 3,
    baseline: str | None = None,
    group: str | None = None,
    match: str | None = None,
) -> Outcome:
    """Train one run for each model and seed, unless it is there already, and compare the models.

    Args:
        models: Two or more model names, YAML files, checkpoints or arms with settings of their own.
        settings: Training settings shared by all, as :func:`pixelkeep.ultra.running.settings.merge` returns them.
        seeds: Number of trainings of each model.
        baseline: The model that the others are compared with; the first by default.
        group: Regular expression whose match in the file name is the same for images that are resampled together,
            such as those of one video.
        match: ``gflops`` or ``latency``: the baseline is also trained wider, and on larger images, until it costs as
            much as each other model, which then has a verdict against all of these baselines as well.

    Raises:
        PixelkeepError: An argument cannot be used, or too few models could be trained to compare.
    """
    if len(models) < 2:
        raise OptionError(
            f"one model, {getattr(models[0], 'name', models[0])}: give another to compare it with, such as yolov5-n"
        )
    grid = plan(models, seeds, settings, baseline, match)
    groups = group_images(grid.truth, group) if group else None
    failed = train_missing(grid)
    return judge(grid, group, groups, failed)


def compare_runs(
    folders: list[str],
    *,
    data: str | None = None,
    baseline: str | None = None,
    group: str | None = None,
    across: Sequence[str] = (),
    device: str | None = None,
    project: str | None = None,
    name: str | None = None,
) -> Outcome:
    """Compare finished runs.

    Args:
        folders: Two or more run folders of ``train`` or ``val``.
        data: Dataset YAML or name, to give if the dataset has moved since.
        baseline, group: As in :func:`compare_models`.
        across: Protocol fields in `ACROSS` in which the runs are meant to differ.
        device: Device that latency is measured on.
        project, name: Folder and name under which the comparison is written.

    Raises:
        PixelkeepError: A folder is not a finished run, or the runs cannot be compared.
    """
    across = _known(across)
    read = [read_run(Path(folder).resolve()) for folder in dict.fromkeys(folders)]
    check_alike(read, across=across)
    arms = sort_into_arms(read, across)
    chosen = require_baseline(baseline, arms)
    truth = rebuild_truth(read[0], data)
    groups = group_images(truth, group) if group else None
    settings = [run.settings for run in read]
    alike = {key for key in TOLD if len({str(entry.get(key)) for entry in settings}) == 1}
    shared = {key: value for key, value in shared_settings(settings[0]).items() if key in alike}
    document = describe(arms, chosen, truth, group, groups, shared, device, across=across) | {"failed": []}
    folder = runs.new_run(project, name, kind="compare")
    return Outcome(write(folder, document), folder, {})


def _known(across: Sequence[str]) -> list[str]:
    """Return the fields of ``across`` without duplicates.

    Raises:
        OptionError: A field is not one of `ACROSS`.
    """
    fields = list(dict.fromkeys([across] if isinstance(across, str) else across))
    for field in fields:
        if field not in ACROSS:
            raise OptionError(f"--across {field}: not among {choices(ACROSS)}{nearest(field, ACROSS)}")
    return fields
