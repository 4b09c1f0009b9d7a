"""Exported files in place of weights: their descriptions, read without running or importing anything.

Ultralytics writes a description into each file (class names, image size, task ...). `pixelkeep export` adds everything
else that a validation reports and a detection needs, as one JSON text under a key of its own. Descriptions are data:
JSON, YAML or Python literals, never code.
"""

from __future__ import annotations

import ast
import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ultralytics.nn.backends.base import BaseBackend

from pixelkeep.errors import OptionError, WeightsError, choices
from pixelkeep.ultra.weights.formats import FORMATS, format_of, require_packages
from pixelkeep.ultra.weights.integrity import MOST_CHANNELS, Unusable, is_size, is_stretch

KEY = "pixelkeep"
_TASKS = ("detect", "obb", "classify", "semantic")
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
_COMPUTED = {("openvino", "fp16"): "fp32, weights in fp16"}  # others compute in the stored precision, or are told to
_BOXES = ("detect", "obb")  # tasks whose networks accept images that are not square
# TorchScript runs no Python, but it has operators that read and write files.
_FILES = re.compile(rb"\btorch\.(save|load|from_file)\b|\bops\.(?!prim\b|torchvision\b|aten\b|quantized\b)")


@dataclass(frozen=True, kw_only=True)
class Exported:
    """Description of an exported file, with those attributes of a network that detect and val use.

    Attributes:
        format: Name of the format in :data:`pixelkeep.ultra.weights.formats.FORMATS`.
        precision: Number format that the runtime computes in, and that of the weights if it is a different one.
        imgsz: Height and width in pixels of the images that the file takes.
        batch: Number of images that it takes at once.
        dynamic: Whether it also takes images of other sizes, and any number of them.
        end2end: Whether it outputs final detections, and not predictions for every anchor point.
        names: Class names by number.
        yaml: ``channels`` and ``stretch`` of the images, and the ``tile`` that the network was trained in, if any.
        stride: Stride in pixels of the deepest feature map, in a list, as networks have it.
        folded: Whether SpaceToDepth is folded into the convolution after it; None if unknown.
        params, gflops: Parameters and GFLOPs of the network that was exported; None if unknown.
        folding: How the places to fold were chosen; None if unknown.
        task: Ultralytics' name of the task.
        training: Training settings of the network.
    """

    format: str
    precision: str
    imgsz: tuple[int, int]
    batch: int
    dynamic: bool = False
    end2end: bool = False
    names: dict[int, str]
    yaml: dict[str, Any]
    stride: list[int]
    folded: bool | None = None
    params: int | None = None
    gflops: float | None = None
    folding: dict[str, Any] | None = None
    task: str = "detect"
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int | list[int]:
        """Image size in the form that settings use: a side, or height and width, in pixels."""
        height, width = self.imgsz
        return height if height == width else [height, width]

    def fit(self, settings: dict, path: Path, *, tiled: bool = False) -> None:
        """Complete the settings of detect and val with the image size and batch that the file takes.

        Args:
            settings: Settings of the command, changed in place.
            path: The exported file, for messages.
            tiled: Whether images are to be cut into tiles.

        Raises:
            OptionError: The settings ask for something that the file cannot do.
        """
        if settings.get("half") or settings.get("quantize") is not None:
            raise OptionError(
                f"--half: '{path}' is in {self.precision}, as it was exported; export another with --precision fp16"
            )
        if settings.get("augment"):
            raise OptionError(f"augment: has no effect on '{path}', an exported file; give the checkpoint")
        if self.dynamic:
            if self.task in _BOXES and not tiled:
                settings.setdefault("imgsz", self.size)
            return
        if tiled and self.imgsz[0] != self.imgsz[1]:
            raise OptionError(f"--tile: tiles are square, but '{path}' takes only {self.size}; give the checkpoint")
        for key, own in (("imgsz", self.size), ("batch", self.batch)):
            given = settings.get(key)
            if given not in (None, own, [own, own]) and [given, given] != own:
                raise OptionError(f"{key} {given}: '{path}' takes only {own}; leave --{key} out, or export another")
            settings[key] = own
        if self.task in _BOXES:
            settings["rect"] = False


def read_exported(path: Path) -> dict[str, Any]:
    """Return an exported file's description in the form of a checkpoint: ``model``, ``train_args`` and the rest.

    Raises:
        WeightsError: The file is damaged, is not an export of pixelkeep or Ultralytics, or is for an unsupported task.
        OptionError: A package that the format needs is not installed.
    """
    form = format_of(path)
    if form is None:
        raise WeightsError(f"weights '{path}': not an export of a known format ({', '.join(FORMATS)})")
    _refuse(path, form)
    found = BaseBackend.read_metadata(path)
    try:
        model, own = _describe(found, form)
    except Unusable as error:
        raise WeightsError(f"weights '{path}': {error}") from error
    except (KeyError, TypeError, ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise WeightsError(
            f"weights '{path}': truncated, or not an export of pixelkeep or Ultralytics: it does not say what it is"
        ) from error
    if model.task not in _TASKS:
        raise WeightsError(f"weights '{path}': an export for task '{model.task}', not one of {choices(_TASKS)}")
    require_packages(form)
    kept = {key: own[key] for key in ("operating_point",) if key in own}
    return {"model": model, "train_args": model.training | {"imgsz": model.size}, **kept}


def _refuse(path: Path, form: str) -> None:
    """Refuse files that are visibly incomplete, and TorchScript code that reads or writes other files."""
    if path.is_file() and not path.stat().st_size:
        raise WeightsError(f"weights '{path}': the file is empty")
    if form != "torchscript":
        return
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            code = [archive.read(name) for name in archive.namelist() if "/code/" in name and name.endswith(".py")]
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError) as error:
        raise WeightsError(f"weights '{path}': damaged, truncated or not TorchScript at all") from error
    if damaged is not None:
        raise WeightsError(f"weights '{path}': damaged in {damaged}")
    if any(_FILES.search(text) for text in code):
        raise WeightsError(f"weights '{path}': refused without executing it: it uses files, as no model does")


