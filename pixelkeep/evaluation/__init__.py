"""Evaluation of detections: COCO figures with size bins, equal to pycocotools' and many times faster.

Needs numpy alone; pycocotools is loaded when it is asked for as the reference.
"""

from pixelkeep.evaluation.areas import AITOD_BINS, COCO_SIZES, AreaRange
from pixelkeep.evaluation.coco import CocoEvaluator
from pixelkeep.evaluation.detections import Detections
from pixelkeep.evaluation.ground_truth import GroundTruthBuilder, density, detection_limit, normalise, sha256
from pixelkeep.evaluation.result import BinFigures, ClassFigures, Protocol, Result
from pixelkeep.evaluation.scoring import evaluate

__all__ = [
    "AITOD_BINS",
    "COCO_SIZES",
    "AreaRange",
    "BinFigures",
    "ClassFigures",
    "CocoEvaluator",
    "Detections",
    "GroundTruthBuilder",
    "Protocol",
    "Result",
    "density",
    "detection_limit",
    "evaluate",
    "normalise",
    "sha256",
]
