"""Ultralytics' predictor with every core in use, drawings fit for small objects, and annotated video as MP4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ultralytics.engine.results import Results
from ultralytics.models.yolo.detect import DetectionPredictor

from pixelkeep.report.drawing import draw
from pixelkeep.ultra.environment import use_all_cores


class Detections(Results):
    """One image's detections, drawn so that small objects stay visible."""

    def plot(self, line_width: int | None = None, **_: Any) -> np.ndarray:
        """Return the annotated picture, (H, W, 3) BGR."""
        boxes = self.boxes.cpu().numpy()
        return draw(self.orig_img, boxes.xyxy, boxes.cls, boxes.conf, self.names, line_width)


class Predictor(DetectionPredictor):
    """Detects and draws.

    Args:
        overrides: Ultralytics' settings.
        save_video: Whether videos and streams are written with their detections drawn in.
    """

    def __init__(self, overrides: dict[str, Any], save_video: bool):
        super().__init__(overrides=overrides)
        self.save_video = save_video

    def setup_model(self, model: Any, verbose: bool = True) -> None:
        """Load the model and take all cores on a CPU."""
        super().setup_model(model, verbose)
        if self.device.type == "cpu":
            use_all_cores()

    def construct_result(self, pred: Any, img: Any, orig_img: np.ndarray, img_path: str) -> Detections:
        """Return one image's detections in its own pixels."""
        result = super().construct_result(pred, img, orig_img, img_path)
        return Detections(orig_img, path=img_path, names=self.model.names, boxes=result.boxes.data)

    def save_predicted_images(self, save_path: Path, frame: int | None = 0) -> None:
        """Save an annotated image, or a frame of an annotated video."""
        if self.dataset.mode not in {"stream", "video"}:
            super().save_predicted_images(save_path, frame)
        elif self.save_video:
            if save_path not in self.vid_writer:
                self.vid_writer[save_path] = self._open_writer(save_path.with_suffix(".mp4"))
            self.vid_writer[save_path].write(self.plotted_img)

    def _open_writer(self, path: Path) -> cv2.VideoWriter:
        height, width = self.plotted_img.shape[:2]
        fps = self.dataset.fps if self.dataset.mode == "video" else 30
        fourcc = cv2.VideoWriter.fourcc(*"mp4v")
        return cv2.VideoWriter(str(path), fourcc, max(1, fps / self.args.vid_stride), (width, height))
