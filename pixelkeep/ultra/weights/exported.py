"""Exported files in place of weights: what they say of themselves, read without running or importing anything.

Ultralytics writes a description into each file (class names, image size, task ...); `pixelkeep export` adds what else
a validation reports and a detection needs, as one JSON text under a key of its own. Descriptions are data: JSON, YAML
or Python literals, never code.
"""

from __future__ import annotations

import ast
import json
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ultralytics.nn.backends.base import BaseBackend

from pixelkeep.errors import OptionError, WeightsError, choices
from pixelkeep.ultra.weights.formats import FORMATS, format_of, require_packages

KEY = "pixelkeep"
_TASKS = ("detect", "obb", "classify", "semantic")
_BOXES = ("detect", "obb")  # tasks whose networks take images that are not square
# TorchScript runs no Python, but it has operators that read and write files.
_FILES = re.compile(rb"\btorch\.(save|load|from_file)\b|\bops\.(?!prim\b|torchvision\b|aten\b|quantized\b)")


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an exported file is, with those attributes of a network that detect and val ask for.

    Attributes:
        format: One of :data:`pixelkeep.ultra.weights.formats.FORMATS`.
        precision: The number format that it computes in.
        imgsz: Height and width in pixels of the images that it takes.
        batch: How many of them at once.
        dynamic: Whether it takes images of other sizes too, and any number of them.
        names: Classes by number.
        yaml: ``channels`` and ``stretch`` of the images, and the ``tile`` that the network was trained in, if any.
        stride: That of the deepest map, in a list, as networks have it.
        folded: Whether SpaceToDepth and the convolution after it are one; None if unknown, as are the next two.
        params, gflops: Of the network that was exported.
        folding: How it was chosen what is folded.
    """

    format: str
    precision: str
    imgsz: tuple[int, int]
    batch: int
    dynamic: bool = False
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
        """The image size as settings have it: a side, or height and width."""
        height, width = self.imgsz
        return height if height == width else [height, width]

    def fit(self, settings: dict, path: Path, *, tiled: bool = False) -> None:
        """Complete the settings of detect and val by what the file takes.

        Args:
            settings: Of the command, changed in place.
            path: The file.
            tiled: Whether images are to be cut into tiles.

        Raises:
            OptionError: Something else is asked for.
        """
        if settings.get("half") or settings.get("quantize") is not None:
            raise OptionError(f"--half: '{path}' computes in {self.precision}; export another with --precision fp16")
        if settings.get("augment"):
            raise OptionError(f"augment: has no effect on '{path}', an exported file; give the checkpoint")
        if self.dynamic:
            if self.task in _BOXES and not tiled:
                settings.setdefault("imgsz", self.size)
            return
        if tiled and self.imgsz[0] != self.imgsz[1]:
            raise OptionError(f"--tile: tiles are square, and '{path}' takes {self.size} alone; give the checkpoint")
        for key, own in (("imgsz", self.size), ("batch", self.batch)):
            given = settings.get(key)
            if given not in (None, own) and [given, given] != own:
                raise OptionError(f"{key} {given}: '{path}' takes {own} alone; leave --{key} out, or export another")
            settings[key] = own
        if self.task in _BOXES:
            settings["rect"] = False


def read_exported(path: Path) -> dict[str, Any]:
    """Return what an exported file says of itself in the form of a checkpoint: ``model``, ``train_args`` and the rest.

    Raises:
        WeightsError: It is damaged, foreign, or for another task.
        OptionError: What it needs is not installed.
    """
    form = format_of(path)
    if form is None:
        raise WeightsError(f"weights '{path}': not an export that is known here ({', '.join(FORMATS)})")
    _refuse(path, form)
    found = BaseBackend.read_metadata(path)
    try:
        model, own = _describe(found, form)
    except (KeyError, TypeError, ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise WeightsError(
            f"weights '{path}': truncated, or not an export of pixelkeep or Ultralytics: it does not say what it is"
        ) from error
    if model.task not in _TASKS:
        raise WeightsError(f"weights '{path}': an export for task '{model.task}', which is none of {choices(_TASKS)}")
    require_packages(form)
    kept = {key: own[key] for key in ("operating_point",) if key in own}
    return {"model": model, "train_args": model.training | {"imgsz": model.size}, **kept}


def _refuse(path: Path, form: str) -> None:
    """Refuse files that are not whole, as far as that shows, and TorchScript that reaches for other files."""
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
    """Return what a description says, and our own part of it."""
    said = {key: _literal(value) if key in ("imgsz", "names", "args") else value for key, value in found.items()}
    own = json.loads(said.get(KEY, "{}"))
    height, width = (int(side) for side in said["imgsz"])
    names = {int(number): str(name) for number, name in said["names"].items()}
    if not (isinstance(own, dict) and height > 0 and width > 0 and sorted(names) == list(range(len(names)))):
        raise ValueError("not a description")
    arguments = said.get("args") or {}
    bits = arguments.get("quantize") or (16 if arguments.get("half") else 8 if arguments.get("int8") else 32)
    model = Exported(
        format=form,
        precision=str(own.get("precision", {16: "fp16", 8: "int8"}.get(bits, "fp32"))),
        imgsz=(height, width),
        batch=int(said.get("batch", 1)),
        dynamic=bool(arguments.get("dynamic", False)),
        names=names,
        yaml={"channels": int(said.get("channels", 3)), "stretch": own.get("stretch"), "tile": own.get("tile")},
        stride=[int(said["stride"])],
        folded=own.get("folded"),
        params=own.get("params"),
        gflops=own.get("gflops"),
        folding=own.get("folding"),
        task=str(said["task"]),
        training=dict(own.get("training", {})),
    )
    return model, own


def _literal(value: object) -> Any:
    return ast.literal_eval(value) if isinstance(value, str) else value
