"""Convex polygons in batches: the corners of rotated boxes, polygons clipped by half-planes, and their areas.

All polygons of a tensor have the same number of vertices. A polygon with fewer repeats its first vertex at the end, and
an empty polygon is a single point.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch

_DIAGONAL = 0.1  # least |cos^2 - sin^2| of an angle that counts as away from a diagonal


def corners(rotated: torch.Tensor) -> torch.Tensor:
    """Return the corners (n, 4, 2) of boxes (n, 5): centre x, y, width, height, and radians from x towards y."""
    across, down = axes(rotated)
    right, under = rotated[:, 2:3] / 2 * across, rotated[:, 3:4] / 2 * down
    offsets = torch.stack([-right - under, right - under, right + under, under - right], 1)
    return rotated[:, None, :2] + offsets


def axes(rotated: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the unit vectors along the width and the height of boxes (n, 5): (n, 2) each."""
    cos, sin = rotated[:, 4].cos(), rotated[:, 4].sin()
    return torch.stack([cos, sin], 1), torch.stack([-sin, cos], 1)


def areas(polygons: torch.Tensor) -> torch.Tensor:
    """Return the areas (n,) of polygons (n, v, 2)."""
    x, y = (polygons - polygons[:, :1]).unbind(2)  # relative to a corner: differences lose digits far from the origin
    return (x * y.roll(-1, 1) - x.roll(-1, 1) * y).sum(1).abs() / 2


def bounds(polygons: torch.Tensor) -> torch.Tensor:
    """Return the upright boxes (n, 4) around polygons (n, v, 2)."""
    return torch.cat([polygons.amin(1), polygons.amax(1)], 1)


def within_windows(polygons: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
    """Clip polygons (n, v, 2) to upright windows (n, 4), one for each polygon: (n, v + 4, 2)."""
    for side, (axis, sign) in enumerate(((0, -1.0), (1, -1.0), (0, 1.0), (1, 1.0))):
        normal = torch.zeros_like(windows[:, :2])
        normal[:, axis] = sign
        polygons = _halved(polygons, normal, sign * windows[:, side])
    return polygons


def within_rotated(polygons: torch.Tensor, rotated: torch.Tensor) -> torch.Tensor:
    """Clip polygons (n, v, 2) to rotated boxes (n, 5), one for each polygon: (n, v + 4, 2)."""
    for axis, length in zip(axes(rotated), (rotated[:, 2], rotated[:, 3]), strict=True):
        middle = (rotated[:, :2] * axis).sum(1)
        polygons = _halved(polygons, axis, middle + length / 2)
        polygons = _halved(polygons, -axis, length / 2 - middle)
    return polygons


def _halved(polygons: torch.Tensor, normal: torch.Tensor, limit: torch.Tensor) -> torch.Tensor:
    """Keep the points p of polygons (n, v, 2) with ``normal`` (n, 2) * p <= ``limit`` (n,): (n, v + 1, 2)."""
    beyond = (polygons * normal[:, None]).sum(2) - limit[:, None]  # (n, v)
    following, beyond_there = polygons.roll(-1, 1), beyond.roll(-1, 1)
    inside = beyond <= 0
    crossed = inside != (beyond_there <= 0)
    share = beyond / torch.where(crossed, beyond - beyond_there, 1.0)
    at = polygons + share[..., None] * (following - polygons)
    points = torch.stack([polygons, at], 2).flatten(1, 2)  # (n, 2v, 2): each corner, then the point that cuts its side
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


def filling(upright: torch.Tensor, rotated: torch.Tensor) -> list[torch.Tensor]:
    """Return rotated boxes (5,) that have the angle of ``rotated`` (5,) and touch all sides of ``upright`` (4,).

    There are two at most. One follows from the angle alone, unless the angle is close to a diagonal, where the sides of
    the upright box determine only the sum of width and height. The other also takes over the shorter side of
    ``rotated``, because the parts of an object longer than a tile still show how wide it is.
    """
    cos, sin = rotated[4].cos().abs(), rotated[4].sin().abs()
    across, down = upright[2:] - upright[:2]  # width * cos + height * sin, width * sin + height * cos
    found = []
    if (flat := cos**2 - sin**2).abs() >= _DIAGONAL:
        found.append(torch.stack([across * cos - down * sin, down * cos - across * sin]) / flat)
    narrow, wide = rotated[2:4].min(), (across + down) / (cos + sin) - rotated[2:4].min()
    if wide >= narrow:
        found.append(torch.stack([wide, narrow] if rotated[2] > rotated[3] else [narrow, wide]))
    middle = (upright[:2] + upright[2:]) / 2
    return [torch.cat([middle, sides, rotated[4:]]) for sides in found if sides.min() > 0]
