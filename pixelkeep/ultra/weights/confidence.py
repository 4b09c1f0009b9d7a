"""The confidence thresholds of the operating point, kept in the weights file, for ``detect --conf auto``.

They are stored in the checkpoint's dictionary under a key of their own, as plain numbers and strings. So they are
copied and deleted with the file, restricted loading accepts them, and plain Ultralytics ignores them. A separate file
beside the weights would be left behind when the weights are copied, and outlive its weights under ``--exist-ok``.
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
    """The confidence thresholds kept with the weights, and the validation that they are from.

    Attributes:
        objective: Objective that the confidences were chosen for, in the form that
            :class:`pixelkeep.evaluation.operating.Objective` reads.
        confidence: Confidence threshold of each class of the model.
        imgsz: Image size of the validation, a side or height and width in pixels; the thresholds hold for this size.
        split: Split of the data that was validated on.
        gt_sha256: SHA-256 of the ground truth of this split.
    """

    objective: str
    confidence: list[float]
    imgsz: int | list[int]
    split: str
    gt_sha256: str


def store(weights: Path, stored: Stored) -> None:
    """Write the confidences into a weights file, which is complete at every moment.

    Raises:
        WeightsError: The file cannot be used (see :func:`pixelkeep.ultra.weights.checkpoints.check_weights`), or
            belongs to published weights.
    """
    forget()  # the cached checkpoint may have been changed since it was loaded
    checkpoint = load(weights)
    if listed(weights):
        raise WeightsError(f"weights '{weights}' are published, and stay as they are; store confidences in a copy")
    save({**checkpoint, KEY: {"schema": 1, **asdict(stored)}}, weights)
    forget()


def stored_in(checkpoint: dict[str, Any], weights: Path, classes: int) -> Stored:
    """Return the confidences that a checkpoint holds.

    Args:
        checkpoint: The loaded checkpoint.
        weights: The file that it is from, for messages.
        classes: Number of classes of the model.

    Raises:
        OptionError: The checkpoint holds no confidences.
        WeightsError: The confidences that it holds are damaged.
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
