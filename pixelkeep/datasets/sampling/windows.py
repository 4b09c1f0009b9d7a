"""Windows of images: where one may lie about an object, and what of an image's boxes it shows.

Pure functions of boxes (n, 4) as x1 y1 x2 y2 in pixels; a window is cut out of the pixels as ``image[window.rows,
window.columns]``.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

LEAST = 0.5  # share of its area that makes a cut object one that can be learnt


@dataclass(frozen=True)
class Window:
    """A rectangle of whole pixels that lies inside an image: its left upper corner and its size."""

    x: int
    y: int
    width: int
    height: int

    @property
    def rows(self) -> slice:
        return slice(self.y, self.y + self.height)

    @property
    def columns(self) -> slice:
        return slice(self.x, self.x + self.width)


@dataclass(frozen=True, eq=False)
class Shown:
    """What a window shows of boxes.

    Attributes:
        boxes: (n, 4), clipped to the window, in its own pixels; without size where nothing is shown.
        share: (n,) of the area that is shown, 0 to 1.
        visible: Whether more than ``sliver`` pixels of either side are, bool (n,).
        whole: Whether enough is to learn the object, bool (n,); what is visible and not whole is to be ignored.
    """

    boxes: np.ndarray
    share: np.ndarray
    visible: np.ndarray
    whole: np.ndarray


def window_about(box: np.ndarray, size: tuple[int, int], image: tuple[int, int], chance: random.Random) -> Window:
    """Return a window that has the whole box in it, anywhere in it with the same chance, as far as the image allows.

    Args:
        box: (4,), inside the image. Of one that is larger than the window its middle is shown.
        size: Height and width of the window; less where the image is smaller.
        image: Height and width.
        chance: Decides where.
    """
    (y, height), (x, width) = (
        _place(box[axis], box[axis + 2], size[1 - axis], image[1 - axis], chance) for axis in (1, 0)
    )
    return Window(x, y, width, height)


def _place(low: float, high: float, length: int, limit: int, chance: random.Random) -> tuple[int, int]:
    """Return where a window begins on one axis, and how long it is."""
    length = min(length, limit)
    first, last = int(np.ceil(high)) - length, int(np.floor(low))
    if first > last:
        first = last = round((low + high - length) / 2)
    first, last = (min(max(end, 0), limit - length) for end in (first, last))
    return chance.randint(first, last), length


def shown(boxes: np.ndarray, window: Window, *, least: float = LEAST, sliver: float = 0.0) -> Shown:
    """Return what a window shows of boxes.

    Args:
        boxes: (n, 4) in the image.
        window: Where it lies in the image.
        least: Share of its area from which an object is whole.
        sliver: Pixels of a side that show nothing yet.
    """
    limits = np.tile([window.width, window.height], 2)
    clipped = np.clip(boxes - np.tile([window.x, window.y], 2), 0, limits)
    before, after = (np.maximum(each[:, 2:] - each[:, :2], 0) for each in (boxes, clipped))
    area = before.prod(1)
    share = np.divide(after.prod(1), area, out=np.zeros(len(boxes)), where=area > 0)
    visible = (after > sliver).all(1)
    return Shown(clipped, share, visible, visible & (share >= least))
