"""Evaluate detections: COCO figures with size bins, equal to those of pycocotools and many times faster.

Only numpy is needed; pycocotools is loaded only when it is asked for as the reference.
"""

from pixelkeep.evaluation.areas import AITOD_BINS, COCO_SIZES, AreaRange
from pixelkeep.evaluation.breakdown import Breakdown
from pixelkeep.evaluation.coco import CocoEvaluator
from pixelkeep.evaluation.detections import Detections
from pixelkeep.evaluation.ground_truth import GroundTruthBuilder, density, detection_limit, normalise, sha256
from pixelkeep.evaluation.result import Alarms, BinFigures, By, ClassFigures, PartFigures, Protocol, Result
from pixelkeep.evaluation.scoring import EVALUATORS, Scoring, evaluate, judge_for

__all__ = [
    "AITOD_BINS",
    "COCO_SIZES",
    "EVALUATORS",
    "Alarms",
    "AreaRange",
    "BinFigures",
    "Breakdown",
    "By",
    "ClassFigures",
    "CocoEvaluator",
    "Detections",
    "GroundTruthBuilder",
    "PartFigures",
    "Protocol",
    "Result",
    "Scoring",
    "density",
    "detection_limit",
    "evaluate",
    "judge_for",
    "normalise",
    "sha256",
]
