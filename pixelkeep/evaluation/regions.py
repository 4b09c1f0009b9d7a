"""VisDrone's treatment of regions to ignore: boxes that lie half inside them are removed before evaluation.

Source: the VisDrone toolkit's ``dropObjectsInIgr.m``, which counts pixels of the regions' union; here areas are exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pixelkeep.evaluation.detections import Detections

HALF = 0.5


def covered(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Return (n,) the fraction of each box that lies in the union of the regions.

    Boxes (n, 4) and regions (r, 4) are given as x, y, width, height. The edges of the regions cut the plane into cells
    that lie each inside or outside the union.
    """
    near, far = regions[:, :2], regions[:, :2] + regions[:, 2:]  # (r, 2)
    columns, rows = (np.unique(np.concatenate([near[:, axis], far[:, axis]])) for axis in (0, 1))
    right = (near[:, :1] <= columns[:-1]) & (columns[1:] <= far[:, :1])  # (r, X)
    below = (near[:, 1:] <= rows[:-1]) & (rows[1:] <= far[:, 1:])  # (r, Y)
    inside = (right[:, :, None] & below[:, None, :]).any(axis=0).astype(float)  # (X, Y)
    shared = [_shared(boxes[:, axis], boxes[:, axis + 2], edges) for axis, edges in ((0, columns), (1, rows))]
    area = boxes[:, 2] * boxes[:, 3]
    covered_area = ((shared[0] @ inside) * shared[1]).sum(axis=1)
    return np.divide(covered_area, area, out=np.zeros_like(area), where=area > 0)


def _shared(start: np.ndarray, length: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return (n, cells) the length of each interval inside each cell between neighbouring edges."""
    low, high = start[:, None], (start + length)[:, None]
    return np.maximum(np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1]), 0)


class Regions:
    """The regions to ignore in a normalised ground truth, by image."""

    def __init__(self, ground_truth: dict[str, Any]) -> None:
        boxes: dict[int, set[tuple[float, ...]]] = {}
        for annotation in ground_truth["annotations"]:
            if annotation["iscrowd"]:
                boxes.setdefault(annotation["image_id"], set()).add(tuple(annotation["bbox"]))
        self._boxes = {image: np.array(sorted(unique), np.float64) for image, unique in boxes.items()}

    def outside(self, image_ids: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Return a mask (n,) of the boxes that lie less than half inside the regions of their image."""
        kept = np.ones(len(boxes), bool)
        for image, regions in self._boxes.items():
            here = np.flatnonzero(image_ids == image)
            kept[here] = covered(boxes[here], regions) < HALF
        return kept

    def cleared(self, ground_truth: dict[str, Any]) -> dict[str, Any]:
        """Return the ground truth without the regions and without the objects that lie half inside them."""
        objects = [a for a in ground_truth["annotations"] if not a["iscrowd"]]
        image_ids = np.array([a["image_id"] for a in objects], np.int64)
        kept = self.outside(image_ids, np.array([a["bbox"] for a in objects], np.float64).reshape(-1, 4))
        return {**ground_truth, "annotations": [a for a, keep in zip(objects, kept, strict=True) if keep]}

    def best(self, detections: Detections, limit: int) -> Detections:
        """Return the detections outside the regions; of each image the ``limit`` best, all classes together."""
        found = detections.subset(self.outside(detections.image_ids, detections.boxes_xywh))
        order = np.lexsort((-found.scores, found.image_ids))
        images = found.image_ids[order]
        rank = np.arange(len(images)) - np.searchsorted(images, images)
        return found.subset(np.sort(order[rank < limit]))
