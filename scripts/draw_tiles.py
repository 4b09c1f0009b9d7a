"""Draw the picture in docs/tiling.md: what one network detects in a large image as a whole and in tiles.

    python -m pixelkeep train --config demo --name tiles
    python scripts/draw_tiles.py runs/train/tiles/weights/best.pt

The large image consists of 5 x 4 held-out images of the demo data side by side. The network runs at the image size of
its training, 256 pixels, so the whole image is shrunk five times. Another image, such as one of the mosaics of
scripts/measure_tiling.py, and other sizes can be given:

    python scripts/draw_tiles.py best.pt --image mosaic000.png --imgsz 320 --tile 640 --width 1600 --output tiles.jpg
"""

from __future__ import annotations

import argparse
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
SIDE = 256  # pixels, of the demo's images and of the network's input
GAP = 16  # pixels between the two halves of the picture
OUT = ROOT / "docs" / "images" / "tiles.jpg"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", help="checkpoint")
    parser.add_argument("--image", type=Path, help="a large image, in place of pictures of the demo data")
    parser.add_argument("--imgsz", type=int, default=SIDE, help="pixels that the network sees")
    parser.add_argument("--tile", type=int, default=SIDE, help="pixels of the image in a tile")
    parser.add_argument("--width", type=int, default=1932, help="of the picture that is kept")
    parser.add_argument("--output", type=Path, default=OUT)
    return parser.parse_args()


def large_image() -> np.ndarray:
    """Return images of the demo data stitched into one, uint8 (H, W, 3), BGR."""
    from pixelkeep.ultra.data.resolving import resolve_data

    records = load_split(resolve_data("demo"), "val").records[: ACROSS * DOWN]
    pictures = [read_pixels(record.path) for record in records]
    rows = [np.hstack(pictures[start : start + ACROSS]) for start in range(0, len(pictures), ACROSS)]
    return np.vstack(rows)


def look(options: argparse.Namespace, image: np.ndarray, tile: int) -> tuple[np.ndarray, int]:
    """Return the image with the network's detections in tiles of side ``tile`` drawn, and their number."""
    found = TiledDetector(options.weights, tile=tile, imgsz=options.imgsz)(image)
    return draw(image, found.boxes, found.classes, found.scores, found.names), len(found)


def main() -> int:
    options = arguments()
    with session():
        image = large_image() if options.image is None else read_pixels(options.image)
        looks = {f"whole, shrunk to {options.imgsz} pixels": max(image.shape), f"--tile {options.tile}": options.tile}
        drawn = {name: look(options, image, tile) for name, tile in looks.items()}
    height = max(picture.shape[0] for picture, _ in drawn.values())
    width = max(picture.shape[1] for picture, _ in drawn.values())
    line = (2 * width + GAP) // 64  # height in pixels of the text above both halves
    sheet = Image.new("RGB", (2 * width + GAP, height + line), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (name, (picture, found)) in enumerate(drawn.items()):
        left = number * (width + GAP)
        sheet.paste(Image.fromarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)), (left, line))
        pen.text((left, line // 6), f"{name}: {found} found", fill="black", font=lettering(line * 5 // 8))
    height = round(sheet.height * options.width / sheet.width)
    sheet.resize((options.width, height), Image.LANCZOS).save(options.output, quality=82)
    return 0


if __name__ == "__main__":
    sys.exit(main())
