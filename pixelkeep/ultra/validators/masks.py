"""Ultralytics' validator of semantic segmentation, with metrics counted at the images' original size.

Ultralytics counts at the network's input size, on masks resized to it. Its columns, written every epoch, stay as they
are. The final metrics compare the masks as they were drawn with the network's output resized to the size of the masks.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
import torch.nn.functional as F
from ultralytics.models.yolo.semantic import SemanticSegmentationValidator
from ultralytics.utils import ops
from ultralytics.utils.checks import check_imgsz

from pixelkeep.evaluation.label_result import SemanticResult
from pixelkeep.evaluation.labels import ConfusionMatrix
from pixelkeep.ultra.data.mask_dataset import MaskDataset, build_mask_dataset
from pixelkeep.ultra.validators.base import RunValidator


class MaskValidator(RunValidator, SemanticSegmentationValidator):
    """Measures mIoU and pixel accuracy; either can be the figure that decides which epoch is the best.

    Attributes:
        matrix: Confusion matrix of the pixels at the images' original size; None except in a standalone validation.
    """

    def __init__(self, *args: Any, best: str = "mIoU", **keywords: Any):
        super().__init__(*args, best=best, **keywords)
        self.matrix: ConfusionMatrix | None = None
        self._logits: torch.Tensor | None = None
        self._hashes: dict[str, str] = {}

    def build_dataset(self, img_path: str, mode: str = "val", batch: int | None = None) -> MaskDataset:
        """Build the dataset of a standalone validation."""
        self.args.imgsz = check_imgsz(self.args.imgsz, self.stride)
        return build_mask_dataset(self.args, batch, self.data, train=False, stride=self.stride)

    def init_metrics(self, model: torch.nn.Module) -> None:
        """Reset the metrics, and in a standalone validation the confusion matrix too."""
        super().init_metrics(model)
        if not self.training:
            self.matrix, self._hashes = ConfusionMatrix(self.nc), {}
            dataset = self.dataloader.dataset
            self._index = {file: index for index, file in enumerate(dataset.im_files)}

    def postprocess(self, preds: Any) -> torch.Tensor:
        """Return the classes at the input size, and keep the logits to classify at the original size."""
        self._logits = preds[0] if isinstance(preds, (tuple, list)) else preds
        return super().postprocess(preds)

    def update_metrics(self, preds: torch.Tensor, batch: dict[str, Any]) -> None:
        """Update Ultralytics' metrics, and in a standalone validation count the pixels at the original size."""
        super().update_metrics(preds, batch)
        if self.training:
            return
        for index, file in enumerate(batch["im_file"]):
            truth = self.dataloader.dataset.load_mask(self._index[file])
            size = batch["semantic_mask"].shape[-2:]
            found = class_map(self._logits[index], size, truth.shape, batch["ratio_pad"][index])
            self.matrix.add(truth, found.cpu().numpy())
            self._hashes[file] = hashlib.sha256(truth.tobytes()).hexdigest()

    def get_stats(self) -> dict[str, float]:
        """Return Ultralytics' statistics; ``fitness`` decides which epoch is the best."""
        with self.plotting():
            stats = super().get_stats()
        figures = self.figures()
        # The small term lets the other figure break ties.
        stats["fitness"] = figures[self.best] + 1e-3 * sum(figures.values())
        return stats

    def figures(self) -> dict[str, float | None]:
        """Return mIoU and pixel accuracy at the network's input size."""
        return {"mIoU": self.metrics.miou, "pixel_accuracy": self.metrics.pixel_accuracy}

    def judge(self) -> SemanticResult:
        """Return the scores of the pixels counted so far."""
        return self.matrix.score(list(self.names.values()))

    def truth(self) -> list[list]:
        """Return the file of each image and the SHA-256 of its mask, sorted by file."""
        return [list(item) for item in sorted(self._hashes.items())]


def class_map(
    logits: torch.Tensor, size: tuple[int, int], original: tuple[int, int], ratio_pad: Any = None
) -> torch.Tensor:
    """Return the class of each pixel of an image, (H, W), computed as in Ultralytics' predictor.

    Args:
        logits: Logits (classes, h, w), or classes (h, w) from an export that outputs these instead.
        size: Height and width of the network's input in pixels.
        original: Height and width of the image in pixels.
        ratio_pad: Factor and padding with which the image was resized; None to derive them from the sizes.
    """
    if logits.ndim == 2:
        shown = ops.scale_masks(logits[None, None].float(), original, ratio_pad=ratio_pad, mode="nearest")
        return shown[0, 0].long()
    scores = F.interpolate(logits[None].float(), size, mode="bilinear", align_corners=False)
    return ops.scale_masks(scores, original, ratio_pad=ratio_pad)[0].max(0).indices
