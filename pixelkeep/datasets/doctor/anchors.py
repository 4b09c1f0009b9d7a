"""Which objects can have an anchor of their own, by geometry alone.

Ultralytics' TaskAlignedAssigner (8.4) takes as candidates of an object the anchor centres strictly inside its box,
sides under the second finest stride enlarged to it about the middle; an anchor serves one object. Which object gets it
depends on the predictions, but no predictions can give anchors to more objects than the largest matching of objects
and candidates has, and predictions that are right give that many.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from pixelkeep.datasets.doctor.sizes import Objects, Size

MARGIN = 1e-9  # pixels that the assigner asks for between centre and border
NONE = -1


def unassigned(objects: Objects, size: Size, strides: Sequence[int]) -> np.ndarray:
    """Return which objects find no anchor even at best, bool (n,); which of several crowded ones is arbitrary."""
    missing = np.zeros(len(objects.image), bool)
    ends = np.searchsorted(objects.image, np.arange(len(objects.records) + 1))
    for start, end in pairwise(ends):
        missing[start:end] = match(objects.boxes[start:end], size, strides) == NONE
    return missing


def match(boxes: np.ndarray, size: Size, strides: Sequence[int]) -> np.ndarray:
    """Give as many boxes as possible an anchor each.

    Args:
        boxes: (n, 4) x1 y1 x2 y2 in pixels of the network's input.
        size: Its height and width, multiples of the strides.
        strides: Of the head's levels, the finest first.

    Returns:
        Int64 (n,), the number of each box's anchor in Ultralytics' order (level, row, column), -1 for none.
    """
    spans = [_spans(boxes, size, stride, _floor(strides)) for stride in strides]
    # A box with as many candidates as there are boxes can never be left out, so no more are looked at.
    candidates = [_candidates([span[row] for span in spans], size, strides, len(boxes)) for row in range(len(boxes))]
    owner: dict[int, int] = {}  # anchor -> box
    held: dict[int, int] = {}  # box -> anchor
    for row in sorted(range(len(boxes)), key=lambda row: len(candidates[row])):
        _give(row, candidates, owner, held)
    return np.array([held.get(row, NONE) for row in range(len(boxes))], np.int64)


def _floor(strides: Sequence[int]) -> int:
    """Return the side in pixels to which the assigner enlarges smaller ones."""
    return strides[1] if len(strides) > 1 else strides[0]


def _spans(boxes: np.ndarray, size: Size, stride: int, floor: int) -> np.ndarray:
    """Return the first and the last column and row whose centre is inside each box, int64 (n, 4): x1 y1 x2 y2."""
    middle, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    half = np.where(sides < floor, floor, sides) / 2
    first = np.floor((middle - half + MARGIN) / stride - 0.5).astype(int) + 1
    last = np.ceil((middle + half - MARGIN) / stride - 0.5).astype(int) - 1
    cells = np.array([size[1] // stride, size[0] // stride])
    return np.hstack([np.maximum(first, 0), np.minimum(last, cells - 1)])


def _candidates(spans: Sequence[np.ndarray], size: Size, strides: Sequence[int], most: int) -> list[int]:
    """Return the numbers of at most ``most`` anchors in a box, level by level."""
    found: list[int] = []
    offset = 0
    for (x1, y1, x2, y2), stride in zip(spans, strides, strict=True):
        columns = size[1] // stride
        for y in range(y1, y2 + 1):
            start = offset + y * columns
            found += range(start + x1, start + min(x2 + 1, x1 + most))
            if len(found) >= most:
                return found[:most]
        offset += columns * (size[0] // stride)
    return found


def _give(row: int, candidates: Sequence[Sequence[int]], owner: dict[int, int], held: dict[int, int]) -> None:
    """Give a box an anchor, others changing theirs where that makes room (a shortest augmenting path)."""
    reached: dict[int, int] = {}  # anchor -> the box that would take it
    queue = deque([row])
    while queue:
        taker = queue.popleft()
        for anchor in candidates[taker]:
            if anchor in reached:
                continue
            reached[anchor] = taker
            if anchor not in owner:
                _shift(anchor, reached, owner, held)
                return
            queue.append(owner[anchor])


def _shift(free: int, reached: dict[int, int], owner: dict[int, int], held: dict[int, int]) -> None:
    """Pass a free anchor on along the path that led to it, back to the box that has none yet."""
    anchor: int | None = free
    while anchor is not None:
        taker = reached[anchor]
        left = held.get(taker)
        owner[anchor], held[taker] = taker, anchor
        anchor = left
