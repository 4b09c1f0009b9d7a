"""Draw the picture of docs/tiling.md: one large image, looked at whole and in tiles, by the same network.

    python -m pixelkeep train --config demo --name tiles
    python scripts/draw_tiles.py runs/train/tiles/weights/best.pt

The large image is 5 x 4 held-out pictures of the demo data side by side. Both looks have the image size of the
training, 256 pixels, so a look at the whole image shrinks it five times.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pixelkeep import TiledDetector  # noqa: E402
from pixelkeep.cli.session import session  # noqa: E402
from pixelkeep.datasets.images.pixels import read_pixels  # noqa: E402
from pixelkeep.datasets.loading import load_split  # noqa: E402
from pixelkeep.report.drawing import draw, lettering  # noqa: E402

ACROSS, DOWN = 5, 4
SIDE = 256  # pixels, of the demo's pictures and of what the network sees
GAP, LINE = 16, 40  # pixels between and above the two
SHOWN = 0.75  # size of the picture that is kept
OUT = ROOT / "docs" / "images" / "tiles.jpg"


def large_image() -> tuple[np.ndarray, int]:
    """Return the large image, uint8 (H, W, 3), BGR, and how many objects are in it."""
    from pixelkeep.ultra.data.resolving import resolve_data

    records = load_split(resolve_data("demo"), "val").records[: ACROSS * DOWN]
    pictures = [read_pixels(record.path) for record in records]
    rows = [np.hstack(pictures[start : start + ACROSS]) for start in range(0, len(pictures), ACROSS)]
    return np.vstack(rows), sum(len(record.boxes) for record in records)


def look(weights: str, image: np.ndarray, tile: int) -> tuple[np.ndarray, int]:
    """Return the image with what the network finds in tiles of this side, and how much that is."""
    found = TiledDetector(weights, tile=tile, imgsz=SIDE)(image)
    return draw(image, found.boxes, found.classes, found.scores, found.names), len(found)


def main() -> int:
    with session():
        image, count = large_image()
        looks = {f"whole, shrunk to {SIDE} pixels": max(image.shape), f"--tile {SIDE}": SIDE}
        drawn = {name: look(sys.argv[1], image, tile) for name, tile in looks.items()}
    height = max(picture.shape[0] for picture, _ in drawn.values())
    width = max(picture.shape[1] for picture, _ in drawn.values())
    sheet = Image.new("RGB", (2 * width + GAP, height + LINE), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (name, (picture, found)) in enumerate(drawn.items()):
        left = number * (width + GAP)
        sheet.paste(Image.fromarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)), (left, LINE))
        pen.text((left, 6), f"{name}: {found} found, of {count} objects", fill="black", font=lettering(24))
    sheet.resize((round(sheet.width * SHOWN), round(sheet.height * SHOWN)), Image.LANCZOS).save(OUT, quality=82)
    return 0


if __name__ == "__main__":
    sys.exit(main())
