"""Find the pairs of boxes that overlap by sorting boxes into cells, without comparing every box with every other."""

from __future__ import annotations

from math import log2

import torch

_PER_SMALLEST = 4  # side of the smallest cells, as a multiple of the side of the smallest box
_ACROSS = 4  # longest side of a box, in cells of the size that the box is assigned to
_STEP = 4  # ratio of the cells' side to that of the next smaller size


def meeting(boxes: torch.Tensor, groups: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the pairs i < j of boxes of the same group whose areas overlap.

    There are cells of several sizes, the smallest for the smallest boxes. So a few boxes as large as the image do not
    make all other boxes neighbours, and large boxes do not touch many cells. For each cell size, the boxes assigned to
    that size are compared with the boxes of that size and of smaller sizes that touch the same cell. A pair is taken
    only in the cell that holds the upper left corner of the shared area, so each pair is found once.

    Args:
        boxes: Boxes (n, 4) x1, y1, x2, y2, finite.
        groups: Group of each box, int64 (n,), at least 0.

    Returns:
        Indices i and j of the pairs, two int64 tensors (pairs,), in no particular order.
    """
    if len(boxes) < 2:
        return groups.new_zeros(0), groups.new_zeros(0)
    sides = (boxes[:, 2:] - boxes[:, :2]).amax(1)
    smallest = (_PER_SMALLEST * sides.min()).clamp(min=1)
    size = (torch.log2(sides / (_ACROSS * smallest)) / log2(_STEP)).ceil().clamp(min=0).long()  # cell size of each box
    pairs = []
    for number in size.unique().tolist():
        among = (size <= number).nonzero().flatten()
        own = size[among] == number
        one, other = _meeting_in_cells(boxes[among], groups[among], own, smallest * _STEP**number)
        pairs.append(torch.stack([among[one], among[other]]))
    one, other = torch.cat(pairs, 1)
    return torch.minimum(one, other), torch.maximum(one, other)


def _meeting_in_cells(
    boxes: torch.Tensor, groups: torch.Tensor, own: torch.Tensor, side: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the pairs of overlapping boxes with at least one box in the mask ``own``, bool (n,): two tensors (pairs,).

    Cells have the side ``side``.
    """
    corner = boxes[:, :2].amin(0)
    first, last = (((part - corner) / side).floor().long() for part in (boxes[:, :2], boxes[:, 2:]))  # (n, 2) each
    across = last[:, 0].max() + 1
    down = last[:, 1].max() + 1
    owner, cell = _enter(first, last)
    key = (groups[owner] * down + cell[:, 1]) * across + cell[:, 0]
    i, j, place = _within_runs(owner, key, own[owner])
    shared = torch.maximum(boxes[i, :2], boxes[j, :2])
    found = (shared < torch.minimum(boxes[i, 2:], boxes[j, 2:])).all(1)
    at = ((shared - corner) / side).floor().long()
    found &= ((groups[i] * down + at[:, 1]) * across + at[:, 0]) == place
    return i[found], j[found]


def _enter(first: torch.Tensor, last: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """List all cells from the first to the last of each box: the box indices (m,) and the cells (m, 2) column, row."""
    counts = last - first + 1  # (n, 2)
    total = counts.prod(1)
    owner = torch.repeat_interleave(torch.arange(len(first), device=first.device), total)
    within = torch.arange(len(owner), device=first.device) - (total.cumsum(0) - total)[owner]
    columns = counts[owner, 0]
    return owner, first[owner] + torch.stack([within % columns, within // columns], 1)


def _within_runs(
    owner: torch.Tensor, key: torch.Tensor, own: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return all pairs of entries with equal keys, at least one of them in ``own``.

    Returns:
        The owners of both entries and their key, (pairs,) each.
    """
    order = (2 * key + ~own).sort(stable=True).indices  # grouped by key, entries in ``own`` first
    owner, key, own = owner[order], key[order], own[order]
    _, counts = torch.unique_consecutive(key, return_counts=True)
    ends = torch.repeat_interleave(counts.cumsum(0), counts)
    place = torch.arange(len(key), device=key.device)
    following = (ends - place - 1) * own
    one = torch.repeat_interleave(place, following)
    other = one + 1 + torch.arange(len(one), device=key.device) - (following.cumsum(0) - following)[one]
    return owner[one], owner[other], key[one]


def overlap(one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the areas that boxes (n, 4) share with other boxes (n, 4), row by row, and both their areas: (n,) each."""
    sides = torch.minimum(one[:, 2:], other[:, 2:]) - torch.maximum(one[:, :2], other[:, :2])
    areas = ((part[:, 2:] - part[:, :2]).clamp(min=0).prod(1) for part in (one, other))
    return sides.clamp(min=0).prod(1), *areas
