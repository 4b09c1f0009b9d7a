"""Warnings about images far larger than the network's input, given once, with options that keep small objects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ultralytics.utils import LOGGER

# Factor between the image and the network's input. Above it an object of 32 pixels, the largest that COCO calls small,
# covers less than 16 pixels of the input, which are two cells of a head's finest level at stride 8.
FAR_LARGER = 2


def shrink_factor(width: int, height: int, imgsz: int | Sequence[int]) -> float:
    """Return the factor by which an image is shrunk to fit the network's input.

    Args:
        width, height: Size of the image in pixels.
        imgsz: Side of the network's input in pixels, or its height and width.
    """
    down, across = (imgsz, imgsz) if isinstance(imgsz, int) else (imgsz[0], imgsz[-1])
    return max(height / down, width / across)


def warn_of_split(split: Any, imgsz: int | Sequence[int], tiles: bool = True) -> None:
    """Warn if most images of a split are far larger than the network's input.

    Args:
        split: A loaded split, with the image ``records`` and the ``problems`` that carry the split's name.
        imgsz: Side of the network's input in pixels, or its height and width.
        tiles: Whether the task supports tiles, so that the warning can suggest ``--tile``.
    """
    factors = [shrink_factor(record.width, record.height, imgsz) for record in split.records]
    factor = float(np.median(factors))
    if factor > FAR_LARGER:
        middle = split.records[int(np.argsort(factors)[len(factors) // 2])]
        size = (middle.width, middle.height)
        LOGGER.warning(f"{split.problems.split}: images shrink {_told(factor, size, 12, imgsz, tiles)}")


class ShrinkWarning:
    """A predictor's callback that warns about the first image that is far larger than the network's input."""

    def __init__(self) -> None:
        self._told = False

    def __call__(self, predictor: Any) -> None:
        """Check the images of the batch that has just been read."""
        for path, image in zip(*predictor.batch[:2], strict=True):
            height, width = image.shape[:2]
            factor = shrink_factor(width, height, predictor.imgsz)
            if not self._told and factor > FAR_LARGER:
                self._told = True
                told = _told(factor, (width, height), 32, predictor.imgsz, tiles=True)
                LOGGER.warning(f"{Path(path).name}: shrinks {told}")


def _told(factor: float, size: tuple[int, int], side: int, imgsz: int | Sequence[int], tiles: bool) -> str:
    """Return text that says to how many pixels an object of ``side`` pixels shrinks, and which option avoids it.

    Args:
        factor: Factor by which the image shrinks.
        size: Width and height of the image in pixels.
        side: Side of the object in pixels of the image.
        imgsz: Side of the network's input in pixels, or its height and width.
        tiles: Whether to suggest ``--tile``.
    """
    down, across = (imgsz, imgsz) if isinstance(imgsz, int) else (imgsz[0], imgsz[-1])
    instead = f"--tile {max(down, across)} keeps its full size, a larger --imgsz more of it"
    return (
        f"{factor:.1f}-fold (from {size[0]}x{size[1]} to fit {across}x{down}): an object of {side} pixels becomes "
        f"{side / factor:.1f}; {instead if tiles else 'a larger --imgsz keeps more of it'}"
    )
