"""The operating point: the confidences that production uses, and the figures at them. AP says nothing about either.

The confidence of each class is chosen by an objective, on the evaluator's matching at IoU 0.5 with its rules of
ignoring. It lies halfway between the lowest score that is kept and the highest one that is left out.
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
# A class with fewer objects gets no confidence of its own. Even at 30, the 95 % interval (Wilson) of a recall of one
# half runs from 0.33 to 0.67, and the best F1 of so few objects is due to chance.
ENOUGH = 30
# Nor does a class with a lower best F1; at 0.1 there are 18 missed objects or false detections for each right one. If
# scores are calibrated, the best F1 is reached at a confidence of half that F1 (Lipton, Elkan, Naryanaswamy: Optimal
# Thresholding of Classifiers to Maximize F1 Measure, ECML PKDD 2014). Where only confidences are kept, this identifies
# such a class.
LEAST_F1 = 0.1
LEAST_CONFIDENCE = LEAST_F1 / 2
AIMS = ("f1", "precision", "recall", "conf")


@dataclass(frozen=True)
class Objective:
    """The objective that a confidence is chosen by.

    aim: "f1" for the best F1 (the highest confidence if several reach it); "precision" for the lowest confidence that
        reaches that precision; "recall" for the highest confidence that reaches that recall; "conf" for this confidence
        in every class.
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
        """Return the index of the chosen cut among the cuts (c,), which go by falling confidence; None if none serves.

        Args:
            hits, false: (c,) numbers of true and false positives above each cut.
            objects: Number of ground-truth objects.
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
    """The figures at a confidence, at IoU 0.5; None where undefined.

    confidence: lowest score of a detection that is kept; None if no confidence serves the objective.
    precision, recall, F1: figures of the kept detections. objects: number of objects, without ignored ones.
    detections: number of kept detections, without those that the evaluator ignores.
    count_mae, count_bias: means over all images of |detections - objects| and of detections - objects.
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
    """The confidences chosen for an objective, and the figures at them.

    objective: the objective as `Objective.parse` reads it. iou: 0.5.
    overall: figures of all classes together, each at its own confidence; ``confidence`` is None.
    single: figures of all classes at the one confidence that serves the objective over all of them pooled.
    per_class: figures by class. A class whose ``confidence`` is None runs at the single confidence, and its figures are
        taken there.
    """

    objective: str
    iou: float
    overall: PointFigures
    single: PointFigures
    per_class: dict[str, PointFigures]

    def confidences(self) -> np.ndarray | None:
        """Return (K,) the confidence that each class runs at; None if not even the single confidence is defined."""
        if self.single.confidence is None:
            return None
        own = (figures.confidence for figures in self.per_class.values())
        return np.array([self.single.confidence if value is None else value for value in own])

    def to_dict(self) -> dict[str, Any]:
        """Return plain dictionaries, as metrics.json holds them."""
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
    """Choose the confidences for an objective, and compute the figures at them.

    Args:
        ground_truth: COCO document, or the path of one.
        detections: Detections at a low confidence, since no confidence below their lowest score can be chosen.
        objective: Objective to choose by; None for the best F1.
        max_dets: Cap on the detections of one class in one image; None takes `detection_limit`.
        floor: Lowest score that a detection could have had.
        enough: Number of objects that a class must have for a confidence of its own, if there are several classes.

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
    """Return the given confidences of the best F1, one per class, with those too low replaced by the others' median.

    This is for confidences stored when every class had its own, however few of its objects were found. If most are too
    low, the scores themselves are low and nothing better is known, so the confidences are returned as they are.
    """
    others = [value for value in confidences if value >= LEAST_CONFIDENCE]
    if 2 * len(others) < len(confidences):
        return list(confidences)
    return [value if value >= LEAST_CONFIDENCE else median(others) for value in confidences]


class _Counts:
    """Counts the detections and objects of given classes."""

    def __init__(self, scene: Scene, outcome: np.ndarray) -> None:
        self.scene, self.outcome = scene, outcome
        counted = ~scene.truth.ignored
        self.category, self.image = scene.truth.category[counted], scene.truth_image[counted]

    def confidence(self, ours: np.ndarray, classes: list[int], objective: Objective, floor: float) -> float | None:
        """Return the confidence chosen for the detections of ``classes``, which the mask ``ours`` (N,) selects."""
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
        """Return whether a class's confidence is None, or rests on too little to hold for other images."""
        if confidence is None or np.count_nonzero(self.category == k) < enough:
            return True
        used = np.full(len(self.scene.categories), confidence)
        return objective.aim == "f1" and self.figures([k], used, confidence, defined=True).F1 < LEAST_F1

    def figures(self, classes: list[int], used: np.ndarray, confidence: float | None, *, defined: bool) -> PointFigures:
        """Return the figures of ``classes`` together at the confidences ``used`` (K,)."""
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
