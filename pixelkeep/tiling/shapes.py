"""How much boxes have in common, upright or rotated; of rotated ones exactly, as polygons.

What a tile shows of an object that its border cuts is the part inside the border: a rotated box around that part often
reaches over it, where the tile has seen nothing. So rotated boxes are compared as far as their windows show them.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from pixelkeep.tiling import polygons
from pixelkeep.tiling.candidates import Candidates
from pixelkeep.tiling.pairs import overlap

_LEAST = 1e-9  # square pixels


def shared(one: Candidates, other: Candidates) -> tuple[torch.Tensor, ...]:
    """Return the shared area of boxes, row by row, and the areas of both: (n,) each."""
    if one.rotated is None:
        return overlap(one.boxes, other.boxes)
    common = polygons.areas(polygons.within_rotated(polygons.corners(one.rotated), other.rotated))
    return common, one.rotated[:, 2:4].prod(1), other.rotated[:, 2:4].prod(1)


def bounds_inside(rotated: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
    """Return the upright boxes (n, 4) around what windows (n, 4) show of rotated boxes (n, 5)."""
    shown = polygons.within_windows(polygons.corners(rotated), windows)
    around = polygons.bounds(polygons.corners(rotated))
    low, high = windows[:, [0, 1, 0, 1]], windows[:, [2, 3, 2, 3]]
    clamped = torch.minimum(torch.maximum(around, low), high)
    return torch.where((polygons.areas(shown) > _LEAST)[:, None], polygons.bounds(shown), clamped)


def covered(rotated: torch.Tensor, window: torch.Tensor, other: torch.Tensor, by: float) -> torch.Tensor:
    """Return which share of boxes, as far as their windows show them, lies in others that are widened: (n,).

    Args:
        rotated: (n, 5).
        window: (n, 4), of the first ones.
        other: (n, 5).
        by: Pixels.
    """
    shown = polygons.within_windows(polygons.corners(rotated), window)
    inside = polygons.within_rotated(shown, widened(other, by))
    return polygons.areas(inside) / polygons.areas(shown).clamp(min=_LEAST)


def alike(one: torch.Tensor, other: torch.Tensor, common: torch.Tensor) -> torch.Tensor:
    """Return the intersection over union of rotated boxes (n, 5) inside windows (n, 4): (n,)."""
    a, b = (polygons.within_windows(polygons.corners(boxes), common) for boxes in (one, other))
    both = polygons.areas(polygons.within_rotated(a, other))
    return both / (polygons.areas(a) + polygons.areas(b) - both).clamp(min=_LEAST)


def widened(rotated: torch.Tensor, by: float) -> torch.Tensor:
    """Return rotated boxes (n, 5) whose sides lie ``by`` pixels further out."""
    return rotated + rotated.new_tensor([0, 0, 2 * by, 2 * by, 0])


def around(one: Candidates, other: Candidates) -> Candidates:
    """Return boxes, grown around others, row by row: upright ones, and the rotated ones of least area."""
    low, high = (pick(one.boxes, other.boxes) for pick in (torch.minimum, torch.maximum))
    boxes = torch.cat([low[:, :2], high[:, 2:]], 1)
    if one.rotated is None:
        return replace(one, boxes=boxes)
    points = torch.cat([polygons.corners(part.rotated) for part in (one, other)], 1)  # (n, 8, 2)
    return replace(one, boxes=boxes, rotated=torch.stack([polygons.smallest_around(part) for part in points]))


def join_rotated(rotated: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
    """Return the rotated box (5,) of an object from its parts.

    All parts together show where the object ends, upwards, downwards and sideways; which angle it has, some of them
    show and some do not, as where a tile sees a corner alone. So there are several answers: at the angle of each part
    the boxes that touch all sides of the upright box around what is shown, and the one of least area around it. The
    one is taken that is most like the parts.

    Args:
        rotated: (parts, 5).
        windows: (parts, 4).
    """
    points = polygons.within_windows(polygons.corners(rotated), windows).flatten(0, 1)
    around = polygons.bounds(points[None])[0]
    filling = [box for part in rotated for box in polygons.filling(around, part)]
    answers = torch.stack([polygons.smallest_around(points), *filling])
    fit = torch.stack([_iou(answer.expand_as(rotated), rotated).sum() for answer in answers])
    return answers[fit.argmax()]


def _iou(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    both = polygons.areas(polygons.within_rotated(polygons.corners(one), other))
    return both / (one[:, 2:4].prod(1) + other[:, 2:4].prod(1) - both).clamp(min=_LEAST)
