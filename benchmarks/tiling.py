"""Compare speed and AP on large images in tiles with SAHI's, with the same weights, tiles, overlap and thresholds.

Usage: python benchmarks/tiling.py --weights best.pt [--ours FILE] [--data demo] [--path FOLDER]
           [--sizes 3840x2160 7680x4320] [--tile 640] [--imgsz N] [--overlap 0.2] [--iou 0.7] [--candidates 20000]
           [--images 2] [--pairs 3] [--batches 1 4 16] [--device cpu] [--sahi-merge GREEDYNMM]

Needs `pip install sahi`, which is no dependency of this project. Each large image is stitched from images of a dataset,
so every box is known. There are two settings per size: sparse, with confidence 0.25, and dense, with the confidence at
which the tiles of an image give about --candidates boxes before merging. Both sides first try the batch sizes and keep
their fastest, then they take turns. Prints images per second, the median of the pairs' ratios, and the AP of both. With
--ours this project runs an export of the weights (``pixelkeep export``, one image at once) and SAHI the weights.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pixelkeep import TiledDetector, evaluate
from pixelkeep.cli.session import session
from pixelkeep.datasets.images.pixels import read_pixels
from pixelkeep.datasets.loading import load_split
from pixelkeep.evaluation import Detections, GroundTruthBuilder
from pixelkeep.report.tables import text_table
from pixelkeep.ultra.running.environment import threads

SPARSE = 0.25  # confidence
FAINT = 0.001  # confidence at which scores are collected to choose that of the dense setting
MOST = 1000  # detections per tile at most, on both sides
PREPARED = 1  # warm-up runs
GREY = 114
Found = tuple[np.ndarray, np.ndarray, np.ndarray]  # boxes (n, 4) xyxy, scores (n,), classes (n,)
Look = Callable[[np.ndarray], Found]


@dataclass
class Scene:
    """Large images and their ground truth.

    Attributes:
        images: The images, uint8 (H, W, 3), BGR.
        truth: COCO document with the boxes of all images.
    """

    images: list[np.ndarray]
    truth: dict[str, Any]


def stitch(data: str, path: str | None, size: tuple[int, int], count: int) -> Scene:
    """Return ``count`` images of ``size`` (width, height), stitched from whole images of the data on grey."""
    from pixelkeep.ultra.data.resolving import resolve_data

    spec = resolve_data(data, path)
    records = load_split(spec, "val").records
    order = iter(np.random.default_rng(0).permutation(np.tile(np.arange(len(records)), 100)))
    builder = GroundTruthBuilder([spec.names[index] for index in range(len(spec.names))])
    images = []
    for number in range(1, count + 1):
        canvas = np.full((size[1], size[0], 3), GREY, np.uint8)
        boxes, classes, y = [np.zeros((0, 4))], [np.zeros(0, int)], 0
        while True:
            x, tallest = 0, 0
            while (record := records[next(order)]) and x + record.width <= size[0] and y + record.height <= size[1]:
                canvas[y : y + record.height, x : x + record.width] = read_pixels(record.path)
                boxes.append(record.boxes + np.array([x, y, x, y]))
                classes.append(record.classes)
                x, tallest = x + record.width, max(tallest, record.height)
            if not tallest:
                break
            y += tallest
        builder.add_image(f"{number}.png", *size, np.concatenate(boxes), np.concatenate(classes), image_id=number)
        images.append(canvas)
    return Scene(images, builder.build())


def ours(options: argparse.Namespace, conf: float, batch: int) -> Look:
    """Return a function that detects objects in an image with this project's tiling."""
    chosen = dict(imgsz=options.imgsz, batch=batch, conf=conf, iou=options.iou, max_det=MOST, device=options.device)
    detector = TiledDetector(options.ours or options.weights, options.tile, options.overlap, **chosen)

    def look(image: np.ndarray) -> Found:
        found = detector(image)
        return found.boxes, found.scores, found.classes

    return look


def sahi(options: argparse.Namespace, conf: float, batch: int) -> Look:
    """Return a function that detects objects in an image with SAHI, with its defaults where both need not agree."""
    from sahi import AutoDetectionModel
    from sahi.predict import get_sliced_prediction

    model = AutoDetectionModel.from_pretrained(
        model_type="ultralytics",
        model_path=str(options.weights),
        confidence_threshold=conf,
        device=options.device,
        image_size=options.imgsz or options.tile,
    )
    model.model.overrides |= {"max_det": MOST, "iou": options.iou}
    keywords = dict(slice_height=options.tile, slice_width=options.tile, perform_standard_pred=False, verbose=0)
    keywords |= dict(overlap_height_ratio=options.overlap, overlap_width_ratio=options.overlap, batch_size=batch)
    keywords |= dict(postprocess_type=options.sahi_merge, force_postprocess_type=options.sahi_merge != "NMS")
    keywords |= dict(postprocess_match_metric="IOU" if options.sahi_merge == "NMS" else "IOS")

    def look(image: np.ndarray) -> Found:
        found = get_sliced_prediction(image[..., ::-1], model, **keywords).object_prediction_list
        boxes = np.array([one.bbox.to_xyxy() for one in found], float).reshape(-1, 4)
        return boxes, np.array([one.score.value for one in found]), np.array([one.category.id for one in found], int)

    return look


