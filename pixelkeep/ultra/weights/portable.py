"""Checkpoints without pickle: tensors in a safetensors file, all else as JSON texts in its metadata.

Reading one builds the network anew from its YAML, by the same checks as a user's, and fills it with the tensors:
nothing in a file is executed. Writing one reads it back and compares: a network that its YAML does not give again, such
as a fused one, is refused. :mod:`pixelkeep.ultra.weights.migration` keeps files of older versions readable.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from pixelkeep import __version__
from pixelkeep.errors import ModelError, choices
from pixelkeep.ultra.network.fusing import FUSED, was_fused
from pixelkeep.ultra.weights.description import DIGEST, Description, digest
from pixelkeep.ultra.weights.integrity import Unusable, not_numbers
from pixelkeep.ultra.weights.manifest import sha256_of
from pixelkeep.ultra.weights.migration import check_versions, migrate, versions_in
from pixelkeep.ultra.weights.rebuilding import CLASSES, check_fit, difference, rebuild, tensors_of

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
NOTES = ("date", "version", "license", "docs")  # of Ultralytics'; its note of the git repository stays at home
OWN = ("provenance", "operating_point", "converted")  # ours, under the same keys in a checkpoint
_LONGEST_HEADER = 16 * 2**20  # bytes; those of the largest networks here take 0.3 million
_LARGEST = 4 * 2**30  # bytes
_LENGTH = 8  # bytes that a file begins with: the header's length
_TYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8},
    "BOOL": torch.bool,
}


def read(path: Path) -> dict[str, Any]:
    """Return a portable checkpoint in the form of Ultralytics' own.

    Args:
        path: The file.

    Raises:
        Unusable: It is damaged, foreign, or of a newer version, or the model in it cannot be built.
    """
    _require_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            texts, given = file.metadata() or {}, {name: _kind(file, name) for name in file.keys()}
            about = Description.of(texts)
            definition, renamed, sources = _renamed(about, list(given))
            about = replace(about, buffers=[renamed[name] for name in about.buffers])
            check_fit(definition, {renamed[name]: given[sources[name]] for name in renamed}, about)
            _check_layouts(about, given)
            stored = {name: file.get_tensor(name).clone() for name in given}  # not a view of the file
    except SafetensorError as error:
        raise Unusable(f"damaged or truncated: {str(error)[:160]}") from error
    except ModelError as error:
        raise Unusable(str(error)) from error
    if digest(texts, stored) != texts.get(DIGEST):
        raise Unusable("damaged: what it holds is not what was written into it")
    laid = {name: _laid_out(value, about.layouts.get(name)) for name, value in stored.items()}
    tensors = {renamed[name]: laid[sources[name]] for name in renamed}
    if problem := not_numbers(tensors):
        raise Unusable(problem)
    return _checkpoint(rebuild(definition, tensors, about), about)


def _renamed(about: Description, given: list[str]) -> tuple[dict, dict[str, str], dict[str, str]]:
    """Return the definition as it is to be built now, and for each tensor its name now, and under which it is kept.

    Raises:
        Unusable: The names contradict each other, or a block's version is not known here.
    """
    if about.task not in CLASSES:
        raise Unusable(f"damaged: it is for task '{about.task}'; kept are models for {choices(CLASSES)}")
    sources = {name: name for name in given} | about.shared
    if len(sources) < len(given) + len(about.shared) or not set(sources.values()) <= set(given):
        raise Unusable("damaged: it shares tensors that it does not have, or has them twice")
    versions = check_versions(about.blocks, about.model)
    definition, renamed = migrate(about.model, versions, sources)
    if len(set(renamed.values())) < len(renamed) or len(renamed.keys() & {*about.buffers}) < len(about.buffers):
        raise Unusable("damaged: two of its tensors have one name, or it has no buffers of the names that it gives")
    return definition, renamed, sources


def _require_header(path: Path) -> None:
    """Refuse what is no safetensors file, or one of absurd size, by its first bytes.

    Raises:
        Unusable: It is.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        begin = file.read(_LENGTH + 1)
    length = int.from_bytes(begin[:_LENGTH], "little")
    if len(begin) <= _LENGTH or begin[_LENGTH:] != b"{" or length > size - _LENGTH:
        raise Unusable("damaged, truncated or not a safetensors file at all")
    if length > _LONGEST_HEADER or size > _LARGEST:
        what = f"a header of {length} bytes" if length > _LONGEST_HEADER else f"{size} bytes"
        raise Unusable(f"{what}, as no network has; refused without reading it")


def _kind(file: Any, name: str) -> tuple[torch.dtype, list[int]]:
    """Return type and shape of a tensor that is not read yet."""
    part = file.get_slice(name)
    if part.get_dtype() not in _TYPES:
        raise Unusable(f"tensor {name} is of type {part.get_dtype()}, which no network here has")
    return _TYPES[part.get_dtype()], part.get_shape()


