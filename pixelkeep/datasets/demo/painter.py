"""Soft-edged sprites for the demo's scenes: drawn enlarged, shrunk by area averaging, then laid over the picture.

A sprite is drawn in its own coordinates: pixels of the final picture, x forward, y to the right, origin in the middle.
It is rotated and placed at fractions of a pixel, so that edges are anti-aliased at every angle. Colours are BGR from 0
to 255.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

ENLARGE = 4  # factor by which sprites are drawn larger than they end up
FIXED_BITS = 4  # fractional bits of the corners that OpenCV takes in fixed point
FIXED = 1 << FIXED_BITS
SOLID = 0.5  # coverage from which on a pixel belongs to an object

Colour = Sequence[float]


@dataclass(frozen=True)
class Sprite:
    """A drawn object.

    Attributes:
        colour: Float32 (h, w, 3), BGR, already multiplied by the coverage.
        cover: Float32 (h, w), share of each pixel that the object covers, 0 to 1.
        left: Column of the picture at which the sprite's first column lies; may be negative.
        top: Row of the picture at which the sprite's first row lies; may be negative.
    """

    colour: np.ndarray
    cover: np.ndarray
    left: int
    top: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The tight box (x1, y1, x2, y2) of the pixels that are at least half covered, x2 and y2 exclusive."""
        rows = np.flatnonzero((self.cover >= SOLID).any(1))
        columns = np.flatnonzero((self.cover >= SOLID).any(0))
        x1, x2 = columns[0] + self.left, columns[-1] + 1 + self.left
        y1, y2 = rows[0] + self.top, rows[-1] + 1 + self.top
        return int(x1), int(y1), int(x2), int(y2)


class Painter:
    """Draws one sprite that is centred at ``centre`` = (x, y) of the picture and rotated by ``angle`` radians."""

    def __init__(self, centre: tuple[float, float], angle: float, radius: float) -> None:
        """Create an empty sprite with room for ``radius`` pixels around its centre."""
        half = int(np.ceil(radius)) + 2
        self.left, self.top = int(np.floor(centre[0])) - half, int(np.floor(centre[1])) - half
        side = (2 * half + 1) * ENLARGE
        self._canvas = np.zeros((side, side, 4), np.uint8)  # B, G, R and coverage
        cosine, sine = np.cos(angle), np.sin(angle)
        scale = ENLARGE * FIXED
        self._turn = scale * np.array([[cosine, sine], [-sine, cosine]])
        self._shift = scale * (np.array(centre) - [self.left, self.top]) - 0.5 * FIXED

    def polygon(self, points: np.ndarray | Sequence, colour: Colour) -> None:
        """Fill a polygon with corners (n, 2) in the sprite's own coordinates."""
        corners = (np.asarray(points, float) @ self._turn + self._shift).round().astype(np.int32)  # (n, 2)
        b, g, r = (min(max(float(c), 0.0), 255.0) for c in colour)
        cv2.fillPoly(self._canvas, [corners], (b, g, r, 255), shift=FIXED_BITS)

    def rectangle(self, x1: float, y1: float, x2: float, y2: float, colour: Colour) -> None:
        """Fill a rectangle with sharp corners."""
        self.polygon([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], colour)

    def oval(self, x: float, y: float, a: float, b: float, colour: Colour, squareness: float = 2.0) -> None:
        """Fill |dx/a|^s + |dy/b|^s <= 1 with s = ``squareness``: an ellipse at 2, a rounded rectangle at 4 or 5."""
        self.polygon(_curve(squareness) * (a, b) + (x, y), colour)

    def finish(self) -> Sprite:
        """Return the sprite, shrunk to the picture's pixels."""
        side = self._canvas.shape[0] // ENLARGE
        small = cv2.resize(self._canvas.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
        return Sprite(small[..., :3], small[..., 3] / 255, self.left, self.top)


@cache
def _curve(squareness: float) -> np.ndarray:
    """Return the outline (40, 2) of |x|^s + |y|^s = 1, with s = ``squareness``."""
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    circle = np.stack([np.cos(t), np.sin(t)], 1)
    return np.sign(circle) * np.abs(circle) ** (2 / squareness)


def overlay(picture: np.ndarray, sprite: Sprite) -> None:
    """Lay ``sprite`` over ``picture``, float32 (H, W, 3), in place; parts outside the picture are cut off."""
    here, there = _overlap(picture, sprite)
    cover = sprite.cover[there][..., None]
    picture[here] = picture[here] * (1 - cover) + sprite.colour[there]


def cast_shadow(picture: np.ndarray, sprite: Sprite, reach: tuple[float, float], depth: float) -> None:
    """Darken ``picture`` in place where a body with a shadow of ``reach`` = (x, y) pixels blocks the sun."""
    steps = max(1, int(np.ceil(max(abs(reach[0]), abs(reach[1])) / 2)))
    pad = int(np.ceil(max(abs(reach[0]), abs(reach[1])))) + 2
    cover = np.pad(sprite.cover, pad)
    shade = np.zeros_like(cover)
    for step in range(1, steps + 1):
        move = np.float32([[1, 0, reach[0] * step / steps], [0, 1, reach[1] * step / steps]])
        np.maximum(shade, cv2.warpAffine(cover, move, cover.shape[::-1]), out=shade)
    shade = cv2.GaussianBlur(shade, (0, 0), 0.8)
    shadow = Sprite(shade[..., None], shade, sprite.left - pad, sprite.top - pad)
    here, there = _overlap(picture, shadow)
    picture[here] *= 1 - depth * shade[there][..., None]


def _overlap(picture: np.ndarray, sprite: Sprite) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the slices of the picture and of the sprite at which the two overlap."""
    height, width = picture.shape[:2]
    h, w = sprite.cover.shape
    y1, y2 = max(0, sprite.top), max(0, min(height, sprite.top + h))
    x1, x2 = max(0, sprite.left), max(0, min(width, sprite.left + w))
    here = slice(y1, y2), slice(x1, x2)
    there = slice(y1 - sprite.top, max(y1, y2) - sprite.top), slice(x1 - sprite.left, max(x1, x2) - sprite.left)
    return here, there
