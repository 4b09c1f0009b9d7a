"""A detector without a network: it reports the part of each object that a tile shows, optionally with an error."""

from __future__ import annotations

import numpy as np
import torch

from pixelkeep.tiling import Candidates, Grid
from pixelkeep.tiling.run import collect


def seen(
    objects: np.ndarray,
    grid: Grid,
    rng: np.random.Generator,
    *,
    jitter: float = 0.0,
    classes: np.ndarray | None = None,
    least: float = 1.0,
) -> list[torch.Tensor]:
    """Return the detections of each window: rows of x1, y1, x2, y2 in its pixels, a random score and the class.

    Args:
        objects: Boxes (n, 4) as x1, y1, x2, y2 in image pixels.
        grid: The windows.
        rng: Generator of the scores and errors.
        jitter: Largest error of a side in pixels.
        classes: Classes (n,) of the objects, all 0 by default.
        least: Pixels of an object that a window must show along each axis for it to be detected.
    """
    classes = np.zeros(len(objects)) if classes is None else classes
    found = []
    for window in grid.windows:
        low, size = np.tile(window[:2], 2), np.tile(window[2:] - window[:2], 2)
        boxes = np.clip(objects - low, 0, size)
        shown = ((boxes[:, 2:] - boxes[:, :2]) >= least).all(1)
        boxes = np.clip(boxes[shown] + rng.uniform(-jitter, jitter, (shown.sum(), 4)), 0, size)
        boxes = np.hstack([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])])
        scores = rng.uniform(0.3, 1, len(boxes))
        found.append(torch.tensor(np.column_stack([boxes, scores, classes[shown]])))
    return found


def candidates(objects: np.ndarray, grid: Grid, rng: np.random.Generator, **keywords) -> Candidates:
    """Return the detections in all windows of an image as candidates."""
    return collect(seen(np.asarray(objects, float).reshape(-1, 4), grid, rng, **keywords), grid)


def sorted_rows(boxes: torch.Tensor) -> np.ndarray:
    """Return the boxes ordered by position."""
    rows = boxes.numpy()
    return rows[np.lexsort(rows.T[::-1])]