def _describe(found: dict, form: str) -> tuple[Exported, dict]:
    """Return the parsed description, and the part of it that pixelkeep wrote.

    Raises:
        Unusable: A value is of the wrong kind.
    """
    said = {key: _literal(value) if key in _LITERALS else value for key, value in found.items()}
    own, arguments = json.loads(said.get(KEY, "{}")), said.get("args") or {}
    held = {"end2end": False, "batch": 1, "channels": 3} | {key: said[key] for key in _SAID if key in said}
    held |= {"args": arguments, "own": own, **{key: said[key] for key in ("task", "imgsz", "names", "stride")}}
    held |= {key: _number(held[key]) for key in ("batch", "channels", "stride")}
    _check(held, _KINDS)
    _check(own, _OWN_KINDS)
    bits = arguments.get("quantize") or (16 if arguments.get("half") else 8 if arguments.get("int8") else 32)
    precision = own.get("precision", {16: "fp16", 8: "int8"}.get(bits, "fp32"))
    height, width = held["imgsz"]
    model = Exported(
        format=form,
        precision=_COMPUTED.get((form, precision), precision),
        imgsz=(height, width),
        batch=held["batch"],
        dynamic=bool(arguments.get("dynamic", False)),
        end2end=bool(held["end2end"] or arguments.get("nms", False)),
        names={int(number): str(name) for number, name in held["names"].items()},
        yaml={"channels": held["channels"], "stretch": own.get("stretch"), "tile": own.get("tile")},
        stride=[held["stride"]],
        folded=own.get("folded"),
        params=own.get("params"),
        gflops=own.get("gflops"),
        folding=own.get("folding"),
        task=held["task"],
        training=dict(own.get("training", {})),
    )
    return model, own


def _check(held: dict[str, Any], kinds: dict[str, tuple[Callable[[Any], bool], str]]) -> None:
    """Refuse values that are not of the kind that their key requires.

    Raises:
        Unusable: A value is of the wrong kind.
    """
    for key, (right, wanted) in kinds.items():
        if key in held and not right(held[key]):
            raise Unusable(f"damaged: its description has {str(held[key])[:40]!r} as '{key}', not {wanted}")


def _is_names(value: object) -> bool:
    """Return whether a value is a mapping of class numbers, which some formats write as strings, to class names."""
    if not isinstance(value, dict) or not all(isinstance(name, (str, int, float)) for name in value.values()):
        return False
    numbers = [int(key) if str(key).isdecimal() else -1 for key in value]
    return sorted(numbers) == list(range(len(value))) and bool(value)


def _is_count(value: object) -> bool:
    return type(value) is int and value > 0


def _is_plain(value: object) -> bool:
    """Return whether a value is None, or a mapping whose values are strings, numbers or None."""
    return value is None or (
        isinstance(value, dict) and all(isinstance(part, (str, int, float, type(None))) for part in value.values())
    )


_KINDS = {
    "task": (lambda value: isinstance(value, str), "a task"),
    "imgsz": (lambda value: is_size(value) and isinstance(value, (list, tuple)) and len(value) == 2, "two sides"),
    "names": (_is_names, "class names by number"),
    "stride": (_is_count, "a number of pixels"),
    "batch": (_is_count, "a number of images"),
    "channels": (lambda value: _is_count(value) and value <= MOST_CHANNELS, "a number of channels"),
    "end2end": (lambda value: isinstance(value, bool), "True or False"),
    "args": (lambda value: isinstance(value, dict), "settings by name"),
    "own": (lambda value: isinstance(value, dict), "facts by name"),
}
_OWN_KINDS = {
    "precision": (lambda value: value in PRECISIONS, f"one of {choices(PRECISIONS)}"),
    "tile": (lambda value: value is None or _is_count(value), "a number of pixels"),
    "stretch": (is_stretch, "two percentiles"),
    "folded": (lambda value: isinstance(value, bool), "true or false"),
    "folding": (_is_plain, "texts by name"),
    "training": (_is_plain, "settings by name"),
    "params": (_is_count, "a number"),
    "gflops": (lambda value: type(value) in (int, float), "a number"),
}
_SAID = ("batch", "channels", "end2end")  # keys that files may leave out
_LITERALS = ("imgsz", "names", "args", "end2end")  # keys whose values some formats write as Python literals


def _number(value: object) -> object:
    """Return the number that a string of digits stands for, or any other value itself."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _literal(value: object) -> Any:
    return ast.literal_eval(value) if isinstance(value, str) else value
