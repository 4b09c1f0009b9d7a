"""Size classes of boxes: COCO's small, medium and large, and finer bins for objects far below 32 pixels.

Source: pycocotools ``Params.areaRng`` for COCO; Wang et al., "Tiny Object Detection in Aerial Images" (AI-TOD),
ICPR 2020, for the bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pixelkeep.errors import OptionError


@dataclass(frozen=True)
class AreaRange:
    """A size class: the boxes whose area lies in [low**2, high**2].

    Both ends are included, so neighbouring ranges share their border.

    Units: ``low`` and ``high`` are sides, sqrt(area), in pixels of the original image.
    Errors: OptionError unless 0 <= low < high.

    >>> [size.name for size in COCO_SIZES if size.contains(32**2)]
    ['S', 'M']
    """

    name: str
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high:
            raise OptionError(f"area range '{self.name}' runs from {self.low} to {self.high}; expected 0 <= low < high")

    @property
    def area(self) -> tuple[float, float]:
        """The smallest and the largest area in the range, in square pixels."""
        return self.low**2, self.high**2

    def contains(self, areas: np.ndarray | float) -> np.ndarray:
        """Return which areas (square pixels) lie in the range, in the shape of ``areas``."""
        low, high = self.area
        return (np.asarray(areas) >= low) & (np.asarray(areas) <= high)


ALL_SIZES = AreaRange("all", 0, 1e5)
COCO_SIZES = (AreaRange("S", 0, 32), AreaRange("M", 32, 96), AreaRange("L", 96, 1e5))
AITOD_BINS = (
    AreaRange("very tiny", 2, 8),
    AreaRange("tiny", 8, 16),
    AreaRange("small", 16, 32),
    AreaRange("medium", 32, 64),
)
