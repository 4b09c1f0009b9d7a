"""The operating point: the confidences that production uses, and what they give. AP says nothing of either.

For each class by itself the confidence is chosen by an objective, on the evaluator's matching at IoU 0.5 with its rules
of ignoring. Between the lowest score that is kept and the highest one that is left out, the confidence is put halfway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np

from pixelkeep.errors import OptionError, nearest
from pixelkeep.evaluation.areas import ALL_SIZES
from pixelkeep.evaluation.detections import Detections
from pixelkeep.evaluation.ground_truth import GroundTruth
from pixelkeep.evaluation.matching import FALSE, TRUE, match
from pixelkeep.evaluation.overlaps import Scene
from pixelkeep.evaluation.similarity import IOU as BY_IOU

IOU = 0.5
# A class of fewer objects has no confidence of its own: at 30 the 95 % interval (Wilson) of a recall of one half still
# runs from 0.33 to 0.67, and the best F1 of so few is that of an accident.
ENOUGH = 30
# Nor has one whose best F1 is lower: 18 objects missed or false detections for each right one. Where scores are
# calibrated, the best F1 lies at a confidence of half of it (Lipton, Elkan, Naryanaswamy: Optimal Thresholding of
# Classifiers to Maximize F1 Measure, ECML PKDD 2014), by which such a class is known where only confidences are kept.
LEAST_F1 = 0.1
LEAST_CONFIDENCE = LEAST_F1 / 2
AIMS = ("f1", "precision", "recall", "conf")


@dataclass(frozen=True)
class Objective:
    """What a confidence is chosen for.

    aim: "f1", the best F1 (of equal ones the highest confidence); "precision", the lowest confidence that reaches it;
        "recall", the highest confidence that keeps it; "conf", this confidence for every class.
    value: the wanted precision, recall or confidence; None for f1.
    """

    aim: str = "f1"
    value: float | None = None

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Read ``f1``, ``precision=0.9``, ``recall=0.8`` or ``conf=0.25``.

        Errors: OptionError for anything else.

        >>> Objective.parse("precision=0.9")
        Objective(aim='precision', value=0.9)
        """
        aim, equals, value = (part.strip() for part in text.partition("="))
        right = "f1, precision=X, recall=X or conf=X, with X above 0 and at most 1"
        if aim not in AIMS or bool(equals) != (aim != "f1"):
            raise OptionError(f"--at {text}: expected {right}{nearest(aim, AIMS) if aim not in AIMS else ''}")
        if not equals:
            return cls(aim)
        try:
            number = float(value)
        except ValueError:
            number = 0.0
        if not 0 < number <= 1:
            raise OptionError(f"--at {text}: expected {right}")
        return cls(aim, number)

    def __str__(self) -> str:
        return self.aim if self.value is None else f"{self.aim}={self.value:g}"

    def chosen(self, hits: np.ndarray, false: np.ndarray, objects: int) -> int | None:
        """Return which of the cuts (c,), by falling confidence, is chosen; None where none serves.

        Args:
            hits, false: (c,) true and false positives above each cut.
            objects: How many there are to be found.
        """
        if self.aim == "f1":
            serves = hits > 0
            f1 = 2 * hits / np.maximum(hits + false + objects, 1)
            return int(f1.argmax()) if serves.any() else None
        if self.aim == "precision":
            serves = (hits > 0) & (hits / np.maximum(hits + false, 1) >= self.value)
            return int(np.flatnonzero(serves)[-1]) if serves.any() else None
        serves = hits / max(objects, 1) >= self.value
        return int(serves.argmax()) if serves.any() else None


@dataclass(frozen=True, kw_only=True)
class PointFigures:
    """What a confidence gives at IoU 0.5; None where undefined.

    confidence: detections of at least this score are kept; None where no confidence serves the objective.
    precision, recall, F1: of what is kept. objects: to be found, ignored ones left out. detections: kept, without those
        that the evaluator ignores.
    count_mae, count_bias: over all images the mean of |detections - objects| and of detections - objects.
    """

    confidence: float | None
    precision: float | None
    recall: float | None
    F1: float | None
    objects: int
    detections: int | None
    count_mae: float | None
    count_bias: float | None


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """The confidences for an objective, and what they give.

    objective: as `Objective.parse` reads it. iou: 0.5.
    overall: all classes together, each at its confidence; ``confidence`` is None.
    single: all classes at the one confidence that serves the objective over all of them pooled.
    per_class: by class. A class whose ``confidence`` is None runs at the single one, for which its figures are.
    """

    objective: str
    iou: float
    overall: PointFigures
    single: PointFigures
    per_class: dict[str, PointFigures]

    def confidences(self) -> np.ndarray | None:
        """Return (K,) the confidence that each class runs at; None where not even the single one is defined."""
        if self.single.confidence is None:
            return None
        own = (figures.confidence for figures in self.per_class.values())
        return np.array([self.single.confidence if value is None else value for value in own])

    def to_dict(self) -> dict[str, Any]:
        """Return plain dictionaries, as they stand in metrics.json."""
        return asdict(self)


