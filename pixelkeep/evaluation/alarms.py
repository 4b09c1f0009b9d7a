"""Probability of detection and false alarms at one confidence, as papers on infrared targets report them.

Source: Li et al., "Dense Nested Attention Network for Infrared Small Target Detection", 2021 (arXiv:2106.00487): Pd is
the share of targets that are detected, Fa the share of all pixels that are falsely detected. The paper has masks and
counts pixels; this module counts boxes and gives false alarms per image and per megapixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pixelkeep.evaluation.areas import ALL_SIZES, COCO_SIZES
from pixelkeep.evaluation.arrays import DetectionArrays, TruthArrays
from pixelkeep.evaluation.matching import FALSE, TRUE, count_mask, match
from pixelkeep.evaluation.result import Alarms
from pixelkeep.evaluation.similarity import Similarity


def count_alarms(
    ground_truth: dict[str, Any], truth: TruthArrays, found: DetectionArrays, similarity: Similarity, conf: float
) -> Alarms:
    """Count detected objects and false alarms among detections of score ``conf`` or more.

    Matching is at the measure's lowest threshold. Detections choose their objects in order of falling score, so leaving
    out those of lower score changes no match of the others.
    """
    areas = (ALL_SIZES, COCO_SIZES[0])
    outcome = match(truth, found, areas, similarity.at(similarity.thresholds[0]))[found.scores >= conf, :, 0]  # (n, 2)
    hits = np.count_nonzero(outcome == TRUE, axis=0)
    misfires = int(np.count_nonzero(outcome[:, 0] == FALSE))
    objects = count_mask(truth, areas).sum(axis=0)
    megapixels = _megapixels(ground_truth)
    return Alarms(
        conf=conf,
        Pd=_share(hits[0], objects[0]),
        Pd_S=_share(hits[1], objects[1]),
        found=int(hits[0]),
        gt=int(objects[0]),
        false=misfires,
        per_image=misfires / len(truth.image_ids),
        per_megapixel=misfires / megapixels if megapixels else None,
    )


def _share(hits: int, objects: int) -> float | None:
    return float(hits / objects) if objects else None


def _megapixels(ground_truth: dict[str, Any]) -> float | None:
    """Return the pixels of all images in millions; None if the size of an image is not known."""
    sizes = [image.get("width", 0) * image.get("height", 0) for image in ground_truth["images"]]
    return sum(sizes) / 1e6 if all(sizes) else None
