"""Ultralytics' predictors of classification and semantic segmentation, with this project's reading and drawing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ultralytics.engine.results import Results
from ultralytics.models.yolo.classify import ClassificationPredictor
from ultralytics.models.yolo.semantic import SemanticSegmentationPredictor

from pixelkeep.report.label_drawing import draw_classes, draw_regions
from pixelkeep.ultra.predictors.base import Pictured, RunPredictor, viewable
from pixelkeep.ultra.validators.classes import ranking
from pixelkeep.writing import write_bytes


class Classes(Results):
    """The class probabilities of one image."""

    def plot(self, **_: Any) -> np.ndarray:
        """Return the annotated image, (H, W, 3) BGR."""
        return draw_classes(viewable(self.orig_img), self.probs.top5, self.probs.top5conf.tolist(), self.names)

    def found(self) -> Counter:
        """Return the most probable class, counted once."""
        return Counter([self.names[self.probs.top1]])

    def records(self) -> list[dict]:
        """Return one row with the most probable classes, the most probable first."""
        return [{"predicted": ranking(self.probs.top5, self.probs.top5conf.tolist(), self.names)}]


class Regions(Pictured, Results):
    """The class of each pixel of an image."""

    def plot(self, **_: Any) -> np.ndarray:
        """Return the annotated image, (H, W, 3) BGR."""
        return draw_regions(self.picture(), self._map(), self.names)

    def found(self) -> Counter:
        """Return the number of pixels of each class."""
        values, counts = np.unique(self._map(), return_counts=True)
        return Counter({self.names[int(v)]: int(c) for v, c in zip(values, counts, strict=True)})

    def records(self) -> list[dict]:
        """Return one row with the number of pixels of each class."""
        return [{"pixels": dict(self.found().most_common())}]

    def save_mask(self, path: Path) -> None:
        """Write the class of each pixel as a single-channel PNG, atomically."""
        _, content = cv2.imencode(".png", self._map())
        write_bytes(path, content.tobytes())

    def _map(self) -> np.ndarray:
        return self.semantic_mask.data.cpu().numpy().astype(np.uint8)


class ClassPredictor(RunPredictor, ClassificationPredictor):
    """Classifies images and draws the result."""

    def postprocess(self, preds: Any, img: Any, orig_imgs: Any) -> list[Classes]:
        """Return the class probabilities of each image."""
        results = super().postprocess(preds, img, orig_imgs)
        return [Classes(r.orig_img, path=r.path, names=r.names, probs=r.probs.data) for r in results]


class MaskPredictor(RunPredictor, SemanticSegmentationPredictor):
    """Classifies each pixel of an image and draws the result."""

    def postprocess(self, preds: Any, img: Any, orig_imgs: Any) -> list[Regions]:
        """Return the class of each pixel of each image."""
        results = super().postprocess(preds, img, orig_imgs)
        return [Regions(r.orig_img, path=r.path, names=r.names, semantic_mask=r.semantic_mask.data) for r in results]
