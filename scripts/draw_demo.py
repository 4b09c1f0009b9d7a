"""Draw the picture in docs/demo.md: the first validation images of the demo data side by side, with their labels.

    python scripts/draw_demo.py

Boxes have the colour of their class. Boxes of difficult objects are dashed, and regions to ignore are hatched.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pixelkeep.cli.session import session  # noqa: E402
from pixelkeep.datasets.annotations.record import ImageRecord  # noqa: E402
from pixelkeep.datasets.images.pixels import read_pixels  # noqa: E402
from pixelkeep.datasets.loading import load_split  # noqa: E402

OUT = ROOT / "docs" / "images" / "demo-contact-sheet.jpg"
COUNT, COLUMNS, ENLARGE = 12, 4, 2
QUALITY = 70  # of the JPEG

COLOURS = [(255, 255, 80), (60, 220, 255), (255, 120, 220), (120, 255, 140), (90, 130, 255), (255, 170, 90)]  # BGR
GREY = (235, 235, 235)
PAPER = (250, 250, 250)
INK = (60, 60, 60)
MARGIN = 8  # pixels between images
LEGEND = 40  # pixels, height of the line with the class names
DASH, HATCH = 4, 14  # pixels


def contact_sheet(records: Sequence[ImageRecord], names: dict[int, str]) -> np.ndarray:
    """Return a grid of the records' images, all at the size of the first, with a legend; uint8 (H, W, 3), BGR."""
    width, height = records[0].width * ENLARGE, records[0].height * ENLARGE
    rows = -(-len(records) // COLUMNS)
    shape = (rows * (height + MARGIN) + MARGIN + LEGEND, COLUMNS * (width + MARGIN) + MARGIN, 3)
    sheet = np.full(shape, PAPER, np.uint8)
    for number, record in enumerate(records):
        y = MARGIN + number // COLUMNS * (height + MARGIN)
        x = MARGIN + number % COLUMNS * (width + MARGIN)
        sheet[y : y + height, x : x + width] = _annotated(record, width, height)
    _legend(sheet, names)
    return sheet


def _annotated(record: ImageRecord, width: int, height: int) -> np.ndarray:
    image = cv2.resize(read_pixels(record.path), (width, height), interpolation=cv2.INTER_CUBIC)
    scale = np.array([width, height] * 2) / np.array([record.width, record.height] * 2)
    for region in (record.regions * scale).round().astype(int):
        _hatch(image, region)
    boxes = (record.boxes * scale).round().astype(int)
    for box, label, difficult in zip(boxes, record.classes, record.difficult, strict=True):
        _frame(image, box, COLOURS[label % len(COLOURS)], dashed=difficult)
    return image


def _frame(image: np.ndarray, box: np.ndarray, colour: tuple[int, int, int], dashed: bool) -> None:
    """Draw a box as a line one pixel wide around the pixels that it covers."""
    frame = np.zeros(image.shape[:2], np.uint8)
    x1, y1, x2, y2 = map(int, box)
    cv2.rectangle(frame, (x1 - 1, y1 - 1), (x2, y2), 1, 1)
    if dashed:
        ys, xs = np.nonzero(frame)
        frame[ys, xs] = (xs + ys) // DASH % 2
    image[frame > 0] = colour


def _hatch(image: np.ndarray, region: np.ndarray) -> None:
    x1, y1, x2, y2 = map(int, region)
    part = image[y1:y2, x1:x2]
    ys, xs = np.mgrid[: part.shape[0], : part.shape[1]]
    veil = np.where(((xs + ys) % HATCH < 2)[..., None], 0.6, 0.3)
    part[:] = (part * (1 - veil) + np.array(GREY) * veil).astype(np.uint8)
    cv2.rectangle(image, (x1, y1), (x2 - 1, y2 - 1), GREY, 2)


def _legend(sheet: np.ndarray, names: dict[int, str]) -> None:
    x, y = MARGIN + 4, sheet.shape[0] - LEGEND // 2
    for label, name in names.items():
        cv2.rectangle(sheet, (x, y - 10), (x + 20, y + 10), COLOURS[label % len(COLOURS)], -1)
        x = _write(sheet, name, x + 28, y)
    for name, kind in (("difficult", "dashed"), ("region to ignore", "hatched")):
        swatch = np.full((20, 20, 3), (150, 150, 150), np.uint8)
        if kind == "dashed":
            _frame(swatch, np.array([2, 2, 18, 18]), COLOURS[0], dashed=True)
        else:
            _hatch(swatch, np.array([0, 0, 20, 20]))
        sheet[y - 10 : y + 10, x : x + 20] = swatch
        x = _write(sheet, name, x + 28, y)


def _write(sheet: np.ndarray, text: str, x: int, y: int) -> int:
    """Write ``text`` and return the column where the next entry may begin."""
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.75
    cv2.putText(sheet, text, (x, y + 8), font, size, INK, 1, cv2.LINE_AA)
    return x + cv2.getTextSize(text, font, size, 1)[0][0] + 36


def main() -> None:
    with session():
        from pixelkeep.ultra.data.resolving import resolve_data

        spec = resolve_data("demo")
        sheet = contact_sheet(load_split(spec, "val").records[:COUNT], dict(spec.names))
    cv2.imwrite(str(OUT), sheet, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


if __name__ == "__main__":
    main()
