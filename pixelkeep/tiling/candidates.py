"""The boxes that a detector found in the tiles of one image, before merging."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class Candidates:
    """Boxes found in the tiles of one image.

    Shapes: ``boxes`` (n, 4) x1, y1, x2, y2 in pixels of the grid's image, ``scores`` (n,), ``classes`` int64 (n,),
    ``windows`` int64 (n,), the index of the window in which each box was found. ``rotated`` (n, 5), for oriented boxes:
    centre x, y, width, height, angle in radians. Rotated boxes may extend beyond their windows; ``boxes`` then enclose
    the part inside the window.
    """

    boxes: torch.Tensor
    scores: torch.Tensor
    classes: torch.Tensor
    windows: torch.Tensor
    rotated: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, kept: torch.Tensor) -> Candidates:
        """Return the boxes selected by ``kept``, which holds positions or is a mask."""
        rotated = None if self.rotated is None else self.rotated[kept]
        return Candidates(self.boxes[kept], self.scores[kept], self.classes[kept], self.windows[kept], rotated)

    def ordered(self) -> Candidates:
        """Return the boxes from the highest score down, those with equal scores by class, place and window."""
        order = torch.arange(len(self), device=self.scores.device)
        turned = () if self.rotated is None else self.rotated.flip(1).unbind(1)
        for key in (self.windows, *turned, *self.boxes.flip(1).unbind(1), self.classes, -self.scores):
            order = order[key[order].sort(stable=True).indices]
        return self[order]
