"""Greedy matching of detections with ground truth by the rules of the COCO evaluation.

Within a group (one class, one image), for each IoU threshold and area range by itself: detections choose in order of
falling score. Each takes the ground truth of highest IoU, the later one of equals, among those at or above the
threshold that are free; ignored ones are considered only when no counted one is left. A crowd region is always free,
and its "IoU" is intersection over the detection's area.

Source: the rules as pycocotools 2.0 applies them. All groups advance together: turn t settles the t-th detection of
every group, over all thresholds and area ranges at once. Detections whose best IoU stays below every threshold
match nothing and take no turn.

Letters in shapes: G ground-truth boxes, N detections, A area ranges, T thresholds, P pairs of the two that overlap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pixelkeep.evaluation.areas import AreaRange
from pixelkeep.evaluation.arrays import DetectionArrays, TruthArrays

THRESHOLDS = np.linspace(0.5, 0.95, 10)
PAIRS_AT_ONCE = 1 << 19  # bounds the memory of the IoU step to some 100 MB

FALSE, TRUE, NEUTRAL = 0, 1, 2


def match(truth: TruthArrays, found: DetectionArrays, areas: Sequence[AreaRange]) -> np.ndarray:
    """Return (N, A, T) what each detection counts as: FALSE or TRUE positive, or NEUTRAL.

    NEUTRAL are detections matched to ignored ground truth (marked so, or outside the area range) and unmatched ones
    whose own area is outside the range.
    """
    sizes = found.boxes[:, 2] * found.boxes[:, 3]
    unmatched = np.stack([np.where(area.contains(sizes), FALSE, NEUTRAL) for area in areas], axis=1)  # (N, A)
    outcome = np.repeat(unmatched.astype(np.uint8)[:, :, None], len(THRESHOLDS), axis=2)  # (N, A, T)
    taken = np.zeros((len(truth.group), *outcome.shape[1:]), bool)  # (G, A, T)
    counted = count_mask(truth, areas)  # (G, A)
    pairs = Pairs.overlapping(truth, found)
    for turn in pairs.turns():
        _settle(turn, counted, truth.crowd, taken, outcome)
    return outcome


def count_mask(truth: TruthArrays, areas: Sequence[AreaRange]) -> np.ndarray:
    """Return (G, A) which ground-truth boxes count in which area range."""
    return np.stack([area.contains(truth.areas) & ~truth.ignored for area in areas], axis=1)


@dataclass(frozen=True, eq=False)
class Pairs:
    """P pairs with an IoU of at least the lowest threshold, those of one detection together, the best first."""

    detection: np.ndarray
    truth: np.ndarray
    iou: np.ndarray
    turn: np.ndarray  # which detection of its group, counting those that have pairs
    place: np.ndarray  # position among the pairs of its detection

    @classmethod
    def overlapping(cls, truth: TruthArrays, found: DetectionArrays) -> Pairs:
        """Find the pairs, and order them by turn, detection, falling IoU and falling position of the truth."""
        parts = list(_overlaps(truth, found))
        detection, box, iou = (np.concatenate(column) for column in zip(*parts, strict=True))
        candidates, index = np.unique(detection, return_inverse=True)
        group = found.group[candidates]
        turn = (np.arange(len(group)) - np.searchsorted(group, group))[index]
        order = np.lexsort((-box, -iou, detection, turn))
        detection, box, iou, turn = detection[order], box[order], iou[order], turn[order]
        starts = np.flatnonzero(np.diff(detection, prepend=-1))
        place = np.arange(len(detection)) - np.repeat(starts, np.diff(starts, append=len(detection)))
        return cls(detection, box, iou, turn, place)

    def turns(self) -> Iterator[Pairs]:
        """Yield the pairs of one turn after another: at most one detection of every group in each."""
        borders = np.flatnonzero(np.diff(self.turn, prepend=-1, append=-1))
        for start, end in pairwise(borders):
            part = slice(start, end)
            yield Pairs(self.detection[part], self.truth[part], self.iou[part], self.turn[part], self.place[part])


def _settle(turn: Pairs, counted: np.ndarray, crowd: np.ndarray, taken: np.ndarray, outcome: np.ndarray) -> None:
    """Let every detection of this turn choose; writes ``taken`` (G, A, T) and ``outcome`` (N, A, T)."""
    longest = int(turn.place.max()) + 1
    free = (turn.iou[:, None, None] >= THRESHOLDS) & ~taken[turn.truth]  # (P, A, T)
    # preference: 1..longest for ignored ground truth, the best pair highest; longest more for counted ground truth
    preference = (longest - turn.place)[:, None] + longest * counted[turn.truth]  # (P, A)
    first = np.flatnonzero(turn.place == 0)
    chosen = np.maximum.reduceat(np.where(free, preference[:, :, None], 0), first, axis=0)  # (detections, A, T)
    chooser, area, threshold = np.nonzero(chosen)
    value = chosen[chooser, area, threshold]
    is_counted = value > longest
    pair = first[chooser] + longest - (value - longest * is_counted)
    outcome[turn.detection[pair], area, threshold] = np.where(is_counted, TRUE, NEUTRAL)
    taken[turn.truth[pair], area, threshold] = ~crowd[turn.truth[pair]]


def _overlaps(truth: TruthArrays, found: DetectionArrays) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield detection index, truth index and IoU of the pairs within a group that reach the lowest threshold."""
    first = np.searchsorted(truth.group, found.group)
    count = np.searchsorted(truth.group, found.group, side="right") - first
    before = np.cumsum(count) - count
    found_left, found_right = found.boxes[:, 0], found.boxes[:, 0] + found.boxes[:, 2]
    truth_left, truth_right = truth.boxes[:, 0], truth.boxes[:, 0] + truth.boxes[:, 2]
    cuts = np.searchsorted(before, np.arange(0, count.sum() + 1 + PAIRS_AT_ONCE, PAIRS_AT_ONCE))
    for start, end in pairwise(cuts):
        part = slice(start, end)
        detection = np.repeat(np.arange(start, end), count[part])
        offset = np.arange(len(detection)) - np.repeat(np.cumsum(count[part]) - count[part], count[part])
        box = np.repeat(first[part], count[part]) + offset
        # most pairs in a crowded image lie apart in x alone: drop those before the costlier IoU
        beside = (found_left[detection] < truth_right[box]) & (truth_left[box] < found_right[detection])
        detection, box = detection[beside], box[beside]
        iou = box_iou(found.boxes[detection], truth.boxes[box], truth.crowd[box])
        kept = iou >= THRESHOLDS[0]
        yield detection[kept], box[kept], iou[kept]


def box_iou(found: np.ndarray, truth: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Return (P,) IoU of boxes (P, 4) as x, y, width, height; for crowds, intersection over the detection's area.

    The order of operations is that of pycocotools' ``bbIou``, for the last bit decides at a threshold.
    """
    far = np.minimum(found[:, :2] + found[:, 2:], truth[:, :2] + truth[:, 2:])
    sides = np.maximum(far - np.maximum(found[:, :2], truth[:, :2]), 0)
    intersection = sides[:, 0] * sides[:, 1]
    found_area, truth_area = found[:, 2] * found[:, 3], truth[:, 2] * truth[:, 3]
    union = np.where(crowd, found_area, found_area + truth_area - intersection)
    return np.divide(intersection, union, out=np.zeros_like(union), where=intersection > 0)
