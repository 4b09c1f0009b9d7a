"""Ultralytics' predictor with every core in use, drawings fit for small objects, and annotated video as MP4.

Whatever it writes appears under its name once it is whole: a picture with its labels and crops, a video at its end.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from ultralytics.data import loaders
from ultralytics.engine.results import Results
from ultralytics.models.yolo.detect import DetectionPredictor
from ultralytics.utils.files import increment_path
from ultralytics.utils.plotting import save_one_box

from pixelkeep.datasets.pixels import read_pixels
from pixelkeep.errors import DataError, StorageError
from pixelkeep.report.drawing import draw
from pixelkeep.ultra.environment import use_all_cores, warn_without_half
from pixelkeep.ultra.whole import replaced
from pixelkeep.writing import PARTIAL, staged, write_bytes

_SPARE = 1_000_000  # bytes: OpenCV says nothing when the disk is full, so a video stops before


class Detections(Results):
    """One image's detections, drawn so that small objects stay visible."""

    def plot(self, line_width: int | None = None, **_: Any) -> np.ndarray:
        """Return the annotated picture, (H, W, 3) BGR."""
        boxes = self.boxes.cpu().numpy()
        return draw(viewable(self.orig_img), boxes.xyxy, boxes.cls, boxes.conf, self.names, line_width)

    def save_txt(self, txt_file: str | Path, save_conf: bool = False) -> str:
        """Write a YOLO label file, if there is anything to write."""
        with staged(Path(txt_file)) as partial:
            super().save_txt(partial, save_conf)
        return str(txt_file)

    def save_crop(self, save_dir: str | Path, file_name: str | Path = "im.jpg") -> None:
        """Write each object as ``save_dir/class/file_name``, numbered where that is taken."""
        for box in self.boxes.cpu():
            crop = save_one_box(box.xyxy, viewable(self.orig_img), save=False)  # RGB
            content = io.BytesIO()
            Image.fromarray(crop).save(content, "JPEG", quality=95, subsampling=0)
            file = Path(save_dir) / _folder(self.names[int(box.cls.item())]) / Path(file_name).with_suffix(".jpg")
            write_bytes(increment_path(file), content.getvalue())


def viewable(image: np.ndarray) -> np.ndarray:
    """Return (H, W, C) as three channels for people: grey repeated, of more than three the first."""
    return np.repeat(image, 3, axis=2) if image.shape[2] < 3 else np.ascontiguousarray(image[..., :3])


def _folder(name: str) -> str:
    """Return a class name as the name of one folder: weights of unknown origin may call a class ``../..``."""
    return re.sub(r'[/\\:*?"<>|\x00-\x1f]|^\.+$', "_", name) or "_"


@dataclass
class _Video:
    """A video that is being written: under ``partial`` until it is finished, then as ``path``."""

    path: Path
    partial: Path
    writer: cv2.VideoWriter
    size: tuple[int, int]  # width, height
    frames: int = 0

    def write(self, frame: np.ndarray) -> None:
        if shutil.disk_usage(self.partial.parent).free < _SPARE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        # OpenCV drops frames of another size, as of a stream that changes its resolution.
        self.writer.write(frame if frame.shape[1::-1] == self.size else cv2.resize(frame, self.size))
        self.frames += 1

    def finish(self) -> None:
        """Close the video and move it to its name, if every frame has arrived in it."""
        self.writer.release()
        reader = cv2.VideoCapture(str(self.partial))
        reader.set(cv2.CAP_PROP_POS_FRAMES, self.frames - 1)
        if int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) != self.frames or not reader.read()[0]:
            raise StorageError(f"{self.path}: the video could not be written; is there room on the disk?")
        os.replace(self.partial, self.path)


def silence(predictions: torch.Tensor, confidences: Sequence[float]) -> None:
    """Set scores below their class's confidence to 0, in place.

    Args:
        predictions: (B, 4 + classes, boxes), or (B, boxes, 6) of an end-to-end model with score and class last.
        confidences: By class.
    """
    least = torch.as_tensor(confidences, dtype=predictions.dtype, device=predictions.device)
    if predictions.shape[-1] == 6:
        score = predictions[..., 4]
        score[score < least[predictions[..., 5].long()]] = 0
    else:
        scores = predictions[:, 4:]
        scores[scores < least[:, None]] = 0


