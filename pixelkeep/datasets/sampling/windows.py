"""Windows of images: choosing one around an object, and finding out what it shows of an image's boxes.

All functions are pure functions of boxes (n, 4), x1 y1 x2 y2 in pixels. The pixels of a window are
``image[window.rows, window.columns]``.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

LEAST = 0.5  # share of its area that a cut object must show to be learnt


@dataclass(frozen=True)
class Window:
    """A rectangle of whole pixels inside an image: its top left corner (x, y) and its width and height."""

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
        boxes: Float (n, 4), the boxes clipped to the window, in the window's pixels; of size 0 where nothing is shown.
        share: Float (n,), share of each box's area that is shown, 0 to 1.
        visible: Bool (n,), whether both sides of the clipped box are longer than ``sliver`` pixels.
        whole: Bool (n,), whether enough is shown to learn the object; objects that are visible but not whole are to be
            ignored.
    """

    boxes: np.ndarray
    share: np.ndarray
    visible: np.ndarray
    whole: np.ndarray


def window_about(box: np.ndarray, size: tuple[int, int], image: tuple[int, int], chance: random.Random) -> Window:
    """Return a window that holds the whole box at a place drawn uniformly from those that the image allows.

    Args:
        box: The box (4,), inside the image. If it is larger than the window, the window shows its middle.
        size: Height and width of the window in pixels; a smaller image makes the window smaller.
        image: Height and width of the image in pixels.
        chance: Random generator for the window's place.
    """
    (y, height), (x, width) = (
        _place(box[axis], box[axis + 2], size[1 - axis], image[1 - axis], chance) for axis in (1, 0)
    )
    return Window(x, y, width, height)


def _place(low: float, high: float, length: int, limit: int, chance: random.Random) -> tuple[int, int]:
    """Return the start and the length of a window on one axis, in pixels."""
    length = min(length, limit)
    first, last = int(np.ceil(high)) - length, int(np.floor(low))
    if first > last:
        first = last = round((low + high - length) / 2)
    first, last = (min(max(end, 0), limit - length) for end in (first, last))
    return chance.randint(first, last), length


def shown(boxes: np.ndarray, window: Window, *, least: float = LEAST, sliver: float = 0.0) -> Shown:
    """Return what a window shows of boxes.

    Args:
        boxes: Boxes (n, 4) in pixels of the image.
        window: The window in the image.
        least: Share of its area from which on a visible object counts as whole.
        sliver: Side length in pixels up to which a clipped box counts as not visible.
    """
    limits = np.tile([window.width, window.height], 2)
    clipped = np.clip(boxes - np.tile([window.x, window.y], 2), 0, limits)
    before, after = (np.maximum(each[:, 2:] - each[:, :2], 0) for each in (boxes, clipped))
    area = before.prod(1)
    share = np.divide(after.prod(1), area, out=np.zeros(len(boxes)), where=area > 0)
    visible = (after > sliver).all(1)
    return Shown(clipped, share, visible, visible & (share >= least))
