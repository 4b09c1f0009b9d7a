"""Validation in tiles: detections of tiles are merged and scored against the annotations of whole images."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from ultralytics.cfg import get_cfg

from pixelkeep.datasets.definitions.spec import DatasetSpec
from pixelkeep.datasets.images.pixels import read_pixels
from pixelkeep.datasets.loading import Split
from pixelkeep.evaluation import Detections, Result, Scoring, detection_limit
from pixelkeep.tiling import Merged, Seams
from pixelkeep.ultra.costs.measure import Watch
from pixelkeep.ultra.data.pictures import fraction_of
from pixelkeep.ultra.data.truth import build_truth
from pixelkeep.ultra.tiled.images import TileEngine, Tiles, tiles_a_batch
from pixelkeep.ultra.tiled.predictor import TiledPredictor
from pixelkeep.ultra.tiled.progress import TileBar
from pixelkeep.ultra.tiled.results import as_result
from pixelkeep.ultra.tiled.suppression import suppressor

CONF = 0.001  # lowest confidence of a validation
DIGITS_BOX, DIGITS_SCORE = 3, 6  # decimals, as in predictions.json


class TiledValidator:
    """Looks at the images of a split in tiles and scores the detections as a validation of whole images does.

    Args:
        tiles: How images are cut.
        settings: Ultralytics' settings.
        spec: The dataset.
        split: The loaded split.
        limit: Largest number of detections kept in an image and in each tile; None for three times the number of
            objects in the densest image, and at least 300.

    Attributes:
        args: The settings as they are used.
        truth: The ground truth in COCO form.
        seams: Counts of what became of the boxes of tiles, over all images.
        speed: Mean milliseconds per image for each stage.
        device: Device the network runs on; None before the run.
        watch: Follows the network's adaptive layers; None before the run.
    """

    def __init__(self, tiles: Tiles, settings: dict, spec: DatasetSpec, split: Split, limit: int | None):
        self.tiles, self.spec = tiles, spec
        self.records = fraction_of(split.records, settings.get("fraction", 1.0), settings["split"])
        only = {key: settings[key] for key in ("classes", "single_cls") if settings.get(key) is not None}
        self.truth, self._numbers = build_truth(self.records, spec, **only)
        limit = limit or detection_limit(self.truth)
        kept = {"max_det": limit, "conf": settings.get("conf") or CONF, "imgsz": tiles.imgsz, "mode": "predict"}
        self.args: SimpleNamespace = get_cfg(overrides={**settings, **kept})
        self.seams = Seams()
        self.speed = dict.fromkeys(("preprocess", "inference", "postprocess"), 0.0)
        self._overrides = {**settings, **kept, "save": False, "verbose": False}
        self._collected: list[np.ndarray] = []
        self._category_ids = torch.tensor([category["id"] for category in self.truth["categories"]])
        self.device: torch.device | None = None
        self.watch: Watch | None = None

    def __call__(self) -> None:
        """Look at every image, and collect its detections and the time it took."""
        engine = self._engine()
        paths = [record.path for record in self.records]
        threads = 1 if self.device.type == "cpu" else self._overrides.get("workers") or 1
        bar = TileBar()
        bar.start(len(self.records))
        try:
            for path, image, reading in read_ahead(paths, self.spec, threads):
                start = time.perf_counter()
                found = engine(image, bar.tile)
                self._collect(found, self._numbers[str(path)])
                if self.args.save_txt:
                    self._write_labels(found, path, image)
                self.speed["preprocess"] += reading * 1e3
                self.speed["inference"] += (time.perf_counter() - start) * 1e3
                bar.image(min(len(found.scores), self.args.max_det))
        finally:
            bar.close()
        self.speed = {key: value / len(self.records) for key, value in self.speed.items()}

    def detections(self) -> Detections:
        """Return the collected detections, ordered by image id and rounded."""
        rows = np.concatenate([np.zeros((0, 7)), *self._collected])
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        x1, y1, x2, y2 = np.round(rows[:, 2:6], DIGITS_BOX).T
        boxes = np.round(np.stack([x1, y1, x2 - x1, y2 - y1], 1), DIGITS_BOX)  # (n, 4) xywh
        return Detections(rows[:, 0].astype(int), rows[:, 1].astype(int), boxes, np.round(rows[:, 6], DIGITS_SCORE))

    def judge(self, scoring: Scoring) -> Result:
        """Score the collected detections by the rules for reported figures."""
        return scoring.evaluate(self.truth, self.detections(), self.args.max_det)

    def _engine(self) -> TileEngine:
        """Load the network, and allow several classes in one place as in every validation."""
        predictor = TiledPredictor(self.tiles, self._overrides, False, self.spec.channels, self.spec.stretch)
        predictor.setup_model(None, verbose=False)
        self.device = predictor.device
        self.watch = Watch(predictor.model)
        suppress = suppressor(self.args, multi_label=True, end2end=getattr(predictor.model, "end2end", False))
        return TileEngine(
            predictor.model, self.tiles, suppress, tiles_a_batch(self._overrides.get("batch"), self.device)
        )

    def _collect(self, found: Merged, number: int) -> None:
        """Collect the best detections of an image."""
        self.seams += found.seams
        self._collected.append(best_rows(found, number, self._category_ids, self.args))

    def _write_labels(self, found: Merged, path: Path, image: np.ndarray) -> None:
        """Write the best detections of an image as a YOLO label file, as a validation of whole images does."""
        most = self.args.max_det
        classes = found.classes[:most] * (not self.args.single_cls)
        best = replace(found, boxes=found.boxes[:most], scores=found.scores[:most], classes=classes)
        file = Path(self.args.save_dir) / "labels" / f"{path.stem}.txt"
        as_result(best, image, str(path), self.spec.names).save_txt(file, self.args.save_conf)


def read_ahead(paths: list[Path], spec: DatasetSpec, threads: int = 1) -> Iterator[tuple[Path, np.ndarray, float]]:
    """Yield the path and pixels of each image and the seconds that reading it took.

    The next ``threads`` images are read while the caller works on the current one.
    """

    def read(path: Path) -> tuple[Path, np.ndarray, float]:
        start = time.perf_counter()
        return path, read_pixels(path, spec.channels, spec.stretch), time.perf_counter() - start

    with ThreadPoolExecutor(threads) as readers:
        coming = deque(readers.submit(read, path) for path in paths[:threads])
        for following in [*paths[threads:], *[None] * min(threads, len(paths))]:
            item = coming.popleft().result()
            if following is not None:
                coming.append(readers.submit(read, following))
            yield item


def best_rows(found: Merged, number: int, category_ids: torch.Tensor, args: Any) -> np.ndarray:
    """Return the best detections of an image: (n, 7) rows of image, category, x1, y1, x2, y2, score.

    Args:
        found: The merged detections in the image.
        number: Id of the image.
        category_ids: Category id by class number.
        args: Ultralytics' settings, of which ``max_det`` and ``single_cls`` are used.
    """
    most = args.max_det
    classes = found.classes[:most].cpu() * (not args.single_cls)
    scores, boxes = (part[:most].double().cpu() for part in (found.scores, found.boxes))
    columns = torch.full_like(scores, number), category_ids[classes].double()
    return torch.cat([torch.stack(columns, 1), boxes, scores[:, None]], 1).numpy()
