"""Work out which image size, tile size and head a dataset asks for.

The advised size or tile is the cheapest at which 90 % of the objects measure at least one and a half cells of the
head's finest level. That is 12 pixels of the network's input for a head that begins at stride 8, and 6 for a P2 head
(stride 4). Everything follows from the factor by which a dataset has to be enlarged to reach this.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pixelkeep.datasets.doctor.sizes import Size

CELLS = 1.5  # number of cells of the finest level that an object should measure
SHARE = 0.9  # share of the objects that should measure so much
WHOLE = 1536  # pixels: instead of larger inputs, tiles are advised, because memory grows with the area
HELD = 0.95  # share of the objects that should fit whole into the overlap of two tiles
ROUND = 8  # pixels: overlaps are rounded up to a multiple of this


@dataclass(frozen=True)
class Choice:
    """An image size and a head, with their cost.

    Attributes:
        head: The finest level of the head, such as P2 or P3.
        model: Name of a model with this head; None if this project has none.
        goal: Size in network pixels that the objects should reach.
        size: Height and width of the smallest input at which enough objects reach the goal. For a model other than the
            one asked about, it is not smaller than the size asked about.
        share: Share of the objects that reach the goal at this input.
        gflops: Cost of one image in GFLOPs; None without a model.
    """

    head: str
    model: str | None
    goal: float
    size: Size
    share: float
    gflops: float | None


@dataclass(frozen=True)
class Tiling:
    """Tiles of the original images, each shown to the network at its input size.

    Attributes:
        tile: Height and width of a tile in original pixels.
        overlap: Overlap of neighbouring tiles in original pixels.
        share: Share of the objects that reach the goal.
        tiles: Number of tiles that cover the image of median area.
    """

    tile: Size
    overlap: int
    share: float
    tiles: int


def goal_for(stride: int) -> float:
    """Return the size in network pixels that objects should have for a head whose finest stride is ``stride``."""
    return CELLS * stride


def head_name(stride: int) -> str:
    """Return the name of the level with this stride: P2 for 4, P3 for 8."""
    return f"P{round(math.log2(stride))}"


def needed_factor(sides: np.ndarray, goal: float, share: float = SHARE) -> float:
    """Return the factor by which objects must be enlarged so that a sufficient share of them reaches the goal.

    Args:
        sides: Sizes of the objects in pixels, (n,) with n at least 1.
        goal: Size in pixels that the objects should reach.
        share: Share of the objects that is sufficient.
    """
    enough = math.ceil(share * len(sides) - 1e-9)
    return goal / float(np.sort(sides)[::-1][enough - 1])


def reached(sides: np.ndarray, goal: float, factor: float = 1.0) -> float:
    """Return the share of the objects that reach the goal when enlarged by ``factor``, with tolerance for rounding."""
    return float((sides * factor >= goal * (1 - 1e-9)).mean())


def cheapest_size(size: Size, factor: float, step: int) -> Size:
    """Return the smallest input of about the shape of ``size`` that enlarges by ``factor`` more, in whole steps."""
    return tuple(max(1, math.ceil(side * factor / step - 1e-9)) * step for side in size)


def enlargement(before: Size, after: Size) -> float:
    """Return the factor by which images appear at least larger in the input ``after`` than in ``before``."""
    return min(new / old for old, new in zip(before, after, strict=True))


def tiling(sides: np.ndarray, longer: np.ndarray, images: Sequence[Size], size: Size, goal: float) -> Tiling:
    """Return the largest tiles, shown at ``size``, in which enough objects reach the goal.

    Args:
        sides: Sizes of the objects (n,), square roots of their areas, in original pixels.
        longer: Longer sides of the objects (n,) in original pixels.
        images: Height and width of each image in pixels.
        size: Height and width of the network's input.
        goal: Size in network pixels that the objects should reach.
    """
    factor = needed_factor(sides, goal)
    tile = tuple(max(1, math.floor(side / factor + 1e-9)) for side in size)
    overlap = min(math.ceil(np.quantile(longer, HELD) / ROUND) * ROUND, min(tile) // 2)
    middle = sorted(images, key=math.prod)[len(images) // 2]
    count = math.prod(_steps(side, length, overlap) for side, length in zip(middle, tile, strict=True))
    return Tiling(tile, overlap, reached(sides, goal, enlargement(tile, size)), count)


def _steps(side: int, tile: int, overlap: int) -> int:
    """Return the number of tiles that cover a side of an image."""
    return 1 if side <= tile else math.ceil((side - overlap) / (tile - overlap))
