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
    inner = file._file
    file._file = SimpleNamespace(tell=inner.tell, truncate=inner.truncate, write=lambda text: inner.write(text[:9]))
    with pytest.raises(OSError, match="No space"):
        file.write(2, row)
    inner.close()
    assert (tmp_path / "a.txt").read_text() == to_mot(1, row)
