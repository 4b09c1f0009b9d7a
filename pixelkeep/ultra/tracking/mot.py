"""Tracks in the text form of MOTChallenge, a file for each video, whole up to the last frame whatever ends the run.

A row is ``frame,id,left,top,width,height,confidence,class,visibility``; frames, identities, classes and the pixel in
the corner are counted from 1 (https://motchallenge.net/instructions, and Milan et al., MOT16, arXiv:1603.00831, for the
last two columns). How much of an object can be seen is not known here: -1.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pixelkeep.writing import Growing


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
    """A file that grows frame by frame and never ends within a row, on a full disk neither.

    Args:
        path: The file.
        until: The last frame that is kept of what is there; 0 for none.
    """

    def __init__(self, path: Path, until: int = 0):
        self._file = Growing(path, _size_until(path, until))

    def write(self, frame: int, rows: np.ndarray) -> None:
        """Append a frame; see :func:`to_mot`.

        Raises:
            OSError: The disk is full; the rows of the frames before are there.
        """
        self._file.append(to_mot(frame, rows).encode())

    def close(self) -> None:
        self._file.close()


def _size_until(path: Path, frame: int) -> int:
    """Return the size of a file without what comes after a frame, or is no whole row."""
    size = 0
    if frame and path.is_file():
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n") or int(line.partition(b",")[0]) > frame:
                    break
                size += len(line)
    return size
