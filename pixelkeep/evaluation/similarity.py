"""How alike a detection and an object are: by overlap, by the distance of their centres, or as Gaussians.

For objects of 3 to 8 pixels, one pixel of offset halves the IoU; the other two measures forgive it. The source of
``nwd`` is Wang et al., "A Normalized Gaussian Wasserstein Distance for Tiny Object Detection", 2021 (arXiv:2110.13389).
The distance of the centres is how papers on infrared targets match (Li et al., "Dense Nested Attention Network", 2021,
3 pixels).

All measures take pairs: boxes (P, 4) as x, y, width, height of detections and of ground truth, and a mask (P,) of the
ground truth that is a region to ignore. A region takes a detection by how much of the detection's box lies inside, in
`center` by whether its centre does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pixelkeep.errors import OptionError, choices, nearest

NWD_CONSTANT = 12.8  # pixels, the mean size of objects in AI-TOD according to the paper
SLACK = 1e-6  # pixels: rounding must not decide whether a distance is at most K
EXPECTED = ("iou", "nwd", "center:3")


@dataclass(frozen=True, eq=False)
class Similarity:
    """A measure of pairs, with the thresholds at and above which they match.

    Attributes:
        name: Name of the measure in the protocol of a result.
        measure: Function from detected boxes, ground-truth boxes and the mask of regions to (P,) similarities.
        thresholds: (T,) thresholds in rising order.
        margin: Distance in pixels that boxes may lie apart and still match.
        graded: Whether the thresholds are fractions, so that there is an AP at 0.50.
    """

    name: str
    measure: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    thresholds: np.ndarray
    margin: float = 0.0
    graded: bool = True

    def position(self, threshold: float) -> int | None:
        """Return the position of a threshold; None if the measure does not have it."""
        found = np.flatnonzero(np.isclose(self.thresholds, threshold)) if self.graded else ()
        return int(found[0]) if len(found) else None

    def at(self, threshold: float) -> Similarity:
        """Return the measure with this threshold alone."""
        return Similarity(self.name, self.measure, np.array([threshold]), self.margin, self.graded)


def read_similarity(text: str) -> Similarity:
    """Return the measure called ``iou``, ``nwd`` or ``center:K``, which matches centres within K pixels.

    Errors: OptionError for any other name and for K that is not a positive number.
    """
    name, _, value = text.partition(":")
    if name == "center" and value:
        return centre_distance(value)
    if text not in ("iou", "nwd"):
        hint = nearest(text, EXPECTED)
        raise OptionError(f"match '{text}'; expected one of {choices(EXPECTED)}, the number in pixels{hint}")
    return IOU if text == "iou" else NWD


def box_iou(found: np.ndarray, truth: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Return (P,) IoU of boxes (P, 4) as x, y, width, height; for crowds, intersection over the detection's area.

    The order of operations is that of pycocotools' ``bbIou``, because the last bit decides at a threshold.
    """
    far = np.minimum(found[:, :2] + found[:, 2:], truth[:, :2] + truth[:, 2:])
    sides = np.maximum(far - np.maximum(found[:, :2], truth[:, :2]), 0)
    intersection = sides[:, 0] * sides[:, 1]
    found_area, truth_area = found[:, 2] * found[:, 3], truth[:, 2] * truth[:, 3]
    union = np.where(crowd, found_area, found_area + truth_area - intersection)
    return np.divide(intersection, union, out=np.zeros_like(union), where=intersection > 0)


def nwd(found: np.ndarray, truth: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Return (P,) exp(-W / 12.8) for the 2-Wasserstein distance W of the boxes as Gaussians, equation 8 of the paper.

    W**2 = squared distance of the centres + ((w1 - w2) / 2)**2 + ((h1 - h2) / 2)**2.
    """
    apart = ((_centres(found) - _centres(truth)) ** 2).sum(axis=1)
    sides = (((found[:, 2:] - truth[:, 2:]) / 2) ** 2).sum(axis=1)
    return np.where(crowd, box_iou(found, truth, crowd), np.exp(-np.sqrt(apart + sides) / NWD_CONSTANT))


def centre_distance(pixels: str) -> Similarity:
    """Return the measure by which pairs match if their centres are at most ``pixels`` apart.

    The similarity is the negative distance, so the nearest object is the best. A region takes a detection whose centre
    lies inside it.
    """
    try:
        limit = float(pixels)
    except ValueError:
        limit = math.nan
    if not 0 < limit < math.inf:
        raise OptionError(f"match 'center:{pixels}'; expected a positive number of pixels, such as center:3")

    def measure(found: np.ndarray, truth: np.ndarray, crowd: np.ndarray) -> np.ndarray:
        centre = _centres(found)
        inside = ((centre >= truth[:, :2]) & (centre <= truth[:, :2] + truth[:, 2:])).all(axis=1)
        apart = -np.hypot(*(centre - _centres(truth)).T)
        return np.where(crowd, np.where(inside, 0.0, -np.inf), apart)

    return Similarity(f"center:{limit:g}", measure, np.array([-(limit + SLACK)]), limit + 1, graded=False)


def _centres(boxes: np.ndarray) -> np.ndarray:
    return boxes[:, :2] + boxes[:, 2:] / 2


LOOSEST = 0.25  # the lowest threshold of any figure of a graded measure
IOU = Similarity("iou", box_iou, np.linspace(0.5, 0.95, 10))
NWD = Similarity("nwd", nwd, IOU.thresholds, margin=-NWD_CONSTANT * math.log(LOOSEST) + 1)
