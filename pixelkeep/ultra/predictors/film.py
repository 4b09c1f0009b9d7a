"""An annotated video that is written to disk as it grows, so that it can be played whatever ends the run."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from pixelkeep.errors import SourceError
from pixelkeep.ultra.predictors.growing_mp4 import GrowingMp4

# Encoders by the coding that they produce. A new video uses the first available one; every FFmpeg has the second.
ENCODERS = {"h264": "libx264", "mpeg4": "mpeg4"}
# The encoder returns an encoded frame for each frame that it takes, so none waits inside it when the process is killed.
# The x264 preset is the one whose work, file size and quality come close to those of OpenCV's MPEG-4; slower ones make
# smaller files.
SETTINGS = {
    "libx264": {"preset": "ultrafast", "tune": "zerolatency", "crf": "25", "x264-params": "annexb=0"},
    "mpeg4": {"qmin": "3", "qmax": "6", "bf": "0"},
}
KEY_DISTANCE = 48  # frames from one key frame, to which a player can jump, to the next
MOST = 60_000  # largest numerator of the frame rate; MPEG-4 takes up to 65,535
COLOURS = (6, 1)  # BT.601 (6 in ITU-T H.273) in studio range (1 in FFmpeg), to which OpenCV converts


def _encoders() -> dict[str, str]:
    """Return the encoders of :data:`ENCODERS` that the installed FFmpeg has."""
    return {coding: name for coding, name in ENCODERS.items() if name in av.codecs_available}


class Film:
    """A video that is being written.

    Args:
        path: Path of the video file.
        fps: Frames per second; the encoder gets this rate, and the last frame is shown for one period of it.
        resume: Whether to continue an existing file.

    Raises:
        StorageError: The existing video was not written by this command.
        OSError: The disk is full. In both cases a file that was to be continued is unchanged.
    """

    def __init__(self, path: Path, fps: float, resume: bool = False):
        self.path = path
        self.fps = fps
        self._encoder: av.VideoCodecContext | None = None
        self._taken = 0  # frames
        self._ready: list[tuple[av.Packet, float]] = []  # frames not kept yet, and their display times
        self._file = GrowingMp4.continued(path, _encoders()) if resume else None
        if self._file is None:
            path.unlink(missing_ok=True)
            self._file = GrowingMp4(path)

    def write(self, frame: np.ndarray, at: float) -> None:
        """Encode a frame; it goes into the file with the next call of :meth:`keep`.

        Args:
            frame: (H, W, 3) uint8 BGR. If a side is odd, its last line is repeated, because the video stores colours
                for two lines at a time. A frame whose size differs from the first one's, as when a stream changes its
                resolution, is resized.
            at: Time at which the frame is shown, in seconds of the video.

        Raises:
            SourceError: The frame is too large for the encoder.
        """
        if self._encoder is None:
            height, width = frame.shape[:2]
            self._encoder = self._begin((width + width % 2, height + height % 2))
        content = cv2.cvtColor(self._fitted(frame), cv2.COLOR_BGR2YUV_I420)
        picture = av.VideoFrame.from_ndarray(content, format="yuv420p")
        picture.pts = self._taken
        self._taken += 1
        (packet,) = self._encoder.encode(picture)
        self._ready.append((packet, at))

    def _fitted(self, frame: np.ndarray) -> np.ndarray:
        """Return a frame padded or resized to the size of the video."""
        height, width = frame.shape[:2]
        if (width, height) == self._file.size:
            return frame
        if (width + width % 2, height + height % 2) == self._file.size:
            return cv2.copyMakeBorder(frame, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        return cv2.resize(frame, self._file.size)

    def _begin(self, size: tuple[int, int]) -> av.VideoCodecContext:
        """Return the opened encoder: for a continued video that of its coding, else the first one available."""
        if there := self._file.coding:
            size, name = self._file.size, _encoders()[there]
            encoder = av.CodecContext.create(name, "w")
        else:
            name = next(iter(_encoders().values()))
            encoder = self._file.begin(name, size)
        encoder.width, encoder.height = size
        encoder.pix_fmt, encoder.colorspace, encoder.color_range = "yuv420p", *COLOURS
        rate = min(self.fps, MOST)
        encoder.framerate = Fraction(rate).limit_denominator(int(MOST / rate))
        encoder.time_base = 1 / encoder.framerate
        encoder.gop_size = KEY_DISTANCE
        encoder.options = SETTINGS[name]
        try:
            encoder.open()
        except av.FFmpegError as error:
            raise SourceError(
                f"{self.path}: a video of {size[0]} x {size[1]} pixels cannot be written; use --no-save-video"
            ) from error
        return encoder

    def keep(self) -> None:
        """Put the frames encoded so far into the file; the last of them reaches the disk with the frame after it.

        Raises:
            OSError: The disk is full; the earlier frames are in the file.
        """
        for packet, at in self._ready:
            self._file.append(packet, at, 1 / self.fps)
        self._ready.clear()

    def finish(self) -> None:
        """Close the file, which then holds all frames that were kept.

        Raises:
            OSError: The disk is full; the frames written before can be played.
        """
        self._encoder = None
        self._file.finish()
