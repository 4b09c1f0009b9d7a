"""Checks that the graph of an exported file fits its description, and turns errors of its runs into one line.

A description can be changed without the graph. A mismatch would show as an error of the runtime in the middle of a
folder of images, or as boxes of classes that have no name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from ultralytics.nn.backends.base import BaseBackend

from pixelkeep.errors import PixelkeepError, WeightsError
from pixelkeep.ultra.weights.exported import Exported

MOST_VALUES = 2**28  # values in a batch; larger batches are not run merely to see whether they can be
CELLS = 8  # side, in cells of the deepest feature map, of the image on which a file that takes any size is run
LONGEST = 120  # characters of a runtime's error that are shown
_BOXES = {"detect": 4, "obb": 5}  # how many numbers describe a box
_DETECTED = {"detect": 6, "obb": 7}  # ... and how many with its score and class
CLASS = 5  # index of the class among these numbers

Shape = tuple[int | None, ...]


def graph_problem(backend: BaseBackend, said: Exported) -> str | None:
    """Return how a graph differs from its description, or None.

    Args:
        backend: The opened file.
        said: The file's description.

    Raises:
        Exception: The runtime's own error, if the graph cannot be run.
    """
    wanted = (said.batch, said.yaml["channels"], *said.imgsz)
    given = _input(backend)
    if given is not None:
        open_sides = None in given[2:]
        fits = len(given) == 4 and all(own in (None, side) for own, side in zip(given, wanted, strict=True))
        fits_any = len(given) == 4 and given[1] in (None, wanted[1]) and open_sides
        if not (fits_any if said.dynamic else fits):
            told = f"batches of {said.batch}, {wanted[1]} channels and {said.imgsz[0]}x{said.imgsz[1]} pixels"
            told = f"{wanted[1]} channels and every size" if said.dynamic else told
            return f"it says that it takes {told}, but its graph takes {_text(given)}"
    if said.dynamic:
        side = CELLS * max(said.stride)
        wanted = (1, wanted[1], side, side)
    if torch.Size(wanted).numel() > MOST_VALUES:
        return None
    device = backend.device if isinstance(backend.device, torch.device) else torch.device("cpu")
    image = torch.zeros(wanted, dtype=torch.half if backend.fp16 else torch.float, device=device)
    with torch.no_grad():
        found = tuple(_first(backend.forward(image)).shape)
    return None if _is_output(found, said, wanted) else _what(found, said)


def told_of_runs(backend: BaseBackend, said: Exported, weight: str | Path) -> None:
    """Make ``backend`` report runtime errors, and detected classes without a name, as a one-line WeightsError.

    Args:
        backend: The opened file, whose ``forward`` is replaced.
        said: The file's description.
        weight: The path of the file, for messages.
    """
    run = backend.forward

    def forward(images: torch.Tensor, **keywords: Any) -> Any:
        try:
            found = run(images, **keywords)
        except PixelkeepError:
            raise
        except Exception as error:  # each runtime has its own exceptions
            shown = _text(tuple(images.shape))
            raise WeightsError(f"weights '{weight}': it cannot be run on {shown} ({in_short(error)})") from error
        if said.end2end and said.task in _DETECTED:
            classes = torch.as_tensor(_first(found))[..., CLASS]
            if classes.numel() and int(classes.max()) >= len(said.names):
                what = f"it detects class {int(classes.max())}, but has only {len(said.names)} names"
                raise WeightsError(f"weights '{weight}': damaged: {what}")
        return found

    backend.forward = forward


def in_short(error: Exception) -> str:
    """Return the message of an error as one short line."""
    return " ".join(str(error).split())[:LONGEST] or type(error).__name__


def _input(backend: BaseBackend) -> Shape | None:
    """Return the shape of a graph's input, with None for open sides; None if the runtime does not provide it."""
    if session := getattr(backend, "session", None):  # ONNX Runtime
        return tuple(side if isinstance(side, int) else None for side in session.get_inputs()[0].shape)
    if compiled := getattr(backend, "ov_compiled_model", None):
        sides = compiled.input().get_partial_shape()
        return tuple(None if side.is_dynamic else side.get_length() for side in sides)
    return None


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, (list, tuple)) else output


def _is_output(found: tuple[int, ...], said: Exported, wanted: tuple[int, ...]) -> bool:
    """Return whether ``found`` is a shape that the task outputs for the described number of classes."""
    classes = len(said.names)
    if found[:1] != wanted[:1]:
        return False
    if said.task in _BOXES and said.end2end:
        return len(found) == 3 and found[2] == _DETECTED[said.task]
    if said.task in _BOXES:
        return len(found) == 3 and found[1] == _BOXES[said.task] + classes
    if said.task == "classify":
        return found[1:] == (classes,)
    return found[1:] == wanted[2:] or (len(found) == 4 and found[1] == classes)  # class of each pixel, or its scores


def _what(found: tuple[int, ...], said: Exported) -> str:
    way = ", without NMS" if said.end2end else ""
    return f"it is for task '{said.task}'{way} and {len(said.names)} classes, but its graph outputs {_text(found)}"


def _text(shape: Shape) -> str:
    return "x".join("any" if side is None else str(side) for side in shape)
