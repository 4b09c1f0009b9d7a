"""Draws a sheet of pairs of images side by side, with their names and a text on each pair, such as their distance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from pixelkeep.report.drawing import lettering

SIDE = 300  # pixels, the longer side of a picture
MOST = 12  # pairs on a sheet
COLUMNS = 2  # pairs in a row
GAP = 10
_LINE = 16  # pixels, height of a line of text
_PAPER, _INK = (250, 250, 250), (40, 40, 40)

Pair = tuple[Path, Path, str]  # two images and the text below them


def pair_sheet(pairs: Sequence[Pair], read: Callable[[Path], np.ndarray], note: str) -> Image.Image:
    """Draw the sheet of the first `MOST` pairs.

    Args:
        pairs: One or more pairs.
        read: Function that returns the image of a path as uint8 (H, W, 3), BGR.
        note: Text at the bottom that says what the sheet shows.
    """
    pictures = [tuple(_fitted(read(path)) for path in pair[:2]) for pair in pairs[:MOST]]
    tallest = max(picture.height for pair in pictures for picture in pair)
    columns = min(COLUMNS, len(pictures))
    width, height = 2 * SIDE + 3 * GAP, tallest + 3 * _LINE + GAP
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height + 2 * _LINE + GAP), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, ((first, second, said), shown) in enumerate(zip(pairs, pictures, strict=False)):
        x, y = number % columns * width + GAP, number // columns * height + GAP
        for place, (path, picture) in enumerate(zip((first, second), shown, strict=True)):
            left = x + place * (SIDE + GAP // 2)
            sheet.paste(picture, (left, y))
            pen.text((left, y + tallest + 2), _end(path.name), fill=_INK, font=lettering(12))
        pen.text((x, y + tallest + 2 + _LINE), said, fill=_INK, font=lettering(12))
    pen.text((GAP, sheet.height - 2 * _LINE), note, fill=_INK, font=lettering(12))
    return sheet


def _fitted(image: np.ndarray) -> Image.Image:
    """Return an image resized so that its longer side is `SIDE`."""
    scale = SIDE / max(image.shape[:2])
    size = tuple(max(1, round(side * scale)) for side in image.shape[1::-1])
    shrunk = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    return Image.fromarray(cv2.cvtColor(shrunk, cv2.COLOR_BGR2RGB))


def _end(name: str, most: int = 40) -> str:
    return name if len(name) <= most else f"…{name[1 - most :]}"
