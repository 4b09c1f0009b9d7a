"""Errors and the audit in the terminal: each count in its cell, 80 columns, and nothing that was not asked for."""

from __future__ import annotations

from types import SimpleNamespace

from pixelkeep.report.findings import audit_line, errors_table, findings


def counts(*values):
    objects = dict(zip(("total", "matched", "wrong_class", "badly_placed", "missed"), values, strict=False))
    kinds = ("total", "matched", "wrong_class", "badly_placed", "duplicate", "background")
    return {"objects": objects, "detections": dict(zip(kinds, values, strict=True))}


DOCUMENT = {
    "all": counts(1_234_567, 234_567, 34_567, 4_567, 567, 67),
    "sizes": [
        {"name": "very tiny", "low": 2, "high": 8, **counts(21, 22, 23, 24, 25, 26)},
        {"name": "L", "low": 96, "high": 1e5, **counts(31, 32, 33, 34, 35, 36)},
    ],
}


def test_errors__every_count_in_its_cell():
    """Objects and detections have a table each, by size, with every count in its cell."""
    text = errors_table(DOCUMENT)
    lines = [line.split() for line in text.splitlines()]
    assert ["all", "1,234,567", "234,567", "34,567", "4,567", "567"] in lines
    assert ["all", "1,234,567", "234,567", "34,567", "4,567", "567", "67"] in lines
    assert ["very", "tiny", "2-8", "21", "22", "23", "24", "25"] in lines
    assert ["L", "96-", "31", "32", "33", "34", "35", "36"] in lines
    assert max(map(len, text.splitlines())) <= 80


def test_audit__counted_by_kind():
    """The audit counts its candidates by kind, commonest first, and says if there are none."""
    kinds = ["missing label", "wrong class", "missing label"]
    assert audit_line(SimpleNamespace(kind=kind) for kind in kinds) == "Label audit: 2 missing label, 1 wrong class."
    assert audit_line([]) == "Label audit: nothing to look at."


def test_findings__only_what_was_asked():
    """Nothing is added to the result if neither errors nor the audit were asked for."""
    assert findings(SimpleNamespace(error_counts=None, candidates=None)) == ""
    text = findings(SimpleNamespace(error_counts=DOCUMENT, candidates=[]))
    assert text.startswith("\n\nobjects") and text.endswith("Label audit: nothing to look at.")
