"""Compute the COCO figures of many resamples of the images from one matching of each set of detections.

AP is not a mean over images, so each resample needs curves of its own. But matching happens within an image: drawing an
image twice repeats its outcome. A resample is therefore a weight for each image, namely how often it was drawn, and its
curve is a weighted cumulative sum over the detections in order of falling score. The figures are those that the
evaluator gives on a data set in which each image appears as often as it was drawn. Copies of a detection stay together,
and detections of equal score keep the order that they have in the evaluator.

Sources: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993; Davison and Hinkley, "Bootstrap Methods and
their Application", 1997, section 3.8 (drawing whole groups).

Letters in shapes: I images, K classes, G ground-truth boxes, N detections (n of one class), A area ranges, T
thresholds, B resamples (as columns, so that one operation on a row serves all of them).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pixelkeep.evaluation.areas import AreaRange
from pixelkeep.evaluation.arrays import DetectionArrays, TruthArrays
from pixelkeep.evaluation.curves import RECALLS
from pixelkeep.evaluation.matching import NEUTRAL, TRUE, count_mask
from pixelkeep.evaluation.metrics import Metric

AT_ONCE = 1 << 23  # numbers in the largest array, which has a row for each detection of a class: some 32 MB


@dataclass(frozen=True, eq=False)
class Run:
    """N matched detections of one trained model, sorted by class and, within a class, by falling score.

    Attributes:
        borders: (K + 1,) position at which each class begins, and N at the end.
        image: (N,) image index of each detection.
        rank: (N,) position of each detection among those of its class and image, from 0.
        outcome: (N, A, T) outcomes as `match` returns them.
    """

    borders: np.ndarray
    image: np.ndarray
    rank: np.ndarray
    outcome: np.ndarray

    @classmethod
    def of(cls, truth: TruthArrays, found: DetectionArrays, outcome: np.ndarray) -> Run:
        """Sort the detections as `accumulate` does: those of equal score by image, then in their order within it."""
        category, image = np.divmod(found.group, len(truth.image_ids))
        order = np.lexsort((-found.scores, category))
        borders = np.searchsorted(category, np.arange(len(truth.category_ids) + 1))
        return cls(borders, image[order], found.rank[order], outcome[order])

    def cell(self, category: int, area: int, cap: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (n,) images and (n, T) outcomes of a class, without the detections that change no figure.

        These are the detections that are neutral at every threshold, and those after the last true positive.
        """
        ours = slice(self.borders[category], self.borders[category + 1])
        outcome = self.outcome[ours, area]
        kept = (self.rank[ours] < cap) & (outcome != NEUTRAL).any(axis=1)
        kept[np.flatnonzero(kept & (outcome == TRUE).any(axis=1)).max(initial=-1) + 1 :] = False
        return self.image[ours][kept], outcome[kept]


def draw(group: np.ndarray, start: int, stop: int, seed: int) -> np.ndarray:
    """Return (I, B) how often each image is drawn in the resamples ``start`` to ``stop`` - 1.

    A resample draws as many groups, with replacement, as there are; ``group`` (I,) holds each image's group number from
    0. Each resample has a random state of its own, so it does not matter in which portions the resamples are drawn.
    """
    count = int(group.max()) + 1
    drawn = [np.random.default_rng((seed, index)).integers(0, count, count) for index in range(start, stop)]
    return np.stack([np.bincount(numbers, minlength=count) for numbers in drawn], axis=1).astype(np.int32)[group]


