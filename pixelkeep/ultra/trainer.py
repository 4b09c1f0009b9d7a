"""Ultralytics' trainer with our validator, checkpoints that are whole or not there, and a resume that loses nothing."""

from __future__ import annotations

import csv
import os
from copy import copy
from pathlib import Path
from typing import Any

from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import DEFAULT_CFG, RANK
from ultralytics.utils.torch_utils import strip_optimizer, unwrap_model

from pixelkeep.ultra.dataset import build_dataset
from pixelkeep.ultra.environment import use_all_cores
from pixelkeep.ultra.runs import write_text
from pixelkeep.ultra.validator import COLUMNS, Validator

STARVED = 10  # optimizer steps an epoch below which gradients are not accumulated


class Trainer(DetectionTrainer):
    """A detection trainer that reports AP and AP_S in every epoch and keeps the best epoch by either.

    Args:
        cfg: Ultralytics' defaults.
        overrides: Settings that differ from them.
        _callbacks: Callbacks by event.
        best: AP or AP_S, the figure that decides which epoch is the best.
        limit: Detections kept per image in validation; None for what the validation set needs.
    """

    def __init__(
        self,
        cfg: Any = DEFAULT_CFG,
        overrides: dict[str, Any] | None = None,
        _callbacks: dict | None = None,
        *,
        best: str = "AP",
        limit: int | None = None,
    ):
        super().__init__(cfg, overrides, _callbacks)
        self.best_by = best
        self.limit = limit

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None):
        """Build the dataset of one split."""
        stride = max(int(unwrap_model(self.model).stride.max()), 32)
        return build_dataset(self.args, img_path, batch, self.data, train=mode == "train", stride=stride)

    def get_validator(self) -> Validator:
        """Return the validator that training uses after each epoch."""
        return Validator(
            self.test_loader,
            save_dir=self.save_dir,
            args=copy(self.args),
            _callbacks=self.callbacks,
            best=self.best_by,
            limit=self.limit,
        )

    def _setup_train(self) -> None:
        if self.device.type == "cpu":
            use_all_cores()
        super()._setup_train()
        if RANK in {-1, 0}:  # the same columns in every row of results.csv, also where an epoch is not validated
            self.metrics.update(dict.fromkeys(COLUMNS, float("nan")))

    def progress_string(self) -> str:
        """Return no header: the bar names what it shows."""
        return ""

    def resume_training(self, ckpt: dict | None) -> None:
        """Go on after the last whole epoch, and drop what results.csv holds of later ones."""
        super().resume_training(ckpt)
        if self.resume and self.csv.is_file():
            with self.csv.open(newline="", encoding="utf-8") as file:
                header, *rows = csv.reader(file)
            kept = [row for row in rows if len(row) == len(header) and int(row[0]) <= self.start_epoch]
            write_text(self.csv, "".join(",".join(row) + "\n" for row in [header, *kept]))

    def save_model(self) -> bool:
        """Save the checkpoints into a folder of their own, then move them under their names."""
        folder, last, best = self.wdir, self.last, self.best
        partial = folder / ".partial"
        partial.mkdir(parents=True, exist_ok=True)
        self.wdir, self.last, self.best = partial, partial / last.name, partial / best.name
        try:
            saved = super().save_model()
        finally:
            self.wdir, self.last, self.best = folder, last, best
        # best.pt first: after a crash in between, last.pt still is the epoch before, and that epoch runs again.
        for path in sorted(partial.iterdir()):
            os.replace(path, folder / path.name)
        partial.rmdir()
        return saved

    def final_eval(self) -> None:
        """Strip the checkpoints; the final validation is the caller's, in full precision and with every figure."""
        if RANK not in {-1, 0}:
            return
        results = strip_whole(self.last).get("train_results") if self.last.exists() else None
        if self.best.exists():
            strip_whole(self.best, {"train_results": results})


def strip_whole(path: Path, updates: dict | None = None) -> dict:
    """Take the optimizer out of a checkpoint, so that the file is whole at every moment; return its content."""
    partial = path.with_name(f".{path.name}.partial")
    content = strip_optimizer(path, s=str(partial), updates=updates)
    if partial.exists():
        os.replace(partial, path)
    return content


def nominal_batch(images: int, batch: int) -> int:
    """Return the nominal batch size ``nbs``: 64 as in Ultralytics, or the batch size where data is small.

    Ultralytics accumulates gradients up to 64 images; with 64 images in all, that is one optimizer step an epoch.
    """
    return 64 if images / 64 >= STARVED or batch <= 0 else batch
