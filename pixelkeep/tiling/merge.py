"""One set of boxes from those of overlapping tiles.

``border`` knows where the tiles end (:mod:`pixelkeep.tiling.borders`). ``nms`` and ``ios`` are the usual ways that do
not: non-maximum suppression by intersection over union, and greedy merging by intersection over the smaller area, in
which a box takes in all that it covers or that cover it. All three look at one class at a time, and at the boxes in
an order of their own, so the order in which tiles and boxes come changes nothing, not a bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from pixelkeep.tiling import borders
from pixelkeep.tiling.grid import Grid
from pixelkeep.tiling.pairs import meeting, overlap
from pixelkeep.tiling.seams import Seams, count_seams

THRESHOLD = 0.5  # from which two boxes of neighbouring tiles are taken for one object


@dataclass(frozen=True, eq=False)
class Candidates:
    """What was found in the tiles of one image.

    Shapes: ``boxes`` (n, 4) x1, y1, x2, y2 in pixels of the grid's image, ``scores`` (n,), ``classes`` int64 (n,),
    ``windows`` int64 (n,), the number of the window that each box was found in.
    """

    boxes: torch.Tensor
    scores: torch.Tensor
    classes: torch.Tensor
    windows: torch.Tensor

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, kept: torch.Tensor) -> Candidates:
        """Return those at the positions, or under the mask, ``kept``."""
        return Candidates(self.boxes[kept], self.scores[kept], self.classes[kept], self.windows[kept])

    def ordered(self) -> Candidates:
        """Return them from the highest score down, equal ones by class, place and window."""
        order = torch.arange(len(self), device=self.scores.device)
        for key in (self.windows, *self.boxes.flip(1).unbind(1), self.classes, -self.scores):
            order = order[key[order].sort(stable=True).indices]
        return self[order]


@dataclass(frozen=True, eq=False)
class Merged:
    """The boxes of one image, from the highest score down.

    Shapes: ``boxes`` (n, 4), ``scores`` (n,), ``classes`` int64 (n,); ``seams`` says what was made of the candidates.
    """

    boxes: torch.Tensor
    scores: torch.Tensor
    classes: torch.Tensor
    seams: Seams


def merge(found: Candidates, grid: Grid, method: str = "border", threshold: float = THRESHOLD) -> Merged:
    """Merge what was found in the tiles of one image.

    Args:
        found: The boxes, each inside its window.
        grid: The windows.
        method: One of :data:`METHODS`.
        threshold: Share of overlap from which two boxes of different tiles are one object.

    Raises:
        ValueError: Another method.
    """
    if method not in METHODS:
        raise ValueError(f"merge '{method}' is not one of {', '.join(METHODS)}")
    found = found.ordered()
    if not len(found):
        return Merged(found.boxes, found.scores, found.classes, Seams())
    kept, boxes, joined = METHODS[method](found, grid, threshold)
    seams = count_seams(found[kept], boxes[kept], joined[kept], grid, candidates=len(found))
    return Merged(boxes[kept], found.scores[kept], found.classes[kept], seams)


Decision = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # kept bool (n,), boxes (n, 4), joined bool (n,)


def _border(found: Candidates, grid: Grid, threshold: float) -> Decision:
    cuts = borders.find_cuts(found, grid)
    kept = ~borders.giving_way(found, cuts, threshold)
    owner = borders.joining(found, cuts, kept, threshold)
    boxes, sizes = _enclose(found.boxes, owner, kept)
    return kept & (owner == torch.arange(len(found), device=owner.device)), boxes, sizes > 1


def _nms(found: Candidates, grid: Grid, threshold: float) -> Decision:
    better, worse = meeting(found.boxes, found.classes)
    shared, one, other = overlap(found.boxes[better], found.boxes[worse])
    same = shared > threshold * (one + other - shared)
    kept = _greedy(better[same], worse[same], len(found))
    return kept, found.boxes, torch.zeros_like(kept)


def _ios(found: Candidates, grid: Grid, threshold: float) -> Decision:
    better, worse = meeting(found.boxes, found.classes)
    shared, one, other = overlap(found.boxes[better], found.boxes[worse])
    same = shared > threshold * torch.minimum(one, other)
    better, worse = better[same], worse[same]
    kept = _greedy(better, worse, len(found))
    owner = torch.arange(len(found), device=kept.device)
    taken = kept[better]
    first = torch.full_like(owner, len(found)).scatter_reduce(0, worse[taken], better[taken], "amin")
    owner = torch.where(kept, owner, first)
    boxes, sizes = _enclose(found.boxes, owner, torch.ones_like(kept))
    return kept, boxes, sizes > 1


METHODS: dict[str, Callable[[Candidates, Grid, float], Decision]] = {"border": _border, "nms": _nms, "ios": _ios}


def _greedy(better: torch.Tensor, worse: torch.Tensor, count: int) -> torch.Tensor:
    """Return which boxes stay, bool (count,): each is dropped by a better one that stays itself.

    Args:
        better: Numbers of the better boxes of pairs, (pairs,); the boxes are numbered from the best.
        worse: Numbers of the worse ones.
        count: How many boxes there are.
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


def _enclose(boxes: torch.Tensor, owner: torch.Tensor, used: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return for each owner the box around all used boxes that are its own (n, 4), and how many they are (n,)."""
    rows, index = boxes[used], owner[used]
    around = boxes.clone()
    for column, reduce in ((0, "amin"), (1, "amin"), (2, "amax"), (3, "amax")):
        around[:, column] = around[:, column].scatter_reduce(0, index, rows[:, column], reduce)
    return around, torch.bincount(index, minlength=len(boxes))
