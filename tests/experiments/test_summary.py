"""The time that a training took, however often it was interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixelkeep.experiments.summary import wall_time


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([10.0, 20.0, 30.5], 30),
        ([10.0, 20.0, 12.0, 24.0], 44),  # gone on with after the second epoch
        ([10.0, 5.0, 4.0], 19),  # interrupted after every epoch
        ([], 0),
    ],
)
def test_wall_time__adds_up_what_each_process_took(tmp_path, times, expected):
    """The column counts from the start of a process: where it falls, another went on."""
    rows = "".join(f"{epoch},{time}\n" for epoch, time in enumerate(times, 1))
    (tmp_path / "results.csv").write_text(f"epoch,time\n{rows}")
    assert wall_time(tmp_path / "results.csv") == expected


@pytest.mark.parametrize("text", ["epoch\n1\n", "epoch,time\n1,soon\n"])
def test_wall_time__unknown(tmp_path, text):
    """A table without times has none; nor has a file that is not there."""
    (tmp_path / "results.csv").write_text(text)
    assert wall_time(tmp_path / "results.csv") is None
    assert wall_time(Path(tmp_path / "nowhere.csv")) is None
