"""Sizes of objects in original and network pixels, and the facts about them in the doctor's document."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pixelkeep.datasets.annotations.record import ImageRecord
from pixelkeep.datasets.doctor.report import size_facts
from pixelkeep.datasets.doctor.sizes import collect, size_table


def record(boxes, width=200, height=100, **fields) -> ImageRecord:
    return ImageRecord(Path("a.jpg"), width, height, np.array(boxes, float).reshape(-1, 4), [0] * len(boxes), **fields)


def test_collect__letterboxes_in_the_middle():
    """A 400x400 input doubles a 200x100 image and pads 100 pixels above it; an input of the image's shape pads none."""
    wide = record([[10, 20, 30, 60]])
    square = collect([wide], (400, 400))
    assert square.boxes.tolist() == [[20, 140, 60, 220]]
    assert square.original.tolist() == [pytest.approx(np.sqrt(20 * 40))]
    assert square.shown.tolist() == [pytest.approx(2 * np.sqrt(20 * 40))]
    assert collect([wide], (50, 100)).boxes.tolist() == [[5, 10, 15, 30]]


def test_collect__leaves_difficult_objects_out_and_keeps_their_images():
    """Objects that training ignores are not counted; images without objects are."""
    hard = record([[0, 0, 8, 8], [0, 0, 16, 16]], difficult=[True, False])
    objects = collect([record([]), hard, record([])], (200, 200))
    assert objects.counts.tolist() == [0, 1, 0]
    assert objects.image.tolist() == [1] and objects.original.tolist() == [16]


def test_size_table__counts_what_is_strictly_under_a_limit():
    """A size equal to a limit is not under it; shares and percentiles are those of the given sizes."""
    table = size_table(np.array([4.0, 8.0, 12.0, 16.0]), (8, 16))
    assert table["under"] == {"8": 0.25, "16": 0.75}
    assert table["percentiles"]["50"] == 10
    assert size_table(np.zeros(0), (8,))["under"] == {"8": None}


def test_size_facts__bins_hold_every_object_once():
    """A size on a border belongs to the bin above; the share above the goal is measured in network pixels."""
    original = np.array([7.9, 8, 15.9, 16, 32, 95, 96, 500])
    facts = size_facts(original, original / 2, (8, 16, 32), 12)
    assert [row["objects"] for row in facts["bins"]] == [1, 2, 1, 2, 2]
    assert facts["above_goal"] == 4 / 8  # the halves of 32, 95, 96 and 500 reach 12
    assert facts["bins"][1]["above_goal"] == 0 and facts["bins"][4]["above_goal"] == 1
    assert list(facts["network"]["under"]) == ["8", "16", "32"]
    assert list(size_facts(original, original, (4, 8, 16, 32), 6)["network"]["under"]) == ["4", "8", "16", "32"]
