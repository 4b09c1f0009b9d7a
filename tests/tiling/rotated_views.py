"""A detector of rotated objects without a network: it reports what a tile shows, in the two ways of real networks."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from pixelkeep.tiling import Candidates, Grid
from pixelkeep.tiling.run import collect

WAYS = ("smallest", "turned")  # smallest rotated box around the visible part, or a box at the object's angle


def corners(box: np.ndarray) -> np.ndarray:
    """Return the corners (4, 2) of a rotated box x, y, width, height, radians."""
    x, y, width, height, angle = box
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [width / 2, height / 2] @ turn + [x, y]


def clip(polygon: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Return the corners of the part of a convex polygon (n, 2) that lies inside x1, y1, x2, y2."""
    for axis, sign, limit in ((0, -1, -window[0]), (1, -1, -window[1]), (0, 1, window[2]), (1, 1, window[3])):
        kept = []
        for a, b in zip(polygon, np.roll(polygon, -1, 0), strict=True):
            before, after = sign * a[axis] - limit, sign * b[axis] - limit
            if before <= 0:
                kept.append(a)
            if (before <= 0) != (after <= 0):
                kept.append(a + before / (before - after) * (b - a))
        polygon = np.array(kept).reshape(-1, 2)
        if not len(polygon):
            break
    return polygon


def report(polygon: np.ndarray, angle: float, way: str) -> np.ndarray:
    """Return the rotated box (5,) that the detector reports for the visible polygon."""
    middle = polygon.mean(0)
    if way == "smallest":
        (x, y), (width, height), degrees = cv2.minAreaRect((polygon - middle).astype(np.float32))
        return np.array([x + middle[0], y + middle[1], width, height, np.deg2rad(degrees)])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    along = (polygon - middle) @ turn
    low, high = along.min(0), along.max(0)
    return np.array([*((low + high) / 2 @ turn.T + middle), *(high - low), angle])


def candidates(
    objects: np.ndarray, grid: Grid, rng: np.random.Generator, way: str, *, jitter: float = 0.0, least: float = 1.0
) -> Candidates:
    """Return the detections in all windows of an image as candidates.

    Args:
        objects: Objects (n, 5) as centre, width and height in image pixels, and angle in radians.
        grid: The windows.
        rng: Generator of the scores and errors.
        way: Kind of reported box, one of WAYS.
        jitter: Largest error of centre and sides in pixels.
        least: Pixels of an object that a window must show along each axis for it to be detected.
    """
    found = []
    for window in grid.windows:
        rows = [np.zeros((0, 7))]
        for box in np.asarray(objects, float).reshape(-1, 5):
            shown = clip(corners(box), window)
            if len(shown) < 3 or np.ptp(shown, axis=0).min() < least:
                continue
            x, y, width, height, angle = report(shown, box[4], way)
            off = rng.uniform(-jitter, jitter, 4)
            row = [x - window[0] + off[0], y - window[1] + off[1], max(width + off[2], 1), max(height + off[3], 1)]
            rows.append(np.array([[*row, rng.uniform(0.3, 1), 0, angle]]))
        found.append(torch.tensor(np.concatenate(rows)))
    return collect(found, grid)
