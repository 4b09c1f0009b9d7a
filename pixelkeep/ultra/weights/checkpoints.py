"""Weights files, checked before use and refused with a one-line message, without ever executing code in them."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixelkeep.errors import ModelError, WeightsError
from pixelkeep.ultra.weights import manifest
from pixelkeep.ultra.weights.formats import format_of
from pixelkeep.ultra.weights.integrity import (
    Unusable,
    archive_problem,
    are_names,
    as_named,
    is_size,
    model_problem,
    no_construction,
    yaml_problem,
)
from pixelkeep.ultra.weights.refusals import why
from pixelkeep.writing import staged

if TYPE_CHECKING:
    from ultralytics.nn.tasks import BaseModel

PORTABLE = ".safetensors"
SUFFIXES = (".pt", PORTABLE)
INSIDE = ("weights/best.pt", "best.pt")  # the weights inside a run folder, or inside its weights folder


def check_weights(name: str | Path, exported: bool = False) -> Path:
    """Return the absolute path of a weights file after checking that it loads without executing code.

    Args:
        name: The file, or the name of published weights; see :mod:`pixelkeep.ultra.weights.manifest`.
        exported: Whether an exported file or folder is allowed too; see :mod:`pixelkeep.ultra.weights.exported`.

    Raises:
        WeightsError: The file is missing, empty or damaged, is not a checkpoint of Ultralytics or pixelkeep, was made
            by the original YOLOv5, or carries code.
        OptionError: A package that an exported file needs is not installed.
    """
    path = Path(os.path.expanduser(name))  # pathlib's own expanduser fails on an unknown user
    if not path.exists():
        path = manifest.published(name) or path
    whole = Path(os.path.abspath(path))  # links are not followed, as their target may have another ending
    if exported and path.exists() and format_of(path):
        load(path)
        return whole
    if not path.is_file():
        raise WeightsError(_missing(str(name), path))
    if not is_checkpoint(path):
        part = f"part of an exported model; give '{Path(name).parent}'" if exported and format_of(path.parent) else ""
        advice = part or f"a '{path.suffix}' file; give a PyTorch checkpoint (.pt or .safetensors)"
        raise WeightsError(f"weights '{name}': {advice}")
    load(path)
    return whole


def _missing(name: str, path: Path) -> str:
    """Return the message for weights that do not exist, with a hint at what may be meant."""
    advice = "give a .pt file such as runs/train/exp/weights/best.pt, or a .safetensors file"
    if name and path.is_dir():
        inside = next((path / way for way in INSIDE if (path / way).is_file()), None)
        return f"weights '{name}': a folder; " + (f"did you mean '{inside}'?" if inside else advice)
    folder = path.parent if path.parent.is_dir() else Path()
    beside = [other.name for other in folder.iterdir() if is_checkpoint(other)]
    return f"weights '{name}' not found{manifest.hint(name, beside, advice)}"


def is_checkpoint(path: str | Path) -> bool:
    """Return whether a path is that of a checkpoint, PyTorch's or a portable one, by its ending."""
    return Path(path).suffix.lower() in SUFFIXES


def load(path: Path) -> dict[str, Any]:
    """Load a checkpoint without executing code; for an exported file, return its description instead.

    The last checkpoint is cached, so the steps of a command share one load of a file; see :func:`forget`.

    Raises:
        WeightsError: The file cannot be used, for the reasons that :func:`check_weights` gives.
    """
    if format_of(path):
        from pixelkeep.ultra.weights.exported import read_exported

        return read_exported(path)
    state = path.stat()
    try:
        return _load(Path(os.path.abspath(path)), state.st_mtime_ns, state.st_size)
    except Unusable as error:
        raise WeightsError(f"weights '{path}': {error}") from error


