"""An annotated video that is on the disk as it grows: whatever ends the run, what has been written can be played."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from pixelkeep.errors import SourceError
from pixelkeep.ultra.predictors.growing_mp4 import GrowingMp4

# Encoders by what they make, the first that there is for a new video. Every FFmpeg has the second.
ENCODERS = {"h264": "libx264", "mpeg4": "mpeg4"}
# An encoded frame comes out for each that goes in, so none waits in the encoder when a kill comes. Of x264's presets
# the one whose work, size and quality are nearly those of OpenCV's MPEG-4; slower ones make smaller files.
SETTINGS = {
    "libx264": {"preset": "ultrafast", "tune": "zerolatency", "crf": "25", "x264-params": "annexb=0"},
    "mpeg4": {"qmin": "3", "qmax": "6", "bf": "0"},
}
KEY_DISTANCE = 48  # frames: a player can jump to every such
MOST = 60_000  # numerator of the frame rate; MPEG-4 takes 65,535
COLOURS = (6, 1)  # BT.601 (6 in ITU-T H.273) in studio range (1 in FFmpeg), to which OpenCV converts


def _encoders() -> dict[str, str]:
    """Return those that this FFmpeg has."""
    return {coding: name for coding, name in ENCODERS.items() if name in av.codecs_available}


class Film:
    """A video that is being written.

    Args:
        path: Its file.
        fps: Frames a second, told to the encoder, and for which the last frame is shown.
        resume: Whether a file that is there is gone on with.

    Raises:
        StorageError: The video that is there was not written by this command.
        OSError: The disk is full. Either way a file that is gone on with is as it was.
    """

    def __init__(self, path: Path, fps: float, resume: bool = False):
        self.path = path
        self.fps = fps
        self._encoder: av.VideoCodecContext | None = None
        self._taken = 0  # frames
        self._ready: list[tuple[av.Packet, float]] = []  # frames that do not count yet, and when they are shown
        self._file = GrowingMp4.continued(path, _encoders()) if resume else None
        if self._file is None:
            path.unlink(missing_ok=True)
            self._file = GrowingMp4(path)

    def write(self, frame: np.ndarray, at: float) -> None:
        """Take a frame in.

        Args:
            frame: (H, W, 3) uint8 BGR. Where a side is odd, its last line is repeated, because colours are kept for
                two lines each. A frame of another size than the first, as of a stream that changes its resolution,
                is resized.
            at: When it is shown, in seconds of the video.

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
        """Return a frame in the size of the video."""
        height, width = frame.shape[:2]
        if (width, height) == self._file.size:
            return frame
        if (width + width % 2, height + height % 2) == self._file.size:
            return cv2.copyMakeBorder(frame, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        return cv2.resize(frame, self._file.size)

    def _begin(self, size: tuple[int, int]) -> av.VideoCodecContext:
        """Return the encoder: of a video that is gone on with its own, else the best there is."""
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
        """Take note that what has been taken in counts: it goes into the file, its last frame with the next one.

        Raises:
            OSError: The disk is full; the frames before are there.
        """
        for packet, at in self._ready:
            self._file.append(packet, at, 1 / self.fps)
        self._ready.clear()

    def finish(self) -> None:
        """Close the file with everything that counts.

        Raises:
            OSError: The disk is full; what was there before can be played.
        """
        self._encoder = None
        self._file.finish()
