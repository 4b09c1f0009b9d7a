"""A file under its final name is complete or does not exist."""

from __future__ import annotations

import os
import time

import pytest

from pixelkeep.writing import DAY, staged, sweep, write_text


def test_write_text__interrupted_keeps_the_old_file(tmp_path, monkeypatch):
    """A failed write leaves the old file intact, and a successful one leaves no other file beside it."""
    path = tmp_path / "new" / "settings.yaml"
    write_text(path, "old")
    assert [p.name for p in path.parent.iterdir()] == ["settings.yaml"]
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new" * 5000 + "\udc80")
    assert path.read_text() == "old"

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_text(path, "new")
    assert path.read_text() == "old"


def test_staged__moved_only_when_whole(tmp_path):
    """A staged file appears at the end; an error leaves only the old file; a stale partial file is not reused."""
    path = tmp_path / "a.csv"
    left = tmp_path / f".{os.getpid()}.partial" / "a.csv"
    left.parent.mkdir()
    left.write_text("of a killed process of that number")
    with staged(path) as partial:
        assert not partial.exists()
        partial.write_text("new")
        assert not path.exists()
    with pytest.raises(KeyError), staged(path) as partial:
        partial.write_text("half")
        raise KeyError
    with staged(path):  # nothing written, nothing moved
        pass
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]


def test_sweep__what_others_may_be_writing_stays(tmp_path):
    """In a folder that processes share, only partial files older than a day are removed."""
    young, old, own = tmp_path / ".a.json.1.partial", tmp_path / ".a.npy.2.partial", tmp_path / "a.json"
    for path in (young, old, own):
        path.touch()
    for path in (old, own):
        os.utime(path, (time.time() - 2 * DAY,) * 2)
    sweep(tmp_path, older_than=DAY)
    assert set(tmp_path.iterdir()) == {young, own}
    sweep(tmp_path / "nowhere", older_than=DAY)
