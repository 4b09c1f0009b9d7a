"""The reference judge: the same figures from pycocotools itself, or from faster-coco-eval, a copy of it in C++.

Two things that pycocotools does are changed. Its ``_prepare`` overwrites ``ignore`` with ``iscrowd``, so the mark of
objects to ignore is put back. Its summary prints -1 at caps other than 100, so ``eval["precision"]`` is read instead.
Nothing is printed.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from pixelkeep.errors import OptionError
from pixelkeep.evaluation.areas import AreaRange
from pixelkeep.evaluation.coco import CocoEvaluator
from pixelkeep.evaluation.curves import Curves
from pixelkeep.evaluation.detections import Detections


class ReferenceEvaluator(CocoEvaluator):
    """`CocoEvaluator` with the curves from pycocotools, for checking. It is many times slower."""

    name = "pycocotools"

    @classmethod
    def require(cls, match: str) -> None:
        """Raise OptionError unless the evaluator is installed and has the measure ``match``."""
        if match != "iou":
            raise OptionError(
                f"evaluator '{cls.name}' matches by IoU alone; expected evaluator 'pixelkeep' for match '{match}'"
            )
        cls.load()

    @staticmethod
    def load() -> tuple[type, type]:
        """Return the package's COCO and COCOeval."""
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        return COCO, COCOeval

    def curves(self, detections: Detections) -> Curves:
        """Return precision and recall over `areas` and `caps`, in that order."""
        return coco_curves(self.load(), self.ground_truth, detections, self.areas, self.caps)


class FastEvaluator(ReferenceEvaluator):
    """`ReferenceEvaluator` with the curves from faster-coco-eval, an optional package.

    Errors: OptionError where it is not installed.
    """

    name = "faster-coco-eval"

    @staticmethod
    def load() -> tuple[type, type]:
        """Return the package's COCO and COCOeval."""
        try:
            from faster_coco_eval import COCO, COCOeval_faster
        except ImportError as error:
            raise OptionError(
                "evaluator 'faster-coco-eval' is not installed; pip install 'pixelkeep[fast]', or use pycocotools"
            ) from error
        return COCO, COCOeval_faster


def coco_curves(
    classes: tuple[type, type],
    ground_truth: dict[str, Any],
    detections: Detections,
    areas: Sequence[AreaRange],
    caps: Sequence[int],
) -> Curves:
    """Run COCOeval on a ground truth that `normalise` returned, which must have every id that the detections name."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = _evaluation(*classes, ground_truth, _results(detections))
        evaluation.params.maxDets = sorted(set(caps))
        evaluation.params.areaRng = [list(area.area) for area in areas]
        evaluation.params.areaRngLbl = [area.name for area in areas]
        evaluation.evaluate()
        evaluation.accumulate()
    places = [evaluation.params.maxDets.index(cap) for cap in caps]
    precision, recall = (evaluation.eval[key][..., places] for key in ("precision", "recall"))
    return Curves(np.where(precision < 0, np.nan, precision), np.where(recall < 0, np.nan, recall))


def _results(detections: Detections) -> list[dict[str, Any]]:
    """Return the detections as pycocotools' ``loadRes``, which fails on an empty list, would complete them."""
    return [
        {**record, "id": number, "area": record["bbox"][2] * record["bbox"][3], "iscrowd": 0}
        for number, record in enumerate(detections.records(), start=1)
    ]


def _evaluation(coco_class: type, base: type, ground_truth: dict[str, Any], results: list[dict[str, Any]]) -> Any:
    """Return a COCOeval that neutralises objects to ignore as well as regions."""
    objects = {a["id"] for a in ground_truth["annotations"] if a["ignore"] and not a["iscrowd"]}

    class ObjectIgnoringEval(base):
        def _prepare(self) -> None:
            super()._prepare()
            for number in objects:
                self.cocoGt.anns[number]["ignore"] = 1

    def index(annotations: list[dict[str, Any]]) -> Any:
        coco = coco_class()
        coco.dataset = {**ground_truth, "annotations": [dict(annotation) for annotation in annotations]}
        coco.createIndex()
        return coco

    return ObjectIgnoringEval(index(ground_truth["annotations"]), index(results), iouType="bbox")
