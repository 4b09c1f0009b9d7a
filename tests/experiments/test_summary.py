"""The time that a training takes, however often it was interrupted and whatever else ran in the meantime."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixelkeep.experiments.summary import least_time


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([10.0, 20.0, 30.5], 30),
        ([10.0, 20.0, 12.0, 24.0], 40),  # resumed after the second epoch
        ([10.0, 5.0, 4.0], 12),  # interrupted after every epoch
        ([10.0, 90.0, 101.0], 30),  # slowed by other work in the second epoch
        ([], None),
    ],
)
def test_least_time__as_long_as_the_fastest_epoch(tmp_path, times, expected):
    """Every epoch counts as the fastest; where the time column falls, a new process went on, counting from 0."""
    rows = "".join(f"{epoch},{time}\n" for epoch, time in enumerate(times, 1))
    (tmp_path / "results.csv").write_text(f"epoch,time\n{rows}")
    assert least_time(tmp_path / "results.csv") == expected


@pytest.mark.parametrize("text", ["epoch\n1\n", "epoch,time\n1,soon\n"])
def test_least_time__unknown(tmp_path, text):
    """A table without times has no least time, nor has a file that does not exist."""
    (tmp_path / "results.csv").write_text(text)
    assert least_time(tmp_path / "results.csv") is None
    assert least_time(Path(tmp_path / "nowhere.csv")) is None