def seconds(look: Look, image: np.ndarray) -> float:
    torch.set_num_threads(threads())  # the same for both sides: Ultralytics leaves out one
    start = time.perf_counter()
    look(image)
    return time.perf_counter() - start


def fastest(makes: dict[int, Look], image: np.ndarray) -> tuple[int, Look]:
    """Return the batch size that is fastest on one image, and its function."""
    times = {}
    for batch, look in makes.items():
        for _ in range(PREPARED):
            seconds(look, image)
        times[batch] = seconds(look, image)
    best = min(times, key=times.get)
    return best, makes[best]


def dense_confidence(options: argparse.Namespace, image: np.ndarray) -> float:
    """Return the confidence at which the tiles of an image give --candidates boxes, or `FAINT` if they never do."""
    from pixelkeep.tiling import run

    look = ours(options, FAINT, 1)
    kept: list[Any] = []
    merge, run.merge = run.merge, lambda found, *rest: kept.append(found) or merge(found, *rest)
    try:
        look(image)
    finally:
        run.merge = merge
    scores = np.sort(kept[0].scores.cpu().numpy())[::-1]
    return float(scores[options.candidates]) if len(scores) > options.candidates else FAINT


def figures(scene: Scene, look: Look) -> tuple[float, int]:
    """Return the AP over all images and the number of detections in them."""
    parts = [look(image) for image in scene.images]
    number = np.concatenate([np.full(len(part[1]), index) for index, part in enumerate(parts, 1)])
    boxes, scores, classes = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    boxes = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    found = Detections(number.astype(int), classes.astype(int) + 1, boxes, scores)
    return evaluate(scene.truth, found, max_dets=10**6).AP, len(found)


def compare(options: argparse.Namespace, scene: Scene, conf: float) -> list[str]:
    """Return the cells of one table row, with our value first and SAHI's second."""
    first = scene.images[0]
    own_batches = [1] if options.ours else options.batches
    own_batch, own = fastest({batch: ours(options, conf, batch) for batch in own_batches}, first)
    their_batch, theirs = fastest({batch: sahi(options, conf, batch) for batch in options.batches}, first)
    pairs = []
    for index in range(options.pairs):
        image = scene.images[index % len(scene.images)]
        looks = (own, theirs) if index % 2 == 0 else (theirs, own)
        times = {look: seconds(look, image) for look in looks}
        pairs.append((times[own], times[theirs]))
    (ap, boxes), (their_ap, their_boxes) = figures(scene, own), figures(scene, theirs)
    speeds = [1 / statistics.median(times) for times in zip(*pairs, strict=True)]
    ratio = statistics.median(other / mine for mine, other in pairs)
    return [
        f"{conf:.4f}", f"{boxes} {their_boxes}", f"{own_batch} {their_batch}", f"{speeds[0]:.3f} {speeds[1]:.3f}",
        f"{ratio:.2f}", f"{ap:.4f} {their_ap:.4f}",
    ]  # fmt: skip


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--ours", type=Path, help="an export of the weights for one image, for this project alone")
    parser.add_argument("--data", default="demo")
    parser.add_argument("--path", help="folder of the dataset, in place of the YAML's own")
    parser.add_argument("--sizes", nargs="+", default=["3840x2160", "7680x4320"])
    parser.add_argument("--tile", type=int, default=640)
    parser.add_argument("--imgsz", type=int, help="side at which the network sees a tile; by default the tile's own")
    parser.add_argument("--overlap", type=float, default=0.2)
    parser.add_argument("--iou", type=float, default=0.7, help="of NMS inside a tile, in both")
    parser.add_argument("--candidates", type=int, default=20_000)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sahi-merge", default="GREEDYNMM", choices=("GREEDYNMM", "NMM", "NMS"))
    return parser.parse_args()


def main() -> None:
    options = arguments()
    rows = []
    with session():
        for size in options.sizes:
            scene = stitch(options.data, options.path, tuple(map(int, size.split("x"))), options.images)
            for name, conf in (("sparse", SPARSE), ("dense", dense_confidence(options, scene.images[0]))):
                rows.append([f"{size} {name}", *compare(options, scene, conf)])
                print(rows[-1], flush=True)
    heads = ["ours and SAHI", "conf", "boxes", "batch", "images/s", "ratio", "AP"]
    print(text_table(heads, rows, left=1))
    if hasattr(os, "getloadavg"):
        print(f"{threads()} threads; load over the last 1, 5 and 15 minutes: {os.getloadavg()}")


if __name__ == "__main__":
    main()
