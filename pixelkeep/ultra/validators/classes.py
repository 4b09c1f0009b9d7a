"""Ultralytics' classification validator, which also keeps the most probable classes of each image."""

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

MOST = 5  # classes kept of an image


class ClassValidator(RunValidator, ClassificationValidator):
    """Measures top-1 and top-5 accuracy; either decides which epoch is the best."""

    def __init__(self, *args: Any, best: str = "top1", **keywords: Any):
        super().__init__(*args, best=best, **keywords)
        self._collected: dict[
            str, tuple[int, np.ndarray, np.ndarray]
        ] = {}  # by file: class, best classes, how probable

    def __call__(self, *args: Any, **keywords: Any) -> dict | None:
        """Validate; Ultralytics asks for the data by a function that would look for it itself, and download it."""
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
        """Forget what was collected."""
        super().init_metrics(model)
        self._collected = {}

    def update_metrics(self, preds: torch.Tensor, batch: dict[str, Any]) -> None:
        """Collect the most probable classes besides Ultralytics' own metrics.

        Args:
            preds: Probabilities (B, classes).
            batch: With ``cls`` (B,) and ``im_file``.
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
        # The other figure breaks ties.
        stats["fitness"] = figures[self.best] + 1e-3 * sum(figures.values())
        return stats

    def figures(self) -> dict[str, float | None]:
        """Return the accuracies."""
        return {"top1": self.metrics.top1, "top5": self.metrics.top5}

    def judge(self) -> ClassifyResult:
        """Score what has been collected."""
        rows = [self._collected[file] for file in sorted(self._collected)]
        truth, ranked = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
        return score_classes(truth, ranked, list(self.names.values()))

    def truth(self) -> list[list]:
        """Return for each image its file and its class, by file."""
        return [[file, int(self._collected[file][0])] for file in sorted(self._collected)]

    def predictions(self, called: Callable[[str], str]) -> list[dict[str, Any]]:
        """Return for each image its file, its class, and its most probable classes, the most probable first.

        Args:
            called: From a file's path to what it is called.
        """
        return [
            {"image_id": number, "file_name": called(file), "category": self.names[truth]}
            | {"predicted": ranking(classes, probable, self.names)}
            for number, (file, (truth, classes, probable)) in enumerate(sorted(self._collected.items()), 1)
        ]


def ranking(classes: Iterable[int], probable: Iterable[float], names: Mapping[int, str]) -> list[dict[str, Any]]:
    """Return classes and how probable they are, as the documents have them."""
    return [
        {"category_id": int(c) + 1, "category": names[int(c)], "score": round(float(p), 6)}
        for c, p in zip(classes, probable, strict=True)
    ]
