"""Decide which boxes of neighbouring tiles are one object, judging by where the tiles end.

A box that ends at an inner border of its tile may be part of an object that extends beyond the border: the box is *cut*
there. Of two tiles that both see an object, the one that cuts it in fewer places shows more of it, and the box of the
other tile gives way. Where each tile cuts the object in a different place, for example because the object is longer
than the overlap, the parts are joined.

Two boxes of different tiles are compared in the area that both tiles see, where the same object must look the same. Of
all boxes of another tile, a box is compared with the one that matches it best, its counterpart. Boxes of one tile are
never compared, because the detector has already told them apart.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from pixelkeep.tiling import shapes
from pixelkeep.tiling.candidates import Candidates
from pixelkeep.tiling.grid import Grid
from pixelkeep.tiling.pairs import meeting, overlap

TOUCH = 2.0  # pixels within which a box ends at a border: networks do not place a cut side exactly
_LEAST_TOUCH = 0.5  # pixels
_GAP = 0.999  # pixels; parts of one object are less far apart than this


class Cuts(NamedTuple):
    """Where each of n boxes is cut.

    Attributes:
        lines: Coordinates (n, 4) of the borders that cut the left, top, right and bottom side of each box, NaN for
            sides that are not cut.
        windows: Window (n, 4) in which each box was found, x1, y1, x2, y2.
        shown: Boxes (n, 4), extended to ``touch`` pixels beyond the borders that cut them.
        touch: Distance in pixels within which a box counts as ending at a border.
        rotated: Rotated boxes (n, 5) if the boxes are oriented, otherwise None.
    """

    lines: torch.Tensor
    windows: torch.Tensor
    shown: torch.Tensor
    touch: float
    rotated: torch.Tensor | None

    @property
    def count(self) -> torch.Tensor:
        """Number of cut sides of each box: (n,)."""
        return (~self.lines.isnan()).sum(1)


def touch_of(grid: Grid) -> float:
    """Return the distance in pixels within which a box counts as ending at a border.

    The distance is smaller where tiles share few pixels, so that it does not make up the whole overlap.
    """
    return float(np.clip(grid.shared / 4, _LEAST_TOUCH, TOUCH))


def find_cuts(found: Candidates, grid: Grid) -> Cuts:
    """Find where the boxes are cut by inner borders."""
    touch = touch_of(grid)
    boxes = found.boxes
    windows = torch.as_tensor(grid.windows, device=boxes.device)[found.windows].to(boxes.dtype)
    inner = torch.as_tensor(grid.inner, device=boxes.device)[found.windows]
    outwards = boxes.new_tensor([-1, -1, 1, 1])
    cut = inner & ((windows - boxes) * outwards <= touch)
    lines = torch.where(cut, windows, torch.nan)
    return Cuts(lines, windows, torch.where(cut, windows + outwards * touch, boxes), touch, found.rotated)


def giving_way(found: Candidates, cuts: Cuts, threshold: float) -> torch.Tensor:
    """Return which boxes give way to a box of another tile: bool (n,).

    A box gives way to its counterpart in two cases. In the first, the counterpart is cut by fewer borders, all of which
    cut the box too, and shows everything that the box shows. In the second, both are cut by the same borders, or by
    none, and the counterpart comes first in the order of scores.

    Args:
        found: The boxes, from the highest score down.
        cuts: Where the boxes are cut.
        threshold: Share of overlap from which two boxes are one object.
    """
    pairs = _pairs(found, cuts)
    one, other = (torch.cat(part) for part in (pairs, pairs[::-1]))  # both directions, since ``one`` may give way
    fewer, same = _is_cut_less(cuts, other, one)
    agree = torch.where(fewer & ~same, _covered(cuts, one, other), _alike(cuts, one, other))
    right = agree >= threshold
    one, other, agree, fewer, same = (part[right] for part in (one, other, agree, fewer, same))
    first = _counterparts(found, one, other, agree)
    yields = first & ((fewer & ~same) | (same & (other < one)))
    gone = torch.zeros(len(found), dtype=torch.bool, device=one.device)
    gone[one[yields]] = True
    return gone


def showing_nothing_new(found: Candidates, cuts: Cuts, kept: torch.Tensor, threshold: float) -> torch.Tensor:
    """Return which cut boxes are covered by a larger box of another tile that sees the same area: bool (n,).

    A slanting object crosses corners of tiles, and these tiles see only slivers of it. Then neither box is cut by fewer
    borders, and a difference of one pixel in a sliver is enough to keep the two boxes from being alike. For upright
    boxes, which have no such slivers, the result is false everywhere.

    Args:
        found: The boxes.
        cuts: Where the boxes are cut.
        kept: Whether each box has been kept, that is, has not given way, bool (n,).
        threshold: Share of overlap from which two boxes are one object.
    """
    nothing_new = torch.zeros_like(kept)
    if cuts.rotated is None:
        return nothing_new
    pairs = _pairs(found, cuts)
    one, other = (torch.cat(part) for part in (pairs, pairs[::-1]))
    areas = cuts.rotated[:, 2:4].prod(1)
    right = kept[one] & kept[other] & (cuts.count[one] > 0) & (areas[one] < areas[other])
    boxes, windows = found.boxes[one], cuts.windows[other]
    right &= ((windows[:, :2] <= boxes[:, :2]) & (boxes[:, 2:] <= windows[:, 2:])).all(1)
    one, other = one[right], other[right]
    nothing_new[one[_covered(cuts, one, other) >= threshold]] = True
    return nothing_new


def joining(found: Candidates, cuts: Cuts, kept: torch.Tensor, threshold: float) -> torch.Tensor:
    """Return for each box the index of the first box of the same object: int64 (n,).

    Cut boxes of two tiles are parts of one object if each is the other's counterpart. A box that is not a part of a
    larger object gets its own index.

    Args:
        found: The boxes, from the highest score down.
        cuts: Where the boxes are cut.
        kept: Whether each box has been kept, that is, has not given way, bool (n,). The other boxes are not parts, but
            may be counterparts.
        threshold: Share of overlap from which two boxes are one object.
    """
    one, other = _pairs(found, cuts)
    agree = _alike(cuts, one, other)
    near = _gaps(found.boxes[one], found.boxes[other]) < _GAP
    right = near & (agree >= threshold / 2)  # parts of a slanting object differ where both tiles see them
    one, other, agree = one[right], other[right], agree[right]
    linked = _counterparts(found, one, other, agree) & _counterparts(found, other, one, agree)
    for side in (one, other):
        linked &= kept[side] & (cuts.count[side] > 0)
    return _components(one[linked], other[linked], len(found))


def _pairs(found: Candidates, cuts: Cuts) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the pairs i < j of boxes of the same class and different windows that overlap or nearly do."""
    one, other = meeting(_widened(cuts.shown, cuts.touch), found.classes)
    apart = found.windows[one] != found.windows[other]
    return one[apart], other[apart]


