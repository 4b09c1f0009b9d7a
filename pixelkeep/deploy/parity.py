"""Check whether two networks compute the same, by differences of their raw outputs and by matching their detections.

Raw outputs are compared place by place, before any selection, so that no difference is hidden by NMS. How much rounding
may change depends on the precision: in fp32 every place is bounded, in the other precisions only the detections are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

CONFIDENCE = 0.25  # lowest score of a detection that must be matched
SLACK = 0.05  # a match may score this much below CONFIDENCE: rounding can move a borderline score to either side
IOU = 0.9  # lowest IoU of a match
SHARE = 0.999  # share of all places for which the bounds hold
EXTREME = 10  # how many times the bound the differences at the other places may be
NOTHING: Mapping[str, float | None] = {}


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Bounds on how far apart two networks may be; None stands for no bound.

    Attributes:
        boxes: Bound that 99.9 % of the differences of box coordinates must not exceed, in pixels of the network's
            input; the largest difference may be `EXTREME` times as large.
        scores: The same bound for the differences of scores.
        matched: Least share of detections that must be matched.
        ap, ap_s: Largest allowed loss of AP and of AP_S.
    """

    boxes: float | None = None
    scores: float | None = None
    matched: float
    ap: float
    ap_s: float
    extreme: ClassVar[int] = EXTREME


