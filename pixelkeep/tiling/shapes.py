"""Measure how much boxes have in common, upright or rotated; rotated boxes are compared exactly, as polygons.

When the border of a tile cuts an object, the tile shows only the part inside the border. A rotated box around that part
often extends beyond the border, where the tile has seen nothing. So only the part of a rotated box inside its window is
compared.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from pixelkeep.tiling import polygons
from pixelkeep.tiling.candidates import Candidates
from pixelkeep.tiling.pairs import overlap

_LEAST = 1e-9  # square pixels


def shared(one: Candidates, other: Candidates) -> tuple[torch.Tensor, ...]:
    """Return the areas that boxes share with other boxes, row by row, and both their areas: (n,) each."""
    if one.rotated is None:
        return overlap(one.boxes, other.boxes)
    common = polygons.areas(polygons.within_rotated(polygons.corners(one.rotated), other.rotated))
    return common, one.rotated[:, 2:4].prod(1), other.rotated[:, 2:4].prod(1)


def bounds_inside(rotated: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
    """Return the upright boxes (n, 4) around the parts of rotated boxes (n, 5) inside windows (n, 4)."""
    shown = polygons.within_windows(polygons.corners(rotated), windows)
    around = polygons.bounds(polygons.corners(rotated))
    low, high = windows[:, [0, 1, 0, 1]], windows[:, [2, 3, 2, 3]]
    clamped = torch.minimum(torch.maximum(around, low), high)
    return torch.where((polygons.areas(shown) > _LEAST)[:, None], polygons.bounds(shown), clamped)


def covered(rotated: torch.Tensor, window: torch.Tensor, other: torch.Tensor, by: float) -> torch.Tensor:
    """Return the share of each box, clipped to its window, that lies in another box, which is widened: (n,).

    Args:
        rotated: Rotated boxes (n, 5) whose covered share is measured.
        window: Windows (n, 4) of these boxes.
        other: Rotated boxes (n, 5) that may cover them.
        by: Number of pixels by which each side of the other boxes is moved outwards.
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
    """Return rotated boxes (n, 5) with every side moved outwards by ``by`` pixels."""
    return rotated + rotated.new_tensor([0, 0, 2 * by, 2 * by, 0])


def around(one: Candidates, other: Candidates) -> Candidates:
    """Return boxes grown around others, row by row: the upright boxes, and the rotated boxes of least area."""
    low, high = (pick(one.boxes, other.boxes) for pick in (torch.minimum, torch.maximum))
    boxes = torch.cat([low[:, :2], high[:, 2:]], 1)
    if one.rotated is None:
        return replace(one, boxes=boxes)
    points = torch.cat([polygons.corners(part.rotated) for part in (one, other)], 1)  # (n, 8, 2)
    return replace(one, boxes=boxes, rotated=torch.stack([polygons.smallest_around(part) for part in points]))


def join_rotated(rotated: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
    """Return the rotated box (5,) of an object from its parts.

    All parts together show where the object ends, upwards, downwards and sideways. Only some of them show its angle; a
    tile that sees nothing but a corner does not. So there are several candidates: for the angle of each part, the boxes
    that touch all sides of the upright box around everything shown, and the box of least area around it. The candidate
    most like the parts is returned.

    Args:
        rotated: Rotated boxes of the parts, (parts, 5).
        windows: Window in which each part was found, (parts, 4).
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