def _is_cut_less(cuts: Cuts, one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return whether all borders that cut ``one`` also cut ``other``, and whether exactly the same borders cut both."""
    a, b = cuts.lines[one], cuts.lines[other]
    return ((a == b) | a.isnan()).all(1), ((a == b) | (a.isnan() & b.isnan())).all(1)


def _covered(cuts: Cuts, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the share of ``one`` that lies in ``other`` when ``other`` is widened by ``touch``: (pairs,)."""
    if cuts.rotated is not None:
        return shapes.covered(cuts.rotated[one], cuts.windows[one], cuts.rotated[other], cuts.touch)
    shared, area, _ = overlap(cuts.shown[one], _widened(cuts.shown[other], cuts.touch))
    return shared / area.clamp(min=1e-9)


def _common(cuts: Cuts, one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both boxes of each pair, clipped to the area that both windows see, all of it widened a little.

    Without the widening, two boxes of a few pixels that differ by one pixel would not be alike, and tiles that share
    nothing would have nothing to compare.
    """
    low, high = _both_see(cuts, one, other)
    shown = (_widened(cuts.shown[part], cuts.touch / 2) for part in (one, other))
    return tuple(torch.cat([torch.maximum(box[:, :2], low), torch.minimum(box[:, 2:], high)], 1) for box in shown)


def _both_see(cuts: Cuts, one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the corners of the area that both windows see when widened by ``touch``: (pairs, 2) each."""
    a, b = (_widened(cuts.windows[part], cuts.touch) for part in (one, other))
    return torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])


def _alike(cuts: Cuts, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the intersection over union of the two boxes of each pair in the area that both windows see: (pairs,)."""
    if cuts.rotated is not None:
        common = torch.cat(_both_see(cuts, one, other), 1)
        return shapes.alike(*(shapes.widened(cuts.rotated[part], cuts.touch / 2) for part in (one, other)), common)
    shared, a, b = overlap(*_common(cuts, one, other))
    return shared / (a + b - shared).clamp(min=1e-9)


def _gaps(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return by how many pixels the boxes of each pair are apart, along x or y; below 0 where they overlap: (n,)."""
    return (torch.maximum(one[:, :2], other[:, :2]) - torch.minimum(one[:, 2:], other[:, 2:])).amax(1)


def _counterparts(found: Candidates, one: torch.Tensor, other: torch.Tensor, agree: torch.Tensor) -> torch.Tensor:
    """Return in which pairs ``other`` is the counterpart of ``one`` in the window of ``other``: bool (pairs,).

    The counterpart is the box of that window with the highest product of agreement and score, or the first of several
    with the same product.
    """
    key = one * (found.windows.max() + 1) + found.windows[other]
    weight = agree * found.scores[other]
    order = torch.arange(len(key), device=key.device)
    for part in (other, -weight, key):
        order = order[part[order].sort(stable=True).indices]
    first = torch.ones_like(key, dtype=torch.bool)
    first[1:] = key[order][1:] != key[order][:-1]
    chosen = torch.zeros_like(first)
    chosen[order] = first
    return chosen


def _components(one: torch.Tensor, other: torch.Tensor, count: int) -> torch.Tensor:
    """Return for each of ``count`` indices the smallest index in its connected component: int64 (count,)."""
    label = torch.arange(count, device=one.device)
    while True:
        low = torch.minimum(label[one], label[other])
        new = label.scatter_reduce(0, one, low, "amin").scatter_reduce(0, other, low, "amin")
        new = new[new]
        if torch.equal(new, label):
            return label
        label = new


def _widened(boxes: torch.Tensor, by: float) -> torch.Tensor:
    return boxes + boxes.new_tensor([-by, -by, by, by])
