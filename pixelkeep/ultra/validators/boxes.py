"""Ultralytics' validator with COCO's AP by object size, always computed, on boxes in original-image pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from ultralytics.engine import validator as engine
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.utils import nms
from ultralytics.utils.checks import check_imgsz

from pixelkeep.evaluation import CocoEvaluator, Detections, Result, Scoring, detection_limit
from pixelkeep.ultra.data.truth import build_truth
from pixelkeep.ultra.network.outputs import empty_inverted
from pixelkeep.ultra.running import distributed
from pixelkeep.ultra.running.whole import replaced
from pixelkeep.ultra.validators.base import RunValidator
from pixelkeep.ultra.validators.sheets import labelled, predicted, write_sheet
from pixelkeep.writing import staged

COLUMNS = ("AP", "AP50", "AP_S", "AP_M", "AP_L")
UNLIMITED = 1e9  # seconds: with a time limit the result of NMS would depend on how busy the machine is


class Validator(RunValidator, DetectionValidator):
    """Collects detections while Ultralytics' validation runs, and scores them with the project's own evaluator.

    Attributes:
        best: AP or AP_S, the figure that decides which epoch is the best.
        limit: Largest number of detections kept per image; None for three times the number of objects in the densest
            image, and at least 300.
        result: The last result of the project's evaluator.
        truth: The ground truth in COCO form, built at the first validation.
    """

    def __init__(self, *args: Any, best: str = "AP", limit: int | None = None, **kwargs: Any):
        # Ultralytics would reduce [height, width] to its larger side.
        with replaced(engine, "check_imgsz", lambda imgsz, max_dim: check_imgsz(imgsz)):
            super().__init__(*args, best=best, **kwargs)
        self.limit = limit
        self.truth: dict | None = None
        self.result: Result | None = None
        self._evaluator: CocoEvaluator | None = None
        self._collected: dict[int, np.ndarray] = {}  # by image id, so that one that two processes see counts once

    def build_dataset(self, img_path: str, mode: str = "val", batch: int | None = None):
        """Build the dataset of a standalone validation."""
        from pixelkeep.ultra.data.box_dataset import build_dataset

        self.args.imgsz = check_imgsz(self.args.imgsz, self.stride)
        return build_dataset(self.args, batch, self.data, train=False, stride=self.stride)

    def init_metrics(self, model: torch.nn.Module) -> None:
        """Prepare the ground truth and the detection limit, which NMS and the evaluator share."""
        if self.truth is None:
            dataset = self.dataloader.dataset
            self.truth, self._image_ids = build_truth(
                dataset.records, dataset.spec, classes=self.args.classes, single_cls=self.args.single_cls
            )
            self._category_ids = np.array([category["id"] for category in self.truth["categories"]])
            self.args.max_det = self.limit or detection_limit(self.truth)
            self._evaluator = CocoEvaluator(self.truth, max_dets=self.args.max_det)
        self._collected = {}
        super().init_metrics(model)

    def postprocess(self, preds: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        """Apply NMS without a time limit."""
        empty_inverted(preds)
        outputs = nms.non_max_suppression(
            preds,
            self.args.conf,
            self.args.iou,
            multi_label=True,
            agnostic=self.args.single_cls or self.args.agnostic_nms,
            max_det=self.args.max_det,
            max_time_img=UNLIMITED,
            end2end=self.end2end,
        )
        return [{"bboxes": x[:, :4], "conf": x[:, 4], "cls": x[:, 5], "extra": x[:, 6:]} for x in outputs]

    def update_metrics(self, preds: list[dict[str, torch.Tensor]], batch: dict[str, Any]) -> None:
        """Update Ultralytics' metrics, and collect the detections in original-image pixels."""
        super().update_metrics(preds, batch)
        for index, pred in enumerate(preds):
            prepared = self._prepare_batch(index, batch)
            boxes = self.scale_preds(pred, prepared)["bboxes"]
            number = self._image_ids[prepared["im_file"]]
            found = torch.cat([boxes, pred["conf"][:, None]], 1).double().cpu().numpy()
            category = self._category_ids[pred["cls"].int().cpu().numpy()]
            images = np.full(len(found), float(number))  # double precision, for image ids with many digits
            # (n, 7): image, category, x1, y1, x2, y2, score
            self._collected[number] = np.column_stack([images, category, found])

    def gather_stats(self) -> None:
        """Gather the detections of all processes on the first one."""
        super().gather_stats()
        self._collected = distributed.merged(self._collected)

    def finalize_metrics(self) -> None:
        """Leave the confusion matrix to :class:`pixelkeep.ultra.validators.drawn.Drawn`."""
        with replaced(self.args, "plots", False):
            super().finalize_metrics()

    def get_stats(self) -> dict[str, Any]:
        """Add COCO's figures to Ultralytics' statistics; ``fitness`` decides which epoch is the best."""
        with self.plotting():
            stats = super().get_stats()
        return stats | self.scored()

    def scored(self) -> dict[str, float]:
        """Score the collected detections, and return COCO's figures and the fitness."""
        self.result = self._evaluator.evaluate(self.detections())
        figures = self.figures()
        stats = {key: float("nan") if value is None else value for key, value in figures.items()}
        # AP breaks ties, so that an AP_S that stays 0 for a while does not make the last epoch the best.
        stats["fitness"] = (figures[self.best] or 0.0) + 1e-3 * (figures["AP"] or 0.0)
        return stats

    def detections(self) -> Detections:
        """Return the collected detections, ordered by image id and rounded."""
        rows = np.concatenate([np.zeros((0, 7)), *self._collected.values()])
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        x1, y1, x2, y2 = np.round(rows[:, 2:6], 3).T
        boxes = np.round(np.stack([x1, y1, x2 - x1, y2 - y1], 1), 3)  # (n, 4) xywh
        return Detections(rows[:, 0].astype(int), rows[:, 1].astype(int), boxes, np.round(rows[:, 6], 6))

    def judge(self, scoring: Scoring) -> Result:
        """Score the collected detections by the rules for reported figures."""
        return scoring.evaluate(self.truth, self.detections(), self.args.max_det)

    def plot_val_samples(self, batch: dict[str, Any], ni: int) -> None:
        """Draw a batch with its labels."""
        write_sheet(labelled(batch), self.names, self.save_dir / f"val_batch{ni}_labels.jpg", self.on_plot)

    def plot_predictions(self, batch: dict[str, Any], preds: list[dict[str, torch.Tensor]], ni: int) -> None:
        """Draw a batch with its predictions."""
        write_sheet(predicted(batch, preds), self.names, self.save_dir / f"val_batch{ni}_pred.jpg", self.on_plot)

    def save_one_txt(self, predn: dict, save_conf: bool, shape: tuple[int, int], file: Path) -> None:
        """Write an image's detections as a YOLO label file, atomically."""
        with staged(file) as partial:
            super().save_one_txt(predn, save_conf, shape, partial)

    def figures(self) -> dict[str, float | None]:
        """Return AP, AP50 and AP by object size."""
        return {key: getattr(self.result, key) for key in COLUMNS}
