"""Draws two detectors side by side on one image: what each finds, what each misses and its false alarms.

Objects that a detector finds are drawn in one colour, those that it misses in another, and its false alarms in a
third, so that the two halves of a pair can be compared at a glance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw

from pixelkeep.report.drawing import enlarged, lettering, outline

FOUND, MISSED, FALSE = (0, 158, 115), (240, 228, 66), (213, 94, 0)  # RGB, of Okabe and Ito's colours
GAP, LINE = 12, 22
_PAPER, _INK = (250, 250, 250), (40, 40, 40)


@dataclass(frozen=True)
class Half:
    """What one detector finds and misses in an image.

    Attributes:
        name: Name of the detector.
        found: (n, 4) boxes of the objects that it finds; x, y, width, height in pixels.
        missed: (n, 4) boxes of the objects that it misses, in the same form.
        false: (n, 4) boxes of its false alarms, in the same form.
    """

    name: str
    found: np.ndarray
    missed: np.ndarray
    false: np.ndarray

    def caption(self) -> str:
        """Return the text above this half."""
        return f"{self.name}: {len(self.found)} found, {len(self.missed)} missed, {len(self.false)} false"


def pair(image: np.ndarray, halves: Sequence[Half], title: str, *, enlarge: bool = True) -> Image.Image:
    """Draw an image twice, side by side, each time with the boxes of one detector.

    Args:
        image: uint8 (H, W, 3), BGR.
        halves: The half of the baseline, then that of the other detector.
        title: Text above both halves.
        enlarge: Whether small images are drawn larger than they are.
    """
    canvas, factor = enlarged(image) if enlarge else (image, 1)
    pictures = [_drawn(canvas.copy(), factor, half) for half in halves]
    width, height = pictures[0].size
    sheet = Image.new("RGB", (2 * width + 3 * GAP, height + 3 * LINE + 2 * GAP), _PAPER)
    pen, font = ImageDraw.Draw(sheet), lettering(16)
    pen.text((GAP, GAP // 2), title, fill=_INK, font=font)
    for place, (half, picture) in enumerate(zip(halves, pictures, strict=True)):
        x = GAP + place * (width + GAP)
        pen.text((x, GAP // 2 + LINE), half.caption(), fill=_INK, font=font)
        sheet.paste(picture, (x, 2 * LINE + GAP))
    _legend(pen, sheet.height - LINE - GAP // 2, font)
    return sheet


def _drawn(canvas: np.ndarray, factor: float, half: Half) -> Image.Image:
    width = max(2, round(sum(canvas.shape[:2]) / 1000))
    for boxes, rgb in ((half.false, FALSE), (half.missed, MISSED), (half.found, FOUND)):
        for x, y, w, h in np.asarray(boxes, float).reshape(-1, 4) * factor:
            outline(canvas, np.array([x, y, x + w, y + h]), rgb[::-1], width)
    return Image.fromarray(cv2.cvtColor(canvas, cv2.COLOR_BGR2RGB))


def _legend(pen: ImageDraw.ImageDraw, y: int, font) -> None:
    x = GAP
    for rgb, text in ((FOUND, "object found"), (MISSED, "object missed"), (FALSE, "false alarm")):
        pen.rectangle((x, y + 4, x + 14, y + 18), fill=rgb, outline=_INK)
        pen.text((x + 22, y), text, fill=_INK, font=font)
        x += 44 + int(pen.textlength(text, font=font))
