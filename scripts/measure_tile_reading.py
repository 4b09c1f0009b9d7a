"""Measure what a window of a large compressed image costs: decoded each time, from the disk cache or from memory.

The three ways take turns. Times are processor time, and ratios are medians over pairs of measurements:

    python scripts/measure_tile_reading.py [--size 3840 2160] [--tile 640] [--turns 15]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
IMAGES, OBJECTS = 3, 40  # OBJECTS per image


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(3840, 2160), help="width and height in pixels")
    parser.add_argument("--tile", type=int, default=640)
    parser.add_argument("--turns", type=int, default=15)
    return parser.parse_args()


def build(folder: Path, options: argparse.Namespace) -> list:
    """Return three datasets of the same JPEGs, one for each way to read them."""
    from ultralytics.cfg import get_cfg

    from pixelkeep.datasets.annotations.record import ImageRecord
    from pixelkeep.datasets.definitions.spec import DatasetSpec
    from pixelkeep.ultra.data.window_dataset import WindowDataset
    from pixelkeep.ultra.running.recipe import Recipe

    rng, (width, height), records = np.random.default_rng(0), options.size, []
    for number in range(IMAGES):
        path = folder / f"{number}.jpg"
        coarse = rng.integers(0, 255, (height // 4, width // 4, 3)).astype(np.uint8)
        cv2.imwrite(str(path), cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
        corners = rng.integers(0, min(width, height) - 20, (OBJECTS, 2))
        boxes = np.hstack([corners, corners + 20]).astype(float)
        records.append(ImageRecord(path, width, height, boxes, np.zeros(OBJECTS, int)))
    spec = DatasetSpec(folder / "data.yaml", folder, {}, {0: "object"}, {})
    settings = {"imgsz": options.tile, "augment": True, "hyp": get_cfg(), "batch_size": 16}
    settings |= {"data": {"names": spec.names, "channels": 3}, "recipe": Recipe(tile=options.tile)}
    return [WindowDataset(records, spec, cache=cache, **settings) for cache in (None, "disk", "ram")]


def main() -> int:
    options = arguments()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PIXELKEEP_HOME"] = folder
        from pixelkeep.ultra.running import environment

        environment.prepare()
        datasets, times = build(Path(folder), options), []
        for turn in range(options.turns):
            taken = []
            for dataset in datasets:
                start = time.process_time()
                dataset._cut(turn % len(dataset))
                taken.append(time.process_time() - start)
            times.append(taken)
    rows = np.array(times)
    for name, column in (("disk", 1), ("ram", 2)):
        print(f"{name}: 1/{np.median(rows[:, 0] / rows[:, column]):.0f} of the time without a cache")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
