"""Compute the COCO figures: prepare a ground truth once, then score detections against it any number of times."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pixelkeep.errors import OptionError
from pixelkeep.evaluation.areas import ALL_SIZES, COCO_SIZES, AreaRange
from pixelkeep.evaluation.arrays import DetectionArrays, TruthArrays, check_ids
from pixelkeep.evaluation.bins import Bins, read_bins
from pixelkeep.evaluation.curves import Curves, accumulate
from pixelkeep.evaluation.detections import Detections
from pixelkeep.evaluation.ground_truth import GroundTruth, detection_limit, normalise, sha256
from pixelkeep.evaluation.matching import count_mask, match
from pixelkeep.evaluation.reading import is_id
from pixelkeep.evaluation.regions import Regions
from pixelkeep.evaluation.result import BinFigures, ClassFigures, Protocol, Result
from pixelkeep.evaluation.similarity import Similarity, read_similarity

AnyDetections = Detections | Sequence[Mapping[str, Any]] | str | os.PathLike
ALL, S, M, L, BINS = range(5)  # positions of the area ranges; the bins follow from BINS on
LIMIT, COCO_CAP = range(2)  # positions of the caps on detections


class CocoEvaluator:
    """Score detections against one ground truth.

    Args:
        ground_truth: COCO document, or the path of one; see `normalise`.
        max_dets: Cap on the detections of one class in one image; None takes the cap of the bins' benchmark, else
            `detection_limit`.
        bins: Size classes to report besides S, M and L, see `read_bins`; None for AI-TOD's size classes with the cap of
            `detection_limit`.
        match: "iou", "nwd" or "center:K", see `read_similarity`.

    Errors: DataError for a ground truth that cannot be used; OptionError for a wrong ``max_dets``, ``bins`` or
        ``match``.
    """

    name = "pixelkeep"

    def __init__(
        self,
        ground_truth: GroundTruth,
        *,
        max_dets: int | None = None,
        bins: Bins | Sequence[AreaRange] | str | None = None,
        match: str = "iou",
    ) -> None:
        if max_dets is not None and not (is_id(max_dets) and max_dets >= 1):
            raise OptionError(f"max_dets is {max_dets!r}; expected an integer, 1 or more")
        self.similarity, self.bins = read_similarity(match), read_bins(bins)
        self.require(self.similarity.name)
        self.source = self.ground_truth = normalise(ground_truth)
        self.sha256 = sha256(self.source)
        self._regions = Regions(self.source) if self.bins.clears_regions else None
        if self._regions:
            self.ground_truth = self._regions.cleared(self.source)
        self.truth = TruthArrays.from_coco(self.ground_truth)
        self.caps = (int(max_dets or self.bins.max_dets or detection_limit(self.source)), 100)
        self.areas = (ALL_SIZES, *COCO_SIZES, *self.bins.ranges)

    @classmethod
    def require(cls, match: str) -> None:
        """Raise OptionError unless the evaluator is installed and has the measure ``match``; this one has them all."""

    def evaluate(self, detections: AnyDetections) -> Result:
        """Return the figures of the detections, given as `Detections`, a list of COCO results or the path of one.

        AP25, ``alarms``, ``voc`` and ``by`` are left to `Scoring`, since validation after an epoch needs none of them.

        Errors: DataError for an image or category that the ground truth lacks and for values that are not finite.
        """
        curves = self.curves(self.prepare(detections))
        return Result(
            gt_sha256=self.sha256,
            images=len(self.truth.image_ids),
            protocol=self._protocol(),
            **_headline(curves, self.similarity),
            counts={size.name: self._count(size) for size in COCO_SIZES},
            bins=[self._bin(size, curves, BINS + index) for index, size in enumerate(self.bins.ranges)],
            per_class=self._per_class(curves),
        )

    def prepare(self, detections: AnyDetections) -> Detections:
        """Check the detections and return them in columns, without those that the bins' benchmark drops."""
        columns = detections if isinstance(detections, Detections) else Detections.from_json(detections)
        check_ids(columns, self.truth)
        return self._regions.best(columns, self.caps[LIMIT]) if self._regions else columns

    def curves(self, detections: Detections) -> Curves:
        """Return precision and recall over `areas` and `caps`, in that order."""
        found = DetectionArrays.from_detections(detections, self.truth, max(self.caps))
        outcome = match(self.truth, found, self.areas, self.similarity)
        return accumulate(self.truth, found, outcome, self.areas, self.caps)

    def _protocol(self) -> Protocol:
        annotations = self.source["annotations"]
        regions = {(a["image_id"], *a["bbox"]) for a in annotations if a["iscrowd"]}
        objects = sum(a["ignore"] and not a["iscrowd"] for a in annotations)
        own_areas = any(a["area"] != a["bbox"][2] * a["bbox"][3] for a in annotations if not a["ignore"])
        return Protocol(
            evaluator=self.name,
            match=self.similarity.name,
            bins=self.bins.name,
            max_dets=self.caps[LIMIT],
            area="annotation" if own_areas else "box",
            ignored=len(regions) + objects,
        )

    def _count(self, size: AreaRange) -> int:
        return int(count_mask(self.truth, [size]).sum())

    def _bin(self, size: AreaRange, curves: Curves, area: int) -> BinFigures:
        return BinFigures(
            name=size.name,
            low=size.low,
            high=size.high,
            gt=self._count(size),
            AP=curves.average_precision(area, LIMIT),
            AP50=curves.average_precision(area, LIMIT, self.similarity.position(0.5)),
            AR=curves.average_recall(area, LIMIT),
        )

    def _per_class(self, curves: Curves) -> dict[str, ClassFigures]:
        names = {category["id"]: category["name"] for category in self.ground_truth["categories"]}
        uses = Counter(names.values())
        counts = np.bincount(self.truth.category[~self.truth.ignored], minlength=len(names))
        return {
            names[key] if uses[names[key]] == 1 else f"{names[key]} (id {key})": ClassFigures(
                AP=curves.average_precision(ALL, LIMIT, category=index),
                AP50=curves.average_precision(ALL, LIMIT, self.similarity.position(0.5), index),
                AP_S=curves.average_precision(S, LIMIT, category=index),
                gt=int(counts[index]),
            )
            for index, key in enumerate(self.truth.category_ids.tolist())
        }


def _headline(curves: Curves, similarity: Similarity) -> dict[str, float | None]:
    """Return the figures over all classes, keyed by their names in `Result`."""
    figures = {
        "AP50": curves.average_precision(ALL, LIMIT, similarity.position(0.5)),
        "AP75": curves.average_precision(ALL, LIMIT, similarity.position(0.75)),
        "AP50_S": curves.average_precision(S, LIMIT, similarity.position(0.5)),
        "AP_100": curves.average_precision(ALL, COCO_CAP),
    }
    for suffix, area in (("", ALL), ("_S", S), ("_M", M), ("_L", L)):
        figures["AP" + suffix] = curves.average_precision(area, LIMIT)
        figures["AR" + suffix] = curves.average_recall(area, LIMIT)
    return figures
