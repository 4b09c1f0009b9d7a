"""Validation of classification and semantic segmentation: the metrics, metrics.json and predictions.json."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pixelkeep.errors import OptionError
from pixelkeep.evaluation.label_result import LabelProtocol, LabelResult
from pixelkeep.ultra.commands.describing import describe, precision_of
from pixelkeep.ultra.commands.tasks import Task
from pixelkeep.ultra.data.resolving import list_problems
from pixelkeep.ultra.data.truth import relative
from pixelkeep.ultra.running import runs
from pixelkeep.ultra.running.settings import check_task, for_ultralytics
from pixelkeep.ultra.validators.classes import ClassValidator
from pixelkeep.ultra.validators.masks import MaskValidator
from pixelkeep.ultra.weights.backends import careful
from pixelkeep.ultra.weights.checkpoints import load, model_of, trained_size
from pixelkeep.ultra.weights.exported import Exported
from pixelkeep.ultra.weights.fitting import check_classes, trained_on

VALIDATORS = {"classify": ClassValidator, "semantic": MaskValidator}


def validate_labels(task: Task, settings: dict, folder: Path | None = None) -> tuple[LabelResult, Path]:
    """Validate weights on a split of a dataset.

    Args:
        task: Task of the weights: classification or semantic segmentation.
        settings: Settings as :func:`pixelkeep.ultra.running.settings.merge` returns them, with ``weights``.
        folder: The run folder of a training; a new one in ``runs/val`` by default.

    Returns:
        The result, and the run folder with metrics.json and, for classification, predictions.json.

    Raises:
        PixelkeepError: Something in the settings cannot be used; nothing has been written in that case.
    """
    settings = dict(settings)
    check_task(settings, "val", task.name)
    weights = Path(settings.pop("weights"))
    place = settings.pop("path", None)
    if place is not None and not settings.get("data"):
        raise OptionError(f"path: '{place}' is a dataset's folder, but no dataset is named; give --data as well")
    split = settings.setdefault("split", "val")
    spec = task.resolve(settings.get("data") or trained_on(weights), place, (split,))
    spec.sources(split)
    checkpoint = load(weights)
    check_classes(checkpoint, spec, weights, task=task.name)
    if isinstance(model_of(checkpoint), Exported):
        model_of(checkpoint).fit(settings, weights)
    settings.setdefault("imgsz", trained_size(checkpoint))
    project, name, exist_ok = (settings.pop(key, None) for key in ("project", "name", "exist_ok"))
    reports = []
    if folder is None:  # a training has already reported what is wrong with the data
        reports = [task.read(spec, split, settings["imgsz"]).problems]
        folder = runs.new_run(project, name, kind="val", exist_ok=bool(exist_ok))
    settings.update(model=str(weights), data=str(task.write(spec)), save_dir=str(folder), mode="val", task=task.name)
    with runs.storage(folder):
        runs.clear(folder, ("metrics.json", "predictions.json"))
        list_problems(folder, reports)
        validator = VALIDATORS[task.name](args=for_ultralytics(settings), save_dir=folder)
        with careful():
            validator()
        result = _describe(validator.judge(), validator, checkpoint, weights, spec)
        if isinstance(validator, ClassValidator):
            found = validator.predictions(lambda file: relative(Path(file), spec.root))
            runs.write_json(folder / "predictions.json", found)
        runs.write_json(folder / "metrics.json", result.to_dict())
    return result, folder


def _describe(result: LabelResult, validator: Any, checkpoint: dict, weights: Path, spec: Any) -> LabelResult:
    """Complete the metrics to the full schema of metrics.json."""
    args = validator.args
    truth = [[relative(Path(file), spec.root), label] for file, label in validator.truth()]
    result.gt_sha256 = hashlib.sha256(json.dumps([list(spec.names.values()), truth]).encode()).hexdigest()
    exported = describe(result, validator, checkpoint, weights, spec)
    result.protocol = LabelProtocol(
        imgsz=args.imgsz,
        precision=precision_of(args, exported),
        format=exported.format if exported else "pytorch",
        device=str(validator.device),
        seed=checkpoint.get("train_args", {}).get("seed"),
    )
    return result
