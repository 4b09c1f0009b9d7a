"""Finds out why a checkpoint does not load, from what it refers to and who made it, without executing anything."""

from __future__ import annotations

import contextlib
import pickletools
import re
from pathlib import Path

from pixelkeep.ultra.weights.integrity import Constructed
from pixelkeep.ultra.weights.pretrained import RELEASES

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # number at the beginning of files of PyTorch before 1.6
_MODEL_MODULES = ("torch.", "ultralytics.", "pixelkeep.", "collections.", "numpy.", "pathlib.", "__builtin__.set")
_YOLOV5_MODULES = ("models.", "utils.")  # top-level packages of the original YOLOv5 repository


def why(path: Path, error: Exception | None) -> str:
    """Return why a file does not load.

    Args:
        path: The file.
        error: The error of the loader; None if loading was not tried, because the file is not an archive.
    """
    if isinstance(error, Constructed):
        return f"refused without executing it: it calls the constructor of {error}, as no checkpoint does"
    foreign = _foreign_names(path, error)
    if any(name.startswith(_YOLOV5_MODULES) for name in foreign):
        return (
            "made by the original YOLOv5 repository, whose networks differ from Ultralytics' (anchors); train again, "
            f"or start from an Ultralytics checkpoint such as yolov5su.pt ({RELEASES})"
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


def _foreign_names(path: Path, error: Exception | None) -> set[str]:
    """Return the classes and functions that a file refers to and that no model consists of, without executing it."""
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
    named = {name for name in names if not any(other.endswith(f".{name}") for other in names)}
    return {name for name in named if not any(other != name and other.startswith(name) for other in named)}


def _legacy_names(path: Path) -> set[str] | None:
    """Return the names that a file in PyTorch's old format refers to, without executing it; None for other formats."""
    names: set[str] = set()
    magic = None
    with path.open("rb") as file, contextlib.suppress(Exception):
        for _ in range(4):  # four successive pickles: magic number, protocol, system, object
            for opcode, argument, _ in pickletools.genops(file):
                magic = magic or (argument if opcode.name == "LONG1" else None)
                if opcode.name == "GLOBAL":
                    names.add(argument.replace(" ", "."))
            if magic != _LEGACY_MAGIC:
                return None
    return names if magic == _LEGACY_MAGIC else None
