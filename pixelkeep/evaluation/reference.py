"""The judge: the same figures from pycocotools itself.

Two things are changed in what pycocotools does. Its ``_prepare`` overwrites ``ignore`` by ``iscrowd``, so the mark of
objects to ignore is put back; and ``eval["precision"]`` is read in place of its summary, which prints -1 at caps other
than 100. Nothing is printed.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from pixelkeep.evaluation.areas import AreaRange
from pixelkeep.evaluation.coco import CocoEvaluator
from pixelkeep.evaluation.curves import Curves
from pixelkeep.evaluation.detections import Detections


class ReferenceEvaluator(CocoEvaluator):
    """`CocoEvaluator` with the curves from pycocotools: for checking, many times slower."""

    name = "pycocotools"

    def curves(self, detections: Detections) -> Curves:
        """Return precision and recall over `areas` and `caps`, in that order."""
        return pycocotools_curves(self.ground_truth, detections, self.areas, self.caps)


def pycocotools_curves(
    ground_truth: dict[str, Any], detections: Detections, areas: Sequence[AreaRange], caps: Sequence[int]
) -> Curves:
    """Run pycocotools on a ground truth that `normalise` returned; every id of the detections must be known."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = _evaluation(ground_truth, _results(detections))
        evaluation.params.maxDets = sorted(set(caps))
        evaluation.params.areaRng = [list(area.area) for area in areas]
        evaluation.evaluate()
        evaluation.accumulate()
    places = [evaluation.params.maxDets.index(cap) for cap in caps]
    precision, recall = (evaluation.eval[key][..., places] for key in ("precision", "recall"))
    return Curves(np.where(precision < 0, np.nan, precision), np.where(recall < 0, np.nan, recall))


def _results(detections: Detections) -> list[dict[str, Any]]:
    """Return the detections as pycocotools' ``loadRes`` would complete them; that one fails on an empty list."""
    return [
        {**record, "id": number, "area": record["bbox"][2] * record["bbox"][3], "iscrowd": 0}
        for number, record in enumerate(detections.records(), start=1)
    ]


def _evaluation(ground_truth: dict[str, Any], results: list[dict[str, Any]]) -> Any:
    """Return a COCOeval that neutralises objects to ignore as well as regions."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    objects = {a["id"] for a in ground_truth["annotations"] if a["ignore"] and not a["iscrowd"]}

    class ObjectIgnoringEval(COCOeval):
        def _prepare(self) -> None:
            super()._prepare()
            for group in self._gts.values():
                for annotation in group:
                    annotation["ignore"] = annotation["ignore"] or annotation["id"] in objects

    def index(annotations: list[dict[str, Any]]) -> COCO:
        coco = COCO()
        coco.dataset = {**ground_truth, "annotations": [dict(annotation) for annotation in annotations]}
        coco.createIndex()
        return coco

    return ObjectIgnoringEval(index(ground_truth["annotations"]), index(results), iouType="bbox")
