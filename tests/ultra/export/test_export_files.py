"""Writing exports: output is silenced and then restored, unknown ncnn operators are found, sizes are summed."""

from __future__ import annotations

import logging
import os
import sys

import pytest
from ultralytics.utils import LOGGER

from pixelkeep.ultra.export import files


def test_quietly__nothing_gets_out_and_all_comes_back(capfd, monkeypatch):
    """Prints, direct writes to the descriptors and logs are silenced inside, and restored even after an error."""
    level = LOGGER.level
    monkeypatch.setattr(sys, "stdout", open(1, "w", closefd=False))  # writes to descriptor 1, as outside pytest
    print("before")
    with pytest.raises(KeyError), files.quietly():
        print("inside")
        os.write(1, b"past Python")
        os.write(2, b"past Python")
        assert LOGGER.level >= logging.CRITICAL
        raise KeyError
    print("after")
    sys.stdout.flush()
    assert capfd.readouterr() == ("before\nafter\n", "") and LOGGER.level == level


def test_left_over__operators_that_ncnn_has_not(tmp_path):
    """PyTorch operators that are left among ncnn's layers are those that its converter did not know."""
    lines = [
        "7767517",
        "3 3",
        "Input in0 0 1 in0",
        "torch.gt gt_0 1 1 0 1",
        "pnnx.Expression e 1 1 1 2",
        "Swish s 1 1 2 3",
    ]
    (tmp_path / "model.ncnn.param").write_text("\n".join(lines))
    assert files._left_over(tmp_path) == ["pnnx.Expression", "torch.gt"]


def test_size__of_files_and_folders(tmp_path):
    """The size of a folder is the sum of the sizes of its files, at any depth."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "x").write_bytes(b"12345")
    (tmp_path / "a" / "b" / "y").write_bytes(b"123")
    assert files.size_of(tmp_path / "a") == 8 and files.size_of(tmp_path / "a" / "x") == 5
