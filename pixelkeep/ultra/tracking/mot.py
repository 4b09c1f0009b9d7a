"""Tracks in the text format of MOTChallenge, one file per video, complete up to the last frame whatever ends the run.

A row is ``frame,id,left,top,width,height,confidence,class,visibility``. Frames, identities, classes and the pixel in
the corner are counted from 1 (https://motchallenge.net/instructions, and Milan et al., MOT16, arXiv:1603.00831, for the
last two columns). The visibility of an object is not known here, so it is written as -1.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pixelkeep.writing import Growing


def to_mot(frame: int, rows: np.ndarray) -> str:
    """Return the lines of one frame in MOT format.

    Args:
        frame: Number of the frame in the video, from 1.
        rows: Tracks (n, 7): xyxy in pixels, identity, score and class.
    """
    lines = []
    for x1, y1, x2, y2, identity, score, cls in rows.astype(float):
        box = ",".join(f"{value:.2f}" for value in (x1 + 1, y1 + 1, x2 - x1, y2 - y1))
        lines.append(f"{frame},{int(identity)},{box},{score:.6f},{int(cls) + 1},-1\n")
    return "".join(lines)


class MotFile:
    """A MOT file that grows frame by frame and never ends within a row, even on a full disk.

    Args:
        path: Path of the file.
        until: Last frame to keep of an existing file; 0 to keep none.
    """

    def __init__(self, path: Path, until: int = 0):
        self._file = Growing(path, _size_until(path, until))

    def write(self, frame: int, rows: np.ndarray) -> None:
        """Append the tracks of a frame; see :func:`to_mot` for the arguments.

        Raises:
            OSError: The disk is full; the rows of the earlier frames are in the file.
        """
        self._file.append(to_mot(frame, rows).encode())

    def close(self) -> None:
        self._file.close()


def _size_until(path: Path, frame: int) -> int:
    """Return the size in bytes of a file up to and including a frame, without an incomplete row."""
    size = 0
    if frame and path.is_file():
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n") or int(line.partition(b",")[0]) > frame:
                    break
                size += len(line)
    return size
