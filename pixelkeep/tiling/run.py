"""Detection in tiles over a function that looks at a batch of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from pixelkeep.tiling.grid import Grid
from pixelkeep.tiling.merge import THRESHOLD, Candidates, Merged, merge

Look = Callable[[np.ndarray], Sequence[torch.Tensor]]  # windows (b, 4) -> for each (n, 6) x1, y1, x2, y2, score, class
Progress = Callable[[int, int], None]  # how many tiles are done, and of how many


def detect_in_tiles(
    look: Look,
    grid: Grid,
    *,
    batch: int,
    method: str = "border",
    threshold: float = THRESHOLD,
    progress: Progress | None = None,
) -> Merged:
    """Detect in all windows of an image and merge what is found.

    Args:
        look: Gives for windows of one size what is in each of them, boxes in pixels of the window.
        grid: The windows.
        batch: How many windows ``look`` gets at once at most.
        method: See :data:`pixelkeep.tiling.METHODS`.
        threshold: Share of overlap from which two boxes of different tiles are one object.
        progress: Is told how many windows are done.
    """
    found: list[torch.Tensor] = []
    parts = [grid.tiles[start : start + batch] for start in range(0, len(grid.tiles), batch)]
    for windows in [*parts, grid.windows[-1:]] if grid.whole else parts:
        found += look(windows)
        if progress is not None:
            progress(len(found), len(grid))
    return merge(collect(found, grid), grid, method, threshold)


def collect(found: Sequence[torch.Tensor], grid: Grid) -> Candidates:
    """Return the boxes of all windows in pixels of the image, ended at the borders of their windows.

    Args:
        found: For each window (n, 6) x1, y1, x2, y2 in pixels of the window, score, class.
        grid: The windows.
    """
    rows = torch.cat(list(found))
    counts = torch.tensor([len(part) for part in found], device=rows.device)
    number = torch.repeat_interleave(torch.arange(len(found), device=rows.device), counts)
    windows = torch.as_tensor(grid.windows, device=rows.device)[number].to(rows.dtype)
    corner = windows[:, [0, 1, 0, 1]]
    boxes = torch.minimum(torch.maximum(rows[:, :4] + corner, corner), windows[:, [2, 3, 2, 3]])
    return Candidates(boxes, rows[:, 4], rows[:, 5].long(), number)
