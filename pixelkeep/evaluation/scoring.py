"""`evaluate` turns ground truth and detections into a `Result` in one call, with any evaluator and measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pixelkeep.errors import OptionError, choices, nearest
from pixelkeep.evaluation.alarms import count_alarms
from pixelkeep.evaluation.areas import ALL_SIZES, AreaRange
from pixelkeep.evaluation.arrays import DetectionArrays
from pixelkeep.evaluation.bins import Bins, read_bins
from pixelkeep.evaluation.breakdown import Breakdown, break_down
from pixelkeep.evaluation.coco import LIMIT, AnyDetections, CocoEvaluator
from pixelkeep.evaluation.curves import accumulate
from pixelkeep.evaluation.detections import Detections
from pixelkeep.evaluation.ground_truth import GroundTruth
from pixelkeep.evaluation.matching import match as match_boxes
from pixelkeep.evaluation.reading import is_number
from pixelkeep.evaluation.reference import FastEvaluator, ReferenceEvaluator
from pixelkeep.evaluation.result import Result
from pixelkeep.evaluation.similarity import LOOSEST, read_similarity
from pixelkeep.evaluation.voc import voc_figures

EVALUATORS = {kind.name: kind for kind in (CocoEvaluator, ReferenceEvaluator, FastEvaluator)}


def judge_for(match: str) -> str:
    """Return the name of the evaluator for reported figures: pycocotools, or our own for measures that it lacks."""
    return ReferenceEvaluator.name if match == "iou" else CocoEvaluator.name


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """Options of scoring, read and checked before anything is run.

    Attributes and errors: as for the arguments of `evaluate`.
    """

    evaluator: str = CocoEvaluator.name
    bins: Bins | Sequence[AreaRange] | str | None = None
    match: str = "iou"
    by: str | None = None
    voc: bool = False
    alarm_conf: float = 0.25

    def __post_init__(self) -> None:
        if self.evaluator not in EVALUATORS:
            hint = nearest(self.evaluator, EVALUATORS)
            raise OptionError(f"evaluator '{self.evaluator}'; expected {choices(EVALUATORS)}{hint}")
        kind = EVALUATORS[self.evaluator]
        kind.require(read_similarity(self.match).name)
        if not (is_number(self.alarm_conf) and 0 <= self.alarm_conf <= 1):
            raise OptionError(f"alarm_conf is {self.alarm_conf!r}; expected a confidence from 0 to 1")
        object.__setattr__(self, "bins", read_bins(self.bins))
        if self.by is not None:
            Breakdown(self.by)

    @property
    def max_dets(self) -> int | None:
        """The cap on detections of the bins' benchmark; None if it has none."""
        return self.bins.max_dets

    def evaluate(self, ground_truth: GroundTruth, detections: AnyDetections, max_dets: int | None = None) -> Result:
        """Score detections with these options; see `evaluate`."""
        kind = EVALUATORS[self.evaluator]
        evaluator = kind(ground_truth, max_dets=max_dets, bins=self.bins, match=self.match)
        columns = detections if isinstance(detections, Detections) else Detections.from_json(detections)
        result = evaluator.evaluate(columns)
        kept = evaluator.prepare(columns)
        found = DetectionArrays.from_detections(kept, evaluator.truth, evaluator.caps[LIMIT])
        result.AP25 = _loosest(evaluator, found)
        result.alarms = count_alarms(
            evaluator.ground_truth, evaluator.truth, found, evaluator.similarity, self.alarm_conf
        )
        if self.voc:
            everything = DetectionArrays.from_detections(kept, evaluator.truth, len(kept))
            result.voc = voc_figures(evaluator.truth, everything)
        if self.by is not None:
            result.by = break_down(evaluator, columns, Breakdown(self.by))
        return result


def _loosest(evaluator: CocoEvaluator, found: DetectionArrays) -> float | None:
    """Return the AP at threshold 0.25; None for a measure without graded thresholds."""
    if not evaluator.similarity.graded:
        return None
    areas, caps = (ALL_SIZES,), (evaluator.caps[LIMIT],)
    outcome = match_boxes(evaluator.truth, found, areas, evaluator.similarity.at(LOOSEST))
    return accumulate(evaluator.truth, found, outcome, areas, caps).average_precision(0, 0)


def evaluate(
    ground_truth: GroundTruth,
    detections: AnyDetections,
    *,
    max_dets: int | None = None,
    bins: Bins | Sequence[AreaRange] | str | None = None,
    match: str = "iou",
    by: str | None = None,
    voc: bool = False,
    alarm_conf: float = 0.25,
    evaluator: str = CocoEvaluator.name,
) -> Result:
    """Score detections by the rules of the COCO evaluation.

    Args:
        ground_truth: COCO document, or the path of one.
        detections: `Detections`, a list of ``{"image_id", "category_id", "bbox": [x, y, width, height], "score"}``,
            or the path of such a JSON file.
        max_dets: Cap on the detections of one class in one image; None takes the cap of the bins' benchmark, else
            `detection_limit`.
        bins: Size classes to report besides S, M and L: "aitod", "visdrone", borders such as "0,8,16,32,96", or ranges.
        match: Measure by which boxes match: "iou"; "nwd", the normalised Wasserstein distance with the same thresholds;
            "center:K", centres at most K pixels apart.
        by: Regular expression; the part of the file name that it finds splits the figures, see `Breakdown`.
        voc: Whether to compute Pascal VOC's AP50 too.
        alarm_conf: Confidence at which the probability of detection and false alarms are counted.
        evaluator: "pixelkeep", or "pycocotools" or "faster-coco-eval" for the reference; the figures are equal.

    Errors: DataError for input that cannot be used, OptionError for options that cannot be used.
    """
    scoring = Scoring(evaluator=evaluator, bins=bins, match=match, by=by, voc=voc, alarm_conf=alarm_conf)
    return scoring.evaluate(ground_truth, detections, max_dets)
