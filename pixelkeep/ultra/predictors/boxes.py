"""Ultralytics' detection predictor with drawing suited to small objects, and labels and crops written atomically."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from ultralytics.engine.results import Results
from ultralytics.models.yolo.detect import DetectionPredictor
from ultralytics.utils.files import increment_path
from ultralytics.utils.plotting import save_one_box

from pixelkeep.report.drawing import draw
from pixelkeep.ultra.network.outputs import empty_inverted
from pixelkeep.ultra.predictors.base import Pictured, RunPredictor, viewable
from pixelkeep.writing import staged, write_bytes


class Detections(Pictured, Results):
    """One image's detections, drawn so that small objects stay visible.

    Attributes:
        frame: Number of the frame in its video or stream; None for an image.
        looked: Where the frame has been looked at; None if everywhere.
        notes: Further entries for the run's journal.
    """

    frame: int | None = None
    looked: Any = None
    notes: Mapping[str, Any] = {}

    def plot(self, line_width: int | None = None, **_: Any) -> np.ndarray:
        """Return the annotated image, (H, W, 3) BGR."""
        boxes = self.boxes.cpu().numpy()
        return draw(self.picture(), boxes.xyxy, boxes.cls, boxes.conf, self.names, line_width)

    def found(self) -> Counter:
        """Return the number of objects of each class."""
        return Counter(self.names[int(c)] for c in self.boxes.cls)

    def records(self) -> list[dict]:
        """Return a row for each object in COCO results form, with the name of its class."""
        rows = zip(self.boxes.xyxy.tolist(), self.boxes.conf.tolist(), self.boxes.cls.tolist(), strict=True)
        return [
            {
                "category_id": int(cls) + 1,
                "category": self.names[int(cls)],
                "bbox": [round(v, 3) for v in (x1, y1, x2 - x1, y2 - y1)],
                "score": round(conf, 6),
            }
            for (x1, y1, x2, y2), conf, cls in rows
        ]

    def save_txt(self, txt_file: str | Path, save_conf: bool = False) -> str:
        """Write a YOLO label file atomically, if there is anything to write."""
        with staged(Path(txt_file)) as partial:
            super().save_txt(partial, save_conf)
        return str(txt_file)

    def save_crop(self, save_dir: str | Path, file_name: str | Path = "im.jpg") -> None:
        """Write a crop of each object as ``save_dir/class/file_name``, numbered if that name is taken."""
        for box in self.boxes.cpu():
            crop = save_one_box(box.xyxy, viewable(self.orig_img), save=False)  # RGB
            content = io.BytesIO()
            Image.fromarray(crop).save(content, "JPEG", quality=95, subsampling=0)
            file = Path(save_dir) / folder_of(self.names[int(box.cls.item())]) / Path(file_name).with_suffix(".jpg")
            write_bytes(increment_path(file), content.getvalue())


def folder_of(name: str) -> str:
    """Return a class name made safe as a folder name, because weights of unknown origin may call a class ``../..``."""
    return re.sub(r'[/\\:*?"<>|\x00-\x1f]|^\.+$', "_", name) or "_"


def silence(predictions: torch.Tensor, confidences: Sequence[float]) -> None:
    """Set scores below the confidence of their class to 0, in place.

    Args:
        predictions: (B, 4 + classes, boxes), or (B, boxes, 6) of an end-to-end model with score and class last.
        confidences: Lowest confidence of each class, in the order of the classes.
    """
    least = torch.as_tensor(confidences, dtype=predictions.dtype, device=predictions.device)
    if predictions.shape[-1] == 6:
        score = predictions[..., 4]
        score[score < least[predictions[..., 5].long()]] = 0
    else:
        scores = predictions[:, 4:]
        scores[scores < least[:, None]] = 0


class Predictor(RunPredictor, DetectionPredictor):
    """Detects and draws objects.

    Args:
        overrides: Ultralytics' settings.
        save_video: Whether to write videos and streams with the detections drawn in.
        channels: Number of image channels that the model takes.
        stretch: Percentiles mapped to 0 and 255 in images deeper than eight bits; None if the model takes no such
            images.
        confidences: Lowest confidence of each class; None to use the one in the settings for all classes.
    """

    def __init__(
        self,
        overrides: dict[str, Any],
        save_video: bool,
        channels: int = 3,
        stretch: tuple[float, float] | None = None,
        confidences: Sequence[float] | None = None,
    ):
        super().__init__(overrides, save_video, channels, stretch)
        self.confidences = confidences
        if confidences is not None:
            self.args.conf = min(confidences)

    def postprocess(self, preds: Any, img: Any, orig_imgs: Any, **keywords: Any) -> list[Detections]:
        """Apply NMS to boxes that reach their class's confidence, so that no other box suppresses or displaces them."""
        empty_inverted(preds)
        if self.confidences is not None:
            silence(preds[0] if isinstance(preds, (list, tuple)) else preds, self.confidences)
        return super().postprocess(preds, img, orig_imgs, **keywords)

    def construct_result(self, pred: Any, img: Any, orig_img: np.ndarray, img_path: str) -> Detections:
        """Return one image's detections in its own pixels."""
        result = super().construct_result(pred, img, orig_img, img_path)
        return Detections(orig_img, path=img_path, names=self.model.names, boxes=result.boxes.data)
