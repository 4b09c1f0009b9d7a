"""Count what became of the boxes of tiles: how many gave way or were joined, and where seams are left."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch

from pixelkeep.tiling import borders
from pixelkeep.tiling.candidates import Candidates
from pixelkeep.tiling.grid import Grid
from pixelkeep.tiling.pairs import meeting
from pixelkeep.tiling.shapes import shared

_MOSTLY = 0.5  # share of the smaller of two boxes


@dataclass(frozen=True)
class Seams:
    """Counts over one or more images; the counts of several images can be added.

    Attributes:
        candidates: Number of boxes found in the tiles.
        objects: Number of boxes after merging.
        joined: Number of objects made of several boxes.
        cut: Number of objects from one box that still end at an inner border of a tile, so that a part may be missing.
        doubled: Number of objects that share more than half of their area, or of the other's, with a better box of the
            same class from another tile and may be reported twice. Objects that really overlap count too.
    """

    candidates: int = 0
    objects: int = 0
    joined: int = 0
    cut: int = 0
    doubled: int = 0

    def __add__(self, other: Seams) -> Seams:
        return Seams(*(one + two for one, two in zip(asdict(self).values(), asdict(other).values(), strict=True)))

    def report(self) -> dict[str, float | int]:
        """Return the counts, and the numbers of cut and doubled objects per thousand objects."""
        thousands = max(self.objects, 1) / 1000
        return {
            **asdict(self),
            "cut_per_thousand": round(self.cut / thousands, 3),
            "doubled_per_thousand": round(self.doubled / thousands, 3),
        }


def count_seams(found: Candidates, made: Candidates, joined: torch.Tensor, grid: Grid, *, candidates: int) -> Seams:
    """Count the objects of one image and those that seams still affect.

    Args:
        found: The boxes that were kept, as they were found, from the highest score down.
        made: The same boxes after merging.
        joined: Whether each box was made of several, bool (n,).
        grid: Windows of the image.
        candidates: Number of boxes before merging.
    """
    cut = borders.find_cuts(found, grid).count > 0
    better, worse = meeting(made.boxes, made.classes)
    common, one, other = shared(made[better], made[worse])
    twice = (made.windows[better] != made.windows[worse]) & (common > _MOSTLY * torch.minimum(one, other))
    doubled = int(worse[twice].unique().numel())
    return Seams(candidates, len(found), int(joined.sum()), int((cut & ~joined).sum()), doubled)
