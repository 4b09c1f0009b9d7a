"""Draws a sheet of a batch of images with thin boxes that keep small objects visible, and one legend below."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw

from pixelkeep.report.drawing import colour, figures, label, lettering, outline, with_legend

MOST = 16  # images on a sheet
LEAST, WIDEST = 320, 2560  # pixels: side that small images are enlarged to, widest sheet
_GAP = 4
_LINE = 20  # pixels, height of a line of text
_PAPER, _INK = (24, 24, 28), (235, 235, 235)


@dataclass(frozen=True)
class Picture:
    """An image and the boxes to draw into it.

    Attributes:
        name: Text above the image.
        image: (H, W, 3) uint8, RGB.
        boxes: (n, 4) xyxy in pixels of the image.
        classes: (n,) class indices.
        scores: (n,) confidences from 0 to 1; None for labels, which have none.
    """

    name: str
    image: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray | None = None


def batch_sheet(pictures: Sequence[Picture], names: Mapping[int, str]) -> Image.Image:
    """Draw a sheet of the first `MOST` pictures, row by row.

    Args:
        pictures: One or more pictures, all of one size.
        names: Class index to class name; a class without one is shown by its index.
    """
    pictures = pictures[:MOST]
    columns = int(np.ceil(len(pictures) ** 0.5))
    scale = _scale(max(pictures[0].image.shape[:2]), columns)
    drawn = [_drawn(picture, scale) for picture in pictures]
    width, height = drawn[0].width + _GAP, drawn[0].height + _LINE + _GAP
    rows = -(-len(drawn) // columns)
    sheet = Image.new("RGB", (columns * width + _GAP, rows * height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, (picture, shown) in enumerate(zip(pictures, drawn, strict=True)):
        x, y = _GAP + number % columns * width, number // columns * height
        pen.text((x, y + 2), _fitted(pen, picture.name, shown.width), fill=_INK, font=lettering(13))
        sheet.paste(shown, (x, y + _LINE))
    counts = Counter(int(cls) for picture in pictures for cls in picture.classes)
    entries = [(cls, f"{names.get(cls, cls)} {count}") for cls, count in sorted(counts.items())]
    return with_legend(sheet, entries, lettering(16))


def _scale(side: int, columns: int) -> float:
    """Return the factor by which images of this longer side are resized; it is a whole number if they are enlarged."""
    most = WIDEST / columns / side
    return most if most < 1 else min(-(-LEAST // side), int(most))


def _drawn(picture: Picture, scale: float) -> Image.Image:
    way = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    canvas = np.ascontiguousarray(picture.image)
    canvas = cv2.resize(canvas, None, fx=scale, fy=scale, interpolation=way) if scale != 1 else canvas.copy()
    boxes = np.asarray(picture.boxes, float).reshape(-1, 4) * scale
    classes = np.asarray(picture.classes, int)
    for box, cls in zip(boxes, classes, strict=True):
        outline(canvas, box, colour(cls), 1)
    shown = Image.fromarray(canvas)
    if picture.scores is not None:
        order = np.argsort(-np.asarray(picture.scores, float), kind="stable")
        texts = figures(np.asarray(picture.scores, float)[order])
        label(ImageDraw.Draw(shown), boxes[order], texts, classes[order], lettering(12), shown.size)
    return shown


def _fitted(pen: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """Cut off the front of a name that is too wide, as file names differ at their ends."""
    shown = text
    while len(shown) > 1 and pen.textlength(shown, font=lettering(13)) > width:
        shown = f"…{shown[2:]}"
    return shown
