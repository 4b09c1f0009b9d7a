"""Training from a dictionary of settings to a run folder with its result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ultralytics.cfg import get_cfg
from ultralytics.utils import LOGGER

from pixelkeep.datasets.loading import Split
from pixelkeep.datasets.problems import Problems
from pixelkeep.datasets.spec import DatasetSpec, read_mapping
from pixelkeep.errors import DataError, OptionError, WeightsError
from pixelkeep.evaluation import Result
from pixelkeep.ultra import distributed, runs
from pixelkeep.ultra.checkpoints import check_weights, forget, load
from pixelkeep.ultra.data import list_problems, read_split, resolve_data, write_resolved
from pixelkeep.ultra.definitions import check_model, resolve_model
from pixelkeep.ultra.scope import VALIDATION
from pixelkeep.ultra.settings import check, for_ultralytics
from pixelkeep.ultra.trainer import Trainer, nominal_batch, strip_whole
from pixelkeep.ultra.validation import validate

DEFAULT_MODEL = "yolov5-spd-n"
SMALL_AREA = 32**2  # square pixels, the upper end of COCO's small
PLACE = ("project", "name", "exist_ok")  # settings that say where the run folder is
MACHINE = ("device", "workers")  # settings that belong to the machine, not to the run


def train(settings: dict) -> tuple[Result, Path]:
    """Train a model and validate its best epoch.

    Args:
        settings: As :func:`pixelkeep.ultra.settings.merge` gives them; ``data`` is required.

    Returns:
        The result of the final validation, and the run folder.

    Raises:
        PixelkeepError: Anything in the settings that cannot be used; nothing has been written then.
    """
    settings = dict(settings)
    device = distributed.join(settings)
    described = distributed.in_turn(lambda: _check(settings))
    folder = distributed.by_first(lambda: _open_run(settings, *described))
    settings = {key: value for key, value in settings.items() if key not in PLACE} | {"save_dir": str(folder)}
    with distributed.for_first(runs.storage(folder)):
        best, limit = settings.get("best", "AP"), settings.get("max_det")
        overrides = for_ultralytics(settings | {"device": device})
        Trainer(overrides=overrides, best=best, limit=limit).train()
        return _finish(folder, settings)


def _check(settings: dict) -> tuple[DatasetSpec, dict, list[Problems]]:
    """Check what can be wrong with model, weights and data, and complete the settings.

    Returns:
        The dataset, the model's definition, and what is wrong with the data of each split.
    """
    if teacher := settings.get("distill_model"):
        settings["distill_model"] = str(check_weights(teacher))
    weights = settings.get("pretrained")
    if isinstance(weights, str):
        weights = settings["pretrained"] = str(check_weights(weights))
    model = resolve_model(settings.get("model") or (weights if isinstance(weights, str) else DEFAULT_MODEL))
    spec = resolve_data(settings.get("data"), settings.pop("path", None))
    definition = check_model(model, spec.channels)
    splits = [read_split(spec, split, settings.get("imgsz", 640)) for split in ("train", "val")]
    _require_objects(splits[0], settings.get("classes"), spec)
    _require_small(splits[1], settings.get("best", "AP"), spec)
    settings.setdefault("nbs", nominal_batch(len(splits[0].records), settings.get("batch", 16)))
    settings.update(model=str(model), data=str(write_resolved(spec)))
    return spec, definition, [split.problems for split in splits]


def _open_run(settings: dict, spec: DatasetSpec, definition: dict, problems: list[Problems]) -> Path:
    """Make the run folder, or empty that of an earlier run, and describe the run in it."""
    project, name, exist_ok = (settings.get(key) for key in PLACE)
    folder = runs.new_run(project, name, kind="train", exist_ok=bool(exist_ok))
    others = {key: value for key, value in settings.items() if key not in PLACE}
    with runs.storage(folder):
        runs.clear(folder)  # an earlier run, with --exist-ok
        _describe(folder, others | {"save_dir": str(folder)}, spec, definition)
        list_problems(folder, problems)
    return folder


def resume(run: str | None, flags: dict, *, requested: bool, assignments: list[str] | None) -> tuple[Result, Path]:
    """Go on with a run that was interrupted, after its last whole epoch.

    Args:
        run: A run folder or its last.pt; None for the newest unfinished run.
        flags: What was given on the command line. ``project`` and ``name`` say where to look, ``model`` may name
            last.pt, ``device`` and ``workers`` may differ from before; anything else would make it another run.
        requested: Whether --resume was given.
        assignments: What was given as --set.

    Raises:
        PixelkeepError: There is no such run, or a setting cannot be changed on the way.
    """
    given = {key: value for key, value in flags.items() if value is not None}
    if not requested:
        raise OptionError(f"unexpected argument '{run}'; to go on with a run, write --resume {run}")
    fixed = [key for key in given if key not in {"model", "project", "name", *MACHINE}] + (assignments or [])
    if fixed:
        raise OptionError(f"--resume goes on with the run's own settings; leave out {', '.join(fixed)}")
    folder = runs.run_to_resume(run or given.get("model"), given.get("project"), given.get("name"))
    last, best = folder / "weights" / "last.pt", folder / "weights" / "best.pt"
    if best.is_file():
        check_weights(best)  # Ultralytics will strip it, which loads it in a way that executes what it carries
    epoch = _last_epoch(last)
    settings = read_mapping(folder / "settings.yaml") | {key: given[key] for key in MACHINE if key in given}
    check(settings)
    settings["data"] = str(write_resolved(resolve_data(settings.get("data"))))  # without its download script
    LOGGER.info(f"Resuming {folder}")
    device = distributed.join(settings)
    with distributed.for_first(runs.storage(folder)):
        if 0 <= epoch < settings.get("epochs", 100) - 1:
            forget()  # it holds the optimizer's state
            overrides = {key: settings[key] for key in ("data", *MACHINE) if key in settings}
            overrides |= {"device": device, "model": str(last), "resume": str(last), "save_dir": str(folder)}
            Trainer(overrides=overrides, best=settings.get("best", "AP"), limit=settings.get("max_det")).train()
        else:  # interrupted between the last epoch and the end
            distributed.leave()
            for path in (last, best):
                strip_whole(path)
        return _finish(folder, settings)


def _last_epoch(last: Path) -> int:
    """Return the last whole epoch, from 0; -1 once training is over and the checkpoint is stripped.

    Raises:
        WeightsError: The checkpoint cannot be used, or Ultralytics will not take its training arguments.
    """
    checkpoint = load(last)
    epoch = checkpoint.get("epoch", -1)
    try:
        get_cfg(dict(checkpoint.get("train_args", {})))
        return int(epoch)
    except (TypeError, ValueError, SyntaxError) as error:
        reason = str(error).strip().splitlines()[0]
        raise WeightsError(f"weights '{last}': its epoch or training arguments are damaged ({reason})") from error


def _finish(folder: Path, settings: dict) -> tuple[Result, Path]:
    """Validate the best epoch, as ``pixelkeep val`` would, under the settings of the epochs' validations.

    Of several processes the first does it, and the others end here.
    """
    distributed.leave()
    best = folder / "weights" / "best.pt"
    chosen = {key: settings[key] for key in ("batch", *MACHINE, *VALIDATION) if key in settings}
    if chosen.get("batch") == -1:  # what fits a GPU in training
        del chosen["batch"]
    result, _ = validate({**chosen, "weights": str(best), "data": settings["data"], "plots": False}, folder=folder)
    return result, folder


def _describe(folder: Path, settings: dict, spec: DatasetSpec, definition: dict) -> None:
    """Write what is needed to understand and repeat the run."""
    repeatable = {key: value for key, value in settings.items() if key != "save_dir"}  # a recipe for another run
    runs.write_yaml(folder / "settings.yaml", repeatable)
    runs.write_yaml(folder / "data.yaml", spec.to_ultralytics())
    runs.write_yaml(folder / "model.yaml", definition)
    runs.write_environment(folder)


def _require_objects(train: Split, classes: list[int] | None, spec: DatasetSpec) -> None:
    """Refuse to train where every object is to be ignored or of a class that was not chosen."""
    chosen = [
        record.difficult | (False if classes is None else ~np.isin(record.classes, classes)) for record in train.records
    ]
    if all(left_out.all() for left_out in chosen):
        of = "" if classes is None else f" of classes {classes}"
        raise DataError(
            f"{spec.file}: split 'train' has no object{of} to learn: one is needed that is not marked difficult"
        )


def _require_small(val: Split, best: str, spec: DatasetSpec) -> None:
    """Refuse to choose the best epoch by AP_S where validation has no small object."""
    if best == "AP_S" and not any((r.areas[~r.difficult] <= SMALL_AREA).any() for r in val.records):
        raise OptionError(
            f"best: AP_S needs validation objects smaller than 32x32 pixels, and {spec.file} has none; use --best AP"
        )