def save(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint completely or not at all; see `write`."""
    with staged(path) as partial:
        write(checkpoint, partial, shown=path)


def write(checkpoint: dict[str, Any], path: Path, precision: str | None = None, shown: Path | None = None) -> None:
    """Write a checkpoint in the form that the file's ending gives.

    Args:
        checkpoint: The checkpoint, in the form in which Ultralytics writes them.
        path: The file to write.
        precision: Precision of the floating-point numbers in a portable checkpoint; see
            :mod:`pixelkeep.ultra.weights.portable`.
        shown: The path of the file in messages; ``path`` by default.

    Raises:
        WeightsError: The network cannot be stored in this form.
    """
    import torch

    from pixelkeep.ultra.weights import portable

    if not is_portable(path):
        torch.save(checkpoint, path)
        return
    try:
        with _silence():
            portable.write(checkpoint, path, precision)
    except Unusable as error:
        raise WeightsError(f"weights '{shown or path}': {error}") from error


def forget() -> None:
    """Free the memory of the checkpoint that was loaded last."""
    _load.cache_clear()


def model_of(checkpoint: dict[str, Any]) -> BaseModel:
    """Return the network of a checkpoint: its moving average (EMA) if there is one, else the model itself."""
    return checkpoint.get("model") if checkpoint.get("ema") is None else checkpoint["ema"]


def trained_size(checkpoint: dict[str, Any]) -> int | list[int]:
    """Return the image size in pixels (a side, or height and width) that a network was trained at; 640 if unknown."""
    return checkpoint.get("train_args", {}).get("imgsz", 640)


@lru_cache(maxsize=1)
def _load(path: Path, _changed: int, size: int) -> dict[str, Any]:
    if size == 0:
        raise Unusable("the file is empty")
    if problem := manifest.problem(path):
        raise Unusable(problem)
    checkpoint = _read(path)
    if problem := _content_problem(checkpoint):
        raise Unusable(problem)
    return checkpoint


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a file, which may consist of known classes only."""
    from ultralytics.nn.tasks import torch_safe_load

    from pixelkeep.ultra.weights import portable

    if is_portable(path):
        with _silence():
            return portable.read(path)
    _require_restricted_loading()
    if not zipfile.is_zipfile(path):
        raise Unusable(why(path, None))
    if problem := archive_problem(path):
        raise Unusable(problem)
    try:
        with _silence(), no_construction(), as_named():
            return torch_safe_load(path, safe_only=True)[0]
    except Exception as error:  # a damaged or hostile file can fail in any way
        raise Unusable(why(path, error)) from error


def _content_problem(checkpoint: dict[str, Any]) -> str | None:
    """Return what makes a loaded checkpoint unusable, or None; also set the model's task if it is not recorded."""
    from ultralytics.nn.tasks import BaseModel, guess_model_task

    from pixelkeep.ultra.network.parser import check_activation

    model, trained = model_of(checkpoint), checkpoint.get("train_args", {})
    definition = getattr(model, "yaml", {})
    if not isinstance(model, BaseModel) or not (isinstance(trained, dict) and isinstance(definition, dict)):
        return "no model inside; not a checkpoint of Ultralytics or pixelkeep"
    if problem := model_problem(model):
        return problem
    if not are_names(getattr(model, "names", {})) or not is_size(trained.get("imgsz", 640)):
        return "its class names or training arguments are damaged"
    if problem := yaml_problem(definition):
        return f"damaged: {problem}"
    if checkpoint.get("modelopt") and find_spec("modelopt") is None:
        return "trained for int8; install what it needs first: pip install nvidia-modelopt"
    try:
        check_activation(definition)
    except ModelError as error:
        return str(error)
    model.task = getattr(model, "task", None) or guess_model_task(model)  # only Ultralytics' YOLO class records it
    return None


def is_portable(path: str | Path) -> bool:
    """Return whether a path is that of a portable checkpoint; see :mod:`pixelkeep.ultra.weights.portable`."""
    return Path(path).suffix.lower() == PORTABLE


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Silence the loader's messages and warnings, as pixelkeep reports what is wrong with a file in one line."""
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
    """Refuse a release of Ultralytics whose ``safe_only`` still lets a checkpoint call ``eval``."""
    import ultralytics
    from ultralytics.nn import tasks

    if not getattr(getattr(tasks, "_SafeLoad", None), "SUPPORTED", False):
        raise WeightsError(
            f"Ultralytics {ultralytics.__version__} cannot load weights without executing what they carry; "
            "update it: pip install --upgrade ultralytics"
        )
