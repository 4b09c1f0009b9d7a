"""Tracks in the text form of MOTChallenge, a file for each video, whole up to the last frame whatever ends the run.

A row is ``frame,id,left,top,width,height,confidence,class,visibility``; frames, identities, classes and the pixel in
the corner are counted from 1 (https://motchallenge.net/instructions, and Milan et al., MOT16, arXiv:1603.00831, for the
last two columns). How much of an object can be seen is not known here: -1.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np


def to_mot(frame: int, rows: np.ndarray) -> str:
    """Return the lines of a frame.

    Args:
        frame: Number in the video, from 1.
        rows: (n, 7) xyxy in pixels, identity, score and class.
    """
    lines = []
    for x1, y1, x2, y2, identity, score, cls in rows.astype(float):
        box = ",".join(f"{value:.2f}" for value in (x1 + 1, y1 + 1, x2 - x1, y2 - y1))
        lines.append(f"{frame},{int(identity)},{box},{score:.6f},{int(cls) + 1},-1\n")
    return "".join(lines)


class MotFile:
    """A file that grows frame by frame and never ends within a row, on a full disk neither."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("wb", buffering=0)

    def write(self, frame: int, rows: np.ndarray) -> None:
        """Append a frame; see :func:`to_mot`.

        Raises:
            OSError: The disk is full; the rows of the frames before are there.
        """
        before, content = self._file.tell(), to_mot(frame, rows).encode()
        try:
            if self._file.write(content) == len(content):
                return
        except OSError:
            self._file.truncate(before)
            raise
        self._file.truncate(before)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def close(self) -> None:
        self._file.close()
