"""MOT text: rows follow MOTChallenge, and files are whole up to the last frame."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from pixelkeep.ultra.tracking.mot import MotFile, to_mot


def test_mot__line():
    """A row is frame, id, left and top from 1, width, height, confidence, class from 1, and -1 for visibility."""
    rows = np.array([[9.5, 19, 21.5, 43.25, 7, 0.5, 2], [0, 0, 1, 1, 8, 1, 0]])
    assert to_mot(3, rows) == "3,7,10.50,20.00,12.00,24.25,0.500000,3,-1\n3,8,1.00,1.00,1.00,1.00,1.000000,1,-1\n"


def test_mot__whole_rows_on_a_full_disk(tmp_path, monkeypatch):
    """When a frame does not fit on the disk, the file keeps the earlier frames and no partial row."""
    file, row = MotFile(tmp_path / "a.txt"), np.array([[0, 0, 1, 1, 8, 1, 0]])
    file.write(1, row)
    assert (tmp_path / "a.txt").read_text() == to_mot(1, row)  # written at once, not when the file is closed
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
    """A resumed file keeps the frames up to the last recorded one and drops later ones and partial rows."""
    file, row = MotFile(tmp_path / "a.txt"), np.array([[0, 0, 1, 1, 8, 1, 0]])
    for frame in (1, 2, 2, 9, 10):
        file.write(frame, row)
    file.close()
    with (tmp_path / "a.txt").open("a") as text:
        text.write("10,8,")
    for until, kept in ((10, (1, 2, 2, 9, 10)), (9, (1, 2, 2, 9)), (2, (1, 2, 2)), (0, ())):
        MotFile(tmp_path / "a.txt", until).close()
        assert (tmp_path / "a.txt").read_text() == "".join(to_mot(frame, row) for frame in kept)
