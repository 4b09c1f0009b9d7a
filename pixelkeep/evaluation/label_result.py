"""The schema of classification and semantic segmentation results; that of detection results is in `result`.

Fractions run from 0 to 1. A figure that is undefined for lack of ground truth is None (null in JSON), never -1 or 0.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from pixelkeep.evaluation.result import SCHEMA


@dataclass(kw_only=True)
class LabelProtocol:
    """How the figures were measured; None where unknown.

    imgsz: side in pixels of the images given to the model. precision: number format of the model, such as "fp32".
    format: "pytorch", or the format of the exported file that was run.
    device: device that the model ran on. seed: seed of its training.
    """

    imgsz: int | None = None
    precision: str | None = None
    format: str | None = None
    device: str | None = None
    seed: int | None = None


@dataclass(kw_only=True)
class LabelResult:
    """What the results of both tasks have in common.

    schema: 1. task: "classify" or "semantic".
    model, weights: what was evaluated. data, split: what it was evaluated on.
    gt_sha256: hash of the ground truth. images: number of images in it. protocol: how the figures were measured.
    params: number of parameters of the model. gflops: 1e9 floating point operations per image.
    speed_ms: milliseconds per image by phase: "preprocess", "inference", "postprocess".
    active_fraction: for layers whose work depends on the image, the mean share of active regions on these images, which
        ``gflops`` is computed for; None for models without such layers.
    """

    schema: int = SCHEMA
    task: str
    model: str | None = None
    weights: str | None = None
    data: str | None = None
    gt_sha256: str | None = None
    split: str | None = None
    images: int | None = None
    protocol: LabelProtocol = field(default_factory=LabelProtocol)
    params: int | None = None
    gflops: float | None = None
    speed_ms: dict[str, float] | None = None
    active_fraction: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the document as plain dictionaries and lists."""
        return asdict(self)


@dataclass(kw_only=True)
class ClassAccuracy:
    """One class: ``n`` images, and as ``top1`` the share of them that are predicted right; None without images."""

    top1: float | None
    n: int


@dataclass(kw_only=True)
class ClassifyResult(LabelResult):
    """Figures of a classification.

    top1: share of the images whose own class is the most probable one. top5: share of the images whose own class is
    among the five most probable ones; with five classes or fewer it is always 1. per_class: figures by class name.
    """

    task: str = "classify"
    top1: float | None = None
    top5: float | None = None
    per_class: dict[str, ClassAccuracy] = field(default_factory=dict)


@dataclass(kw_only=True)
class ClassPixels:
    """One class of a segmentation; its figures are None if the ground truth has no pixels of it.

    IoU: true positive pixels over all that are of the class or predicted as it. accuracy: true positive pixels over
    those of the class. pixels: number of pixels of the class. Pixels to ignore count nowhere.
    """

    IoU: float | None
    accuracy: float | None
    pixels: int


@dataclass(kw_only=True)
class SemanticResult(LabelResult):
    """Figures of a semantic segmentation, counted over the pixels of all images at once, at their original size.

    mIoU: mean IoU of the classes that have ground truth. pixel_accuracy: share of the pixels that are predicted right.
    per_class: figures by class name.
    """

    task: str = "semantic"
    mIoU: float | None = None
    pixel_accuracy: float | None = None
    per_class: dict[str, ClassPixels] = field(default_factory=dict)
