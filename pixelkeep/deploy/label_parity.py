"""Check whether two networks give images, or the pixels of images, the same classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from .parity import NOTHING, allowed, lost


@dataclass(frozen=True, kw_only=True)
class LabelBounds:
    """Bounds on how far apart two networks may be.

    Attributes:
        agreed: Least share of the images, or pixels, to which both networks must give the same class.
        scores: Largest allowed difference of a probability; None for no bound, and where there are no probabilities.
        loss: Largest allowed loss of the task's main metric: top-1 accuracy, or mIoU.
    """

    agreed: float
    scores: float | None = None
    loss: float


# Where two classes score almost the same, rounding decides between them, so not every pixel can be required to agree.
BOUNDS = {
    "fp32": LabelBounds(agreed=0.999, scores=1e-5, loss=0.002),
    "fp16": LabelBounds(agreed=0.99, loss=0.005),
    "bf16": LabelBounds(agreed=0.97, loss=0.01),
    "int8": LabelBounds(agreed=0.95, loss=0.02),
}
MAIN = {"images": "top1", "pixels": "mIoU"}


@dataclass(frozen=True, kw_only=True)
class LabelParity:
    """How far apart two networks are on some images.

    Attributes:
        images: Number of images.
        unit: Unit to which the networks give classes: images or pixels.
        labels: Number of these units.
        agreed: Share of the units to which both networks give the same class.
        scores_max: Largest difference of a probability; None for pixels, for which exports output only classes.
    """

    images: int
    unit: str
    labels: int
    agreed: float
    scores_max: float | None = None

    def to_dict(self) -> dict:
        return asdict(self)

    def failures(self, bounds: LabelBounds, losses: Mapping[str, float | None] = NOTHING) -> list[str]:
        """Describe what exceeds the bounds, in words; see :meth:`pixelkeep.deploy.parity.Parity.failures`."""
        found = []
        if not self.agreed >= bounds.agreed:
            found.append(f"{self.agreed:.2%} of the {self.unit} get the same class (bound {bounds.agreed:.2%})")
        if bounds.scores is not None and self.scores_max is not None and not self.scores_max <= bounds.scores:
            found.append(f"probabilities differ by up to {self.scores_max:.2g} (bound {bounds.scores:g})")
        return found + lost(losses, {MAIN[self.unit]: bounds.loss})

    def rows(self, bounds: LabelBounds) -> list[list[str]]:
        """Return table rows of the measured quantity, its value and the allowed value."""
        shown = [[f"of {self.labels} {self.unit} same class", f"{self.agreed:.2%}", f"{bounds.agreed:.2%}"]]
        if self.scores_max is not None:
            shown.append(["probabilities, largest", f"{self.scores_max:.1e}", allowed(bounds.scores)])
        return shown


def compare_classes(reference: np.ndarray, other: np.ndarray) -> LabelParity:
    """Compare the probabilities, (images, classes), that two networks give for the same images.

    Raises:
        ValueError: The outputs have different shapes.
    """
    _require_same(reference, other)
    apart = np.abs(reference.astype(np.float64) - other)
    same = reference.argmax(1) == other.argmax(1)
    # An output that is not a finite number agrees with nothing, whatever class argmax picks from it.
    agreed = float((same & np.isfinite(apart).all(1)).mean())
    return LabelParity(images=len(same), unit="images", labels=len(same), agreed=agreed, scores_max=float(apart.max()))


def compare_pixels(reference: np.ndarray, other: np.ndarray) -> LabelParity:
    """Compare the classes, (images, H, W), that two networks give to the pixels of the same images.

    Raises:
        ValueError: The outputs have different shapes.
    """
    _require_same(reference, other)
    same = reference == other
    return LabelParity(images=len(same), unit="pixels", labels=same.size, agreed=float(same.mean()))


def _require_same(reference: np.ndarray, other: np.ndarray) -> None:
    if reference.shape != other.shape:
        raise ValueError(f"outputs of shapes {reference.shape} and {other.shape} cannot be compared")