def operating_point(
    ground_truth: GroundTruth,
    detections: Detections,
    objective: Objective | None = None,
    *,
    max_dets: int | None = None,
    floor: float = 0.0,
    enough: int = ENOUGH,
) -> OperatingPoint:
    """Choose the confidences.

    Args:
        ground_truth: COCO document, or the path of one.
        detections: At a low confidence: what lies below the lowest score cannot be chosen.
        objective: What to choose for; None for the best F1.
        max_dets: Cap on the detections of one class in one image; None takes `detection_limit`.
        floor: The lowest score that could have been detected.
        enough: Objects that a class must have for a confidence of its own, where there are several classes.

    Errors: DataError for input that cannot be used.
    """
    scene = Scene.of(ground_truth, detections, max_dets)
    objective = objective or Objective()
    outcome = match(scene.truth, scene.found, [ALL_SIZES], BY_IOU.at(IOU))[:, 0, 0]
    counts = _Counts(scene, outcome)
    classes = range(len(scene.categories))
    single = counts.confidence(np.ones(len(outcome), bool), list(classes), objective, floor)
    own = [counts.confidence(scene.found_category == k, [k], objective, floor) for k in classes]
    if single is not None and len(classes) > 1 and objective.aim != "conf":
        own = [None if counts.by_chance(k, value, objective, enough) else value for k, value in enumerate(own)]
    used = np.array([single if value is None else value for value in own], float)  # NaN keeps nothing
    return OperatingPoint(
        objective=str(objective),
        iou=IOU,
        overall=counts.figures(list(classes), used, None, defined=single is not None),
        single=counts.figures(list(classes), np.full(len(used), single, float), single, defined=single is not None),
        per_class={
            label: counts.figures([k], used, own[k], defined=not np.isnan(used[k]))
            for k, label in enumerate(scene.labels())
        },
    )


def trusted(confidences: Sequence[float]) -> list[float]:
    """Return confidences of the best F1, by class, the middle of the others in place of those that are too low.

    For confidences that were kept when every class had its own, however little was found of it. Where most are too low
    it is the scores that are, and nothing is known that would be better.
    """
    others = [value for value in confidences if value >= LEAST_CONFIDENCE]
    if 2 * len(others) < len(confidences):
        return list(confidences)
    return [value if value >= LEAST_CONFIDENCE else median(others) for value in confidences]


class _Counts:
    """Counts detections and objects of chosen classes."""

    def __init__(self, scene: Scene, outcome: np.ndarray) -> None:
        self.scene, self.outcome = scene, outcome
        counted = ~scene.truth.ignored
        self.category, self.image = scene.truth.category[counted], scene.truth_image[counted]

    def confidence(self, ours: np.ndarray, classes: list[int], objective: Objective, floor: float) -> float | None:
        """Return the confidence for the detections marked in ``ours`` (N,), which are those of ``classes``."""
        if objective.aim == "conf":
            return objective.value
        objects = int(np.isin(self.category, classes).sum())
        scores = self.scene.found.scores[ours]
        order = np.argsort(-scores, kind="stable")
        scores, outcome = scores[order], self.outcome[ours][order]
        cuts = np.flatnonzero(np.diff(scores, append=-np.inf))  # equal scores are kept or left out together
        hits, false = (np.cumsum(outcome == kind)[cuts] for kind in (TRUE, FALSE))
        cut = objective.chosen(hits, false, objects) if objects and len(cuts) else None
        if cut is None:
            return None
        lowest = scores[cuts[cut]]
        below = scores[cuts[cut + 1]] if cut + 1 < len(cuts) else min(floor, lowest)
        return float((lowest + below) / 2)

    def by_chance(self, k: int, confidence: float | None, objective: Objective, enough: int) -> bool:
        """Return whether the confidence chosen for a class, if there is one, says nothing of others' images."""
        if confidence is None or np.count_nonzero(self.category == k) < enough:
            return True
        used = np.full(len(self.scene.categories), confidence)
        return objective.aim == "f1" and self.figures([k], used, confidence, defined=True).F1 < LEAST_F1

    def figures(self, classes: list[int], used: np.ndarray, confidence: float | None, *, defined: bool) -> PointFigures:
        """Return what the confidences ``used`` (K,) give for some classes."""
        objects = self.image[np.isin(self.category, classes)]
        if not defined:
            nothing = dict.fromkeys(("confidence", "precision", "recall", "F1", "detections"))
            return PointFigures(**nothing, objects=len(objects), count_mae=None, count_bias=None)
        category = self.scene.found_category
        kept = np.isin(category, classes) & (self.scene.found.scores >= used[category])
        hits, false = (int(np.count_nonzero(kept & (self.outcome == kind))) for kind in (TRUE, FALSE))
        shown = kept & np.isin(self.outcome, (TRUE, FALSE))
        images = len(self.scene.images)
        surplus = np.bincount(self.scene.found_image[shown], minlength=images) - np.bincount(objects, minlength=images)
        return PointFigures(
            confidence=confidence,
            precision=hits / (hits + false) if hits + false else None,
            recall=hits / len(objects) if len(objects) else None,
            F1=2 * hits / (hits + false + len(objects)) if len(objects) else None,
            objects=len(objects),
            detections=hits + false,
            count_mae=float(np.abs(surplus).mean()),
            count_bias=float(surplus.mean()),
        )
