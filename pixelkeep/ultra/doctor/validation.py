"""A test of the doctor's advice on sizes: recall and errors of a trained model in the same size classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pixelkeep.datasets.doctor.advice import reached
from pixelkeep.datasets.doctor.agreement import KINDS, on_agreement
from pixelkeep.datasets.doctor.recommendations import Advice
from pixelkeep.datasets.doctor.sizes import BORDERS, Objects
from pixelkeep.evaluation import Scoring, judge_for
from pixelkeep.evaluation.areas import AreaRange
from pixelkeep.ultra.commands.analysis import Analysis
from pixelkeep.ultra.commands.validation import validate
from pixelkeep.ultra.running.settings import merge

LARGEST = 1e5  # pixels; upper end of the evaluator's sizes
CLASSES = tuple(AreaRange(f"{low:g}-", low, high) for low, high in zip(BORDERS, [*BORDERS[1:], LARGEST], strict=True))


def bear_out(
    weights: Path, settings: dict, objects: Objects, goal: float, folder: Path
) -> tuple[dict[str, Any], list[Advice]]:
    """Validate weights, and compare their recall by size with what the rule for sizes predicts.

    Args:
        weights: Checkpoint to validate.
        settings: Settings of the validation, including ``data`` and ``imgsz``.
        objects: Objects of the validation split.
        goal: Size in network pixels that the rule asks of objects.
        folder: The doctor's run folder; the validation writes to ``val`` in it.

    Returns:
        The document's part on validation, and the advice that follows from it.
    """
    asked = Analysis(errors=True)
    merged = merge(settings, command="val")
    scoring = Scoring(evaluator=judge_for("iou"), bins=CLASSES)
    place = {"weights": str(weights), "project": str(folder), "name": "val"}
    result, run = validate({**merged, **place}, scoring=scoring, analysis=asked)
    counts = {(entry["low"], entry["high"]): entry["objects"] for entry in asked.error_counts["sizes"]}
    rows = []
    for size in CLASSES:
        found = counts[size.low, size.high]
        inside = size.contains(objects.original**2)
        total = found["total"]
        rows.append(
            {
                "low": size.low,
                "high": None if size.high == LARGEST else size.high,
                "objects": total,
                "above_goal": reached(objects.shown[inside], goal) if inside.any() else 0.0,
                "recall": found["matched"] / total if total else None,
                **{kind: found[kind] for kind in KINDS},
            }
        )
    figures = {"weights": str(weights), "folder": str(run), "AP": result.AP, "AP_S": result.AP_S, "sizes": rows}
    return figures, on_agreement(rows, goal)
