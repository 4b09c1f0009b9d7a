"""Overlap of each detection with every labelled box of its image, of any class, for error analysis and audit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pixelkeep.evaluation.arrays import DetectionArrays, TruthArrays, check_ids
from pixelkeep.evaluation.detections import Detections
from pixelkeep.evaluation.ground_truth import GroundTruth, detection_limit, normalise
from pixelkeep.evaluation.similarity import box_iou


@dataclass(frozen=True, eq=False)
class Scene:
    """Ground truth and detections of a data set: G labelled boxes and N detections, each with class and image.

    Attributes:
        images, categories: Records of the ground truth in the order of their ids; image and class indices refer to
            these lists.
        truth: The labelled boxes, sorted into groups.
        found: The detections, sorted into groups.
    """

    images: list[dict]
    categories: list[dict]
    truth: TruthArrays
    found: DetectionArrays

    @classmethod
    def of(cls, ground_truth: GroundTruth, detections: Detections, max_dets: int | None = None) -> Scene:
        """Build a scene, with ground truth and detections sorted as the evaluator sorts them.

        Args:
            ground_truth: COCO document, or the path of one.
            detections: Detections in the images of the ground truth.
            max_dets: Cap on the detections of one class in one image; None takes `detection_limit`.

        Errors: DataError for a ground truth that cannot be used, and for images and categories that it lacks.
        """
        document = normalise(ground_truth)
        truth = TruthArrays.from_coco(document)
        check_ids(detections, truth)
        found = DetectionArrays.from_detections(detections, truth, max_dets or detection_limit(document))
        by_id = (sorted(document[key], key=lambda record: record["id"]) for key in ("images", "categories"))
        return cls(*by_id, truth, found)

    @property
    def found_category(self) -> np.ndarray:
        """Class index of each detection, (N,)."""
        return self.found.group // len(self.images)

    @property
    def found_image(self) -> np.ndarray:
        """Image index of each detection, (N,)."""
        return self.found.group % len(self.images)

    @property
    def truth_image(self) -> np.ndarray:
        """Image index of each labelled box, (G,)."""
        return self.truth.group % len(self.images)

    def at(self, confidences: np.ndarray) -> Scene:
        """Return the scene without detections below the confidence of their class, ``confidences`` (K,)."""
        kept = self.found.scores >= confidences[self.found_category]
        found = DetectionArrays(*(getattr(self.found, key)[kept] for key in ("group", "rank", "boxes", "scores")))
        return Scene(self.images, self.categories, self.truth, found)

    def labels(self) -> list[str]:
        """Return the class names, with the id appended to names that repeat."""
        names = [category["name"] for category in self.categories]
        return [f"{n} (id {c['id']})" if names.count(n) > 1 else n for n, c in zip(names, self.categories, strict=True)]

    def by_image(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield for each image its detections (d,), its boxes (g,), both as indices, and their IoU (d, g).

        For crowd regions the IoU is replaced by intersection over the detection's area. The detections of one class
        come in order of falling score.
        """
        found, boxes = (_by_value(values, len(self.images)) for values in (self.found_image, self.truth_image))
        for detection, box in zip(found, boxes, strict=True):
            d, g = np.repeat(detection, len(box)), np.tile(box, len(detection))
            iou = box_iou(self.found.boxes[d], self.truth.boxes[g], self.truth.crowd[g])
            yield detection, box, iou.reshape(len(detection), len(box))


def _by_value(values: np.ndarray, count: int) -> list[np.ndarray]:
    """Return for each value from 0 to count - 1 the positions in ``values`` at which it stands, rising."""
    order = np.argsort(values, kind="stable")
    return np.split(order, np.searchsorted(values[order], np.arange(1, count)))
