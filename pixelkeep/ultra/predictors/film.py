"""An annotated video that is on the disk as it grows: whatever ends the run, what has been written can be played.

OpenCV's MP4 is of no use until it is closed. So frames are encoded by OpenCV in short files of their own, hidden ones,
whose content is moved over into the video as a part, unchanged (:mod:`pixelkeep.ultra.predictors.growing_mp4`).
"""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np

from pixelkeep.errors import StorageError
from pixelkeep.ultra.predictors.growing_mp4 import GrowingMp4
from pixelkeep.ultra.predictors.mp4 import read_samples
from pixelkeep.writing import PARTIAL

PART = 24  # frames: twice the distance at which the encoder begins anew by itself
LONGEST = 10.0  # seconds of work that a part may hold: a kill loses no more of the video, and none of the records
ENCODING = "mp4v"  # MPEG-4 part 2: every wheel of OpenCV has it


class Film:
    """A video that is being written.

    Args:
        path: Its file.
        fps: Frames a second, by which the encoder shares out its bits, and for which the last frame is shown.
        resume: Whether a file that is there is gone on with.
    """

    def __init__(self, path: Path, fps: float, resume: bool = False):
        self.path = path
        self.fps = fps
        self._file = GrowingMp4(path, resume)
        self._hidden = path.parent / PARTIAL / path.name
        self._hidden.parent.mkdir(parents=True, exist_ok=True)
        self._writer: cv2.VideoWriter | None = None
        self._times: list[float] = []
        self._began = 0.0
        self._sure = 0  # frames of the part that count

    @property
    def frames(self) -> int:
        """How many frames are in the file, where a kill cannot take them away."""
        return self._file.frames

    @property
    def end(self) -> float:
        """When the last of them ends, in seconds of the video."""
        return self._file.end

    def write(self, frame: np.ndarray, at: float) -> None:
        """Take a frame in.

        Args:
            frame: (H, W, 3) uint8 BGR. One of another size than the first, as of a stream that changes its
                resolution, is resized.
            at: When it is shown, in seconds of the video.
        """
        if self._writer is None:
            self._size = self._file.size if self._file.frames else frame.shape[1::-1]
            fourcc = cv2.VideoWriter.fourcc(*ENCODING)
            self._writer = cv2.VideoWriter(str(self._hidden), fourcc, self.fps, self._size)
            self._began = time.monotonic()
        self._writer.write(frame if frame.shape[1::-1] == self._size else cv2.resize(frame, self._size))
        self._times.append(at)

    def keep(self) -> None:
        """Take note that what has been taken in counts, and move it into the file if it is enough for a part.

        Raises:
            StorageError: The disk is full; the parts before are there.
        """
        self._sure = len(self._times)
        if self._sure >= PART or (self._sure and time.monotonic() - self._began >= LONGEST):
            self._move()

    def _move(self) -> None:
        """Move the frames that count into the file."""
        self._writer.release()
        self._writer, times, self._times = None, self._times, []
        try:
            description, samples = read_samples(self._hidden.read_bytes())
        except (OSError, ValueError) as error:
            raise self._no_room() from error
        finally:
            self._hidden.unlink(missing_ok=True)
        if len(samples) != len(times):  # OpenCV says nothing when the disk is full
            raise self._no_room()
        sure, self._sure = self._sure, 0
        if sure:
            self._file.append(description, samples[:sure], self._size, times[:sure], 1 / self.fps)

    def finish(self) -> None:
        """Put everything that counts into the file and close it.

        Raises:
            OSError: The disk is full; what was there before can be played.
        """
        try:
            if self._writer is not None:
                self._move()
        finally:
            self._file.finish()

    def _no_room(self) -> StorageError:
        return StorageError(f"{self.path}: the video could not be written; is there room on the disk?")
