"""Copy small objects to other places: cut them out with a margin and blend them into similar ground.

Kisantal et al., "Augmentation for small object detection", 2019 (arXiv:1902.07296), with boxes in place of masks. The
margin around a box fades out. The difference in brightness between the new and the old ground is added to the copy in
each channel, so that it keeps its contrast and shows no seam. A copy is placed only where the ground is much like its
own: a car from a road goes onto roads rather than into trees.

Boxes are (n, 4) as x1 y1 x2 y2 in pixels; pixels are uint8 (H, W, C).
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import cv2
import numpy as np

SMALL = 32**2  # square pixels, the upper limit of COCO's small objects
MARGIN = 0.35  # margin as a share of the longer side, within the limits of the next line
MARGINS = (3, 8)  # pixels, the smallest and the largest margin
LEAST = 3  # pixels, the shortest side of an object to copy: anything smaller has no shape
JITTER = (0.8, 1.25)  # range of the random scale factor
TRIES = 40  # places tried for one copy; the free one with the most similar ground is taken
UNLIKE = 12  # grey levels: limit of the mean difference in the ground's median and standard deviation


@dataclass(frozen=True, eq=False)
class Cutting:
    """An object cut out together with the ground around it.

    Attributes:
        pixels: Float32 (h, w, C), the object and its margin.
        box: Float (4,), x1 y1 x2 y2 of the object in ``pixels``.
        margin: Number of pixels of ground on each side of the box.
    """

    pixels: np.ndarray
    box: np.ndarray
    margin: int

    @property
    def alpha(self) -> np.ndarray:
        """Weight of each pixel in the blend, float32 (h, w, 1): 1 in the box, falling smoothly to 0 at the border."""
        height, width = self.pixels.shape[:2]
        down, right = (
            _fade(length, self.box[axis], self.box[axis + 2], self.margin) for axis, length in ((1, height), (0, width))
        )
        return (down[:, None] * right)[..., None].astype(np.float32)

    @property
    def ground(self) -> np.ndarray:
        """Median and standard deviation of each channel of the ground around the object, (2, C)."""
        return _ground(self.pixels, self.box)


def candidates(boxes: np.ndarray, others: np.ndarray, image: tuple[int, int]) -> np.ndarray:
    """Return the rows of the small objects whose margin is free of other boxes and lies inside the image.

    Args:
        boxes: Boxes (n, 4) of the objects.
        others: Boxes (m, 4) of everything else that must not be copied along, i.e. of what is ignored.
        image: Height and width of the image in pixels.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    small = np.flatnonzero((sides.prod(1) <= SMALL) & (sides >= LEAST).all(1))
    around = _around(boxes[small])
    alone = _overlapped(around, np.concatenate([boxes, others])).sum(1) == 1  # each overlaps with itself
    inside = (around[:, :2] >= 0).all(1) & (around[:, 2:] <= np.array(image)[::-1]).all(1)
    return small[alone & inside]


def cut_out(image: np.ndarray, box: np.ndarray, chance: random.Random) -> Cutting:
    """Cut an object out of an image and scale it randomly by a factor within `JITTER`.

    Args:
        image: The image that holds the object.
        box: The object's box (4,), one of those that :func:`candidates` chose.
        chance: Random generator for the scale.
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
    """Return the top left corner (x, y) of a place for a cutting; None if no free place with similar ground is found.

    Args:
        image: The image to paste into.
        taken: Boxes (n, 4) that the cutting, including its margin, must not overlap.
        cutting: The object to paste.
        chance: Random generator for the places to try.
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
    """Blend a cutting into an image in place, with its top left corner at x, y; return the object's box (4,) there."""
    height, width = cutting.pixels.shape[:2]
    part = image[y : y + height, x : x + width]
    there = part.astype(np.float32)
    copied = cutting.pixels + (_ground(there, cutting.box) - cutting.ground)[0]
    part[:] = np.clip(np.rint(there + cutting.alpha * (copied - there)), 0, 255).astype(image.dtype)
    return cutting.box + np.array([x, y, x, y])


def _around(boxes: np.ndarray) -> np.ndarray:
    """Return boxes enlarged by their margins, in whole pixels, int (n, 4)."""
    margin = np.clip(MARGIN * (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True), *MARGINS)
    return np.hstack([np.floor(boxes[:, :2] - margin), np.ceil(boxes[:, 2:] + margin)]).astype(int)


def _overlapped(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return bool (n, m), whether each of n boxes shares area with each of m others."""
    far, near = np.minimum(boxes[:, None, 2:], others[:, 2:]), np.maximum(boxes[:, None, :2], others[:, :2])
    return (far > near).all(2)


def _fade(length: int, low: float, high: float, margin: int) -> np.ndarray:
    """Return weights (length,): 1 between ``low`` and ``high``, falling to 0 along a cosine over the margin outside."""
    middle = np.arange(length) + 0.5
    outside = np.maximum(np.maximum(low - middle, middle - high), 0)
    return (1 + np.cos(np.pi * np.minimum(outside / margin, 1))) / 2


def _ground(pixels: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return median and standard deviation of each channel of the pixels outside a box, (2, C)."""
    outside = np.ones(pixels.shape[:2], bool)
    (x1, y1), (x2, y2) = np.floor(box[:2]).astype(int), np.ceil(box[2:]).astype(int)
    outside[y1:y2, x1:x2] = False
    around = pixels[outside]
    return np.stack([np.median(around, axis=0), around.std(axis=0)])
