"""Curves and confusion matrices of a validation's detections, drawn by Ultralytics from boxes of whole images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from ultralytics.engine.validator import BaseValidator
from ultralytics.utils.metrics import ConfusionMatrix, DetMetrics, box_iou

from pixelkeep.evaluation.overlaps import Scene
from pixelkeep.ultra.running.whole import WholePlots

IOUS = torch.linspace(0.5, 0.95, 10)
Boxes = dict[str, torch.Tensor]  # bboxes (n, 4) xyxy in pixels, cls (n,) class numbers, conf (n,) of detections


class _Unlisted:
    """Base class that accepts plots without keeping a list of them."""

    def on_plot(self, name: str | Path, data: dict | None = None) -> None:
        """Ignore the plot."""


class Drawn(WholePlots, _Unlisted):
    """Draws curves and confusion matrices into a run folder.

    Args:
        folder: The run folder.
        scene: The ground truth and the detections down to a low confidence.
    """

    def __init__(self, folder: Path, scene: Scene):
        self.save_dir, self.scene = folder, scene
        self.names = dict(enumerate(scene.labels()))

    def confusion(self, confidences: np.ndarray) -> None:
        """Draw the confusion matrix of the detections that reach their class's confidence, ``confidences`` (K,).

        At a validation's own confidence of 0.001, which Ultralytics uses, nearly every box is a false positive.
        """
        matrix = ConfusionMatrix(names=self.names)
        for found, labels in _images(self.scene.at(confidences)):
            matrix.process_batch(found, labels, conf=0.0)
        with self.plotting():
            for normalize in (True, False):
                matrix.plot(save_dir=self.save_dir, normalize=normalize, on_plot=self.on_plot)

    def curves(self) -> None:
        """Draw precision, recall and F1, as Ultralytics does in its own validation."""
        metrics, matcher = DetMetrics(names=self.names), SimpleNamespace(iouv=IOUS)
        for number, (found, labels) in enumerate(_images(self.scene)):
            right = np.zeros((len(found["cls"]), len(IOUS)), bool)
            if len(right) and len(labels["cls"]):
                iou = box_iou(labels["bboxes"], found["bboxes"])
                right = BaseValidator.match_predictions(matcher, found["cls"], labels["cls"], iou).numpy()
            classes = labels["cls"].numpy()
            told = {"tp": right, "conf": found["conf"].numpy(), "pred_cls": found["cls"].numpy()}
            told |= {"target_cls": classes, "target_img": np.unique(classes), "im_name": str(number)}
            metrics.update_stats(told)
        with self.plotting():
            metrics.process(save_dir=self.save_dir, plot=True, on_plot=self.on_plot)


def _images(scene: Scene) -> Iterator[tuple[Boxes, Boxes]]:
    """Yield the detections and labels of each image, with the detections of each class by descending score.

    Ignored labels are left out, and so are detections that overlap an ignored label and no other one.
    """
    hidden = scene.truth.ignored | scene.truth.crowd
    for d, g, iou in scene.by_image():
        on = [np.where(hidden[g] == kind, iou, 0.0).max(axis=1, initial=0.0) for kind in (True, False)]
        d, g = d[(on[0] < IOUS[0].item()) | (on[1] >= IOUS[0].item())], g[~hidden[g]]
        found = {"bboxes": _corners(scene.found.boxes[d]), "cls": torch.from_numpy(scene.found_category[d])}
        labels = {"bboxes": _corners(scene.truth.boxes[g]), "cls": torch.from_numpy(scene.truth.category[g])}
        yield found | {"conf": torch.from_numpy(scene.found.scores[d])}, labels


def _corners(boxes: np.ndarray) -> torch.Tensor:
    """Convert boxes (n, 4) from x, y, width, height to x1, y1, x2, y2."""
    return torch.from_numpy(np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1))
