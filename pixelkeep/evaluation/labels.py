"""Figures of classification and semantic segmentation from predictions and ground truth, in plain numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pixelkeep.evaluation.label_result import ClassAccuracy, ClassifyResult, ClassPixels, SemanticResult

IGNORED = 255  # mask value of pixels that are not evaluated


def unique_names(names: Sequence[str]) -> list[str]:
    """Return the names as unique keys; one that repeats gets its index appended."""
    return [name if list(names).count(name) == 1 else f"{name} {i}" for i, name in enumerate(names)]


def score_classes(truth: np.ndarray, ranked: np.ndarray, names: Sequence[str]) -> ClassifyResult:
    """Return the figures of a classification.

    Args:
        truth: Int (n,), the class of each image.
        ranked: Int (n, k), the k most probable classes of each image, the most probable first.
        names: Class names in the order of the class indices.
    """
    right = ranked == truth[:, None]  # (n, k)
    result = ClassifyResult(images=len(truth))
    if len(truth):
        result.top1 = float(right[:, 0].mean())
        result.top5 = float(right[:, :5].any(1).mean())
    for number, name in enumerate(unique_names(names)):
        own = right[truth == number, 0]
        result.per_class[name] = ClassAccuracy(top1=float(own.mean()) if len(own) else None, n=len(own))
    return result


class ConfusionMatrix:
    """Counts pixels by their true and their predicted class.

    Args:
        classes: Number of classes.

    Attributes:
        counts: Int (classes, classes), numbers of pixels; rows are true classes, columns predicted ones.
        images: Number of images that have been added.
    """

    def __init__(self, classes: int):
        self.counts = np.zeros((classes, classes), np.int64)
        self.images = 0

    def add(self, truth: np.ndarray, predicted: np.ndarray) -> None:
        """Count the pixels of an image.

        Args:
            truth: (H, W), true class of each pixel, or 255 where the pixel is not evaluated.
            predicted: (H, W), predicted class of each pixel.
        """
        classes = len(self.counts)
        judged = truth != IGNORED
        pairs = truth[judged].astype(np.int64) * classes + predicted[judged]
        self.counts += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
        self.images += 1

    def score(self, names: Sequence[str]) -> SemanticResult:
        """Return the figures of all images that have been added.

        Args:
            names: Class names in the order of the class indices.
        """
        right = np.diag(self.counts)
        are, said = self.counts.sum(1), self.counts.sum(0)
        result = SemanticResult(images=self.images)
        for number, name in enumerate(unique_names(names)):
            pixels = int(are[number])
            hits, union = int(right[number]), pixels + int(said[number] - right[number])
            result.per_class[name] = ClassPixels(
                IoU=hits / union if pixels else None, accuracy=hits / pixels if pixels else None, pixels=pixels
            )
        measured = [entry.IoU for entry in result.per_class.values() if entry.IoU is not None]
        if measured:
            result.mIoU = float(np.mean(measured))
            result.pixel_accuracy = float(right.sum() / are.sum())
        return result
