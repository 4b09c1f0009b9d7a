"""What became of the boxes of tiles: how many gave way or were joined, and what is left of the seams."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch

from pixelkeep.tiling import borders
from pixelkeep.tiling.candidates import Candidates
from pixelkeep.tiling.grid import Grid
from pixelkeep.tiling.pairs import meeting
from pixelkeep.tiling.shapes import shared

_MOSTLY = 0.5  # of the smaller of two boxes


@dataclass(frozen=True)
class Seams:
    """Counts over one image or more; they add up.

    Attributes:
        candidates: Boxes that the tiles gave.
        objects: Boxes that came of them.
        joined: Of these, those made of several.
        cut: Of these, those that still end at an inner border of a tile: objects of which a part may be missing.
        doubled: Of these, those of which half or more, or half of the other, is shared with a better box of the class
            from another tile: objects that may be reported twice. Objects that do overlap count too.
    """

    candidates: int = 0
    objects: int = 0
    joined: int = 0
    cut: int = 0
    doubled: int = 0

    def __add__(self, other: Seams) -> Seams:
        return Seams(*(one + two for one, two in zip(asdict(self).values(), asdict(other).values(), strict=True)))

    def report(self) -> dict[str, float | int]:
        """Return the counts, and what is left of the seams per thousand objects."""
        thousands = max(self.objects, 1) / 1000
        return {
            **asdict(self),
            "cut_per_thousand": round(self.cut / thousands, 3),
            "doubled_per_thousand": round(self.doubled / thousands, 3),
        }


def count_seams(found: Candidates, made: Candidates, joined: torch.Tensor, grid: Grid, *, candidates: int) -> Seams:
    """Count what is left of the seams.

    Args:
        found: The boxes that were kept, as they were found, from the highest score down.
        made: What was made of them.
        joined: Bool (n,), whether they were made of several.
        grid: The windows.
        candidates: How many boxes there were before.
    """
    cut = borders.find_cuts(found, grid).count > 0
    better, worse = meeting(made.boxes, made.classes)
    common, one, other = shared(made[better], made[worse])
    twice = (made.windows[better] != made.windows[worse]) & (common > _MOSTLY * torch.minimum(one, other))
    doubled = int(worse[twice].unique().numel())
    return Seams(candidates, len(found), int(joined.sum()), int((cut & ~joined).sum()), doubled)
