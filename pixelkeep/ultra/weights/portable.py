"""Checkpoints without pickle: tensors in a safetensors file, everything else as JSON texts in its metadata.

Reading such a file builds the network anew from its YAML, with the same checks as for a user's YAML, and fills it with
the tensors; nothing in the file is executed. Writing reads the file back and compares. A network that its YAML does not
reproduce, such as a fused one, is refused. :mod:`pixelkeep.ultra.weights.migration` keeps older files readable.
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
NOTES = ("date", "version", "license", "docs")  # fields kept from Ultralytics; its field on the git repository is not
OWN = ("provenance", "operating_point", "converted")  # pixelkeep's own fields, under the same keys in a checkpoint
_LONGEST_HEADER = 16 * 2**20  # bytes; the largest networks here need 0.3 million
_LARGEST = 4 * 2**30  # largest file in bytes
_LENGTH = 8  # how many bytes at the beginning of a file hold the length of the header
_TYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8},
    "BOOL": torch.bool,
}


def read(path: Path) -> dict[str, Any]:
    """Return the content of a portable checkpoint in the form of Ultralytics' own checkpoints.

    Args:
        path: The file to read.

    Raises:
        Unusable: The file is damaged, foreign or of a newer version, or the model in it cannot be built.
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
            stored = {name: file.get_tensor(name).clone() for name in given}  # a view would need the file
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
    """Migrate the definition and the tensor names of a file to the versions of the registered blocks.

    Returns:
        The migrated definition, the present name of each tensor, and the name under which each tensor is stored; both
        mappings are keyed by the tensor names of the file.

    Raises:
        Unusable: The names contradict each other, or a block's version is not known here.
    """
    if about.task not in CLASSES:
        raise Unusable(f"damaged: it is for task '{about.task}'; only models for {choices(CLASSES)} can be stored")
    sources = {name: name for name in given} | about.shared
    if len(sources) < len(given) + len(about.shared) or not set(sources.values()) <= set(given):
        raise Unusable("damaged: it shares tensors that it does not have, or has them twice")
    versions = check_versions(about.blocks, about.model)
    definition, renamed = migrate(about.model, versions, sources)
    if len(set(renamed.values())) < len(renamed) or len(renamed.keys() & {*about.buffers}) < len(about.buffers):
        raise Unusable("damaged: two of its tensors have the same name, or it lacks buffers that it lists")
    return definition, renamed, sources


def _require_header(path: Path) -> None:
    """Refuse a file that is not a safetensors file, or is of absurd size, by its first bytes.

    Raises:
        Unusable: The file is refused.
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
    """Return the type and shape of a tensor without reading its values."""
    part = file.get_slice(name)
    if part.get_dtype() not in _TYPES:
        raise Unusable(f"tensor {name} is of type {part.get_dtype()}, which no network here has")
    return _TYPES[part.get_dtype()], part.get_shape()


def _checkpoint(network: nn.Module, about: Description) -> dict[str, Any]:
    """Return a checkpoint like the one that Ultralytics writes at the end of training."""
    own = {key: value for key in OWN if (value := getattr(about, key))}
    ended = dict.fromkeys(("best_fitness", "ema", "updates", "optimizer", "scaler"))
    trained = {"train_args": about.training, "train_metrics": about.metrics, "train_results": about.results}
    return {**about.notes, "epoch": -1, **ended, "model": network, **trained, **own}


def write(checkpoint: dict[str, Any], path: Path, precision: str | None = None) -> None:
    """Write a portable checkpoint, and read it back to compare.

    Args:
        checkpoint: A checkpoint as Ultralytics writes them; its moving average (EMA) is written if it has one.
        path: The file to write.
        precision: Precision of floating-point numbers, one of `PRECISIONS`; None leaves them as they are.

    Raises:
        Unusable: The network cannot be stored in this form.
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
        raise Unusable(f"its network is not what its YAML describes: {changed} differs; was it changed after building?")


def _network(checkpoint: dict[str, Any], precision: str | None) -> nn.Module:
    """Return a copy of a checkpoint's network on the CPU, in the given precision.

    Raises:
        Unusable: The network cannot be stored in this form or precision.
    """
    network = checkpoint.get("model") if checkpoint.get("ema") is None else checkpoint["ema"]
    if type(network) is not CLASSES.get(network.task):
        raise Unusable(
            f"a {type(network).__name__} for task '{network.task}'; only models for {choices(CLASSES)} can be stored"
        )
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
            raise Unusable(f"tensor {name} has values too large for {precision}; keep it as it is")
    return cast


def _unshared(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return each tensor once, contiguous, under its first name; and for each further name of a tensor, the first."""
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
    """Return a tensor's dimensions from the outermost in memory to the innermost; None if it is contiguous.

    Tensors that are not contiguous in any order of their dimensions give None as well.
    """
    order = sorted(range(value.ndim), key=lambda d: (-value.stride(d), d))
    return None if value.is_contiguous() or not value.permute(order).is_contiguous() else order


def _laid_out(value: Tensor, order: list[int] | None) -> Tensor:
    """Return a tensor with its dimensions laid out in memory in the given order, outermost first."""
    if order is None:
        return value
    return value.permute(order).contiguous().permute([order.index(d) for d in range(value.ndim)])


def _check_layouts(about: Description, given: dict[str, tuple[torch.dtype, list[int]]]) -> None:
    """Check that the layouts are orders of the dimensions of stored tensors.

    Raises:
        Unusable: A layout is not.
    """
    for name, order in about.layouts.items():
        right = name in given and isinstance(order, list) and all(type(d) is int for d in order)
        if not right or sorted(order) != list(range(len(given[name][1]))):
            raise Unusable(f"damaged: the layout of tensor {name} is not an order of its dimensions")


def provenance(checkpoint: dict[str, Any], parent: Path | None = None) -> dict[str, Any]:
    """Return the provenance of a file to be written: software versions, date, training data and parent file.

    Args:
        checkpoint: The checkpoint that is written.
        parent: The file that it is made from, if any.
    """
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
