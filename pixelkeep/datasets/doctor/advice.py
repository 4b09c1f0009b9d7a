"""Which image size, tile size and head a dataset asks for.

The rule: the advised size or tile is the cheapest that puts 90 % of the objects above one and a half cells of the
head's finest level: 12 pixels of the network's input for a head that begins at stride 8, 6 for a P2 head (stride 4).
Everything follows from how much a dataset has to be enlarged for that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pixelkeep.datasets.doctor.sizes import Size

CELLS = 1.5  # of the finest level that an object should measure
SHARE = 0.9  # of the objects that should
WHOLE = 1536  # pixels: larger inputs are advised as tiles, as memory grows with the area
HELD = 0.95  # share of the objects that a tile's overlap should hold whole
ROUND = 8  # pixels to which overlaps are rounded up


@dataclass(frozen=True)
class Choice:
    """An image size and a head, and what they cost.

    Attributes:
        head: P2, P3, ...: the finest level.
        model: The model that has it; None where this project has none.
        goal: Pixels that the objects should measure.
        size: Height and width of the smallest input that does it; with another model not below what is asked about.
        share: Of the objects that reach the goal there.
        gflops: For one image; None without a model.
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
        tile: Height and width in original pixels.
        overlap: Pixels that neighbours share.
        share: Of the objects that reach the goal.
        tiles: Of the middle-sized image.
    """

    tile: Size
    overlap: int
    share: float
    tiles: int


def goal_for(stride: int) -> float:
    """Return the side in network pixels that objects should have for a head whose finest stride this is."""
    return CELLS * stride


def head_name(stride: int) -> str:
    """Return what the level of a stride is called: P2 for 4, P3 for 8."""
    return f"P{round(math.log2(stride))}"


def needed_factor(sides: np.ndarray, goal: float, share: float = SHARE) -> float:
    """Return by what the smallest of enough objects must be enlarged to reach the goal.

    Args:
        sides: (n,) in pixels, n at least 1.
        goal: Pixels.
        share: Of the objects that is enough.
    """
    enough = math.ceil(share * len(sides) - 1e-9)
    return goal / float(np.sort(sides)[::-1][enough - 1])


def reached(sides: np.ndarray, goal: float, factor: float = 1.0) -> float:
    """Return which share of the objects reaches the goal once enlarged; rounding does not count against them."""
    return float((sides * factor >= goal * (1 - 1e-9)).mean())


def cheapest_size(size: Size, factor: float, step: int) -> Size:
    """Return the smallest input of about the shape of ``size`` that enlarges by ``factor`` more; whole steps."""
    return tuple(max(1, math.ceil(side * factor / step - 1e-9)) * step for side in size)


def enlargement(before: Size, after: Size) -> float:
    """Return how much larger an image is at least shown in another input."""
    return min(new / old for old, new in zip(before, after, strict=True))


def tiling(sides: np.ndarray, longer: np.ndarray, images: Sequence[Size], size: Size, goal: float) -> Tiling:
    """Return the largest tiles, shown at ``size``, in which enough objects reach the goal.

    Args:
        sides: (n,) in original pixels, the square root of the area.
        longer: (n,) in original pixels, the longer side.
        images: Height and width of each image.
        size: The network's input.
        goal: Network pixels.
    """
    factor = needed_factor(sides, goal)
    tile = tuple(max(1, math.floor(side / factor + 1e-9)) for side in size)
    overlap = min(math.ceil(np.quantile(longer, HELD) / ROUND) * ROUND, min(tile) // 2)
    middle = sorted(images, key=math.prod)[len(images) // 2]
    count = math.prod(_steps(side, length, overlap) for side, length in zip(middle, tile, strict=True))
    return Tiling(tile, overlap, reached(sides, goal, enlargement(tile, size)), count)


def _steps(side: int, tile: int, overlap: int) -> int:
    """Return how many tiles cover a side."""
    return 1 if side <= tile else math.ceil((side - overlap) / (tile - overlap))
