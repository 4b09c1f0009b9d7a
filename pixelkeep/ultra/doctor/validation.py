"""Whether what the doctor says of sizes is borne out: recall and errors of a trained model in the same size classes."""

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

LARGEST = 1e5  # pixels, where the evaluator's sizes end
CLASSES = tuple(AreaRange(f"{low:g}-", low, high) for low, high in zip(BORDERS, [*BORDERS[1:], LARGEST], strict=True))


def bear_out(
    weights: Path, settings: dict, objects: Objects, goal: float, folder: Path
) -> tuple[dict[str, Any], list[Advice]]:
    """Validate weights, and set what they find beside what the rule for sizes says.

    Args:
        weights: A checkpoint.
        settings: Of the validation, ``data`` and ``imgsz`` among them.
        objects: Those of the validation split.
        goal: Network pixels that the rule asks for.
        folder: The doctor's run folder; the validation's is ``val`` in it.

    Returns:
        The document's part on validation, and what is to be said of it.
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
