"""Measure what tiles are worth on images stitched into large ones, detected as a whole and in tiles, in one table.

Each mosaic consists of 4 x 4 images of a split (train, val) side by side, so its boxes are known. All rows are scored
on the same annotations of the val mosaics: the network on mosaics shrunk to its image size, on tiles, and on tiles
merged by the other methods. Mosaics are kept in $PIXELKEEP_HOME and runs in --project. What exists is not made again,
so the same command completes what was interrupted:

    python scripts/measure_tiling.py --path FOLDER                        # the mosaics' data.yaml, to train on
    python scripts/measure_tiling.py --path FOLDER --weights best.pt [--tiled-weights other.pt]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pixelkeep import assets  # noqa: E402
from pixelkeep.cli.session import session  # noqa: E402
from pixelkeep.datasets.annotations.record import ImageRecord  # noqa: E402
from pixelkeep.datasets.definitions.spec import DatasetSpec  # noqa: E402
from pixelkeep.datasets.images.pixels import read_pixels  # noqa: E402
from pixelkeep.datasets.loading import load_split  # noqa: E402
from pixelkeep.datasets.saving import save_split, save_yaml  # noqa: E402
from pixelkeep.report.tables import text_table  # noqa: E402
from pixelkeep.tiling import METHODS  # noqa: E402
from pixelkeep.writing import write_bytes  # noqa: E402

SPLITS = ("train", "val")  # train mosaics serve training in tiles, val mosaics the table
FIGURES = ("AP", "AP50", "AP_S", "AP_M", "AR_S")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="hituav", help="dataset YAML, or the name of one in data/")
    parser.add_argument("--path", help="folder of the dataset, in place of the YAML's own")
    parser.add_argument("--weights", help="checkpoint of a network trained on the single images; without, mosaics only")
    parser.add_argument("--tiled-weights", help="checkpoint of one trained in tiles, for one more row")
    parser.add_argument("--imgsz", type=int, default=640, help="pixels that the network sees, of mosaic and tile")
    parser.add_argument("--tile", type=int, default=640, help="pixels of the mosaic")
    parser.add_argument("--overlap", type=float, default=0.2)
    parser.add_argument("--across", type=int, default=4, help="images along each side of a mosaic")
    parser.add_argument("--most", type=int, help="mosaics, for a quick look; all by default")
    parser.add_argument("--device")
    parser.add_argument("--project", type=Path, default=Path("runs/measure-tiling"))
    return parser.parse_args()


def stitched(records: list[ImageRecord], across: int, spec: DatasetSpec, path: Path) -> ImageRecord:
    """Write a mosaic unless it exists, and return its record.

    Args:
        records: The images, placed row by row, each at its own size.
        across: Number of images in a row.
        spec: The dataset that the images are from.
        path: File of the mosaic.
    """
    cells = [records[start : start + across] for start in range(0, len(records), across)]
    width = max(sum(record.width for record in row) for row in cells)
    height = sum(max(record.height for record in row) for row in cells)
    places, y = [], 0
    for row in cells:
        x = 0
        for record in row:
            places.append((x, y))
            x += record.width
        y += max(record.height for record in row)
    if not path.is_file():
        canvas = np.zeros((height, width, spec.channels), np.uint8)
        for record, (x, y) in zip(records, places, strict=True):
            canvas[y : y + record.height, x : x + record.width] = read_pixels(record.path, spec.channels, spec.stretch)
        write_bytes(path, cv2.imencode(".png", canvas)[1].tobytes())
    shifts = [np.array([x, y, x, y]) for x, y in places]
    parts = {
        name: np.concatenate([getattr(record, name) + shift for record, shift in zip(records, shifts, strict=True)])
        for name in ("boxes", "regions")
    }
    parts |= {
        name: np.concatenate([getattr(record, name) for record in records])
        for name in ("classes", "areas", "difficult")
    }
    return ImageRecord(path=path, width=width, height=height, **parts)


def write_mosaics(spec: DatasetSpec, options: argparse.Namespace) -> Path:
    """Write the mosaics of each split as a dataset, unless it exists, and return its YAML."""
    own = f"{spec.file.stem}-{options.across}x{options.across}"
    root = assets.home() / "datasets" / "mosaics" / (f"{own}-{options.most}" if options.most else own)
    if not (root / "data.yaml").is_file():
        for split in SPLITS:
            records = load_split(spec, split).records
            order = np.random.default_rng(0).permutation(len(records))  # neighbours in a flight are alike
            count = options.across**2
            groups = [order[start : start + count] for start in range(0, len(order) - count + 1, count)][: options.most]
            made = [
                stitched([records[i] for i in group], options.across, spec, root / split / f"mosaic{number:03}.png")
                for number, group in enumerate(groups)
            ]
            save_split("coco", root, split, made, spec.names, link=True)
        save_yaml(root / "data.yaml", SPLITS, spec.names, form="coco")
    return root / "data.yaml"


def measure(data: Path, weights: str, name: str, options: argparse.Namespace, imgsz: int, **tiles) -> dict:
    """Return the figures of one validation, which is run first unless it is finished."""
    from pixelkeep.ultra.commands import validation
    from pixelkeep.ultra.running import settings
    from pixelkeep.ultra.tiled.images import Request

    weights = Path(weights).resolve()
    folder = options.project / data.parent.name / f"{weights.parent.parent.name}-{weights.stem}" / name
    if not (folder / "metrics.json").is_file():
        flags = {"data": str(data), "imgsz": imgsz, "device": options.device, "exist_ok": True}
        flags |= {"project": str(folder.parent), "name": folder.name, "plots": False}
        merged = settings.merge(flags, command="val")
        validation.validate({**merged, "weights": str(weights)}, tiling=Request(**tiles))
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def main() -> int:
    options = arguments()
    with session():
        from pixelkeep.ultra.data.resolving import resolve_data

        data = write_mosaics(resolve_data(options.data, options.path), options)
        print(f"mosaics: {data}")
        if not options.weights:
            return 0
        sizes = dict.fromkeys((options.imgsz, options.tile))  # sizes that mosaics are shrunk to
        found = {f"whole, at {n}": measure(data, options.weights, f"whole{n}", options, n) for n in sizes}
        for method in METHODS:
            name = f"tile{options.tile}-{options.imgsz}-{options.overlap:g}-{method}"
            tiles = dict(tile=options.tile, overlap=options.overlap, merge=method)
            found[f"tiles of {options.tile}, {method}"] = measure(
                data, options.weights, name, options, options.imgsz, **tiles
            )
        if options.tiled_weights:
            name = f"tile{options.tile}-{options.imgsz}-{options.overlap:g}-trained"
            tiles = dict(tile=options.tile, overlap=options.overlap)
            found["trained in tiles, border"] = measure(
                data, options.tiled_weights, name, options, options.imgsz, **tiles
            )
    rows = [
        [name, *("n/a" if metrics[key] is None else f"{metrics[key]:.4f}" for key in FIGURES)]
        for name, metrics in found.items()
    ]
    print(text_table(["mosaics seen", *FIGURES], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