# In fp32 only rounding differs, because sums are taken in another order. Fusing BatchNorms without any export moves
# boxes by up to 1.6e-3 pixels (docs/conversion.md); a runtime that silently computes in bf16 moves them by pixels.
BOUNDS = {
    "fp32": Bounds(boxes=1e-3, scores=1e-5, matched=0.995, ap=0.002, ap_s=0.002),
    "fp16": Bounds(matched=0.98, ap=0.005, ap_s=0.005),
    "bf16": Bounds(matched=0.95, ap=0.01, ap_s=0.01),
    "int8": Bounds(matched=0.9, ap=0.02, ap_s=0.02),
}


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far apart two networks are on some images.

    Attributes:
        images: Number of images.
        boxes_max: Largest difference of a box coordinate over all places, in pixels of the network's input.
        boxes_most: The 99.9 % quantile of these differences.
        scores_max, scores_most: Largest difference of a score over all places, and its 99.9 % quantile.
        detections: Number of detections of the reference network, with a score of `CONFIDENCE` or more.
        matched: Share of these detections that the other network has too, or the other way round, whichever is less;
            None if neither network has any.
    """

    images: int
    boxes_max: float
    boxes_most: float
    scores_max: float
    scores_most: float
    detections: int
    matched: float | None
    confidence: ClassVar[float] = CONFIDENCE
    iou: ClassVar[float] = IOU

    def to_dict(self) -> dict:
        return asdict(self)

    def failures(self, bounds: Bounds, losses: Mapping[str, float | None] = NOTHING) -> list[str]:
        """Describe what exceeds the bounds, in words; the list is empty where nothing does.

        Args:
            bounds: Bounds on how far apart the networks may be.
            losses: ``AP`` and ``AP_S`` of the reference minus those of the other network; None where undefined.
        """
        found = []
        # The comparisons are written so that a NaN difference fails.
        for what, bound, largest, most in (
            ("boxes", bounds.boxes, self.boxes_max, self.boxes_most),
            ("scores", bounds.scores, self.scores_max, self.scores_most),
        ):
            if bound is not None and not (most <= bound and largest <= EXTREME * bound):
                asked = f"bounds {bound:g} and {EXTREME * bound:g}"
                found.append(f"{what} differ by {most:.2g} in most places and up to {largest:.2g} ({asked})")
        if self.matched is None and bounds.boxes is None:
            found.append(f"nothing is detected above {CONFIDENCE}, so nothing can be matched; give --data with objects")
        if self.matched is not None and self.matched < bounds.matched:
            found.append(f"{self.matched:.1%} of the detections match (bound {bounds.matched:.1%})")
        return found + lost(losses, {"AP": bounds.ap, "AP_S": bounds.ap_s})

    def rows(self, bounds: Bounds) -> list[list[str]]:
        """Return table rows of the measured quantity, its value and the allowed value."""
        return [
            ["boxes, largest", f"{self.boxes_max:.1e} px", allowed(bounds.boxes, EXTREME)],
            ["boxes, 99.9 % below", f"{self.boxes_most:.1e} px", allowed(bounds.boxes)],
            ["scores, largest", f"{self.scores_max:.1e}", allowed(bounds.scores, EXTREME)],
            ["scores, 99.9 % below", f"{self.scores_most:.1e}", allowed(bounds.scores)],
            [
                f"of {self.detections} detections above {CONFIDENCE} matched",
                "n/a" if self.matched is None else f"{self.matched:.1%}",
                f"{bounds.matched:.1%}",
            ],
        ]


def lost(losses: Mapping[str, float | None], bounds: Mapping[str, float]) -> list[str]:
    """Describe in words which metrics fall by more than their bounds allow."""
    return [
        f"{key} falls by {losses[key]:.3f} (bound {bound:g})"
        for key, bound in bounds.items()
        if losses.get(key) is not None and not losses[key] <= bound
    ]


def allowed(bound: float | None, times: int = 1) -> str:
    """Return a bound, multiplied by ``times``, as the table shows it; an empty string for no bound."""
    return "" if bound is None else f"{bound * times:g}"


def compare(
    reference: np.ndarray, other: np.ndarray, detected: Sequence[np.ndarray], found: Sequence[np.ndarray]
) -> Parity:
    """Compare two networks' outputs for the same images.

    Args:
        reference, other: Raw outputs (images, 4 + classes, places): boxes as x, y, width, height, then scores.
        detected, found: Detections of the reference and of the other network after NMS, for each image (n, 6) x1, y1,
            x2, y2, score, class, with scores down to `CONFIDENCE` - `SLACK`.

    Raises:
        ValueError: The outputs have different shapes.
    """
    if reference.shape != other.shape:
        raise ValueError(f"outputs of shapes {reference.shape} and {other.shape} cannot be compared")
    apart = np.abs(reference.astype(np.float64) - other)
    boxes, scores = apart[:, :4], apart[:, 4:]
    there = [matches(a, b) for a, b in zip(detected, found, strict=True)]
    back = [matches(b, a) for a, b in zip(detected, found, strict=True)]
    shares = [np.concatenate(hits).mean() for hits in (there, back) if sum(map(len, hits))]
    return Parity(
        images=len(reference),
        boxes_max=float(boxes.max()),
        boxes_most=float(np.quantile(boxes, SHARE)),
        scores_max=float(scores.max()),
        scores_most=float(np.quantile(scores, SHARE)),
        detections=sum(map(len, there)),
        matched=float(min(shares)) if shares else None,
    )


def matches(detections: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return for each detection with a score of `CONFIDENCE` or more whether one of ``others`` matches it.

    A match has an IoU of at least `IOU` and the same class, and no detection of ``others`` is matched twice.

    Args:
        detections, others: Detections of one image, (n, 6) x1, y1, x2, y2, score, class.

    Returns:
        Whether each detection is matched, bool (m,), from the highest score down.
    """
    chosen = detections[detections[:, 4] >= CONFIDENCE]
    chosen = chosen[np.argsort(-chosen[:, 4], kind="stable")]
    overlap = _ious(chosen[:, :4], others[:, :4]) * (chosen[:, 5:6] == others[:, 5])  # (m, k)
    hits = np.zeros(len(chosen), bool)
    for row, ious in enumerate(overlap):
        best = int(ious.argmax()) if len(ious) else -1
        if best >= 0 and ious[best] >= IOU:
            hits[row] = True
            overlap[:, best] = 0
    return hits


def _ious(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the IoU of each of the boxes (m, 4) with each of (k, 4), given as x1, y1, x2, y2: (m, k)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (a, b)]
    return shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-12)
