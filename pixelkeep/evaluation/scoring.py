"""`evaluate`: one call from ground truth and detections to a `Result`, by either evaluator."""

from __future__ import annotations

from collections.abc import Sequence

from pixelkeep.errors import OptionError, choices, nearest
from pixelkeep.evaluation.areas import AITOD_BINS, AreaRange
from pixelkeep.evaluation.coco import AnyDetections, CocoEvaluator
from pixelkeep.evaluation.ground_truth import GroundTruth
from pixelkeep.evaluation.reference import ReferenceEvaluator
from pixelkeep.evaluation.result import Result

EVALUATORS = {kind.name: kind for kind in (CocoEvaluator, ReferenceEvaluator)}


def evaluate(
    ground_truth: GroundTruth,
    detections: AnyDetections,
    *,
    max_dets: int | None = None,
    bins: Sequence[AreaRange] = AITOD_BINS,
    evaluator: str = "pixelkeep",
) -> Result:
    """Score detections by the rules of the COCO evaluation.

    Args:
        ground_truth: COCO document, or the path of one.
        detections: `Detections`, a list of ``{"image_id", "category_id", "bbox": [x, y, width, height], "score"}``,
            or the path of such a JSON file.
        max_dets: cap on the detections of one class in one image; None takes `detection_limit`.
        bins: size ranges to report besides S, M and L.
        evaluator: "pixelkeep", or "pycocotools" for the reference; the figures are equal.

    Errors: DataError for input that cannot be used, OptionError for an unknown evaluator or a wrong ``max_dets``.
    """
    if evaluator not in EVALUATORS:
        raise OptionError(f"evaluator '{evaluator}'; expected {choices(EVALUATORS)}{nearest(evaluator, EVALUATORS)}")
    return EVALUATORS[evaluator](ground_truth, max_dets=max_dets, bins=bins).evaluate(detections)
