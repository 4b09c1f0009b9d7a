"""Detection in tiles, given a function that detects objects in a batch of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from pixelkeep.tiling.candidates import Candidates
from pixelkeep.tiling.grid import Grid
from pixelkeep.tiling.merge import THRESHOLD, Merged, merge
from pixelkeep.tiling.shapes import bounds_inside

# Maps windows (b, 4) to one tensor for each window: (n, 6) x1, y1, x2, y2, score, class; for oriented boxes (n, 7)
# centre x, y, width, height, score, class, radians.
Look = Callable[[np.ndarray], Sequence[torch.Tensor]]
Progress = Callable[[int, int], None]  # called with the number of windows that are done and the number of all windows


def detect_in_tiles(
    look: Look,
    grid: Grid,
    *,
    batch: int,
    method: str = "border",
    threshold: float = THRESHOLD,
    progress: Progress | None = None,
) -> Merged:
    """Detect objects in all windows of an image and merge the boxes.

    Args:
        look: Function that returns the boxes in each of several windows of one size, in pixels of the window.
        grid: Windows of the image.
        batch: Largest number of windows that ``look`` gets at once.
        method: Merging method, one of :data:`pixelkeep.tiling.METHODS`.
        threshold: Share of overlap from which two boxes of different tiles are one object.
        progress: Function called after each batch with the number of windows that are done and of all windows.
    """
    found: list[torch.Tensor] = []
    parts = [grid.tiles[start : start + batch] for start in range(0, len(grid.tiles), batch)]
    for windows in [*parts, grid.windows[-1:]] if grid.whole else parts:
        found += look(windows)
        if progress is not None:
            progress(len(found), len(grid))
    return merge(collect(found, grid), grid, method, threshold)


def collect(found: Sequence[torch.Tensor], grid: Grid) -> Candidates:
    """Return the boxes of all windows in pixels of the image; upright boxes are clipped to their windows.

    Args:
        found: Boxes of each window as :data:`Look` returns them, in pixels of the window.
        grid: Windows of the image.
    """
    rows = torch.cat(list(found))
    counts = torch.tensor([len(part) for part in found], device=rows.device)
    number = torch.repeat_interleave(torch.arange(len(found), device=rows.device), counts)
    windows = torch.as_tensor(grid.windows, device=rows.device)[number].to(rows.dtype)
    if rows.shape[1] == 7:
        rotated = rows[:, [0, 1, 2, 3, 6]]
        rotated[:, :2] += windows[:, :2]
        return Candidates(bounds_inside(rotated, windows), rows[:, 4], rows[:, 5].long(), number, rotated)
    corner = windows[:, [0, 1, 0, 1]]
    boxes = torch.minimum(torch.maximum(rows[:, :4] + corner, corner), windows[:, [2, 3, 2, 3]])
    return Candidates(boxes, rows[:, 4], rows[:, 5].long(), number)
