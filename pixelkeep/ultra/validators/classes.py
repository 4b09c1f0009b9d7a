"""Ultralytics' classification validator, extended to keep the most probable classes of each image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from ultralytics.data import build_dataloader
from ultralytics.engine import validator as engine
from ultralytics.models.yolo.classify import ClassificationValidator

from pixelkeep.evaluation.label_result import ClassifyResult
from pixelkeep.evaluation.labels import score_classes
from pixelkeep.ultra.data.class_dataset import ClassImages, build_class_dataset
from pixelkeep.ultra.data.label_data import class_data
from pixelkeep.ultra.running.whole import replaced
from pixelkeep.ultra.validators.base import RunValidator

MOST = 5  # number of classes kept for each image


class ClassValidator(RunValidator, ClassificationValidator):
    """Measures top-1 and top-5 accuracy; either can be the figure that decides which epoch is the best."""

    def __init__(self, *args: Any, best: str = "top1", **keywords: Any):
        super().__init__(*args, best=best, **keywords)
        self._collected: dict[
            str, tuple[int, np.ndarray, np.ndarray]
        ] = {}  # by file: true class, most probable classes, their probabilities

    def __call__(self, *args: Any, **keywords: Any) -> dict | None:
        """Validate with this project's data, in place of Ultralytics' function that looks for and downloads data."""
        with replaced(engine, "check_cls_dataset", class_data):
            return super().__call__(*args, **keywords)

    def build_dataset(self, img_path: str) -> ClassImages:
        """Build the dataset of a standalone validation."""
        return build_class_dataset(self.args, self.data, train=False)

    def get_dataloader(self, dataset_path: Path | str, batch_size: int) -> DataLoader:
        """Return the loader of a standalone validation."""
        dataset = self.build_dataset(str(dataset_path))
        return build_dataloader(dataset, batch_size, self.args.workers, shuffle=False, rank=-1, device=self.device)

    def init_metrics(self, model: torch.nn.Module) -> None:
        """Reset the metrics and the collected classes."""
        super().init_metrics(model)
        self._collected = {}

    def update_metrics(self, preds: torch.Tensor, batch: dict[str, Any]) -> None:
        """Update Ultralytics' metrics, and collect the most probable classes of each image.

        Args:
            preds: Class probabilities (B, classes).
            batch: Batch with the true classes ``cls`` (B,) and the files ``im_file``.
        """
        super().update_metrics(preds, batch)
        best = preds.float().topk(min(MOST, preds.shape[1]), 1)
        classes, probable = best.indices.cpu().numpy(), best.values.double().cpu().numpy()
        for row in zip(batch["im_file"], batch["cls"].tolist(), classes, probable, strict=True):
            self._collected[row[0]] = row[1:]

    def get_stats(self) -> dict[str, float]:
        """Return Ultralytics' statistics; ``fitness`` decides which epoch is the best."""
        stats = super().get_stats()
        figures = self.figures()
        # The small term lets the other figure break ties.
        stats["fitness"] = figures[self.best] + 1e-3 * sum(figures.values())
        return stats

    def figures(self) -> dict[str, float | None]:
        """Return the top-1 and top-5 accuracy."""
        return {"top1": self.metrics.top1, "top5": self.metrics.top5}

    def judge(self) -> ClassifyResult:
        """Return the scores of the classes collected so far."""
        rows = [self._collected[file] for file in sorted(self._collected)]
        truth, ranked = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
        return score_classes(truth, ranked, list(self.names.values()))

    def truth(self) -> list[list]:
        """Return the file and the true class number of each image, sorted by file."""
        return [[file, int(self._collected[file][0])] for file in sorted(self._collected)]

    def predictions(self, called: Callable[[str], str]) -> list[dict[str, Any]]:
        """Return for each image its file, its true class, and its most probable classes, the most probable first.

        Args:
            called: Function that turns a file's path into the name to report.
        """
        return [
            {"image_id": number, "file_name": called(file), "category": self.names[truth]}
            | {"predicted": ranking(classes, probable, self.names)}
            for number, (file, (truth, classes, probable)) in enumerate(sorted(self._collected.items()), 1)
        ]


def ranking(classes: Iterable[int], probable: Iterable[float], names: Mapping[int, str]) -> list[dict[str, Any]]:
    """Return classes and their probabilities in the form that the JSON results use."""
    return [
        {"category_id": int(c) + 1, "category": names[int(c)], "score": round(float(p), 6)}
        for c, p in zip(classes, probable, strict=True)
    ]
