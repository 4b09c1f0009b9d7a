"""VisDrone's way with regions to ignore: what lies half inside them is taken away before anything is evaluated.

Source: the VisDrone toolkit's ``dropObjectsInIgr.m``, which counts pixels of the regions' union; here areas are exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pixelkeep.evaluation.detections import Detections

HALF = 0.5


def covered(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Return (n,) which fraction of each box lies in the union of the regions; both (·, 4) as x, y, width, height.

    The regions' edges cut the plane into cells, each inside the union or outside.
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
    """Return (n, cells) how much of each interval lies in each cell between neighbouring edges."""
    low, high = start[:, None], (start + length)[:, None]
    return np.maximum(np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1]), 0)


class Regions:
    """The regions to ignore of a normalised ground truth, by image."""

    def __init__(self, ground_truth: dict[str, Any]) -> None:
        boxes: dict[int, set[tuple[float, ...]]] = {}
        for annotation in ground_truth["annotations"]:
            if annotation["iscrowd"]:
                boxes.setdefault(annotation["image_id"], set()).add(tuple(annotation["bbox"]))
        self._boxes = {image: np.array(sorted(unique), np.float64) for image, unique in boxes.items()}

    def outside(self, image_ids: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Return (n,) which boxes lie less than half inside the regions of their image."""
        kept = np.ones(len(boxes), bool)
        for image, regions in self._boxes.items():
            here = np.flatnonzero(image_ids == image)
            kept[here] = covered(boxes[here], regions) < HALF
        return kept

    def cleared(self, ground_truth: dict[str, Any]) -> dict[str, Any]:
        """Return the ground truth without the regions and the objects in them."""
        objects = [a for a in ground_truth["annotations"] if not a["iscrowd"]]
        image_ids = np.array([a["image_id"] for a in objects], np.int64)
        kept = self.outside(image_ids, np.array([a["bbox"] for a in objects], np.float64).reshape(-1, 4))
        return {**ground_truth, "annotations": [a for a, keep in zip(objects, kept, strict=True) if keep]}

    def best(self, detections: Detections, limit: int) -> Detections:
        """Return the detections outside the regions, of each image the ``limit`` best of all classes."""
        found = detections.subset(self.outside(detections.image_ids, detections.boxes_xywh))
        order = np.lexsort((-found.scores, found.image_ids))
        images = found.image_ids[order]
        rank = np.arange(len(images)) - np.searchsorted(images, images)
        return found.subset(np.sort(order[rank < limit]))
