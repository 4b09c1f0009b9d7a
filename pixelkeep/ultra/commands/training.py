"""Training, from a dictionary of settings to a run folder with its result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ultralytics.cfg import get_cfg
from ultralytics.utils import DEFAULT_CFG, LOGGER

from pixelkeep.datasets.annotations.problems import Problems
from pixelkeep.datasets.definitions.spec import read_mapping
from pixelkeep.datasets.loading import load_split
from pixelkeep.errors import OptionError, WeightsError
from pixelkeep.evaluation import Result
from pixelkeep.evaluation.label_result import LabelResult
from pixelkeep.report.conversion import Conversion
from pixelkeep.ultra.commands import tasks
from pixelkeep.ultra.commands.tasks import Task
from pixelkeep.ultra.commands.validation import validate
from pixelkeep.ultra.conversion.pretrained import adapted
from pixelkeep.ultra.data.resolving import list_problems, told
from pixelkeep.ultra.data.window_dataset import count_windows
from pixelkeep.ultra.running import distributed, photometric, runs
from pixelkeep.ultra.running.recipe import Recipe
from pixelkeep.ultra.running.scope import VALIDATION
from pixelkeep.ultra.running.settings import check, check_task, for_ultralytics
from pixelkeep.ultra.tiled.images import Request
from pixelkeep.ultra.trainers.base import nominal_batch, strip_whole
from pixelkeep.ultra.trainers.cpu import check_precision
from pixelkeep.ultra.trainers.curves import plot_epochs
from pixelkeep.ultra.weights.checkpoints import check_weights, forget, is_checkpoint, load, model_of, trained_size
from pixelkeep.ultra.weights.definitions import check_model, resolve_model

DEFAULT_MODEL = "yolov5-spd-n"
PLACE = ("project", "name", "exist_ok")  # settings that say where the run folder is
CONVERSION = "conversion.json"  # how each layer's pretrained weights were carried over from another structure
STRIDE = 32  # of nearly all networks; for other strides the trainer rounds the image size
PICTURES = ("plots", "visualize")  # settings for the validation of the best epoch
MACHINE = ("device", "workers")  # settings that belong to the machine, not to the run


def train(settings: dict) -> tuple[Result | LabelResult, Path]:
    """Train a model and validate its best epoch.

    Args:
        settings: Settings as :func:`pixelkeep.ultra.running.settings.merge` returns them; ``data`` is required.

    Returns:
        The result of the final validation, and the run folder.

    Raises:
        PixelkeepError: Something in the settings cannot be used; nothing has been written in that case.
    """
    settings = dict(settings)
    device = distributed.join(settings)
    task, *described = distributed.in_turn(lambda: _check(settings))
    folder = distributed.by_first(lambda: _open_run(settings, *described))
    settings = {key: value for key, value in settings.items() if key not in PLACE} | {"save_dir": str(folder)}
    with distributed.for_first(runs.storage(folder)):
        _run(task, settings, settings | {"device": device})
        return _finish(folder, settings)


def _run(task: Task, settings: dict, overrides: dict) -> None:
    """Run the epochs of a training with the trainer of its task."""
    recipe = Recipe.of(settings | {"best": task.best_of(settings)})
    overrides = for_ultralytics(overrides) | recipe.for_ultralytics()
    task.trainer(overrides=overrides, recipe=recipe, limit=settings.get("max_det")).train()


def _check(settings: dict) -> tuple[Task, Any, dict, Conversion | None, list[Problems]]:
    """Check model, weights and data, and complete the settings in place.

    Returns:
        The task, the dataset, the model's definition, how pretrained weights of another structure are carried over
        (else None), and the problems in the data of each split.
    """
    if teacher := settings.get("distill_model"):
        settings["distill_model"] = str(check_weights(teacher))
    weights = settings.get("pretrained")
    if isinstance(weights, str):
        weights = settings["pretrained"] = str(check_weights(weights))
    model = resolve_model(settings.get("model") or (weights if isinstance(weights, str) else DEFAULT_MODEL))
    task = tasks.of_model(model)
    check_task(settings, "train", task.name)
    check_precision(settings)
    task.best_of(settings)
    tile = _whole_cells(settings)
    if tile or task.imgsz:
        settings.setdefault("imgsz", tile or task.imgsz)
    spec = task.resolve(settings.get("data"), settings.pop("path", None))
    definition, report = check_model(model, spec.channels, task.name), None
    start = model if weights in (None, True) and isinstance(model, Path) and is_checkpoint(model) else weights
    if isinstance(start, (str, Path)):  # reports now which weights would not fit
        names = {0: "item"} if settings.get("single_cls") else dict(spec.names)  # Ultralytics' name of the one class
        _, report = adapted(model_of(load(Path(start))), definition, spec.channels, names)
    size = settings.get("imgsz", 640)
    splits = [told(load_split, spec, s) if tile else task.read(spec, s, size) for s in ("train", "val")]
    task.require(*splits, settings, spec)
    _tell_of_effects(settings, spec.channels)
    settings.setdefault("nbs", nominal_batch(_samples(splits[0].records, settings), settings.get("batch", 16)))
    settings.update(model=str(model), data=str(task.write(spec)))
    return task, spec, definition, report, [split.problems for split in splits]


def _tell_of_effects(settings: dict, channels: int) -> None:
    """Warn about settings of the recipe that have no effect in this training."""
    if told := photometric.check_channels(settings.get("albumentations", "default"), channels):
        LOGGER.warning(told)
    epochs, closing = (settings.get(key, getattr(DEFAULT_CFG, key)) for key in ("epochs", "close_mosaic"))
    for key in (key for key in ("paste", "zoom") if settings.get(key) and closing >= epochs):
        LOGGER.warning(
            f"{key}: {settings[key]} has no effect: the last {closing} epochs (close_mosaic) show images as they are, "
            f"and there are only {epochs}; give --set close_mosaic={epochs // 10}"
        )


def _whole_cells(settings: dict) -> int | None:
    """Return the side of the windows to train on, rounded up to a multiple of the stride if they are not resized."""
    tile = settings.get("tile")
    if tile and settings.get("imgsz") is None and (rounded := -(-tile // STRIDE) * STRIDE) != tile:
        LOGGER.warning(f"tile {tile} is not a multiple of {STRIDE}: using {rounded}")
        tile = settings["tile"] = rounded
    return tile


def _samples(records: list, settings: dict) -> int:
    """Return the number of samples per epoch."""
    return count_windows(records, Recipe.of(settings)) if settings.get("tile") else len(records)


def _open_run(settings: dict, spec: Any, definition: dict, report: Conversion | None, problems: list[Problems]) -> Path:
    """Create the run folder, or clear that of an earlier run, and describe the run in it."""
    project, name, exist_ok = (settings.get(key) for key in PLACE)
    folder = runs.new_run(project, name, kind="train", exist_ok=bool(exist_ok))
    others = {key: value for key, value in settings.items() if key not in PLACE}
    with runs.storage(folder):
        runs.clear(folder)  # of an earlier run, with --exist-ok
        _describe(folder, others | {"save_dir": str(folder)}, spec, definition)
        list_problems(folder, problems)
        if report is not None:
            given = settings.get("pretrained")
            report.source = given if isinstance(given, str) else str(settings["model"])
            runs.write_json(folder / CONVERSION, report.to_dict())
            LOGGER.info(f"Pretrained weights carried over by role: {report.summary()} ({CONVERSION})")
    return folder


def resume(
    run: str | None, flags: dict, *, requested: bool, assignments: list[str] | None
) -> tuple[Result | LabelResult, Path]:
    """Resume an interrupted run after its last complete epoch.

    Args:
        run: A run folder or its last.pt; None for the newest unfinished run.
        flags: Settings given on the command line. ``project`` and ``name`` say where to look, ``model`` may name
            last.pt, ``device`` and ``workers`` may differ from before; anything else would make it another run.
        requested: Whether --resume was given.
        assignments: Values of --set, which must be none.

    Raises:
        PixelkeepError: There is no such run, or a setting is given that cannot change during a run.
    """
    given = {key: value for key, value in flags.items() if value is not None}
    if not requested:
        raise OptionError(f"unexpected argument '{run}'; to go on with a run, write --resume {run}")
    others = {key: value for key, value in given.items() if key not in {"model", "project", "name", *MACHINE}}
    fixed = [("--no-" if value is False else "--") + key.replace("_", "-") for key, value in others.items()]
    if fixed := fixed + [f"--set {assignment}" for assignment in assignments or []]:
        raise OptionError(f"--resume goes on with the run's own settings; leave out {', '.join(fixed)}")
    folder = runs.run_to_resume(run or given.get("model"), given.get("project"), given.get("name"))
    last, best = folder / "weights" / "last.pt", folder / "weights" / "best.pt"
    if best.is_file():
        check_weights(best)  # Ultralytics will load it to strip it, which executes code in the file
    epoch = _last_epoch(last)
    settings = read_mapping(folder / "settings.yaml") | {key: given[key] for key in MACHINE if key in given}
    check(settings)
    check_precision(settings)
    task = tasks.of_model(last)
    settings["data"] = str(task.write(task.resolve(settings.get("data"))))  # without its download script
    LOGGER.info(f"Resuming {folder}")
    device = distributed.join(settings)
    with distributed.for_first(runs.storage(folder)):
        if 0 <= epoch < settings.get("epochs", 100) - 1:
            forget()  # free the loaded checkpoint, which holds the optimizer's state
            overrides = {key: settings[key] for key in ("data", *MACHINE) if key in settings}
            overrides |= {"device": device, "model": str(last), "resume": str(last), "save_dir": str(folder)}
            _run(task, settings, overrides)
        else:  # interrupted between the last epoch and the end
            distributed.leave()
            for path in (last, best):
                strip_whole(path)
            if settings.get("plots", True):
                plot_epochs(folder / "results.csv")
        return _finish(folder, settings)


def _last_epoch(last: Path) -> int:
    """Return the last complete epoch, from 0; -1 once training is over and the checkpoint is stripped.

    Raises:
        WeightsError: The checkpoint cannot be used, or Ultralytics does not accept its training arguments.
    """
    checkpoint = load(last)
    epoch = checkpoint.get("epoch", -1)
    try:
        get_cfg(dict(checkpoint.get("train_args", {})))
        return int(epoch)
    except (TypeError, ValueError, SyntaxError) as error:
        reason = str(error).strip().splitlines()[0]
        raise WeightsError(f"weights '{last}': its epoch or training arguments are damaged ({reason})") from error


def _finish(folder: Path, settings: dict) -> tuple[Result | LabelResult, Path]:
    """Validate the best epoch as ``pixelkeep val`` would, with the validation settings of the training.

    If several processes train, the first one validates, and the others end here.
    """
    distributed.leave()
    best = folder / "weights" / "best.pt"
    chosen = {key: settings[key] for key in ("batch", *MACHINE, *VALIDATION, *PICTURES) if key in settings}
    if chosen.get("batch") == -1:  # -1 stands for what fits the GPU in training
        del chosen["batch"]
    chosen |= {"weights": str(best), "data": settings["data"]}
    if tile := settings.get("tile"):
        chosen["imgsz"] = trained_size(load(best))
    result, _ = validate(chosen, folder=folder, tiling=Request(tile=tile))
    return result, folder


def _describe(folder: Path, settings: dict, spec: Any, definition: dict) -> None:
    """Write the files that are needed to understand and repeat the run."""
    repeatable = {key: value for key, value in settings.items() if key != "save_dir"}  # also a recipe for other runs
    runs.write_yaml(folder / "settings.yaml", repeatable)
    runs.write_yaml(folder / "data.yaml", spec.to_ultralytics())
    runs.write_yaml(folder / "model.yaml", definition)
    runs.write_environment(folder)
