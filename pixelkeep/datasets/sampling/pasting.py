"""Small objects copied to other places: cut out with a margin, and blended into ground that suits them.

Kisantal et al., "Augmentation for small object detection", 2019 (arXiv:1902.07296), with boxes in place of masks: the
margin about a box fades out, and what the ground there is brighter or darker in each channel is added to the copy, so
that it keeps its contrast and shows no seam. It is put only where the ground is much like its own: a car from a road
onto roads rather than into trees.

Boxes are (n, 4) as x1 y1 x2 y2 in pixels; pixels are uint8 (H, W, C).
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import cv2
import numpy as np

SMALL = 32**2  # square pixels, the upper end of COCO's small
MARGIN = 0.35  # of the longer side, within the limits of the next line
MARGINS = (3, 8)  # pixels
LEAST = 3  # pixels of either side: less has no shape
JITTER = (0.8, 1.25)  # of the scale
TRIES = 40  # places looked at for one copy; of those with nothing on them the most alike is taken
UNLIKE = 12  # grey levels by which median and spread of the ground may differ, on average


@dataclass(frozen=True, eq=False)
class Cutting:
    """An object with the ground about it.

    Attributes:
        pixels: float32 (h, w, C).
        box: (4,) of the object in them.
        margin: Pixels of ground on each side.
    """

    pixels: np.ndarray
    box: np.ndarray
    margin: int

    @property
    def alpha(self) -> np.ndarray:
        """How much of each pixel is copied, (h, w, 1): 1 in the box, falling smoothly to 0 at the border."""
        height, width = self.pixels.shape[:2]
        down, right = (
            _fade(length, self.box[axis], self.box[axis + 2], self.margin) for axis, length in ((1, height), (0, width))
        )
        return (down[:, None] * right)[..., None].astype(np.float32)

    @property
    def ground(self) -> np.ndarray:
        """Median and deviation of each channel about the object, (2, C)."""
        return _ground(self.pixels, self.box)


def candidates(boxes: np.ndarray, others: np.ndarray, image: tuple[int, int]) -> np.ndarray:
    """Return the numbers of the small objects that lie alone, with a margin about them inside the image.

    Args:
        boxes: Of objects.
        others: Of what else must not be copied along: what is ignored.
        image: Height and width.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    small = np.flatnonzero((sides.prod(1) <= SMALL) & (sides >= LEAST).all(1))
    around = _around(boxes[small])
    alone = _overlapped(around, np.concatenate([boxes, others])).sum(1) == 1  # itself
    inside = (around[:, :2] >= 0).all(1) & (around[:, 2:] <= np.array(image)[::-1]).all(1)
    return small[alone & inside]


def cut_out(image: np.ndarray, box: np.ndarray, chance: random.Random) -> Cutting:
    """Cut an object out of an image, a little larger or smaller than it is.

    Args:
        image: The pixels it is in.
        box: One of :func:`candidates`.
        chance: Decides how much.
    """
    x1, y1, x2, y2 = _around(box[None])[0]
    pixels = image[y1:y2, x1:x2].astype(np.float32)
    scale = chance.uniform(*JITTER)
    height, width = (max(1, round(length * scale)) for length in (y2 - y1, x2 - x1))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(pixels, (width, height), interpolation=way).reshape(height, width, -1)
    ratio = np.tile([width / (x2 - x1), height / (y2 - y1)], 2)
    placed = (box - np.array([x1, y1, x1, y1])) * ratio
    return Cutting(resized, placed, max(1, int(min(*placed[:2], width - placed[2], height - placed[3]))))


def find_place(image: np.ndarray, taken: np.ndarray, cutting: Cutting, chance: random.Random) -> tuple[int, int] | None:
    """Return the left upper corner of a place for a cutting, or None where none is found that is free and like its own.

    Args:
        image: The pixels to paste into.
        taken: Boxes that the cutting must not touch, its margin included.
        cutting: What to paste.
        chance: Decides where.
    """
    height, width = cutting.pixels.shape[:2]
    room = image.shape[1] - width, image.shape[0] - height
    if min(room) < 0:
        return None
    ground, best = cutting.ground, (UNLIKE, None)
    for _ in range(TRIES):
        x, y = chance.randint(0, room[0]), chance.randint(0, room[1])
        if not _overlapped(np.array([[x, y, x + width, y + height]]), taken).any():
            there = _ground(image[y : y + height, x : x + width].astype(np.float32), cutting.box)
            unlike = float(np.abs(there - ground).mean())
            if unlike < best[0]:
                best = unlike, (x, y)
    return best[1]


def paste(image: np.ndarray, cutting: Cutting, x: int, y: int) -> np.ndarray:
    """Blend a cutting into an image, in place, its left upper corner at x, y; return the box (4,) of the object."""
    height, width = cutting.pixels.shape[:2]
    part = image[y : y + height, x : x + width]
    there = part.astype(np.float32)
    copied = cutting.pixels + (_ground(there, cutting.box) - cutting.ground)[0]
    part[:] = np.clip(np.rint(there + cutting.alpha * (copied - there)), 0, 255).astype(image.dtype)
    return cutting.box + np.array([x, y, x, y])


def _around(boxes: np.ndarray) -> np.ndarray:
    """Return boxes with their margins in whole pixels, int (n, 4)."""
    margin = np.clip(MARGIN * (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True), *MARGINS)
    return np.hstack([np.floor(boxes[:, :2] - margin), np.ceil(boxes[:, 2:] + margin)]).astype(int)


def _overlapped(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return which of two sets of boxes share area, bool (n, m)."""
    far, near = np.minimum(boxes[:, None, 2:], others[:, 2:]), np.maximum(boxes[:, None, :2], others[:, :2])
    return (far > near).all(2)


def _fade(length: int, low: float, high: float, margin: int) -> np.ndarray:
    """Return (length,): 1 between low and high, a cosine's fall to 0 over the margin outside."""
    middle = np.arange(length) + 0.5
    outside = np.maximum(np.maximum(low - middle, middle - high), 0)
    return (1 + np.cos(np.pi * np.minimum(outside / margin, 1))) / 2


def _ground(pixels: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return median and deviation of each channel outside a box, (2, C)."""
    outside = np.ones(pixels.shape[:2], bool)
    (x1, y1), (x2, y2) = np.floor(box[:2]).astype(int), np.ceil(box[2:]).astype(int)
    outside[y1:y2, x1:x2] = False
    around = pixels[outside]
    return np.stack([np.median(around, axis=0), around.std(axis=0)])
