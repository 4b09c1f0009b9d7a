"""Weights files: checked before use, and refused with one line, without ever executing what they carry."""

from __future__ import annotations

import contextlib
import logging
import os
import pickletools
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pixelkeep.errors import WeightsError, nearest

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # opens files of PyTorch before 1.6
_MODEL_MODULES = ("torch.", "ultralytics.", "pixelkeep.", "collections.", "numpy.", "pathlib.", "__builtin__.set")
_YOLOV5_MODULES = ("models.", "utils.")  # top-level packages of the original YOLOv5 repository


def check_weights(name: str | Path) -> Path:
    """Return the path of a weights file that loads without executing code.

    Raises:
        WeightsError: It is missing, empty, damaged, no checkpoint of Ultralytics or ours, made by the original
            YOLOv5, or it carries code.
    """
    path = Path(os.path.expanduser(name))  # pathlib's own fails on an unknown user
    if not path.is_file():
        folder = path.parent if path.parent.is_dir() else Path()
        hint = nearest(path.name, [p.name for p in folder.glob("*.pt")])
        raise WeightsError(f"weights '{name}' not found{hint}; give a .pt file such as runs/train/exp/weights/best.pt")
    if path.suffix.lower() != ".pt":
        raise WeightsError(f"weights '{name}': a '{path.suffix}' file; give a PyTorch checkpoint (.pt)")
    load(path)
    return path.resolve()


def load(path: Path) -> dict[str, Any]:
    """Load a checkpoint without executing code.

    Raises:
        WeightsError: As in :func:`check_weights`.
    """
    from ultralytics.nn.tasks import BaseModel, guess_model_task, torch_safe_load

    _require_restricted_loading()
    if path.stat().st_size == 0:
        raise WeightsError(f"weights '{path}': the file is empty")
    try:
        with _silence():
            checkpoint, _ = torch_safe_load(path, safe_only=True)
    except Exception as error:  # a damaged or hostile file can fail in any way
        raise WeightsError(f"weights '{path}': {_reason(path, error)}") from error
    model = checkpoint.get("model") if checkpoint.get("ema") is None else checkpoint["ema"]
    if not isinstance(model, BaseModel) or not isinstance(checkpoint.get("train_args", {}), dict):
        raise WeightsError(f"weights '{path}': no model inside; not a checkpoint of Ultralytics or pixelkeep")
    model.task = getattr(model, "task", None) or guess_model_task(model)  # only Ultralytics' YOLO class writes it
    return checkpoint


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the loader from talking: what is wrong with a file is said in one line of our own."""
    from ultralytics.utils import LOGGER

    level = LOGGER.level
    LOGGER.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        LOGGER.setLevel(level)


def _require_restricted_loading() -> None:
    """Refuse to go on with a release of Ultralytics whose ``safe_only`` still lets a checkpoint call ``eval``."""
    import ultralytics
    from ultralytics.nn import tasks

    if not getattr(getattr(tasks, "_SafeLoad", None), "SUPPORTED", False):
        raise WeightsError(
            f"Ultralytics {ultralytics.__version__} cannot load weights without executing what they carry; "
            "update it: pip install --upgrade ultralytics"
        )


def _reason(path: Path, error: Exception) -> str:
    """Say why a file does not load."""
    foreign = _foreign_names(path, error)
    if any(name.startswith(_YOLOV5_MODULES) for name in foreign):
        return (
            "made by the original YOLOv5 repository, whose networks differ from Ultralytics' (anchors); train again, "
            "or start from an Ultralytics checkpoint such as yolov5su.pt"
        )
    if foreign and all(name.startswith("ultralytics.") for name in foreign):
        return f"made with another release of Ultralytics: this one has no {', '.join(sorted(foreign)[:3])}"
    if foreign:
        return (
            f"refused without executing it: it refers to {', '.join(sorted(foreign)[:3])}, which is no part of a "
            "model; if it is a block of yours, import and pixelkeep.register it first"
        )
    if "TorchScript" in str(error):
        return "an exported TorchScript model; give the checkpoint that it was exported from"
    if isinstance(error, AttributeError):  # the loader found no dictionary
        return "no model inside; not a checkpoint of Ultralytics or pixelkeep"
    if _legacy_names(path) is not None:
        return "in PyTorch's format before 1.6, which cannot be loaded without executing it; save it again from there"
    return "damaged, truncated or not a PyTorch checkpoint at all"


def _foreign_names(path: Path, error: Exception) -> set[str]:
    """Return the classes and functions that a file refers to and that no model consists of, by reading alone."""
    import torch

    names: set[str] = set()
    try:
        names.update(torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
    except Exception:  # not an archive, or a damaged one: the loader's own message may still name it
        names.update(name for name in _legacy_names(path) or () if not name.startswith(_MODEL_MODULES))
    cause: BaseException | None = error
    while cause is not None:
        names.update(re.findall(r"GLOBAL ([\w.]+)", str(cause)))
        if isinstance(cause, ModuleNotFoundError) and cause.name:
            names.add(f"{cause.name}.")
        cause = cause.__cause__ or cause.__context__
    return {name for name in names if not any(other.endswith(f".{name}") for other in names)}


def _legacy_names(path: Path) -> set[str] | None:
    """Return what a file in PyTorch's old format refers to, by reading alone, or None if it is of another format."""
    names: set[str] = set()
    magic = None
    with path.open("rb") as file, contextlib.suppress(Exception):
        for _ in range(4):  # magic number, protocol, system, object: one pickle after the other
            for opcode, argument, _ in pickletools.genops(file):
                magic = magic or (argument if opcode.name == "LONG1" else None)
                if opcode.name == "GLOBAL":
                    names.add(argument.replace(" ", "."))
            if magic != _LEGACY_MAGIC:
                return None
    return names if magic == _LEGACY_MAGIC else None
