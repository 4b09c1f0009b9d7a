"""A detector without a network: it reports of each object what a tile shows, now and then a little off."""

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
    """Return for each window rows x1, y1, x2, y2 in its pixels, a random score, class.

    Args:
        objects: (n, 4) in pixels of the image.
        grid: The windows.
        rng: Draws scores and errors.
        jitter: Pixels by which a side is off at most.
        classes: (n,), all 0 by default.
        least: Pixels of an object that a window must show.
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
    """Return what the detector finds in all windows of an image."""
    return collect(seen(np.asarray(objects, float).reshape(-1, 4), grid, rng, **keywords), grid)


def sorted_rows(boxes: torch.Tensor) -> np.ndarray:
    """Return boxes ordered by place."""
    rows = boxes.numpy()
    return rows[np.lexsort(rows.T[::-1])]
