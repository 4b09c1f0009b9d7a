"""Images far larger than the network's input: said once, with what keeps their small objects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ultralytics.utils import LOGGER

# Times the network's input. From here on an object of 32 pixels, the largest that COCO calls small, is shown in less
# than 16, two cells of a head's finest level of stride 8.
FAR_LARGER = 2


def shrink_factor(width: int, height: int, imgsz: int | Sequence[int]) -> float:
    """Return by what an image is made smaller to fit the network's input.

    Args:
        width, height: Of the image.
        imgsz: Side of the input, or its height and width.
    """
    down, across = (imgsz, imgsz) if isinstance(imgsz, int) else (imgsz[0], imgsz[-1])
    return max(height / down, width / across)


def warn_of_split(split: Any, imgsz: int | Sequence[int], tiles: bool = True) -> None:
    """Warn where most images of a split are far larger than the network's input.

    Args:
        split: With ``records`` of images, and ``problems`` that name it.
        imgsz: As :func:`shrink_factor` takes it.
        tiles: Whether the task can be shown tiles.
    """
    factors = [shrink_factor(record.width, record.height, imgsz) for record in split.records]
    factor = float(np.median(factors))
    if factor > FAR_LARGER:
        middle = split.records[int(np.argsort(factors)[len(factors) // 2])]
        size = (middle.width, middle.height)
        LOGGER.warning(f"{split.problems.split}: images shrink {_told(factor, size, 12, imgsz, tiles)}")


class ShrinkWarning:
    """Warns of the first image of a detection that is far larger than the network's input; a predictor's callback."""

    def __init__(self) -> None:
        self._told = False

    def __call__(self, predictor: Any) -> None:
        """Look at the batch that has been read."""
        for path, image in zip(*predictor.batch[:2], strict=True):
            height, width = image.shape[:2]
            factor = shrink_factor(width, height, predictor.imgsz)
            if not self._told and factor > FAR_LARGER:
                self._told = True
                told = _told(factor, (width, height), 32, predictor.imgsz, tiles=True)
                LOGGER.warning(f"{Path(path).name}: shrinks {told}")


def _told(factor: float, size: tuple[int, int], side: int, imgsz: int | Sequence[int], tiles: bool) -> str:
    """Return what becomes of an object of ``side`` pixels in an image of width and height ``size``."""
    down, across = (imgsz, imgsz) if isinstance(imgsz, int) else (imgsz[0], imgsz[-1])
    instead = f"--tile {max(down, across)} keeps all of it, a larger --imgsz more of it"
    return (
        f"{factor:.1f}-fold (from {size[0]}x{size[1]} to fit {across}x{down}): an object of {side} pixels becomes "
        f"{side / factor:.1f}; {instead if tiles else 'a larger --imgsz keeps more of it'}"
    )
