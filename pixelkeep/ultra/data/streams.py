"""Webcams and streams for Ultralytics' predictors: the newest frame of each, with lost streams opened again.

A stream that breaks off is opened again after half a second, one, two, four and then every eight seconds. After a
minute without success it counts as ended. Other streams that are read side by side with it go on meanwhile.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import cv2
import numpy as np
from ultralytics.data.loaders import LoadStreams
from ultralytics.utils import LOGGER

from pixelkeep.tiling.schedule import Clock, Pace
from pixelkeep.ultra.data.videos import Passage

FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0  # seconds between two attempts
PATIENCE = 60.0  # seconds after which a stream that is lost has ended
BUFFER = 30  # frames kept of a stream if none may be skipped (Ultralytics' stream_buffer)
MISSING = 0  # frame number of a stream that has no frame while other streams of the batch have one
_IDLE = 0.005  # seconds between two checks of the queues


class Frame(NamedTuple):
    """A frame of a stream: its number, the time on the clock at which it arrived, and its pixels (H, W, C) uint8."""

    number: int
    at: float
    image: np.ndarray


class Streams(LoadStreams):
    """One webcam or stream, or several side by side.

    Args:
        sources: Address, webcam index or list file, in the form that Ultralytics' own loader takes.
        pace: Pace at which frames are returned; frames in between are skipped. None for as fast as they are taken.
        begun: State of each stream, by its place, at the end of the earlier run that this one resumes, and the time in
            seconds at which the stream goes on.
        clock: Function that returns the time in seconds.
        keywords: Keyword arguments of Ultralytics' own loader.

    Attributes:
        numbers: Frame number in its stream, from 1, of each image of the batch; :data:`MISSING` where a stream has no
            frame.
        times: Arrival time of each image of the batch, in seconds from the first frame of its stream.
        skipped: For each image of the batch, the frames skipped so far in its stream.
        broken: For each image of the batch, the frames of its stream so far that could not be read.
        passages: Progress of each stream, by its place.
    """

    def __init__(
        self,
        sources: str,
        *,
        pace: Pace | None = None,
        begun: Mapping[int, tuple[Passage, float]] | None = None,
        clock: Clock = time.monotonic,
        **keywords: Any,
    ):
        self.pace, self.clock = pace, clock
        self.numbers: list[int] = []
        self.times: list[float] = []
        self.skipped: list[int] = []
        self.broken: list[int] = []
        self._begun = begun or {}
        places = range(_count(sources))
        self.passages = {i: replace(self._begun[i][0]) if i in self._begun else Passage() for i in places}
        self._waiting: dict[int, deque[Frame]] = {i: deque() for i in places}
        self._given: dict[int, int] = {}
        self._first: dict[int, float] = {}
        self._away: set[int] = set()  # streams that are lost at the moment
        self._stop = Event()
        super().__init__(sources, **keywords)

    def update(self, i: int, cap: cv2.VideoCapture, stream: str | int) -> None:
        """Read a stream until it ends, in its own thread; Ultralytics has read the first frame already."""
        passage = self.passages[i]
        first, self.imgs[i] = self.imgs[i][-1], []
        passage.passed += 1
        last = passage.passed + self.frames[i] - 1
        if passage.passed % self.vid_stride == 0:
            self._take(i, first)
        while self.running and passage.passed < last:
            if self.buffer and len(self._waiting[i]) >= BUFFER:
                time.sleep(_IDLE)
            elif not cap.grab():
                if self.frames[i] != float("inf") or not self._open_again(i, cap, stream):
                    break
            else:
                passage.passed += 1
                if passage.passed % self.vid_stride == 0:
                    there, image = cap.retrieve()
                    if there and image is not None:
                        self._take(i, self._in_channels(image))
                    else:
                        passage.broken += 1
        passage.ended = True

    def _in_channels(self, image: np.ndarray) -> np.ndarray:
        grey = self.cv2_flag == cv2.IMREAD_GRAYSCALE
        return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[..., None] if grey else image

    def _take(self, i: int, image: np.ndarray) -> None:
        if not self.buffer:
            self._waiting[i].clear()
        self._waiting[i].append(Frame(self.passages[i].passed, self.clock(), image))

    def _open_again(self, i: int, cap: cv2.VideoCapture, stream: str | int) -> bool:
        """Try to open a lost stream again, and return whether it is back."""
        passage, name, began, wait = self.passages[i], self.sources[i], self.clock(), FIRST_WAIT
        self._away.add(i)
        LOGGER.warning(f"stream {name}: lost after {passage.passed} frames; trying again for {PATIENCE:.0f} s")
        while not self._stop.wait(wait) and self.clock() - began < PATIENCE:
            if cap.open(stream) and cap.grab():
                passage.lost += 1
                passage.passed += 1
                self._away.discard(i)
                LOGGER.info(f"stream {name}: back after {self.clock() - began:.1f} s")
                return True
            wait = min(2 * wait, LONGEST_WAIT)
        if not self._stop.is_set():
            LOGGER.warning(f"stream {name}: not back within {PATIENCE:.0f} s; it ends here")
        return False

    def close(self) -> None:
        """Stop reading the streams."""
        self._stop.set()
        super().close()

    def __next__(self) -> tuple[list[str], list[np.ndarray], list[str]]:
        """Return the streams' names, their newest frames and empty log texts.

        A stream that has no frame while others have one gets a black frame.
        """
        if self.pace is not None:
            time.sleep(self.pace.ahead())
            self.pace.missed()  # the count is not needed, because the newest frame is taken anyway
        while not self._ready():
            if all(passage.ended and not self._waiting[i] for i, passage in self.passages.items()):
                self.close()
                raise StopIteration
            time.sleep(_IDLE)
        frames = [self._give(i) for i in range(self.bs)]
        self.numbers = [frame.number for frame in frames]
        self.times = [frame.at for frame in frames]
        self.skipped = [self.passages[i].skipped for i in range(self.bs)]
        self.broken = [self.passages[i].broken for i in range(self.bs)]
        return self.sources, [frame.image for frame in frames], [""] * self.bs

    def _ready(self) -> bool:
        """Return whether at least one stream has a frame, and every other one has a frame, has ended or is lost."""
        absent = {i for i, waiting in self._waiting.items() if not waiting}
        gone = {i for i in absent if self.passages[i].ended or i in self._away}
        return len(absent) < self.bs and absent == gone

    def _give(self, i: int) -> Frame:
        passage = self.passages[i]
        if not self._waiting[i]:
            return Frame(MISSING, 0.0, np.zeros(self.shape[i], np.uint8))
        frame = self._waiting[i].popleft()
        before, start = self._begun.get(i, (Passage(), 0.0))
        began = self._first.setdefault(i, frame.at - start)
        passage.skipped += (frame.number - self._given.get(i, before.passed)) // self.vid_stride - 1
        passage.frames += 1
        self._given[i] = frame.number
        return frame._replace(at=frame.at - began)


def _count(sources: str) -> int:
    """Return the number of streams: the entries of a list file, or 1 for a single source."""
    return len(Path(sources).read_text(encoding="utf-8-sig").split()) if Path(sources).is_file() else 1
