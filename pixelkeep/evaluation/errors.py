"""Errors by kind and size: what became of every object, and what every detection is.

The idea is that of Bolya, Foley, Hays, Hoffman, "TIDE: A General Toolbox for Identifying Object Detection Errors",
ECCV 2020, with definitions of our own, given here. Detections that reach their class's confidence are matched by the
evaluator's rules at IoU 0.5. A detection is of the first of these kinds that holds:

- ignored: the evaluator ignores it; matched: it took an object of its class;
- duplicate: it has IoU >= 0.5 with an object of its class, which another detection took;
- wrong class: it has IoU >= 0.5 with an object of another class;
- badly placed: it has IoU >= 0.1 with an object of its class;
- background: none of these.

A wrong class or badly placed detection belongs to one object: the one of highest IoU among those in its range, where
objects that nothing matched take precedence. An object is matched; else wrong class, if a detection of that kind
belongs to it; else badly placed, likewise; else missed. Objects that the evaluator ignores have none of these kinds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pixelkeep.evaluation.areas import AITOD_BINS, COCO_SIZES, AreaRange
from pixelkeep.evaluation.operating import IOU
from pixelkeep.evaluation.overlaps import Scene

NEAR = 0.1  # IoU from which a detection counts as badly placed rather than as background
MATCHED, WRONG_CLASS, BADLY_PLACED, MISSED = "matched", "wrong_class", "badly_placed", "missed"
DUPLICATE, BACKGROUND, IGNORED = "duplicate", "background", "ignored"
OBJECTS = (MATCHED, WRONG_CLASS, BADLY_PLACED, MISSED)
DETECTIONS = (MATCHED, WRONG_CLASS, BADLY_PLACED, DUPLICATE, BACKGROUND)


@dataclass(frozen=True, eq=False)
class Errors:
    """What became of G objects and N detections.

    Attributes:
        scene: The detections that reach their class's confidence, and the ground truth.
        confidences: (K,) the confidence of each class.
        objects: (G,) kind of each object, one of OBJECTS or IGNORED.
        detections: (N,) kind of each detection, one of DETECTIONS or IGNORED.
        partner: (N,) index of the object that a matched, wrong class or badly placed detection belongs to, else -1.
    """

    scene: Scene
    confidences: np.ndarray
    objects: np.ndarray
    detections: np.ndarray
    partner: np.ndarray

    def to_dict(self, sizes: Sequence[AreaRange] = (*COCO_SIZES, *AITOD_BINS)) -> dict[str, Any]:
        """Return the contents of errors.json: counts overall, by size and by class, and every error with image and box.

        A size holds the objects with an area in its range and the detections whose own box has such an area. A border
        belongs to the sizes on both sides of it.
        """
        truth, labels = self.scene.truth, self.scene.labels()
        boxes = self.scene.found.boxes
        area = boxes[:, 2] * boxes[:, 3]
        every = self._counts(np.ones(len(self.objects), bool), np.ones(len(self.detections), bool))
        return {
            "schema": 1,
            "iou": IOU,
            "near": NEAR,
            "confidence": dict(zip(labels, self.confidences.tolist(), strict=True)),
            "all": every,
            "sizes": [
                {
                    "name": size.name,
                    "low": size.low,
                    "high": size.high,
                    **self._counts(size.contains(truth.areas), size.contains(area)),
                }
                for size in sizes
            ],
            "per_class": {
                label: self._counts(truth.category == k, self.scene.found_category == k)
                for k, label in enumerate(labels)
            },
            "list": self._objects() + self._detections(),
        }

    def _counts(self, objects: np.ndarray, detections: np.ndarray) -> dict[str, dict[str, int]]:
        ours, found = self.objects[objects], self.detections[detections]
        return {
            "objects": {
                "total": int(np.count_nonzero(ours != IGNORED)),
                **{kind: int(np.count_nonzero(ours == kind)) for kind in OBJECTS},
            },
            "detections": {
                "total": int(np.count_nonzero(found != IGNORED)),
                **{kind: int(np.count_nonzero(found == kind)) for kind in DETECTIONS},
            },
        }

    def _objects(self) -> list[dict[str, Any]]:
        scene, labels = self.scene, self.scene.labels()
        wrong = np.flatnonzero(~np.isin(self.objects, (MATCHED, IGNORED)))
        return [
            {
                "what": "object",
                "kind": str(self.objects[g]),
                "image": scene.images[scene.truth_image[g]]["file_name"],
                "class": labels[scene.truth.category[g]],
                "bbox": scene.truth.boxes[g].tolist(),
            }
            for g in wrong
        ]

    def _detections(self) -> list[dict[str, Any]]:
        scene, labels = self.scene, self.scene.labels()
        wrong = np.flatnonzero(~np.isin(self.detections, (MATCHED, IGNORED)))
        return [
            {
                "what": "detection",
                "kind": str(self.detections[d]),
                "image": scene.images[scene.found_image[d]]["file_name"],
                "class": labels[scene.found_category[d]],
                "bbox": scene.found.boxes[d].tolist(),
                "score": float(scene.found.scores[d]),
            }
            for d in wrong
        ]


def find_errors(scene: Scene, confidences: np.ndarray) -> Errors:
    """Determine the kind of every object and of every detection.

    Args:
        scene: The ground truth and the detections at any low confidence.
        confidences: (K,) score from which the detections of each class are considered.
    """
    kept = scene.at(confidences)
    objects = np.where(kept.truth.ignored, IGNORED, MISSED).astype("<U12")
    detections = np.full(len(kept.found.scores), BACKGROUND, "<U12")
    partner = np.full(len(detections), -1)
    for d, g, iou in kept.by_image():
        if len(d) and len(g):
            same = kept.found_category[d][:, None] == kept.truth.category[g]
            _match(iou * same, d, g, kept, objects, detections, partner)
            _explain(iou, same, d, g, objects, detections, partner)
    return Errors(kept, confidences, objects, detections, partner)


def worst_misses(scene: Scene, errors: Errors, limit: int) -> list[tuple[int, float]]:
    """Return the missed small objects (COCO's S), the worst first, each with the best score of a detection near it.

    A detection near an object is one of the object's class with IoU >= 0.1, at any score. The worst misses are those
    with the lowest best score; of equal ones the larger object comes first.

    Args:
        scene: The scene given to `find_errors`, with the detections at a low confidence.
        errors: The errors that `find_errors` returned for it.
        limit: Maximum number of objects to return.
    """
    best = np.zeros(len(scene.truth.group))
    for d, g, iou in scene.by_image():
        near = (iou >= NEAR) & (scene.found_category[d][:, None] == scene.truth.category[g])
        best[g] = np.where(near, scene.found.scores[d][:, None], 0.0).max(axis=0, initial=0.0)
    missed = np.flatnonzero((errors.objects == MISSED) & COCO_SIZES[0].contains(scene.truth.areas))
    order = np.lexsort((-scene.truth.areas[missed], best[missed]))[:limit]
    return [(int(box), float(best[box])) for box in missed[order]]


def _match(
    iou: np.ndarray,
    d: np.ndarray,
    g: np.ndarray,
    scene: Scene,
    objects: np.ndarray,
    detections: np.ndarray,
    partner: np.ndarray,
) -> None:
    """Match the detections ``d`` of an image with its boxes ``g`` by ``iou`` (d, g), which is 0 across classes.

    The rules are those of `pixelkeep.evaluation.matching`, which returns how each detection counts but not the box that
    it matched.
    """
    ignored, crowd = scene.truth.ignored[g], scene.truth.crowd[g]
    taken = np.zeros(len(g), bool)
    for row, detection in zip(iou, d, strict=True):
        free = (row >= IOU) & ~taken
        free = free & ~ignored if (free & ~ignored).any() else free
        if not free.any():
            continue
        best = len(g) - 1 - int(np.where(free, row, -1)[::-1].argmax())  # of boxes with equal IoU the later
        taken[best] = not crowd[best]
        if ignored[best]:
            detections[detection] = IGNORED
        else:
            detections[detection] = objects[g[best]] = MATCHED
            partner[detection] = g[best]


def _explain(
    iou: np.ndarray,
    same: np.ndarray,
    d: np.ndarray,
    g: np.ndarray,
    objects: np.ndarray,
    detections: np.ndarray,
    partner: np.ndarray,
) -> None:
    """Set the kinds of an image's unmatched detections, and of the unmatched objects that these belong to."""
    matched = objects[g] == MATCHED  # taken before any object is explained below
    counted = objects[g] != IGNORED
    for kind in (WRONG_CLASS, BADLY_PLACED):  # wrong class first, because an object keeps the first kind that it gets
        for row, own, detection in zip(iou, same, d, strict=True):
            if detections[detection] != BACKGROUND:
                continue
            if (own & counted & (row >= IOU)).any():
                detections[detection] = DUPLICATE
                continue
            near = counted & (~own & (row >= IOU) if kind == WRONG_CLASS else own & (row >= NEAR))
            if not near.any():
                continue
            near = near & ~matched if (near & ~matched).any() else near
            best = g[int(np.where(near, row, -1).argmax())]
            detections[detection], partner[detection] = kind, best
            if objects[best] == MISSED:
                objects[best] = kind