def portions(truth: TruthArrays, runs: Sequence[Run], resamples: int) -> list[tuple[int, int]]:
    """Return the (start, stop) of portions of the resamples that are small enough to bound the memory."""
    in_class = [np.bincount(truth.category, minlength=1), *(np.diff(run.borders) for run in runs)]
    rows = max(len(truth.image_ids), *(int(sizes.max()) for sizes in in_class))
    size = int(np.clip(AT_ONCE // rows, 50, 1000))
    return list(pairwise([*range(0, resamples, size), resamples]))


def areas_of(metrics: Sequence[Metric]) -> tuple[AreaRange, ...]:
    """Return the area ranges of the metrics, each once, in the order in which runs are matched."""
    return tuple(dict.fromkeys(metric.area for metric in metrics))


def resample(
    truth: TruthArrays,
    runs: Sequence[Run],
    metrics: Sequence[Metric],
    weights: np.ndarray,
    tick: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Return (runs, metrics, B) figures for images with the weights (I, B); NaN where a figure is undefined.

    Each run must have been matched over the `areas_of` the metrics. ``tick`` is called after each class.
    """
    areas = areas_of(metrics)
    image, counted = truth.group % len(truth.image_ids), count_mask(truth, areas)  # (G,), (G, A)
    borders = np.searchsorted(truth.category, np.arange(len(truth.category_ids) + 1))
    total = np.zeros((len(runs), len(metrics), weights.shape[1]))
    classes = np.zeros((len(metrics), weights.shape[1]))  # number of classes with ground truth in the resample
    for category, (start, end) in enumerate(pairwise(borders)):
        for number, area in enumerate(areas):
            objects = image[start:end][counted[start:end, number]]
            if len(objects):
                cell = _Cell(category, number, [j for j, metric in enumerate(metrics) if metric.area == area])
                positives = weights[objects].sum(axis=0, dtype=np.int32)
                classes[cell.metrics] += positives > 0
                _add(cell, runs, metrics, weights, positives, total)
        tick()
    return np.divide(total, classes, out=np.full_like(total, np.nan), where=classes > 0)


@dataclass(frozen=True)
class _Cell:
    """One class in one area range, with the positions of the metrics that it contributes to."""

    category: int
    area: int
    metrics: list[int]


def _add(
    cell: _Cell,
    runs: Sequence[Run],
    metrics: Sequence[Metric],
    weights: np.ndarray,
    positives: np.ndarray,
    total: np.ndarray,
) -> None:
    """Add the figures of the cell to the totals (runs, metrics, B)."""
    points = _points(positives)
    for cap in {metrics[j].cap for j in cell.metrics}:
        wanted = [j for j in cell.metrics if metrics[j].cap == cap]
        for number, run in enumerate(runs):
            images, outcome = run.cell(cell.category, cell.area, cap)
            every = range(outcome.shape[1])
            needed = {t for j in wanted for t in _thresholds(metrics[j], every)}
            figures = _figures(outcome, weights[images], positives, points, needed)
            for j in wanted:
                at = _thresholds(metrics[j], every)
                total[number, j] += sum(figures[t][metrics[j].recall] for t in at) / len(at)


def _thresholds(metric: Metric, every: Sequence[int]) -> Sequence[int]:
    return every if metric.threshold is None else [metric.threshold]


def _points(positives: np.ndarray) -> np.ndarray:
    """Return (most positives + 1, B): in row h, how many of the recalls 0, 0.01 ... 1 h true positives reach."""
    hits = np.arange(positives.max() + 1)[:, None]
    recall = np.minimum(hits / np.maximum(positives, 1), 1)
    return np.where(hits > 0, np.searchsorted(RECALLS, recall, side="right"), 0).astype(np.uint8)


def _figures(
    outcome: np.ndarray, weights: np.ndarray, positives: np.ndarray, points: np.ndarray, thresholds: set[int]
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Return, by threshold, (B,) average precision and (B,) recall of detections (n, T) with weights (n, B).

    As in `curves`, precision is highest at a true positive, so the envelope is taken over true positives alone. Each
    recall point counts with the precision of the true positive that reaches it. A true positive of weight 0 reaches no
    recall point.
    """
    seen = _cumulate(weights.copy())
    column = np.arange(weights.shape[1])
    figures = {}
    for t in thresholds:
        hits, neutral = np.flatnonzero(outcome[:, t] == TRUE), np.flatnonzero(outcome[:, t] == NEUTRAL)
        if not len(hits):
            figures[t] = np.zeros(len(column)), np.zeros(len(column))
            continue
        true, counted = _cumulate(weights[hits]), seen[hits]  # (p, B)
        if len(neutral):
            before = np.searchsorted(neutral, hits)
            skipped = _cumulate(weights[neutral])
            counted[before > 0] -= skipped[before[before > 0] - 1]
        envelope = _best_from_here(true / np.maximum(counted, 1))
        reached = points.ravel().take(true * len(column) + column)
        gained = np.diff(reached, axis=0, prepend=np.uint8(0))
        figures[t] = np.einsum("pb,pb->b", envelope, gained) / len(RECALLS), true[-1] / np.maximum(positives, 1)
    return figures


def _cumulate(rows: np.ndarray) -> np.ndarray:
    """Return the cumulative sum of the rows, computed in place."""
    for above, row in pairwise(rows):
        row += above
    return rows


def _best_from_here(rows: np.ndarray) -> np.ndarray:
    """Return for each row the greatest value in it or a later row, column by column, computed in place."""
    for below, row in pairwise(rows[::-1]):
        np.maximum(row, below, out=row)
    return rows
