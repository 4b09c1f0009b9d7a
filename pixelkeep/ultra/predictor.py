"""Ultralytics' predictor with every core in use, and annotated video as MP4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
from ultralytics.models.yolo.detect import DetectionPredictor

from pixelkeep.ultra.environment import use_all_cores


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
