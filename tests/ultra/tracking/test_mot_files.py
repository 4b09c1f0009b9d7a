"""MOT text: rows as MOTChallenge has them, and files that are whole up to the last frame."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from pixelkeep.ultra.tracking.mot import MotFile, to_mot


def test_mot__line():
    """Frame, identity, left and top from 1, width, height, confidence, class from 1, visibility unknown."""
    rows = np.array([[9.5, 19, 21.5, 43.25, 7, 0.5, 2], [0, 0, 1, 1, 8, 1, 0]])
    assert to_mot(3, rows) == "3,7,10.50,20.00,12.00,24.25,0.500000,3,-1\n3,8,1.00,1.00,1.00,1.00,1.000000,1,-1\n"


def test_mot__whole_rows_on_a_full_disk(tmp_path, monkeypatch):
    """A frame that does not fit on the disk leaves the frames before it, and no part of a row."""
    file, row = MotFile(tmp_path / "a.txt"), np.array([[0, 0, 1, 1, 8, 1, 0]])
    file.write(1, row)
    assert (tmp_path / "a.txt").read_text() == to_mot(1, row)  # there at once, not at the end
    inner = file._file._file
    file._file._file = SimpleNamespace(
        truncate=inner.truncate, seek=inner.seek, write=lambda text: inner.write(text[:9])
    )
    with pytest.raises(OSError, match="No space"):
        file.write(2, row)
    file._file._file = inner
    assert (tmp_path / "a.txt").read_text() == to_mot(1, row)
    file.write(2, row)  # there is room again
    assert (tmp_path / "a.txt").read_text() == to_mot(1, row) + to_mot(2, row)


def test_mot__gone_on_with(tmp_path):
    """Frames up to the last one that counts are kept; later ones, and half a row, are not."""
    file, row = MotFile(tmp_path / "a.txt"), np.array([[0, 0, 1, 1, 8, 1, 0]])
    for frame in (1, 2, 2, 9, 10):
        file.write(frame, row)
    file.close()
    with (tmp_path / "a.txt").open("a") as text:
        text.write("10,8,")
    for until, kept in ((10, (1, 2, 2, 9, 10)), (9, (1, 2, 2, 9)), (2, (1, 2, 2)), (0, ())):
        MotFile(tmp_path / "a.txt", until).close()
        assert (tmp_path / "a.txt").read_text() == "".join(to_mot(frame, row) for frame in kept)
