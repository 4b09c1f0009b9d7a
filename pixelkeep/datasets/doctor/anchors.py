"""Find out which objects can have an anchor point of their own, by geometry alone.

In Ultralytics' TaskAlignedAssigner (8.4), the candidates of an object are the anchor points strictly inside its box;
a side shorter than the second finest stride is first enlarged to that stride about its middle. An anchor point serves
one object. Which object gets it depends on the predictions. But no predictions can give anchor points to more objects
than the largest matching of objects and candidates has, and predictions that are right give that many.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from pixelkeep.datasets.doctor.sizes import Objects, Size

MARGIN = 1e-9  # pixels that the assigner requires between an anchor point and the border of a box
NONE = -1  # in place of an anchor number: the box has no anchor point


def unassigned(objects: Objects, size: Size, strides: Sequence[int]) -> np.ndarray:
    """Return bool (n,), the objects without an anchor even at best; among crowded objects, which lose is arbitrary."""
    missing = np.zeros(len(objects.image), bool)
    ends = np.searchsorted(objects.image, np.arange(len(objects.records) + 1))
    for start, end in pairwise(ends):
        missing[start:end] = match(objects.boxes[start:end], size, strides) == NONE
    return missing


def match(boxes: np.ndarray, size: Size, strides: Sequence[int]) -> np.ndarray:
    """Match boxes with anchor points so that as many boxes as possible have one of their own.

    Args:
        boxes: Boxes (n, 4), x1 y1 x2 y2 in pixels of the network's input.
        size: Height and width of the network's input, multiples of the strides.
        strides: Strides of the head's levels, the finest first.

    Returns:
        Int64 (n,), the number of each box's anchor in Ultralytics' order (level, row, column), -1 for none.
    """
    spans = [_spans(boxes, size, stride, _floor(strides)) for stride in strides]
    # A box with as many candidates as there are boxes can never be left out, so at most that many are collected.
    candidates = [_candidates([span[row] for span in spans], size, strides, len(boxes)) for row in range(len(boxes))]
    owner: dict[int, int] = {}  # anchor -> box
    held: dict[int, int] = {}  # box -> anchor
    for row in sorted(range(len(boxes)), key=lambda row: len(candidates[row])):
        _give(row, candidates, owner, held)
    return np.array([held.get(row, NONE) for row in range(len(boxes))], np.int64)


def _floor(strides: Sequence[int]) -> int:
    """Return the length in pixels to which the assigner enlarges shorter sides."""
    return strides[1] if len(strides) > 1 else strides[0]


def _spans(boxes: np.ndarray, size: Size, stride: int, floor: int) -> np.ndarray:
    """Return int64 (n, 4), x1 y1 x2 y2: the first and last column and row with anchor points inside each box."""
    middle, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    half = np.where(sides < floor, floor, sides) / 2
    first = np.floor((middle - half + MARGIN) / stride - 0.5).astype(int) + 1
    last = np.ceil((middle + half - MARGIN) / stride - 0.5).astype(int) - 1
    cells = np.array([size[1] // stride, size[0] // stride])
    return np.hstack([np.maximum(first, 0), np.minimum(last, cells - 1)])


def _candidates(spans: Sequence[np.ndarray], size: Size, strides: Sequence[int], most: int) -> list[int]:
    """Return the numbers of the anchors in a box, ``most`` at most, level by level."""
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
    """Give a box an anchor if possible; other boxes may change theirs for it (a shortest augmenting path)."""
    reached: dict[int, int] = {}  # anchor -> the box that would take it over
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
    """Reassign anchors along the path that led to a free one, back to the box that had none."""
    anchor: int | None = free
    while anchor is not None:
        taker = reached[anchor]
        left = held.get(taker)
        owner[anchor], held[taker] = taker, anchor
        anchor = left