def _checkpoint(network: nn.Module, about: Description) -> dict[str, Any]:
    """Return what Ultralytics writes when training is over."""
    own = {key: value for key in OWN if (value := getattr(about, key))}
    ended = dict.fromkeys(("best_fitness", "ema", "updates", "optimizer", "scaler"))
    trained = {"train_args": about.training, "train_metrics": about.metrics, "train_results": about.results}
    return {**about.notes, "epoch": -1, **ended, "model": network, **trained, **own}


def write(checkpoint: dict[str, Any], path: Path, precision: str | None = None) -> None:
    """Write a checkpoint in this form, and read it back.

    Args:
        checkpoint: As Ultralytics writes them; its moving average is kept, where it has one.
        path: The file.
        precision: One of `PRECISIONS` for its floating-point numbers; None for as they are.

    Raises:
        Unusable: Its network cannot be kept in this form.
    """
    network = _network(checkpoint, precision)
    every = tensors_of(network)
    tensors, shared = _unshared(every)
    if problem := not_numbers(tensors):
        raise Unusable(problem)
    trained = {"training": "train_args", "metrics": "train_metrics", "results": "train_results"}
    about = Description(
        model=network.yaml,
        names=network.names,
        task=network.task,
        blocks=versions_in(network.yaml),
        channels=network.yaml.get("channels", 3),
        stride=network.stride.float().tolist(),
        shared=shared,
        layouts={name: order for name in tensors if (order := _order(every[name]))},
        buffers=[name for name in (*tensors, *shared) if name not in network.state_dict()],
        notes={key: checkpoint[key] for key in NOTES if key in checkpoint},
        **{name: checkpoint.get(key) or {} for name, key in trained.items()},
        **{"provenance": provenance(checkpoint)} | {key: checkpoint[key] for key in OWN if checkpoint.get(key)},
    )
    texts = about.texts()
    path.write_bytes(save(tensors, {**texts, DIGEST: digest(texts, tensors)}))
    changed = difference(network, read(path)["model"])
    if changed is not None:
        raise Unusable(f"its network is not what its YAML gives: {changed} differs; was it changed after it was built?")


def _network(checkpoint: dict[str, Any], precision: str | None) -> nn.Module:
    """Return the network of a checkpoint, on the CPU and in a precision, if it can be kept."""
    network = checkpoint.get("model") if checkpoint.get("ema") is None else checkpoint["ema"]
    if type(network) is not CLASSES.get(network.task):
        raise Unusable(f"a {type(network).__name__} for task '{network.task}'; kept are models for {choices(CLASSES)}")
    if checkpoint.get("modelopt"):
        raise Unusable("trained for int8, whose ranges have no portable form; give the checkpoint it was trained from")
    if was_fused(network):
        raise Unusable(FUSED)
    network = deepcopy(network).cpu()
    if precision is None:
        return network
    before = network.state_dict()
    cast = deepcopy(network).to(PRECISIONS[precision])
    for name, value in cast.state_dict().items():
        if bool((torch.isinf(value) & ~torch.isinf(before[name])).any()):
            raise Unusable(f"tensor {name} is too large for {precision}; keep it as it is")
    return cast


def _unshared(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return each tensor once and whole, and for every other name of it the first one."""
    first: dict[tuple, str] = {}
    once, shared = {}, {}
    for name, value in tensors.items():
        place = (value.data_ptr(), value.dtype, value.shape, value.stride()) if value.numel() else (name,)
        if first.setdefault(place, name) == name:
            once[name] = value.contiguous().clone(memory_format=torch.contiguous_format)
        else:
            shared[name] = first[place]
    return once, shared


def _order(value: Tensor) -> list[int] | None:
    """Return a tensor's dimensions from the outermost in memory to the innermost; None where that is their order."""
    order = sorted(range(value.ndim), key=lambda d: (-value.stride(d), d))
    return None if value.is_contiguous() or not value.permute(order).is_contiguous() else order


def _laid_out(value: Tensor, order: list[int] | None) -> Tensor:
    """Return a tensor with its dimensions in an order in memory."""
    if order is None:
        return value
    return value.permute(order).contiguous().permute([order.index(d) for d in range(value.ndim)])


def _check_layouts(about: Description, given: dict[str, tuple[torch.dtype, list[int]]]) -> None:
    """Refuse orders that are none.

    Raises:
        Unusable: There is one.
    """
    for name, order in about.layouts.items():
        right = name in given and isinstance(order, list) and all(type(d) is int for d in order)
        if not right or sorted(order) != list(range(len(given[name][1]))):
            raise Unusable(f"damaged: the layout of tensor {name} is no order of its dimensions")


def provenance(checkpoint: dict[str, Any], parent: Path | None = None) -> dict[str, Any]:
    """Return where a file that is to be written comes from: what writes it, from which file, trained on which data."""
    import ultralytics

    data = checkpoint.get("train_args", {}).get("data")
    return {
        "pixelkeep": __version__,
        "ultralytics": ultralytics.__version__,
        "torch": str(torch.__version__),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "data": Path(str(data)).stem if data else None,
        "parent": parent and {"file": parent.name, "sha256": sha256_of(parent)},
    }
