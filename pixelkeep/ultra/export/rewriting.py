"""``pixelkeep export --format safetensors | pt``: a checkpoint in another form, kept after it has been read back."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

from ultralytics.utils import LOGGER

from pixelkeep.errors import OptionError, WeightsError, choices, nearest
from pixelkeep.report.checkpoint import Rewritten
from pixelkeep.ultra.costs.measure import count_parameters
from pixelkeep.ultra.export.exporting import Request
from pixelkeep.ultra.running.runs import newest_weights, storage
from pixelkeep.ultra.weights.checkpoints import check_weights, load, model_of, write
from pixelkeep.ultra.weights.formats import CHECKPOINTS
from pixelkeep.ultra.weights.manifest import beside, listed, sha256_of
from pixelkeep.ultra.weights.migration import versions_in
from pixelkeep.ultra.weights.portable import PRECISIONS, provenance
from pixelkeep.ultra.weights.rebuilding import difference, tensors_of
from pixelkeep.writing import staged

OWN = "provenance"
KEPT = "kept"  # keep the precision that the weights have
TAKEN = ("weights", "format", "precision", "output")  # fields of the request that have an effect here
_TRAINING = ("model", "ema", "updates", "optimizer", "scaler", "stopper", "best_fitness", "git")
_NAMES = {"float64": "fp64", "float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


def serves(form: str) -> bool:
    """Return whether a format is one of checkpoints."""
    return form in CHECKPOINTS


def rewrite(request: Request) -> Rewritten:
    """Write a checkpoint in another form, and return a report on the file.

    Raises:
        OptionError: A value is not allowed, or an option has no effect here.
        WeightsError: The network cannot be stored in this form, or the weights cannot be used.
    """
    _check(request)
    weights = check_weights(request.weights or newest_weights())
    checkpoint = load(weights)
    target = _target(request, weights)
    left_out = _left_out(checkpoint)
    if left_out:
        LOGGER.info(f"Left out, as only resuming this training needs it: {choices(left_out)}")
    content = {key: value for key, value in checkpoint.items() if key not in _TRAINING}
    content |= {"model": model_of(checkpoint), "ema": None, "epoch": -1, OWN: provenance(checkpoint, weights)}
    with storage(target.parent), staged(target) as partial:
        write(content, partial, None if request.precision == KEPT else request.precision, weights)
        return _report(request, weights, target, partial, left_out)


def _check(request: Request) -> None:
    for field in fields(request):
        value = getattr(request, field.name)
        if field.name not in TAKEN and value != field.default and (value or field.default):
            name = field.name.removesuffix("s")  # the field is bounds, the option --bound
            raise OptionError(f"--{name} has no effect with --format {request.format}; leave it out")
    allowed = (KEPT, *PRECISIONS) if request.format == "safetensors" else (KEPT,)
    if request.precision not in allowed:
        hint = nearest(request.precision, allowed)
        raise OptionError(f"--precision {request.precision}: {request.format} takes {choices(allowed)}{hint}")


def _target(request: Request, weights: Path) -> Path:
    """Return the path of the file to write, refusing those that must not be overwritten."""
    suffix = f".{request.format}"
    path = Path(request.output).expanduser() if request.output else beside(weights)
    if path.suffix.lower() != suffix:
        if not path.is_dir():
            raise OptionError(f"--output {path}: give an existing folder, or a name that ends in {suffix}")
        path = path / f"{weights.stem}{suffix}"
    path = path.resolve()
    itself = path.exists() and path.samefile(weights)
    if itself or path.is_dir():
        what = "the weights themselves" if itself else "a folder"
        raise OptionError(f"--output: {path} is {what}; name another file")
    if listed(path):
        raise OptionError(f"--output: {path} is a published file; name another")
    if path.exists() and not request.output and request.format == "pt":  # the existing file may be what training wrote
        raise OptionError(f"{path} exists already; give --output, with this name or another")
    return path


def _left_out(checkpoint: dict[str, Any]) -> list[str]:
    """Return what is left out of a checkpoint because only a continued training needs it."""
    known = {"optimizer": "the optimizer's state", "scaler": "the gradient scaler's state"}
    left = [name for key, name in known.items() if checkpoint.get(key)]
    return left + (["the model beside its moving average"] if checkpoint.get("model") and checkpoint.get("ema") else [])


def _report(request: Request, weights: Path, target: Path, written: Path, left_out: list[str]) -> Rewritten:
    """Read the written file back, compare it with the original network, and return a report on it.

    Raises:
        WeightsError: The two networks differ.
    """
    source = model_of(load(weights))
    copy = model_of(load(written))
    if request.precision == KEPT and (changed := difference(source, copy)):
        raise WeightsError(f"weights '{weights}': {changed} differs in the written file, which has been removed")
    tensors = tensors_of(copy)
    types = Counter(str(value.dtype) for value in tensors.values() if value.is_floating_point())
    return Rewritten(
        model=Path(str(load(written).get("train_args", {}).get("model") or weights)).stem,
        task=copy.task,
        weights=str(weights),
        output=str(target),
        format=request.format,
        precision=", ".join(_NAMES[kind.removeprefix("torch.")] for kind, _ in types.most_common()),
        tensors=len(tensors),
        parameters=count_parameters(copy),
        blocks=versions_in(copy.yaml),
        megabytes=round(written.stat().st_size / 1e6, 3),
        sha256=sha256_of(written),
        left_out=left_out,
    )
