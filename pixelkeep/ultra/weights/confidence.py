"""The operating point's confidences, kept in the weights file, for ``detect --conf auto``.

They lie in the checkpoint's dictionary under a key of their own, as plain numbers and texts: they go where the file
goes and end with it, restricted loading takes them, and plain Ultralytics passes over them. A file beside the weights
would be left behind by a copy, and outlive its weights under ``--exist-ok``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pixelkeep.errors import OptionError, WeightsError
from pixelkeep.ultra.weights.checkpoints import forget, load, save
from pixelkeep.ultra.weights.manifest import listed

KEY = "operating_point"


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What is kept with the weights.

    Attributes:
        objective: What the confidences were chosen for, as :class:`pixelkeep.evaluation.operating.Objective` reads it.
        confidence: For each class of the model.
        imgsz: The image size of the validation that they are from; they hold for that size.
        split: What was validated on, and ``gt_sha256``: its ground truth.
    """

    objective: str
    confidence: list[float]
    imgsz: int | list[int]
    split: str
    gt_sha256: str


def store(weights: Path, stored: Stored) -> None:
    """Write the confidences into a weights file, which is whole at every moment.

    Raises:
        WeightsError: The file cannot be used (see :func:`pixelkeep.ultra.weights.checkpoints.check_weights`), or is
            a published one.
    """
    forget()  # what was loaded before may have been changed since
    checkpoint = load(weights)
    if listed(weights):
        raise WeightsError(f"weights '{weights}' are published, and stay as they are; store confidences in a copy")
    save({**checkpoint, KEY: {"schema": 1, **asdict(stored)}}, weights)
    forget()


def stored_in(checkpoint: dict[str, Any], weights: Path, classes: int) -> Stored:
    """Return the confidences that a checkpoint holds.

    Args:
        checkpoint: The content of the file.
        weights: The file.
        classes: How many the model has.

    Raises:
        OptionError: It holds none.
        WeightsError: What it holds cannot be used.
    """
    again = f"'pixelkeep val --weights {weights} --store-conf'"
    if KEY not in checkpoint:
        raise OptionError(f"--conf auto: weights '{weights}' hold no confidences; find them with {again}, or give one")
    document = checkpoint[KEY]
    names = tuple(Stored.__dataclass_fields__)
    if not isinstance(document, dict) or not _is_right(document, names, classes):
        raise WeightsError(f"weights '{weights}': the confidences for --conf auto are damaged; find them with {again}")
    return Stored(**{name: document[name] for name in names})


def _is_right(document: dict, names: tuple[str, ...], classes: int) -> bool:
    if not all(name in document for name in names):
        return False
    values = document["confidence"]
    numbers = isinstance(values, list) and all(type(value) is float and 0 <= value <= 1 for value in values)
    texts = all(isinstance(document[name], str) for name in ("objective", "split", "gt_sha256"))
    return numbers and texts and len(values) == classes and isinstance(document["imgsz"], (int, list))
