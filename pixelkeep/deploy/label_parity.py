"""Whether two networks classify images, or the pixels of images, alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from .parity import NOTHING, allowed, lost


@dataclass(frozen=True, kw_only=True)
class LabelBounds:
    """How far apart two networks may be.

    Attributes:
        agreed: Least share of images, or pixels, that both give the same class.
        scores: Largest difference of a probability; None where nothing is asked, and where there are none to compare.
        loss: Largest loss of the task's main figure: top-1 accuracy, or mIoU.
    """

    agreed: float
    scores: float | None = None
    loss: float


# Where two classes are as good as equal, rounding decides: not every pixel can be asked to agree.
BOUNDS = {
    "fp32": LabelBounds(agreed=0.999, scores=1e-5, loss=0.002),
    "fp16": LabelBounds(agreed=0.99, loss=0.005),
    "bf16": LabelBounds(agreed=0.97, loss=0.01),
    "int8": LabelBounds(agreed=0.95, loss=0.02),
}
MAIN = {"images": "top1", "pixels": "mIoU"}


@dataclass(frozen=True, kw_only=True)
class LabelParity:
    """How far two networks are apart on some images.

    Attributes:
        images: How many.
        unit: What is given a class: images or pixels.
        labels: How many of these.
        agreed: The share that both give the same class.
        scores_max: Largest difference of a probability; None of pixels, where exports put out classes alone.
    """

    images: int
    unit: str
    labels: int
    agreed: float
    scores_max: float | None = None

    def to_dict(self) -> dict:
        return asdict(self)

    def failures(self, bounds: LabelBounds, losses: Mapping[str, float | None] = NOTHING) -> list[str]:
        """Return what exceeds the bounds, in words; see :meth:`pixelkeep.deploy.parity.Parity.failures`."""
        found = []
        if not self.agreed >= bounds.agreed:
            found.append(f"{self.agreed:.2%} of the {self.unit} get the same class (bound {bounds.agreed:.2%})")
        if bounds.scores is not None and self.scores_max is not None and not self.scores_max <= bounds.scores:
            found.append(f"probabilities differ by up to {self.scores_max:.2g} (bound {bounds.scores:g})")
        return found + lost(losses, {MAIN[self.unit]: bounds.loss})

    def rows(self, bounds: LabelBounds) -> list[list[str]]:
        """Return a table of what was measured: what, how much, and how much is allowed."""
        shown = [[f"of {self.labels} {self.unit} same class", f"{self.agreed:.2%}", f"{bounds.agreed:.2%}"]]
        if self.scores_max is not None:
            shown.append(["probabilities, largest", f"{self.scores_max:.1e}", allowed(bounds.scores)])
        return shown


def compare_classes(reference: np.ndarray, other: np.ndarray) -> LabelParity:
    """Compare what two networks say of the same images, probabilities (images, classes).

    Raises:
        ValueError: The outputs have different shapes.
    """
    _require_same(reference, other)
    apart = np.abs(reference.astype(np.float64) - other)
    same = reference.argmax(1) == other.argmax(1)
    # A network that puts out no numbers agrees with nothing, whatever argmax makes of them.
    agreed = float((same & np.isfinite(apart).all(1)).mean())
    return LabelParity(images=len(same), unit="images", labels=len(same), agreed=agreed, scores_max=float(apart.max()))


def compare_pixels(reference: np.ndarray, other: np.ndarray) -> LabelParity:
    """Compare what two networks say of the pixels of the same images, classes (images, H, W).

    Raises:
        ValueError: The outputs have different shapes.
    """
    _require_same(reference, other)
    same = reference == other
    return LabelParity(images=len(same), unit="pixels", labels=same.size, agreed=float(same.mean()))


def _require_same(reference: np.ndarray, other: np.ndarray) -> None:
    if reference.shape != other.shape:
        raise ValueError(f"outputs of shapes {reference.shape} and {other.shape} cannot be compared")
