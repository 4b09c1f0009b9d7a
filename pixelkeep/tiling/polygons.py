"""Convex polygons, many at a time: rotated boxes as corners, what half-planes leave of them, and how large that is.

All polygons of a tensor have as many vertices: one with fewer repeats its first at the end, an empty one is a point.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch

_DIAGONAL = 0.1


def corners(rotated: torch.Tensor) -> torch.Tensor:
    """Return the corners (n, 4, 2) of boxes (n, 5): centre x, y, width, height, and radians from x towards y."""
    across, down = axes(rotated)
    right, under = rotated[:, 2:3] / 2 * across, rotated[:, 3:4] / 2 * down
    offsets = torch.stack([-right - under, right - under, right + under, under - right], 1)
    return rotated[:, None, :2] + offsets


def axes(rotated: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the unit vectors along width and height: (n, 2) each."""
    cos, sin = rotated[:, 4].cos(), rotated[:, 4].sin()
    return torch.stack([cos, sin], 1), torch.stack([-sin, cos], 1)


def areas(polygons: torch.Tensor) -> torch.Tensor:
    """Return the areas (n,) of polygons (n, v, 2)."""
    x, y = (polygons - polygons[:, :1]).unbind(2)  # from a corner: far from the origin, differences lose digits
    return (x * y.roll(-1, 1) - x.roll(-1, 1) * y).sum(1).abs() / 2


def bounds(polygons: torch.Tensor) -> torch.Tensor:
    """Return the upright boxes (n, 4) around polygons (n, v, 2)."""
    return torch.cat([polygons.amin(1), polygons.amax(1)], 1)


def within_windows(polygons: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
    """Return what lies inside upright windows (n, 4), one for each polygon: (n, v + 4, 2)."""
    for side, (axis, sign) in enumerate(((0, -1.0), (1, -1.0), (0, 1.0), (1, 1.0))):
        normal = torch.zeros_like(windows[:, :2])
        normal[:, axis] = sign
        polygons = _halved(polygons, normal, sign * windows[:, side])
    return polygons


def within_rotated(polygons: torch.Tensor, rotated: torch.Tensor) -> torch.Tensor:
    """Return what lies inside rotated boxes (n, 5), one for each polygon: (n, v + 4, 2)."""
    for axis, length in zip(axes(rotated), (rotated[:, 2], rotated[:, 3]), strict=True):
        middle = (rotated[:, :2] * axis).sum(1)
        polygons = _halved(polygons, axis, middle + length / 2)
        polygons = _halved(polygons, -axis, length / 2 - middle)
    return polygons


def _halved(polygons: torch.Tensor, normal: torch.Tensor, limit: torch.Tensor) -> torch.Tensor:
    """Return what lies where ``normal`` (n, 2) times a point is ``limit`` (n,) at most: (n, v + 1, 2)."""
    beyond = (polygons * normal[:, None]).sum(2) - limit[:, None]  # (n, v)
    following, beyond_there = polygons.roll(-1, 1), beyond.roll(-1, 1)
    inside = beyond <= 0
    crossed = inside != (beyond_there <= 0)
    share = beyond / torch.where(crossed, beyond - beyond_there, 1.0)
    at = polygons + share[..., None] * (following - polygons)
    points = torch.stack([polygons, at], 2).flatten(1, 2)  # (n, 2v, 2): each corner, then where its side is cut
    there = torch.stack([inside, crossed], 2).flatten(1)
    order = (~there).to(torch.uint8).sort(dim=1, stable=True).indices[:, : polygons.shape[1] + 1]
    chosen = points.gather(1, order[..., None].expand(-1, -1, 2))
    return torch.where(there.gather(1, order)[..., None], chosen, chosen[:, :1])


def smallest_around(points: torch.Tensor) -> torch.Tensor:
    """Return the rotated box (5,) of least area around points (n, 2)."""
    middle = points.mean(0)
    shown = np.ascontiguousarray((points - middle).cpu().numpy(), np.float32)
    (x, y), (width, height), degrees = cv2.minAreaRect(shown)
    box = points.new_tensor([x, y, width, height, np.deg2rad(degrees)])
    box[:2] += middle
    return box


def around_at(points: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Return the rotated box (5,) of an angle in radians around points (n, 2)."""
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([torch.stack([cos, -sin]), torch.stack([sin, cos])])
    along = points @ turn  # in the box's own axes
    low, high = along.amin(0), along.amax(0)
    return torch.cat([(low + high) / 2 @ turn.T, high - low, angle[None]])


def filling(upright: torch.Tensor, angle: torch.Tensor) -> torch.Tensor | None:
    """Return the rotated box (5,) of an angle in radians that touches all sides of an upright one (4,), if one does."""
    cos, sin = angle.cos().abs(), angle.sin().abs()
    sides = upright[2:] - upright[:2]
    flat = cos**2 - sin**2
    if flat.abs() < _DIAGONAL:  # all sides lengths fit there
        return None
    width, height = (sides[0] * cos - sides[1] * sin) / flat, (sides[1] * cos - sides[0] * sin) / flat
    if min(width, height) <= 0:
        return None
    return torch.cat([(upright[:2] + upright[2:]) / 2, torch.stack([width, height, angle])])
