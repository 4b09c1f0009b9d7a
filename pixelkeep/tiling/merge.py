"""Merge the boxes of overlapping tiles into one set.

The method ``border`` uses where the tiles end (:mod:`pixelkeep.tiling.borders`). ``nms`` and ``ios`` are the usual
methods, which do not: non-maximum suppression by intersection over union, and greedy merging by intersection over the
smaller area, in which a box absorbs the boxes that it covers or that cover it, and grows. All three methods treat one
class at a time and sort the boxes themselves, so the order of tiles and boxes does not change a bit of the result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from pixelkeep.tiling import borders
from pixelkeep.tiling.candidates import Candidates
from pixelkeep.tiling.grid import Grid
from pixelkeep.tiling.pairs import meeting
from pixelkeep.tiling.seams import Seams, count_seams
from pixelkeep.tiling.shapes import around, join_rotated, shared

THRESHOLD = 0.5  # share of overlap from which two boxes of neighbouring tiles are taken for one object


@dataclass(frozen=True, eq=False)
class Merged:
    """The merged boxes of one image, from the highest score down.

    Shapes: ``boxes`` (n, 4) x1, y1, x2, y2, ``scores`` (n,), ``classes`` int64 (n,). ``rotated`` (n, 5), for oriented
    boxes: centre x, y, width, height, angle in radians; ``boxes`` then enclose what the tiles showed of them. ``seams``
    counts what became of the candidates.
    """

    boxes: torch.Tensor
    scores: torch.Tensor
    classes: torch.Tensor
    seams: Seams
    rotated: torch.Tensor | None = None


def merge(found: Candidates, grid: Grid, method: str = "border", threshold: float = THRESHOLD) -> Merged:
    """Merge the boxes that were found in the tiles of one image.

    Args:
        found: Boxes of all tiles, each inside its window.
        grid: Windows of the image.
        method: Merging method, one of :data:`METHODS`.
        threshold: Share of overlap from which (with ``nms`` above which) two boxes of different tiles are one object.

    Raises:
        ValueError: The method is not one of these.
    """
    if method not in METHODS:
        raise ValueError(f"merge '{method}' is not one of {', '.join(METHODS)}")
    found = found.ordered()
    if not len(found):
        return Merged(found.boxes, found.scores, found.classes, Seams(), found.rotated)
    kept, made, joined = METHODS[method](found, grid, threshold)
    objects = made[kept]
    seams = count_seams(found[kept], objects, joined[kept], grid, candidates=len(found))
    return Merged(objects.boxes, objects.scores, objects.classes, seams, objects.rotated)


# Which boxes are kept, bool (n,); all boxes after merging; which of them were joined from several, bool (n,).
Decision = tuple[torch.Tensor, Candidates, torch.Tensor]


def _border(found: Candidates, grid: Grid, threshold: float) -> Decision:
    cuts = borders.find_cuts(found, grid)
    kept = ~borders.giving_way(found, cuts, threshold)
    kept &= ~borders.showing_nothing_new(found, cuts, kept, threshold)
    owner = borders.joining(found, cuts, kept, threshold)
    made, joined = _enclose(found, owner, kept, cuts.windows)
    return kept & (owner == torch.arange(len(found), device=owner.device)), made, joined


def _nms(found: Candidates, grid: Grid, threshold: float) -> Decision:
    better, worse = meeting(found.boxes, found.classes)
    common, one, other = shared(found[better], found[worse])
    same = common > threshold * (one + other - common)
    kept = _greedy(better[same], worse[same], len(found))
    return kept, found, torch.zeros_like(kept)


def _ios(found: Candidates, grid: Grid, threshold: float) -> Decision:
    better, worse = meeting(found.boxes, found.classes)
    same = _much_of_smaller(found[better], found[worse], threshold)
    better, worse = better[same], worse[same]
    kept = _greedy(better, worse, len(found))
    owner = torch.arange(len(found), device=kept.device)
    taken = kept[better]
    first = torch.full_like(owner, len(found)).scatter_reduce(0, worse[taken], better[taken], "amin")
    made, joined = _grow(found, torch.where(kept, owner, first), threshold)
    return kept, made, joined


def _much_of_smaller(one: Candidates, other: Candidates, threshold: float) -> torch.Tensor:
    common, area, other_area = shared(one, other)
    return common >= threshold * torch.minimum(area, other_area)


def _grow(found: Candidates, owner: torch.Tensor, threshold: float) -> tuple[Candidates, torch.Tensor]:
    """Grow each box around the boxes that it owns, taken from the best down; also return which have grown, bool (n,).

    A box absorbs another only if the other still shares enough with what the box has become by then.
    """
    members = (owner != torch.arange(len(found), device=owner.device)).nonzero().flatten()
    members = members[owner[members].sort(stable=True).indices]  # grouped by owner, the best first
    _, counts = torch.unique_consecutive(owner[members], return_counts=True)
    rank = torch.arange(len(members), device=owner.device)
    rank -= torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    grown = torch.zeros(len(found), dtype=torch.bool, device=owner.device)
    for place in range(int(counts.max()) if len(counts) else 0):
        other = members[rank == place]
        other = other[_much_of_smaller(found[owner[other]], found[other], threshold)]
        if not len(other):
            continue
        one = owner[other]
        larger = around(found[one], found[other])
        boxes = found.boxes.index_put((one,), larger.boxes)
        rotated = None if found.rotated is None else found.rotated.index_put((one,), larger.rotated)
        found, grown[one] = replace(found, boxes=boxes, rotated=rotated), True
    return found, grown


METHODS: dict[str, Callable[[Candidates, Grid, float], Decision]] = {"border": _border, "nms": _nms, "ios": _ios}


def _greedy(better: torch.Tensor, worse: torch.Tensor, count: int) -> torch.Tensor:
    """Return which boxes stay, bool (count,): a box is dropped if it is paired with a better box that stays.

    Args:
        better: Index of the better box of each pair, (pairs,); indices count from the best box.
        worse: Index of the worse box of each pair, (pairs,).
        count: Number of boxes.
    """
    undecided = torch.ones(count, dtype=torch.bool, device=better.device)
    kept = torch.zeros_like(undecided)
    while undecided.any():
        waiting = torch.zeros_like(undecided)
        waiting[worse] = True
        new = undecided & ~waiting
        kept |= new
        undecided &= ~new
        undecided[worse[new[better]]] = False
        open_ = undecided[better] & undecided[worse]
        better, worse = better[open_], worse[open_]
    return kept


def _enclose(
    found: Candidates, owner: torch.Tensor, used: torch.Tensor, windows: torch.Tensor
) -> tuple[Candidates, torch.Tensor]:
    """Join each box with the used boxes that it owns; return all boxes, and which were joined, bool (n,)."""
    rows, index = found.boxes[used], owner[used]
    enclosing = found.boxes.clone()
    for column, reduce in ((0, "amin"), (1, "amin"), (2, "amax"), (3, "amax")):
        enclosing[:, column] = enclosing[:, column].scatter_reduce(0, index, rows[:, column], reduce)
    joined = torch.bincount(index, minlength=len(found)) > 1
    if found.rotated is None:
        return replace(found, boxes=enclosing), joined
    rotated = found.rotated.clone()
    for number in joined.nonzero().flatten().tolist():
        parts = used & (owner == number)
        rotated[number] = join_rotated(found.rotated[parts], windows[parts])
    return replace(found, boxes=enclosing, rotated=rotated), joined
