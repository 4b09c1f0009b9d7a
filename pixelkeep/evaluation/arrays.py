"""Ground truth and detections as arrays, sorted into groups. A group is the boxes of one class in one image.

Letters in shapes: I images, K classes, G ground-truth boxes, N detections. A group's number is class index * I +
image index. Classes and images are indexed in the order of their ids, so the groups of one class lie side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pixelkeep.errors import DataError, choices
from pixelkeep.evaluation.detections import Detections


@dataclass(frozen=True, eq=False)
class TruthArrays:
    """Ground truth: sorted ids of images (I,) and categories (K,), and G boxes by group, in file order within one."""

    image_ids: np.ndarray
    category_ids: np.ndarray
    group: np.ndarray
    boxes: np.ndarray  # (G, 4) x, y, width, height
    areas: np.ndarray
    crowd: np.ndarray
    ignored: np.ndarray

    @classmethod
    def from_coco(cls, ground_truth: dict[str, Any]) -> TruthArrays:
        """Build the arrays from a ground truth that `normalise` returned."""
        image_ids = np.array(sorted(image["id"] for image in ground_truth["images"]), np.int64)
        category_ids = np.array(sorted(category["id"] for category in ground_truth["categories"]), np.int64)
        annotations = ground_truth["annotations"]
        image = np.searchsorted(image_ids, np.array([a["image_id"] for a in annotations], np.int64))
        category = np.searchsorted(category_ids, np.array([a["category_id"] for a in annotations], np.int64))
        group = category * len(image_ids) + image
        order = np.argsort(group, kind="stable")
        return cls(
            image_ids=image_ids,
            category_ids=category_ids,
            group=group[order],
            boxes=np.array([a["bbox"] for a in annotations], np.float64).reshape(-1, 4)[order],
            areas=np.array([a["area"] for a in annotations], np.float64)[order],
            crowd=np.array([a["iscrowd"] for a in annotations], bool)[order],
            ignored=np.array([a["ignore"] for a in annotations], bool)[order],
        )

    @property
    def category(self) -> np.ndarray:
        """Class index of each box, (G,)."""
        return self.group // len(self.image_ids)


@dataclass(frozen=True, eq=False)
class DetectionArrays:
    """N detections sorted by group and, within a group, by falling score; ``rank`` counts from 0 in each group."""

    group: np.ndarray
    rank: np.ndarray
    boxes: np.ndarray  # (N, 4) x, y, width, height
    scores: np.ndarray

    @classmethod
    def from_detections(cls, detections: Detections, truth: TruthArrays, limit: int) -> DetectionArrays:
        """Sort the detections and keep the ``limit`` best of every group.

        Of detections with equal scores the earlier goes first. The ground truth must have every id: see `check_ids`.
        """
        image = np.searchsorted(truth.image_ids, detections.image_ids)
        category = np.searchsorted(truth.category_ids, detections.category_ids)
        group = category * len(truth.image_ids) + image
        order = np.lexsort((-detections.scores, group))
        group = group[order]
        rank = np.arange(len(group)) - np.searchsorted(group, group)
        kept = rank < limit
        order = order[kept]
        return cls(group[kept], rank[kept], detections.boxes_xywh[order], detections.scores[order])


def check_ids(detections: Detections, truth: TruthArrays) -> None:
    """Raise DataError for a detection in an image or of a category that the ground truth does not have."""
    for key in ("image_ids", "category_ids"):
        ids, known = getattr(detections, key), getattr(truth, key)
        unknown = ~np.isin(ids, known)
        if unknown.any():
            index = int(unknown.argmax())
            raise DataError(
                f"detections[{index}] names {key[:-1]} {ids[index]}, which the ground truth lacks; "
                f"expected one of {choices(known)}"
            )
