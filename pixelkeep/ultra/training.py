"""Training from a dictionary of settings to a run folder with its result."""

from __future__ import annotations

from pathlib import Path

from ultralytics.utils import LOGGER

from pixelkeep.datasets.spec import DatasetSpec, read_mapping
from pixelkeep.errors import OptionError
from pixelkeep.evaluation import Result
from pixelkeep.ultra import runs
from pixelkeep.ultra.checkpoints import check_weights, load
from pixelkeep.ultra.data import resolve_data, write_resolved
from pixelkeep.ultra.dataset import scan
from pixelkeep.ultra.definitions import check_model, resolve_model
from pixelkeep.ultra.settings import for_ultralytics
from pixelkeep.ultra.trainer import Trainer, nominal_batch, strip_whole
from pixelkeep.ultra.truth import build_truth
from pixelkeep.ultra.validation import validate

DEFAULT_MODEL = "yolov5-spd-n"
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
    weights = settings.get("pretrained")
    if isinstance(weights, str):
        weights = settings["pretrained"] = str(check_weights(weights))
    model = resolve_model(settings.get("model") or (weights if isinstance(weights, str) else DEFAULT_MODEL))
    spec = resolve_data(settings.get("data"))
    definition = check_model(model, spec.others.get("channels", 3))
    settings.setdefault("nbs", nominal_batch(spec.count_images("train"), settings.get("batch", 16)))
    _scan(spec, settings.get("best", "AP"))
    folder = runs.new_run(
        settings.pop("project", None),
        settings.pop("name", None),
        kind="train",
        exist_ok=settings.pop("exist_ok", False),
    )
    data = write_resolved(spec)
    settings.update(model=str(model), data=str(data), save_dir=str(folder))
    runs.clear(folder)  # an earlier run, with --exist-ok
    _describe(folder, settings, spec, definition)
    best, limit = settings.get("best", "AP"), settings.get("max_det")
    Trainer(overrides=for_ultralytics(settings), best=best, limit=limit).train()
    return _finish(folder, settings)


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
    last = folder / "weights" / "last.pt"
    epoch = load(last).get("epoch", -1)  # the last whole epoch, from 0; -1 once training is over and it is stripped
    settings = read_mapping(folder / "settings.yaml") | {key: given[key] for key in MACHINE if key in given}
    LOGGER.info(f"Resuming {folder}")
    if 0 <= epoch < settings.get("epochs", 100) - 1:
        overrides = {key: settings[key] for key in ("data", *MACHINE) if key in settings}
        overrides |= {"model": str(last), "resume": str(last), "save_dir": str(folder)}
        Trainer(overrides=overrides, best=settings.get("best", "AP"), limit=settings.get("max_det")).train()
    elif epoch >= 0:  # interrupted between the last epoch and the end
        for path in (last, folder / "weights" / "best.pt"):
            strip_whole(path)
    return _finish(folder, settings)


def _finish(folder: Path, settings: dict) -> tuple[Result, Path]:
    """Validate the best epoch, as ``pixelkeep val`` would, into the run folder."""
    best = folder / "weights" / "best.pt"
    keys = ("imgsz", "batch", "device", "workers", "iou", "max_det", "single_cls", "seed")
    chosen = {key: settings[key] for key in keys if key in settings}
    result, _ = validate({**chosen, "weights": str(best), "data": settings["data"], "plots": False}, folder=folder)
    return result, folder


def _describe(folder: Path, settings: dict, spec: DatasetSpec, definition: dict) -> None:
    """Write what is needed to understand and repeat the run."""
    runs.write_yaml(folder / "settings.yaml", settings)
    runs.write_yaml(folder / "data.yaml", spec.to_ultralytics())
    runs.write_yaml(folder / "model.yaml", definition)
    runs.write_environment(folder)


def _scan(spec: DatasetSpec, best: str) -> None:
    """Read the labels, and refuse data that cannot be trained on, before anything is written."""
    scan(spec, "train")
    truth, _ = build_truth(*scan(spec, "val"), "val")
    if best == "AP_S" and not any(a["area"] <= 32**2 and not a["ignore"] for a in truth["annotations"]):
        raise OptionError(
            f"best: AP_S needs validation objects smaller than 32x32 pixels, and {spec.file} has none; use --best AP"
        )
