"""The label audit: labels that a detector disagrees with, the strongest disagreement first.

A detector is right more often than not about what it has seen many times. A label that it disagrees with therefore
deserves a look. There are three kinds of candidates, each with a score from 0 to 1:

- missing label: a detection that reaches its class's confidence, where no label of any class overlaps it by IoU 0.1 and
  no region to ignore covers a tenth of it. The candidate's score is that of the detection. Of several detections in one
  place only the best becomes a candidate.
- wrong class: a label that a detection of another class covers (IoU >= 0.5) with a score that reaches that class's
  confidence, while no detection of the label's own class covers it with as high a score. The candidate's score is the
  difference of the two scores. A detection that also covers a label of its own class contradicts nothing.
- never found: a label that no detection of any class with a score of 0.01 or more overlaps by IoU 0.1. The candidate's
  score is the share of labels of the same class and size (S, M, L) that the detector does find. A missed label is
  suspect if the detector always finds its kind, and is not if the detector mostly misses that kind.

Labels marked to ignore are not audited.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pixelkeep.evaluation.areas import COCO_SIZES
from pixelkeep.evaluation.errors import NEAR
from pixelkeep.evaluation.operating import IOU
from pixelkeep.evaluation.overlaps import Scene
from pixelkeep.evaluation.similarity import box_iou

FAINT = 0.01  # lower scores are noise: a detector keeps hundreds of such boxes, which lie everywhere
KINDS = MISSING, WRONG, NEVER = ("missing label", "wrong class", "never found")


@dataclass(frozen=True)
class Candidate:
    """A label, or the place of a missing one, that deserves a look.

    Attributes:
        kind: One of KINDS.
        image: Index of the image in the scene.
        box: x, y, width, height in pixels of the original image: the label's box, or the detection's if there is no
            label.
        label: Class index of the label; None if there is no label.
        detected: Class index of the detection; None if there is no detection.
        score: From 0 to 1, how strongly the detector disagrees.
    """

    kind: str
    image: int
    box: tuple[float, float, float, float]
    label: int | None
    detected: int | None
    score: float


def audit(scene: Scene, confidences: np.ndarray) -> list[Candidate]:
    """Return the candidates, the strongest disagreement first.

    Args:
        scene: The ground truth, and detections at a low confidence.
        confidences: (K,) score from which a detection of each class is believed.
    """
    candidates: list[Candidate] = []
    seen = np.zeros(len(scene.truth.group), bool)
    for d, g, iou in scene.by_image():
        near = scene.found.scores[d] >= FAINT
        seen[g] = (iou[near] >= NEAR).any(axis=0)
        sure = d[scene.found.scores[d] >= confidences[scene.found_category[d]]]
        candidates += _missing(scene, sure, iou[np.isin(d, sure)])
        candidates += _contradicted(scene, d, g, iou, confidences)
    candidates += _never_found(scene, seen)
    return sorted(candidates, key=lambda c: (-c.score, KINDS.index(c.kind), c.image, c.box))


def _missing(scene: Scene, sure: np.ndarray, iou: np.ndarray) -> list[Candidate]:
    """Return the detections ``sure`` (d,) of one image that overlap no box by ``iou`` (d, g), the best per place."""
    alone = sure[~(iou >= NEAR).any(axis=1)]
    alone = alone[np.argsort(-scene.found.scores[alone], kind="stable")]
    boxes, kept = scene.found.boxes[alone], []
    for i in range(len(alone)):
        if not kept or (_iou(boxes[[i] * len(kept)], boxes[kept]) < IOU).all():
            kept.append(i)
    return [
        Candidate(
            MISSING,
            int(scene.found_image[d]),
            tuple(scene.found.boxes[d].tolist()),
            None,
            int(scene.found_category[d]),
            float(scene.found.scores[d]),
        )
        for d in alone[kept]
    ]


def _contradicted(
    scene: Scene, d: np.ndarray, g: np.ndarray, iou: np.ndarray, confidences: np.ndarray
) -> list[Candidate]:
    """Return the labels ``g`` of one image whose class is contradicted by detections ``d``; ``iou`` is (d, g)."""
    scores, classes = scene.found.scores[d], scene.found_category[d]
    same = classes[:, None] == scene.truth.category[g]
    covers = iou >= IOU
    at_home = (covers & same).any(axis=1)  # detections that cover a label of their own class
    found = []
    for column, box in enumerate(g):
        other = covers[:, column] & ~same[:, column] & ~at_home & (scores >= confidences[classes])
        if scene.truth.ignored[box] or not other.any():
            continue
        best = int(np.where(other, scores, -1).argmax())
        own = scores[covers[:, column] & same[:, column]].max(initial=0.0)
        if scores[best] > own:
            place = (int(scene.truth_image[box]), tuple(scene.truth.boxes[box].tolist()))
            found.append(
                Candidate(WRONG, *place, int(scene.truth.category[box]), int(classes[best]), float(scores[best] - own))
            )
    return found


def _never_found(scene: Scene, seen: np.ndarray) -> list[Candidate]:
    """Return the labels that are not ``seen`` (G,), each scored by the share of labels of its kind that are."""
    truth = scene.truth
    counted = ~truth.ignored
    size = np.select([area.contains(truth.areas) for area in COCO_SIZES], range(len(COCO_SIZES)))
    found = []
    for box in np.flatnonzero(counted & ~seen):
        alike = counted & (truth.category == truth.category[box]) & (size == size[box])
        found.append(
            Candidate(
                NEVER,
                int(scene.truth_image[box]),
                tuple(truth.boxes[box].tolist()),
                int(truth.category[box]),
                None,
                float(seen[alike].mean()),
            )
        )
    return found


def audit_rows(scene: Scene, candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Return the rows of label_audit.csv: boxes in pixels, classes by name, an empty text where there is no class."""
    labels = scene.labels()
    return [
        {
            "rank": rank,
            "kind": c.kind,
            "file": scene.images[c.image]["file_name"],
            **dict(zip(("x", "y", "width", "height"), (round(v, 2) for v in c.box), strict=True)),
            "class": "" if c.label is None else labels[c.label],
            "detected": "" if c.detected is None else labels[c.detected],
            "score": round(c.score, 4),
        }
        for rank, c in enumerate(candidates, start=1)
    ]


def audit_document(scene: Scene, candidates: Sequence[Candidate]) -> dict[str, Any]:
    """Return the candidates as a COCO document for annotation tools, with ``score`` and ``attributes``.

    A candidate's category is the class that the detector suggests, or the label's class if nothing was detected.
    """
    labels = scene.labels()
    shown = sorted({c.image for c in candidates})
    return {
        "images": [scene.images[image] for image in shown],
        "categories": [{"id": c["id"], "name": c["name"], "supercategory": ""} for c in scene.categories],
        "annotations": [
            {
                "id": rank,
                "image_id": scene.images[c.image]["id"],
                "category_id": scene.categories[c.label if c.detected is None else c.detected]["id"],
                "bbox": list(c.box),
                "area": c.box[2] * c.box[3],
                "segmentation": [],
                "iscrowd": 0,
                "score": c.score,
                "attributes": {"kind": c.kind, "labelled": "" if c.label is None else labels[c.label]},
            }
            for rank, c in enumerate(candidates, start=1)
        ],
    }


def _iou(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the IoU of pairs of boxes (P, 4)."""
    return box_iou(one, other, np.zeros(len(one), bool))
