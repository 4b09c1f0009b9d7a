"""Precision over recall as COCO defines it: 101 recalls, each with the best precision at that recall or beyond."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pixelkeep.evaluation.areas import AreaRange
from pixelkeep.evaluation.arrays import DetectionArrays, TruthArrays
from pixelkeep.evaluation.matching import FALSE, TRUE, count_mask

RECALLS = np.linspace(0, 1, 101)
EVERY = slice(None)


@dataclass(frozen=True, eq=False)
class Curves:
    """Precision (T, R, K, A, M) and greatest recall (T, K, A, M), NaN without ground truth of that class and size.

    Letters in shapes: T thresholds (ten for the IoU), R = 101 recalls, K classes in the order of their ids, A area
    ranges, M caps on the detections of one class in one image.
    """

    precision: np.ndarray
    recall: np.ndarray

    def average_precision(
        self, area: int, cap: int, threshold: int | slice | None = EVERY, category: int | slice = EVERY
    ) -> float | None:
        """Return the mean precision over thresholds, recalls and classes; None where nothing is defined.

        ``threshold`` is None if the measure lacks the threshold asked for, and then the mean is None as well.
        """
        if threshold is None:
            return None
        return _mean(self.precision[threshold, :, category, area, cap])

    def average_recall(self, area: int, cap: int) -> float | None:
        """Return the mean recall over thresholds and classes; None where nothing is defined."""
        return _mean(self.recall[:, :, area, cap])


def accumulate(
    truth: TruthArrays, found: DetectionArrays, outcome: np.ndarray, areas: Sequence[AreaRange], caps: Sequence[int]
) -> Curves:
    """Turn the (N, A, T) outcome of `match` into curves; all caps use the same matching."""
    classes = len(truth.category_ids)
    shape = (classes, len(areas), len(caps))
    precision = np.full((outcome.shape[2], len(RECALLS), *shape), np.nan)
    recall = np.full((outcome.shape[2], *shape), np.nan)
    counted = count_mask(truth, areas)
    positives = np.stack([np.bincount(truth.category[mask], minlength=classes) for mask in counted.T], axis=1)  # (K, A)
    borders = np.searchsorted(found.group, np.arange(classes + 1) * len(truth.image_ids))
    for k, a in np.argwhere(positives):
        ours = slice(borders[k], borders[k + 1])
        order = np.argsort(-found.scores[ours], kind="stable")  # equal scores: by image, then as within the image
        rank, result = found.rank[ours][order], outcome[ours, a][order].T  # (n,), (T, n)
        for m, cap in enumerate(caps):
            curve = _interpolate(result[:, rank < cap], int(positives[k, a]))
            precision[:, :, k, a, m], recall[:, k, a, m] = curve
    return Curves(precision, recall)


def _interpolate(outcome: np.ndarray, positives: int) -> tuple[np.ndarray, np.ndarray]:
    """Return precision (T, R) and greatest recall (T,) of detections (T, n) in order of falling score.

    Precision is highest at a true positive, so the envelope is taken over true positives alone. Its column j holds the
    best precision from true positive j + 1 on, and its last column, past every true positive, stays 0.
    """
    row, column = np.nonzero(outcome == TRUE)
    hits = np.cumsum(outcome == TRUE, axis=1)
    misses = np.cumsum(outcome == FALSE, axis=1)[row, column]
    total = np.count_nonzero(outcome == TRUE, axis=1)  # (T,)
    hit = hits[row, column]
    envelope = np.zeros((len(outcome), total.max() + 1))
    envelope[row, hit - 1] = hit / (misses + hit + np.spacing(1))
    envelope = np.maximum.accumulate(envelope[:, ::-1], axis=1)[:, ::-1]
    needed = np.searchsorted(np.arange(positives + 1) / positives, RECALLS)  # true positives that reach each recall
    return envelope[:, (needed - 1).clip(0, total.max())], total / positives


def _mean(values: np.ndarray) -> float | None:
    defined = values[~np.isnan(values)]
    return float(np.mean(defined)) if defined.size else None
