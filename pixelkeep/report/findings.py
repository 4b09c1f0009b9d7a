"""Writes errors by size and the label audit as text for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pixelkeep.report.tables import text_table, wrap


def findings(analysis) -> str:
    """Return the text below the result's table: errors by size and the label audit, if they were asked for.

    Args:
        analysis: A :class:`pixelkeep.ultra.commands.analysis.Analysis` that has run.
    """
    parts = []
    if analysis.error_counts is not None:
        parts.append(errors_table(analysis.error_counts))
    if analysis.candidates is not None:
        parts.append(audit_line(analysis.candidates))
    return "".join(f"\n\n{part}" for part in parts)


def errors_table(document: dict) -> str:
    """Return two tables by size: what became of the objects, and what the detections are.

    Args:
        document: Contents of errors.json.
    """
    rows = [("all", "", document["all"])]
    rows += [(size["name"], _span(size), size) for size in document["sizes"]]
    objects = text_table(
        ["objects", "px", "count", "matched", "wrong class", "badly placed", "missed"],
        [[name, span, *(f"{count:,}" for count in row["objects"].values())] for name, span, row in rows],
        left=2,
    )
    detections = text_table(
        ["detections", "px", "count", "matched", "wrong cl.", "badly pl.", "duplicate", "backgr."],
        [[name, span, *(f"{count:,}" for count in row["detections"].values())] for name, span, row in rows],
        left=2,
    )
    return f"{objects}\n\n{detections}"


def audit_line(candidates: Iterable) -> str:
    """Return one line on what the label audit found.

    Args:
        candidates: :class:`pixelkeep.evaluation.audit.Candidate` objects.
    """
    counts = Counter(candidate.kind for candidate in candidates)
    found = ", ".join(f"{count} {kind}" for kind, count in counts.most_common()) or "nothing to look at"
    return wrap(f"Label audit: {found}.")


def _span(size: dict) -> str:
    return f"{size['low']:g}-{size['high']:g}" if size["high"] < 1e5 else f"{size['low']:g}-"
