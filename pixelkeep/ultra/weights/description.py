"""The description of a portable checkpoint's network: JSON texts in a safetensors file's metadata, read with mistrust.

Each field of :class:`Description` is stored as a text under its own name. The metadata also holds the version of this
format and, as ``digest``, the SHA-256 of all texts and tensors.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from pixelkeep.errors import ModelError
from pixelkeep.ultra.weights.building import require_rows
from pixelkeep.ultra.weights.integrity import MOST_CHANNELS, Unusable, yaml_problem

VERSION_KEY, VERSION = "pixelkeep_format", 1
DIGEST = "digest"


@dataclass(frozen=True, kw_only=True)
class Description:
    """The description of the network in a file.

    Attributes:
        model: YAML definition that the network is built from, with scale and classes.
        names: Class names by number.
        task: Ultralytics' name of the task.
        blocks: Version of each registered block in the YAML.
        channels: Number of image channels.
        stride: Stride in pixels of each feature map that the network detects on.
        training: Training settings.
        metrics: Metrics of the epoch that was kept.
        results: Metrics of every epoch, by column of results.csv.
        notes: Fields that Ultralytics adds: date, version, licence.
        provenance: Software versions, date, and the file and data that the checkpoint comes from.
        operating_point: Confidence thresholds: see :mod:`pixelkeep.ultra.weights.confidence`.
        converted: Record of a conversion: see :mod:`pixelkeep.ultra.conversion.models`.
        shared: For each tensor name that shares another tensor, the name under which that tensor is stored.
        buffers: Names of the tensors that are not in the network's state dict.
        layouts: Order of dimensions from the outermost in memory to the innermost, for tensors that are not contiguous:
            the order decides how sums are rounded.
    """

    model: dict
    names: dict[int, str]
    task: str
    blocks: dict[str, int]
    channels: int
    stride: list[float]
    training: dict = field(default_factory=dict)
    metrics: dict = field(default_factory=dict)
    results: dict = field(default_factory=dict)
    notes: dict = field(default_factory=dict)
    provenance: dict = field(default_factory=dict)
    operating_point: dict = field(default_factory=dict)
    converted: dict = field(default_factory=dict)
    shared: dict[str, str] = field(default_factory=dict)
    buffers: list[str] = field(default_factory=list)
    layouts: dict[str, list[int]] = field(default_factory=dict)

    def texts(self) -> dict[str, str]:
        """Return the metadata, without the digest."""
        held = {key: json.dumps(plain(value), ensure_ascii=False) for key, value in asdict(self).items()}
        return {"format": "pt", VERSION_KEY: str(VERSION), **held}  # by convention, "pt" marks tensors of PyTorch

    @classmethod
    def of(cls, texts: Mapping[str, str]) -> Description:
        """Read the metadata of a file; optional fields that an older file does not have take their defaults.

        Raises:
            Unusable: The metadata is damaged, or was not written by pixelkeep.
        """
        _require_format(texts)
        try:
            needed = {item.name for item in fields(cls) if item.default is item.default_factory is MISSING}
            given = needed | ({item.name for item in fields(cls)} & texts.keys())
            held = {name: json.loads(texts[name], parse_constant=_refuse) for name in given}
            held["names"] = {int(number): name for number, name in held["names"].items()}
        except (KeyError, ValueError, AttributeError, RecursionError) as error:
            raise Unusable(f"damaged: its metadata cannot be read ({_short(error)})") from error
        description = cls(**held)
        if problem := description._problem():
            raise Unusable(f"damaged: {problem}")
        return description

    def _problem(self) -> str | None:
        """Return what is wrong with the values of the fields, or None."""
        for key, value in vars(self).items():
            if not isinstance(value, _KINDS.get(key, dict)):
                return f"its '{key}' is of the wrong kind"
        try:
            rows = require_rows(self.model, "inside")
        except ModelError as error:
            return str(error)
        if not all(len(row) == 4 and isinstance(row[2], str) for row in rows["backbone"] + rows["head"]):
            return "a row of its model is not [from, repeats, module, arguments]"
        if sorted(self.names) != list(range(len(self.names))) or self.model.get("nc") != len(self.names):
            return f"it has {len(self.names)} class names, but its model has {self.model.get('nc')!r} classes"
        known = type(self.channels) is int and self.channels == self.model.get("channels", 3)
        if not known or not 1 <= self.channels <= MOST_CHANNELS:
            return f"it is for images of {self.channels!r} channels"
        if problem := yaml_problem(self.model):
            return problem
        if not all(isinstance(name, str) for name in (*self.names.values(), *self.shared.values(), *self.buffers)):
            return "a name in it is not text"
        return None


_KINDS = {"task": str, "channels": int, "stride": list, "buffers": list}  # all other fields are mappings


def digest(texts: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of metadata and tensors, independent of their order in a file."""
    total = hashlib.sha256()
    for key in sorted(texts.keys() - {DIGEST}):
        total.update(json.dumps([key, texts[key]]).encode())
    for name, tensor in sorted(tensors.items()):
        total.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        total.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: paths and other unknown types as strings, non-finite numbers as None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # arrays and scalars of NumPy and PyTorch
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (int, str)) else str(value)


def _require_format(texts: Mapping[str, str]) -> None:
    version = texts.get(VERSION_KEY)
    if version is None:
        raise Unusable(
            "it does not say which network its tensors belong to; 'pixelkeep export --format safetensors' writes files "
            "that do"
        )
    if not version.isdecimal() or not 1 <= len(version) <= 6 or not int(version):
        raise Unusable(f"damaged: it is of format {version[:20]!r}")
    if int(version) > VERSION:
        raise Unusable(f"of format {version}, but this pixelkeep knows {VERSION}; update it: pip install -U pixelkeep")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number")


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
