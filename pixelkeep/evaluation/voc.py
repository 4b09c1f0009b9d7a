"""Pascal VOC's AP at IoU 0.50, by eleven recalls (used until 2009) and by the area under the curve (from 2010).

Source: Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", IJCV 2010, and the development kit's
``VOCevaldet.m`` and ``VOCap.m``. A detection belongs to the object of its class and image with which its IoU is the
greatest, whether that object is free or not. The first detection of an object, by falling score, is true, a second one
is false, and a detection whose object is difficult counts as neither. There is no limit on detections. Boxes of the kit
end at their last pixel, ours just behind it, so that the kit's widths with its ``+ 1`` equal ours.

VOC has no regions to ignore. Here a region takes a detection that would be false and lies half inside the region.
"""

from __future__ import annotations

import numpy as np

from pixelkeep.evaluation.arrays import DetectionArrays, TruthArrays
from pixelkeep.evaluation.matching import FALSE, NEUTRAL, TRUE, matching_pairs
from pixelkeep.evaluation.similarity import IOU

OVERLAP = IOU.at(0.5)
POINTS = np.arange(11)  # tenths of recall


def voc_figures(truth: TruthArrays, found: DetectionArrays) -> dict[str, float | None]:
    """Return "AP50_11" and "AP50_area", means over the classes with ground truth; None if no class has any."""
    outcome = _outcome(truth, found)
    images, classes = len(truth.image_ids), len(truth.category_ids)
    positives = np.bincount(truth.category[~truth.ignored], minlength=classes)
    borders = np.searchsorted(found.group, np.arange(classes + 1) * images)
    figures = []
    for k in np.flatnonzero(positives):
        ours = slice(borders[k], borders[k + 1])
        order = np.argsort(-found.scores[ours], kind="stable")
        figures.append(average_precisions(outcome[ours][order], int(positives[k])))
    means = [float(mean) for mean in np.mean(figures, axis=0)] if figures else [None, None]
    return dict(zip(("AP50_11", "AP50_area"), means, strict=True))


def average_precisions(outcome: np.ndarray, positives: int) -> tuple[float, float]:
    """Return AP by eleven recalls and AP by area for detections (n,) in order of falling score.

    Both take at each recall the best precision there or beyond, which is highest at a true positive. Recalls are
    compared as whole numbers, so that 3 of 10 reaches 0.3 despite the rounding of binary fractions.
    """
    hits, misses = np.cumsum(outcome == TRUE), np.cumsum(outcome == FALSE)
    at = np.flatnonzero(outcome == TRUE)
    precision = np.maximum.accumulate((hits[at] / (hits[at] + misses[at]))[::-1])[::-1]
    needed = np.maximum(-(-POINTS * positives // 10), 1)  # true positives that reach each recall
    reached = needed[needed <= len(at)]
    return float(precision[reached - 1].sum() / len(POINTS)), float(precision.sum() / positives)


def _outcome(truth: TruthArrays, found: DetectionArrays) -> np.ndarray:
    """Return (N,) what each detection counts as: FALSE, TRUE or NEUTRAL."""
    outcome = np.full(len(found.group), FALSE, np.uint8)
    parts = list(matching_pairs(truth, found, OVERLAP))
    detection, box, iou = (np.concatenate(column) for column in zip(*parts, strict=True))
    region = truth.crowd[box]
    outcome[detection[region]] = NEUTRAL
    detection, box, iou = detection[~region], box[~region], iou[~region]
    order = np.lexsort((box, -iou, detection))
    detection, first = np.unique(detection[order], return_index=True)
    box = box[order][first]  # per detection the object of greatest IoU, the earlier one if several are equal
    outcome[detection] = np.where(truth.ignored[box], NEUTRAL, outcome[detection])
    counted = ~truth.ignored[box]
    _, claims = np.unique(box[counted], return_index=True)  # within an image scores fall, so the first is the best
    outcome[detection[counted][claims]] = TRUE
    return outcome
