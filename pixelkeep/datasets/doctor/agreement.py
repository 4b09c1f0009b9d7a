"""Find the size classes in which a trained model and the advice on sizes disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pixelkeep.datasets.doctor.recommendations import Advice, percent

ENOUGH = 30  # number of objects below which the recall of a size class is not compared
HALF = 0.5  # limit for both sides of the comparison: share of large enough objects in a size class, and its recall
KINDS = {"missed": "missed", "badly_placed": "badly placed", "wrong_class": "taken for another class"}


def span(low: float, high: float | None) -> str:
    """Return a size class as text; ``low`` and ``high`` are in pixels, and None means no upper limit."""
    return f"{low:g} px and more" if high is None else f"{low:g}-{high:g} px"


def on_agreement(rows: Sequence[Mapping[str, Any]], goal: float) -> list[Advice]:
    """Return advice for each size class in which recall and rule disagree, or one statement that they agree.

    Size classes with fewer than `ENOUGH` objects are left out.

    Args:
        rows: For each size class ``low``, ``high``, ``objects``, ``above_goal`` (share of the objects that are large
            enough by the rule), ``recall``, and the counts ``missed``, ``badly_placed`` and ``wrong_class``.
        goal: Size in network pixels that the rule asks for.
    """
    judged = [row for row in rows if row["objects"] >= ENOUGH]
    said = [advice for row in judged if (advice := _on_row(row, goal))]
    if said or not judged:
        return said
    why = (
        f"in every size class of {ENOUGH} objects or more, over half are found exactly where over half measure "
        f"{goal:g} px or more"
    )
    return [Advice("validation", "the model bears out the advice on sizes", why)]


def _on_row(row: Mapping[str, Any], goal: float) -> Advice | None:
    large, found = row["above_goal"] >= HALF, row["recall"] >= HALF
    if large == found:
        return None
    which = f"{span(row['low'], row['high'])}: {percent(row['recall'])} of {row['objects']:,} objects are found"
    measure = f"{percent(row['above_goal'])} measure {goal:g} px or more"
    if found:
        return Advice("validation", "the size may be enough as it is", f"{which}, though {measure}")
    worst = max(KINDS, key=lambda kind: row[kind])
    share = percent(row[worst] / row["objects"])
    text = "a larger image may not help: look at labels, classes and the length of training"
    return Advice("validation", text, f"{which}, though {measure}; {share} are {KINDS[worst]}")
