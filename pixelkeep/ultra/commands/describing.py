"""What every validation result states about its network, whatever the task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pixelkeep.datasets.definitions.spec import DatasetSpec
from pixelkeep.evaluation import Result
from pixelkeep.evaluation.label_result import LabelResult
from pixelkeep.ultra.costs.measure import count_gflops, count_parameters, mean_fraction
from pixelkeep.ultra.weights.checkpoints import model_of
from pixelkeep.ultra.weights.exported import Exported

PHASES = ("preprocess", "inference", "postprocess")


def precision_of(args: Any, exported: Exported | None) -> str:
    """Return the number format of a validation, such as "fp32".

    Args:
        args: The validator's settings; releases of Ultralytics differ in how they name half precision.
        exported: The facts stored in an exported file; None for a checkpoint.
    """
    if exported:
        return exported.precision
    return "fp16" if getattr(args, "quantize", None) == 16 or getattr(args, "half", False) else "fp32"


def describe(
    result: Result | LabelResult, validator: Any, checkpoint: dict, weights: Path, spec: DatasetSpec
) -> Exported | None:
    """Add to a result what was validated, on which data, and the network's cost and speed.

    Args:
        result: Result of the validation, completed in place.
        validator: Validator that has run.
        checkpoint: Checkpoint as it was loaded.
        weights: Path of the checkpoint or exported file.
        spec: Definition of the dataset.

    Returns:
        The facts stored in an exported file; None for a checkpoint.
    """
    args, model = validator.args, model_of(checkpoint)
    trained = checkpoint.get("train_args", {})
    result.model = Path(str(trained.get("model") or weights)).stem
    result.weights, result.data, result.split = str(weights), str(spec.file), args.split
    result.speed_ms = {phase: round(validator.speed[phase], 3) for phase in PHASES}
    if isinstance(model, Exported):
        result.params, result.gflops = model.params, model.gflops
        return model
    fractions = validator.watch.fractions()
    result.params = count_parameters(model)
    result.gflops = round(count_gflops(model, args.imgsz, model.yaml.get("channels", 3), fractions), 3)
    result.active_fraction = mean_fraction(fractions)
    return None
