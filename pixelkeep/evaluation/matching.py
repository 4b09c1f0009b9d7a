"""Greedy matching of detections with ground truth by the rules of the COCO evaluation.

Each group (one class in one image) is matched for each IoU threshold and area range by itself. Detections choose in
order of falling score. Each takes the free ground truth of highest IoU at or above the threshold, the later one if
several are equal. Ignored ground truth is considered only when no counted one is left. A crowd region is always free,
and its "IoU" is intersection over the detection's area. Another measure (`similarity`) may replace the IoU.

Source: the rules as pycocotools 2.0 applies them. All groups advance together: turn t settles the t-th detection of
every group, over all thresholds and area ranges at once. Detections whose best IoU stays below every threshold match
nothing and take no turn.

Letters in shapes: G ground-truth boxes, N detections, A area ranges, T thresholds, P pairs of a
ground-truth box and a detection that overlap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np

from pixelkeep.evaluation.areas import AreaRange
from pixelkeep.evaluation.arrays import DetectionArrays, TruthArrays
from pixelkeep.evaluation.similarity import IOU, Similarity

PAIRS_AT_ONCE = 1 << 19  # bounds the memory that the measure needs to some 100 MB

FALSE, TRUE, NEUTRAL = 0, 1, 2


def match(
    truth: TruthArrays, found: DetectionArrays, areas: Sequence[AreaRange], similarity: Similarity = IOU
) -> np.ndarray:
    """Return (N, A, T) what each detection counts as: FALSE or TRUE positive, or NEUTRAL.

    A detection is NEUTRAL if it matches ignored ground truth (marked so, or outside the area range), or if it matches
    nothing and its own area is outside the range.
    """
    sizes = found.boxes[:, 2] * found.boxes[:, 3]
    unmatched = np.stack([np.where(area.contains(sizes), FALSE, NEUTRAL) for area in areas], axis=1)  # (N, A)
    outcome = np.repeat(unmatched.astype(np.uint8)[:, :, None], len(similarity.thresholds), axis=2)  # (N, A, T)
    taken = np.zeros((len(truth.group), *outcome.shape[1:]), bool)  # (G, A, T)
    counted = count_mask(truth, areas)  # (G, A)
    pairs = Pairs.similar(truth, found, similarity)
    for turn in pairs.turns():
        _settle(turn, similarity.thresholds, counted, truth.crowd, taken, outcome)
    return outcome


def count_mask(truth: TruthArrays, areas: Sequence[AreaRange]) -> np.ndarray:
    """Return a mask (G, A) of the ground-truth boxes that count in each area range."""
    return np.stack([area.contains(truth.areas) & ~truth.ignored for area in areas], axis=1)


@dataclass(frozen=True, eq=False)
class Pairs:
    """P pairs that reach the lowest threshold; those of one detection stand together, the best first."""

    detection: np.ndarray
    truth: np.ndarray
    similarity: np.ndarray
    turn: np.ndarray  # position of the detection in its group, counting only detections that have pairs
    place: np.ndarray  # position of the pair among those of its detection

    @classmethod
    def similar(cls, truth: TruthArrays, found: DetectionArrays, similarity: Similarity) -> Pairs:
        """Find the pairs, sorted by turn, detection, falling similarity and falling position of the ground truth."""
        parts = list(matching_pairs(truth, found, similarity))
        detection, box, value = (np.concatenate(column) for column in zip(*parts, strict=True))
        candidates, index = np.unique(detection, return_inverse=True)
        group = found.group[candidates]
        turn = (np.arange(len(group)) - np.searchsorted(group, group))[index]
        order = np.lexsort((-box, -value, detection, turn))
        detection, box, value, turn = detection[order], box[order], value[order], turn[order]
        starts = np.flatnonzero(np.diff(detection, prepend=-1))
        place = np.arange(len(detection)) - np.repeat(starts, np.diff(starts, append=len(detection)))
        return cls(detection, box, value, turn, place)

    def turns(self) -> Iterator[Pairs]:
        """Yield the pairs turn by turn; a turn has at most one detection of each group."""
        borders = np.flatnonzero(np.diff(self.turn, prepend=-1, append=-1))
        for start, end in pairwise(borders):
            part = slice(start, end)
            yield Pairs(*(getattr(self, f.name)[part] for f in fields(self)))


def _settle(
    turn: Pairs,
    thresholds: np.ndarray,
    counted: np.ndarray,
    crowd: np.ndarray,
    taken: np.ndarray,
    outcome: np.ndarray,
) -> None:
    """Let every detection of this turn choose its ground truth; updates ``taken`` (G, A, T), ``outcome`` (N, A, T)."""
    longest = int(turn.place.max()) + 1
    free = (turn.similarity[:, None, None] >= thresholds) & ~taken[turn.truth]  # (P, A, T)
    # preference: 1..longest for ignored ground truth, highest for the best pair; longest more for counted ground truth
    preference = (longest - turn.place)[:, None] + longest * counted[turn.truth]  # (P, A)
    first = np.flatnonzero(turn.place == 0)
    chosen = np.maximum.reduceat(np.where(free, preference[:, :, None], 0), first, axis=0)  # (detections, A, T)
    chooser, area, threshold = np.nonzero(chosen)
    value = chosen[chooser, area, threshold]
    is_counted = value > longest
    pair = first[chooser] + longest - (value - longest * is_counted)
    outcome[turn.detection[pair], area, threshold] = np.where(is_counted, TRUE, NEUTRAL)
    taken[turn.truth[pair], area, threshold] = ~crowd[turn.truth[pair]]


def matching_pairs(
    truth: TruthArrays, found: DetectionArrays, similarity: Similarity
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield detection index, truth index and similarity of the pairs within a group that reach the lowest threshold."""
    first = np.searchsorted(truth.group, found.group)
    count = np.searchsorted(truth.group, found.group, side="right") - first
    before = np.cumsum(count) - count
    found_left, found_right = found.boxes[:, 0], found.boxes[:, 0] + found.boxes[:, 2]
    truth_left = truth.boxes[:, 0] - similarity.margin
    truth_right = truth.boxes[:, 0] + truth.boxes[:, 2] + similarity.margin
    cuts = np.searchsorted(before, np.arange(0, count.sum() + 1 + PAIRS_AT_ONCE, PAIRS_AT_ONCE))
    for start, end in pairwise(cuts):
        part = slice(start, end)
        detection = np.repeat(np.arange(start, end), count[part])
        offset = np.arange(len(detection)) - np.repeat(np.cumsum(count[part]) - count[part], count[part])
        box = np.repeat(first[part], count[part]) + offset
        # in a crowded image most pairs are already apart in x: drop these before the costlier measure
        beside = (found_left[detection] < truth_right[box]) & (truth_left[box] < found_right[detection])
        detection, box = detection[beside], box[beside]
        value = similarity.measure(found.boxes[detection], truth.boxes[box], truth.crowd[box])
        kept = value >= similarity.thresholds[0]
        yield detection[kept], box[kept], value[kept]
