"""Draws a sheet of enlarged details: each tile shows one box in its surroundings, with a text below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from pixelkeep.report.drawing import lettering

TILE = 208  # side of a tile in pixels
LEAST_VIEW = 40  # least side of the view in image pixels: an object 6 pixels wide is then 31 wide in the tile
AROUND = 3  # side of the view in multiples of the box's longer side
MOST = 40  # tiles on a sheet
COLUMNS = 8
GAP = 10
_PAPER, _INK, _OUTSIDE = (250, 250, 250), (40, 40, 40), (120, 120, 120)
_MARK, _OTHER = (255, 220, 0), (0, 210, 255)  # RGB of the box that the tile is about, and of detections around it
_LINE = 15  # pixels from one line of text to the next

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Tile:
    """One thing to show.

    Attributes:
        file: Path of the image.
        box: x, y, width, height in pixels of the image: the box that the tile is about.
        lines: Lines of text below the tile.
        others: Further boxes to draw in the tile, in another colour.
    """

    file: Path
    box: Box
    lines: Sequence[str]
    others: Sequence[Box] = field(default=())


def zoom_sheet(tiles: Sequence[Tile], read: Callable[[Path], np.ndarray], note: str) -> Image.Image:
    """Draw a sheet of the first `MOST` tiles, row by row.

    Args:
        tiles: One or more tiles.
        read: Function that returns the image of a path as uint8 (H, W, 3), BGR.
        note: Text at the bottom that says what the sheet shows.
    """
    tiles = tiles[:MOST]
    columns = min(COLUMNS, max(len(tiles), 3))  # the note needs some width
    height = TILE + _LINE * max(len(tile.lines) for tile in tiles) + 2 * GAP
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * (TILE + GAP) + GAP, rows * height + GAP + 2 * _LINE), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, tile in enumerate(tiles):
        x, y = GAP + number % columns * (TILE + GAP), GAP + number // columns * height
        sheet.paste(_view(tile, read(tile.file)), (x, y))
        for index, line in enumerate(tile.lines):
            pen.text((x, y + TILE + 3 + index * _LINE), _fit(pen, line, TILE), fill=_INK, font=lettering(12))
    pen.text((GAP, sheet.height - 2 * _LINE), _fit(pen, note, sheet.width - 2 * GAP), fill=_INK, font=lettering(12))
    return sheet


def _view(tile: Tile, image: np.ndarray) -> Image.Image:
    """Return the surroundings of a tile's box, cut out of its image, scaled to the tile, with the boxes drawn in."""
    x, y, width, height = tile.box
    side = max(LEAST_VIEW, AROUND * max(width, height))
    left = _start(x + (width - side) / 2, side, image.shape[1])
    top = _start(y + (height - side) / 2, side, image.shape[0])
    scale = TILE / side
    shift = np.array([[scale, 0, scale * (0.5 - left) - 0.5], [0, scale, scale * (0.5 - top) - 0.5]])
    outside = _OUTSIDE[::-1]
    view = cv2.warpAffine(image, shift, (TILE, TILE), flags=cv2.INTER_CUBIC, borderValue=outside)
    picture = Image.fromarray(cv2.cvtColor(view, cv2.COLOR_BGR2RGB))
    pen = ImageDraw.Draw(picture)
    others = [other for other in tile.others if other != tile.box]
    for box, rgb, distance in (*((other, _OTHER, 1) for other in others), (tile.box, _MARK, 2)):
        _frame(pen, [(v - o) * scale for v, o in zip(box[:2], (left, top), strict=True)], box, scale, rgb, distance)
    return picture


def _start(start: float, side: float, size: int) -> float:
    """Return the start of a view of ``side`` pixels, moved into an image of ``size`` if it fits."""
    return min(max(start, 0), size - side) if side <= size else start


def _frame(
    pen: ImageDraw.ImageDraw, corner: list[float], box: Box, scale: float, rgb: tuple[int, int, int], distance: int
) -> None:
    """Draw a box around the object's outermost pixels, with a dark edge that shows on bright ground."""
    x1, y1 = (round(v) for v in corner)
    x2, y2 = (round(v + side * scale) for v, side in zip(corner, box[2:], strict=True))
    for offset, ink in ((distance + 1, (0, 0, 0)), (distance, rgb)):
        pen.rectangle((x1 - offset, y1 - offset, x2 + offset - 1, y2 + offset - 1), outline=ink)


def _fit(pen: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """Return a text, cut at its front if it is too wide, as file names differ at their ends."""
    if pen.textlength(text, font=lettering(12)) <= width:
        return text
    while text and pen.textlength(f"…{text}", font=lettering(12)) > width:
        text = text[1:]
    return f"…{text}"
