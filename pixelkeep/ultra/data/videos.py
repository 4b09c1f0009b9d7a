"""Images and videos for Ultralytics' predictors, with numbered frames, broken ones passed over, late ones skipped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ultralytics.data.loaders import LoadImagesAndVideos
from ultralytics.utils import LOGGER

from pixelkeep.tiling.schedule import Pace

TRIES = 32  # attempts to read the next frame: a broken frame fails once, and at the end of the file all attempts fail
INEXACT = 2  # frames by which the frame count that an undamaged file states may be off


@dataclass
class Passage:
    """Progress through a video or stream so far.

    Attributes:
        frames: Number of frames the detector has looked at.
        skipped: Number of frames skipped to keep up with the rate.
        broken: Number of frames that could not be read.
        passed: Number of the last frame that was passed, counted from 1.
        listed: Number of frames that the file states; None for a stream, or if the file does not state it.
        lost: Number of times a stream was lost and came back.
        ended: Whether no more frames will come.
    """

    frames: int = 0
    skipped: int = 0
    broken: int = 0
    passed: int = 0
    listed: int | None = None
    lost: int = 0
    ended: bool = False

    def damage(self) -> str | None:
        """Return a description of the damage in a file that has been read to its end, or None if there is none."""
        if self.listed is not None and self.listed - self.passed > INEXACT:
            return f"ends after {self.passed} of {self.listed} frames; it may be damaged"
        if self.broken:
            return f"{self.broken} of {self.passed} frames are broken and were passed over"
        return None


class Videos(LoadImagesAndVideos):
    """A loader that returns images first, then the frames of videos.

    Args:
        path: Source in the form that Ultralytics' own loader takes.
        paces: Function that makes the pace for a video; None if no rate is to be kept.
        begun: For each video that the run resumes, by its path, its progress up to the last frame that is done.
        keywords: Keyword arguments of Ultralytics' own loader.

    Attributes:
        numbers: Frame number in its video, from 1, of each image of the batch; None for a still image.
        times: Time in its video, in seconds, of each image of the batch.
        skipped: For each image of the batch, the frames skipped so far in its video.
        broken: For each image of the batch, the frames of its video so far that could not be read.
        passages: Progress of each video, by its path.
        pace: Pace of the video that the batch is from; None without one.
    """

    def __init__(
        self,
        path: Any,
        *,
        paces: Callable[[], Pace] | None = None,
        begun: Mapping[str, Passage] | None = None,
        **keywords: Any,
    ):
        self.numbers: list[int | None] = []
        self.times: list[float] = []
        self.skipped: list[int] = []
        self.broken: list[int] = []
        self.passages: dict[str, Passage] = {}
        self.pace: Pace | None = None
        self._paces, self._begun = paces, begun or {}
        self.cap: cv2.VideoCapture | None = None
        super().__init__(path, **keywords)

    def __next__(self) -> tuple[list[str], list[np.ndarray], list[str]]:
        """Return the paths, images and log texts of the next batch; no batch spans two videos."""
        if self.count < self.ni:
            everything, self.nf = self.nf, self.ni
            try:
                batch = super().__next__()
                self.numbers, self.times = ([value] * len(batch[0]) for value in (None, 0.0))
                self.skipped, self.broken = ([0] * len(batch[0]) for _ in range(2))
                return batch
            except StopIteration:  # none of the last images can be read
                self.count = self.ni
            finally:
                self.nf = everything
        return self._next_frames()

    def _next_frames(self) -> tuple[list[str], list[np.ndarray], list[str]]:
        self.mode = "video"
        frames: list[np.ndarray] = []
        self.numbers, self.times, self.skipped, self.broken = [], [], [], []
        while self.count < self.nf and len(frames) < self.bs:
            path = self.files[self.count]
            if path not in self.passages:
                self._new_video(path)
            frame = self._read(self.passages[path])
            if frame is not None:
                frames.append(frame)
                self.numbers.append(self.passages[path].passed)
                self.skipped.append(self.passages[path].skipped)
                self.broken.append(self.passages[path].broken)
                self.times.append((self.passages[path].passed - 1) / (self.fps or 1))
                continue
            self._end(path)
            if frames:
                return self._batch(path, frames)
        if not frames:
            raise StopIteration
        return self._batch(self.files[self.count], frames)

    def _batch(self, path: str, frames: list[np.ndarray]) -> tuple[list[str], list[np.ndarray], list[str]]:
        place = f"video {self.files.index(path) + 1}/{self.nf}"
        listed = self.passages[path].listed
        return [path] * len(frames), frames, [f"{place} (frame {n}/{listed}) {path}: " for n in self.numbers]

    def _new_video(self, path: str) -> None:
        """Open a video, and count frames up to where it is resumed, because few files can be seeked exactly."""
        if self.cap is not None:
            self.cap.release()
        self.cap = cv2.VideoCapture(path)
        self.fps = self.cap.get(cv2.CAP_PROP_FPS)
        self.fps = self.fps if 0 < self.fps < 1000 else 30  # assumed if the file states no usable rate
        listed = int(self.cap.get(cv2.CAP_PROP_FRAME_COUNT))
        self.frames = max(listed, 0)
        self.frame = 0
        before = self._begun.get(path, Passage())
        passage = Passage(before.frames, before.skipped, 0, 0, listed if listed > 0 else None)
        while passage.passed < before.passed and self._grab(passage):
            pass
        passage.broken = before.broken  # also counts frames that can be grabbed but not decoded
        self.pace = self._paces() if self._paces else None
        self.passages[path] = passage

    def _read(self, passage: Passage) -> np.ndarray | None:
        """Return the next frame (H, W, C) that there is time for, or None if there are no more."""
        while True:
            for _ in range((self.pace.missed() if self.pace else 0) * self.vid_stride):
                passage.skipped += self._grab(passage)
            if not all(self._grab(passage) for _ in range(self.vid_stride)):
                return None
            there, frame = self.cap.retrieve()
            if there and frame is not None:
                break
            passage.broken += 1
        self.frame = passage.passed
        passage.frames += 1
        return cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)[..., None] if self.cv2_flag == cv2.IMREAD_GRAYSCALE else frame

    def _grab(self, passage: Passage) -> bool:
        """Advance to the next readable frame, and count it and the unreadable frames before it; False at the end."""
        for failures in range(TRIES):
            if self.cap.grab():
                passage.broken += failures
                passage.passed += failures + 1
                return True
        return False

    def _end(self, path: str) -> None:
        passage = self.passages[path]
        passage.ended = True
        self.count += 1
        self.cap.release()
        if passage.passed and (damage := passage.damage()):
            LOGGER.warning(f"{Path(path).name}: {damage}")
