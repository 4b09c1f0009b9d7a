"""The script that measures trackers: its metrics in cases that can be computed by hand."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lap")
pytest.importorskip("trackeval")
SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "measure_tracking.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("measure_tracking", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BOXES = np.array([[10, 10, 20, 20], [50, 50, 62, 60]], float)


def frames(*identities: tuple[int, int]) -> list[np.ndarray]:
    """Return the rows of two still objects in as many frames as there are pairs of identities."""
    return [np.column_stack([BOXES, pair]) for pair in identities]


def test_figures__by_hand(script):
    """Right identities give IDF1 1 and 0 switches; exchanged after 6 of 8 frames, they give 6/8 and 2 switches."""
    truth = frames(*[(0, 1)] * 8)
    right = script.evaluate(truth, frames(*[(7, 3)] * 8))
    assert right == {"IDF1": 1.0, "IDSW": 0.0, "MOTA": 1.0}
    exchanged = script.evaluate(truth, frames(*[(7, 3)] * 6, *[(3, 7)] * 2))
    assert exchanged["IDSW"] == 2 and exchanged["IDF1"] == pytest.approx(6 / 8)
    missed = script.evaluate(truth, [rows[:1] for rows in frames(*[(7, 3)] * 8)])
    assert missed["IDSW"] == 0 and missed["IDF1"] == pytest.approx(2 * 8 / (16 + 8))  # 2 IDTP / (true + tracked boxes)


def test_difference__is_students_interval(script):
    """For 1, 2, 3 the interval is 2 plus or minus 4.303 / sqrt(3), by the t quantile at two degrees of freedom."""
    assert script.difference(np.array([1.0, 2.0, 3.0])) == "+2.000 [-0.484, +4.484]"
