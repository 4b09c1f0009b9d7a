"""Detection in as many tiles of a video frame as there is time for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from pixelkeep.tiling import borders
from pixelkeep.tiling.candidates import Candidates
from pixelkeep.tiling.grid import Grid
from pixelkeep.tiling.merge import THRESHOLD, Merged, merge
from pixelkeep.tiling.run import Look, Progress, collect
from pixelkeep.tiling.schedule import Costs, Turns

_BEYOND = 1.0  # pixels


class Looked(NamedTuple):
    """The windows of a frame, and which of them have been looked at.

    Shapes: ``windows`` (n, 4) x1, y1, x2, y2 in pixels of the frame; ``now`` bool (n,), whether each window has been
    looked at.
    """

    windows: np.ndarray
    now: np.ndarray

    def tell(self, boxes: np.ndarray) -> np.ndarray:
        """Return for boxes (m, 4) whether they would have been found: bool (m,).

        A box would have been found if a window that holds all of it has been looked at. For a box that no window holds,
        a window that overlaps it is enough.
        """
        low, high = self.windows[None, :, :2], self.windows[None, :, 2:]
        holds = ((boxes[:, None, :2] >= low) & (boxes[:, None, 2:] <= high)).all(2)  # (m, n)
        meets = ((boxes[:, None, :2] < high) & (boxes[:, None, 2:] > low)).all(2)
        able = np.where(holds.any(1, keepdims=True), holds, meets)
        return (able & self.now).any(1)


class Timed:
    """A replacement for :func:`pixelkeep.tiling.detect_in_tiles` with a time limit, for one frame of a video.

    Args:
        turns: Order in which tiles are looked at; its frame must have begun.
        costs: Measured time per tile; the time that the tiles of this frame take is added.
        until: Time at which to stop, in seconds of the clock of ``turns``. At least one tile is looked at anyway.

    Attributes:
        looked: Whether each window has been looked at, bool (n,).
        held: Whether something was found in each window, bool (n,).
    """

    def __init__(self, turns: Turns, costs: Costs, until: float):
        self.turns, self.costs, self.until = turns, costs, until
        self.looked = np.zeros(len(turns), bool)
        self.held = np.zeros(len(turns), bool)

    def __call__(
        self,
        look: Look,
        grid: Grid,
        *,
        batch: int,
        method: str = "border",
        threshold: float = THRESHOLD,
        progress: Progress | None = None,
    ) -> Merged:
        """Detect objects in as many windows as there is time for, and merge the boxes.

        A box that is cut by a border is left out if the tile beyond the border has not been looked at, because the part
        that the border cuts off is unknown. Where the overlap holds whole objects, the other tile shows this object
        whole when its turn comes.
        """
        found: dict[int, torch.Tensor] = {}
        while self.turns.left:
            count = self.costs.fitting(self.until - self.turns.clock(), batch)
            if found and not count:
                break
            chosen = self.turns.take(max(1, count))
            began = self.turns.clock()
            for part in _alone(chosen, grid):
                found.update(zip(part.tolist(), look(grid.windows[part]), strict=True))
            self.costs.add_tiles(self.turns.clock() - began, len(chosen))
            if progress is not None:
                progress(len(found), len(grid))
        self.looked[list(found)] = True
        self.held[[number for number, rows in found.items() if len(rows)]] = True
        nothing = next(iter(found.values()))[:0]
        candidates = collect([found.get(number, nothing) for number in range(len(grid))], grid)
        return merge(candidates[~cut_at_unseen(candidates, grid, self.looked)], grid, method, threshold)


def _alone(chosen: np.ndarray, grid: Grid) -> list[np.ndarray]:
    """Split window indices into parts that can be looked at together: the window of the whole image is on its own."""
    whole = (chosen == len(grid) - 1) & grid.whole
    return [part for part in (chosen[~whole], chosen[whole]) if len(part)]


def cut_at_unseen(found: Candidates, grid: Grid, looked: np.ndarray) -> torch.Tensor:
    """Return which boxes are cut by a border beyond which no tile has been looked at: bool (n,).

    Args:
        found: The boxes.
        grid: Windows of the frame.
        looked: Whether each window has been looked at, bool (windows,).
    """
    cuts = borders.find_cuts(found, grid)
    boxes, windows = found.boxes, cuts.windows
    tiles = torch.as_tensor(grid.tiles[looked[: len(grid.tiles)]], device=boxes.device).to(boxes.dtype)  # (t, 4)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    gone = torch.zeros(len(found), dtype=torch.bool, device=boxes.device)
    for side, outwards in enumerate((-_BEYOND, -_BEYOND, _BEYOND, _BEYOND)):
        point = middle.clone()
        point[:, side % 2] = windows[:, side] + outwards
        inside = (point[:, None] >= tiles[None, :, :2]) & (point[:, None] <= tiles[None, :, 2:])  # (n, t, 2)
        gone |= ~cuts.lines[:, side].isnan() & ~inside.all(2).any(1)
    return gone
