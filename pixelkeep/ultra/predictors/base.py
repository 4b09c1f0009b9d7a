"""What every predictor does, whatever its task: pictures read as in training, every core in use, annotated MP4 video.

Whatever it writes appears under its name once it is whole: a picture with what belongs to it, a video at its end.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ultralytics.data import loaders

from pixelkeep.datasets.pixels import read_pixels
from pixelkeep.errors import DataError, StorageError
from pixelkeep.ultra.running.environment import use_all_cores, warn_without_half
from pixelkeep.ultra.running.whole import replaced
from pixelkeep.ultra.weights.backends import careful
from pixelkeep.writing import PARTIAL, write_bytes

_SPARE = 1_000_000  # bytes: OpenCV says nothing when the disk is full, so a video stops before


def viewable(image: np.ndarray) -> np.ndarray:
    """Return (H, W, C) as three channels for people: grey repeated, of more than three the first."""
    return np.repeat(image, 3, axis=2) if image.shape[2] < 3 else np.ascontiguousarray(image[..., :3])


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


class RunPredictor:
    """For a predictor of Ultralytics'.

    Args:
        overrides: Ultralytics' settings.
        save_video: Whether videos and streams are written with what was found drawn in.
        channels: Channels of the images that the model takes.
        stretch: Percentiles that become 0 and 255 in images deeper than eight bits; None where it takes none such.

    Attributes:
        unreadable: For each picture that cannot be read the reason.
    """

    def __init__(
        self,
        overrides: dict[str, Any],
        save_video: bool,
        channels: int = 3,
        stretch: tuple[float, float] | None = None,
    ):
        super().__init__(overrides=overrides)
        self.save_video = save_video
        self.channels = channels
        self.stretch = stretch
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
        with careful():
            super().setup_model(model, verbose)
        if half and not self.model.fp16:
            warn_without_half(self.device)
        if self.device.type == "cpu":
            use_all_cores()

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