class Predictor(DetectionPredictor):
    """Detects and draws.

    Args:
        overrides: Ultralytics' settings.
        save_video: Whether videos and streams are written with their detections drawn in.
        channels: Channels of the images that the model takes.
        stretch: Percentiles that become 0 and 255 in images deeper than eight bits; None where it takes none such.
        confidences: Lowest confidence of each class; None for the same for all, as in the settings.

    Attributes:
        unreadable: For each picture that cannot be read the reason.
    """

    def __init__(
        self,
        overrides: dict[str, Any],
        save_video: bool,
        channels: int = 3,
        stretch: tuple[float, float] | None = None,
        confidences: Sequence[float] | None = None,
    ):
        super().__init__(overrides=overrides)
        self.save_video = save_video
        self.channels = channels
        self.stretch = stretch
        self.confidences = confidences
        if confidences is not None:
            self.args.conf = min(confidences)
        self.unreadable: dict[str, str] = {}

    def reading(self) -> contextlib.AbstractContextManager:
        """Return a context inside which pictures are read as in training."""
        return replaced(loaders, "imread", self._read)

    def _read(self, path: str, flags: int | None = None) -> np.ndarray | None:
        """Read a picture for Ultralytics' loader, which leaves it out if there is none."""
        try:
            return read_pixels(Path(path), self.channels, self.stretch)
        except DataError as error:
            self.unreadable[str(path)] = str(error)
            return None

    def setup_model(self, model: Any, verbose: bool = True) -> None:
        """Load the model and take all cores on a CPU."""
        half = self.args.quantize == 16
        super().setup_model(model, verbose)
        if half and not self.model.fp16:
            warn_without_half(self.device)
        if self.device.type == "cpu":
            use_all_cores()

    def postprocess(self, preds: Any, img: Any, orig_imgs: Any, **keywords: Any) -> list[Detections]:
        """Apply NMS to what reaches its class's confidence, so that nothing else suppresses or displaces it."""
        if self.confidences is not None:
            silence(preds[0] if isinstance(preds, (list, tuple)) else preds, self.confidences)
        return super().postprocess(preds, img, orig_imgs, **keywords)

    def construct_result(self, pred: Any, img: Any, orig_img: np.ndarray, img_path: str) -> Detections:
        """Return one image's detections in its own pixels."""
        result = super().construct_result(pred, img, orig_img, img_path)
        return Detections(orig_img, path=img_path, names=self.model.names, boxes=result.boxes.data)

    def save_predicted_images(self, save_path: Path, frame: int | None = 0) -> None:
        """Save an annotated image, or a frame of an annotated video."""
        if self.dataset.mode not in {"stream", "video"}:
            _, content = cv2.imencode(".jpg", self.plotted_img)
            write_bytes(save_path.with_suffix(".jpg"), content.tobytes())
        elif self.save_video:
            if save_path not in self.vid_writer:
                if self.dataset.mode == "video":  # one after the other; streams are written side by side
                    self.finish_videos()
                self.vid_writer[save_path] = self._open_video(save_path.with_suffix(".mp4"))
            self.vid_writer[save_path].write(self.plotted_img)

    def finish_videos(self) -> None:
        """Close the videos and move them to their names.

        Raises:
            StorageError: One of them is not whole.
        """
        while self.vid_writer:
            self.vid_writer.popitem()[1].finish()

    def _open_video(self, path: Path) -> _Video:
        partial = path.parent / PARTIAL / path.name
        partial.parent.mkdir(parents=True, exist_ok=True)
        size = self.plotted_img.shape[1::-1]
        fps = self.dataset.fps if self.dataset.mode == "video" else 30
        fourcc = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(partial), fourcc, max(1, fps / self.args.vid_stride), size)
        return _Video(path, partial, writer, size)
