"""What splits share and what they lack, and the findings that report it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixelkeep.datasets.doctor import findings
from pixelkeep.datasets.doctor.findings import ERROR, NOTE, WARNING
from pixelkeep.datasets.doctor.splits import lopsided_classes, shared_groups
from pixelkeep.errors import OptionError

MEMBERS = {
    "train": [Path("f/a_1.jpg"), Path("f/a_2.jpg"), Path("f/b_1.jpg"), Path("f/odd.jpg")],
    "val": [Path("g/b_2.jpg"), Path("g/c_1.jpg")],
}


def test_shared_groups__are_those_in_two_splits():
    """The pattern's first group names an image's group; file names that do not match are counted."""
    shared, unmatched = shared_groups(MEMBERS, r"^(\w)_\d")
    assert shared == {"b": {"train": 1, "val": 1}} and unmatched == 1
    (line, note) = findings.of_groups(shared, unmatched)
    assert (line.level, note.level) == (ERROR, NOTE) and "b (1 train, 1 val)" in line.text
    assert shared_groups(MEMBERS, r"\w_\d") == ({}, 1)  # a pattern without a group uses the whole match as the name


@pytest.mark.parametrize(("pattern", "said"), [("(", "not a regular expression"), ("x9", "matches no file name")])
def test_shared_groups__refuses_what_cannot_work(pattern, said):
    """A pattern that is no regular expression, or that matches no file name, is refused in one line."""
    with pytest.raises(OptionError, match=said):
        shared_groups(MEMBERS, pattern)


def test_classes__that_a_split_lacks():
    """The classes that a split lacks are one finding; a class without objects in any split is reported once."""
    counts = {
        "train": {"car": 3, "bus": 0, "dog": 0, "cat": 1},
        "val": {"car": 1, "bus": 2, "dog": 0, "cat": 0},
        "test": {"car": 1, "bus": 1, "dog": 0, "cat": 0},
    }
    lopsided = lopsided_classes(counts)
    assert lopsided == {"bus": ["train"], "dog": ["train", "val", "test"], "cat": ["val", "test"]}
    lines = findings.in_order(findings.of_classes(lopsided, list(counts)))
    assert [(line.level, line.count) for line in lines] == [(ERROR, 1), (ERROR, 1), (ERROR, 1), (WARNING, 1)]
    assert ["dog" in line.text for line in lines] == [True, False, False, False]


def test_density__is_worth_a_line_from_the_smallest_limit_on():
    """Images with more than COCO's 100 objects give a note, with more than Ultralytics' 300 a warning."""
    assert findings.of_density(99, {100: 0, 300: 0}, 300) == []
    (note,) = findings.of_density(150, {100: 2, 300: 0}, 450)
    (warning,) = findings.of_density(400, {100: 5, 300: 1}, 1200)
    assert (note.level, note.count, warning.level, warning.count) == (NOTE, 2, WARNING, 5)
    assert "1,200" in warning.text


def test_in_order__puts_the_worst_first():
    """Errors come first, then warnings, then notes; findings of one level keep their order."""
    given = [findings.Finding(level, str(i), 1, "") for i, level in enumerate([NOTE, WARNING, ERROR, NOTE, ERROR])]
    assert [finding.kind for finding in findings.in_order(given)] == ["2", "4", "1", "0", "3"]
