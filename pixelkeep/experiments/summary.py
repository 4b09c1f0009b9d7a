"""Summarises a contrast: its progress, its arms with figures and costs, and its answers so far."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from pixelkeep.experiments.evidence import Begun
from pixelkeep.experiments.grid import Cell
from pixelkeep.experiments.stopping import ENOUGH, progress

SCHEMA = 2
METRIC = "AP_S"
FIGURES = ("AP", "AP50", "AP_S", "AP_M", "AP_L", "AR_S")


def summarize(begun: Begun, documents: dict[str, dict], closed: str | None = None) -> dict:
    """Return the summary of a contrast, ready for JSON.

    Args:
        begun: The contrast with its trainings.
        documents: Documents of its comparisons by split: dev, and val once that has been scored.
        closed: Why val has not been scored although the contrast asks for it; None if there is nothing to say.
    """
    contrast, grid = begun.contrast, begun.grid
    split = begun.form.split if begun.form.split in documents else "dev"
    document = documents.get(split)
    answers = answers_of(document) if document else []
    return {
        "schema": SCHEMA,
        "contrast": contrast.name,
        "question": contrast.question,
        "form": begun.form.name,
        "notice": begun.form.notice,
        "split": split,
        "asked": begun.form.split,
        "closed": closed,
        "best": begun.best,
        "left_out": begun.left_out,
        "baseline": contrast.baseline,
        "trainings": {"done": len(grid.cells) - len(begun.missing), "of": len(grid.cells)},
        "arms": [_arm(name, begun, documents) for name in dict.fromkeys(cell.arm for cell in grid.cells)],
        "answers": answers,
        "done": not begun.missing and split == begun.form.split and all(answer["done"] for answer in answers),
        "settings": begun.form.settings,
        "precision": _precision(grid.settings),
        "image_size": _image_size(grid.truth),
        "total_s": _total([cell for cell in grid.cells if cell.done]),
        "images": document["images"] if document else None,
        "groups": document["groups"] if document else None,
        "latency": document["latency"] if document else None,
        "failed": [{"training": str(cell), "reason": reason} for cell, reason in begun.failed().items()],
    }


def answers_of(document: dict) -> list[dict]:
    """Return each arm's difference in AP_S from the baseline, and from its strongest rival at equal cost."""
    values = {arm["name"]: arm["figures"][METRIC]["values"] for arm in document["arms"]}
    units = document["groups"] or document["images"]
    found = []
    for d in document["differences"]:
        if d["metric"] == METRIC:
            found.append(_answer(d, d["arm"], d["baseline"], values, units) | {"equal_cost": False})
    for joint in document["equal_cost"]:
        if joint["metric"] == METRIC:
            shown = next(d for d in joint["differences"] if d["baseline"] == joint["stronger"])
            told = {"equal_cost": True, "verdict": joint["verdict"], "note": joint["note"]}
            found.append(_answer(shown, joint["arm"], joint["stronger"], values, units) | told)
    return found


def _answer(difference: dict, arm: str, against: str, values: dict[str, list], units: int) -> dict:
    far = progress(difference, values[arm], values[against], units)
    ends = {key: difference[key] for key in ("value", "low", "high", "relative", "verdict", "note")}
    return {"arm": arm, "against": against, **ends, **asdict(far), "enough": ENOUGH, "done": far.done}


def _arm(name: str, begun: Begun, documents: dict[str, dict]) -> dict:
    """Return the entry of an arm; its figures are None on a split where it has none."""
    cells = [cell for cell in begun.grid.cells if cell.arm == name]
    entry = {"name": name, "model": Path(cells[0].model).stem if cells[0].model.endswith(".yaml") else cells[0].model}
    entry["settings"] = cells[0].own
    entry["equal_cost"] = bool(begun.grid.equal and name in begun.grid.equal.arms)
    entry["seeds"] = {"done": sum(cell.done for cell in cells), "of": len(cells)}
    entry["least_s"] = [least_time(cell.folder / "results.csv") if cell.done else None for cell in cells]
    for split, document in documents.items():
        arm = next((arm for arm in document["arms"] if arm["name"] == name), None)
        entry[split] = {key: arm["figures"][key] for key in FIGURES} if arm else None
        if arm and ("gflops" not in entry or split == begun.form.split):
            entry |= {key: arm[key] for key in ("imgsz", "params", "gflops", "latency")}
    return entry


def _precision(settings: dict) -> str:
    """Return the precision that the trainings computed in."""
    amp = settings.get("amp", True)
    if str(settings.get("device")) == "cpu":
        return "bf16" if amp == "bf16" else "fp32"
    return "mixed precision" if amp else "fp32"


def _image_size(truth: dict) -> list[int]:
    """Return the most common height and width of the images in pixels."""
    return list(Counter((image["height"], image["width"]) for image in truth["images"]).most_common(1)[0][0])


def _total(cells: list[Cell]) -> float | None:
    """Return the total seconds of the trainings; None if there are none or the times of one are unknown."""
    each = [epochs(cell.folder / "results.csv") for cell in cells]
    return round(sum(map(sum, each))) if each and all(each) else None


def least_time(results: Path) -> float | None:
    """Return the seconds that a training would take if every epoch were as fast as its fastest; None if unknown.

    This excludes delays from other work on the machine and from interruptions.
    """
    times = epochs(results)
    return round(len(times) * min(times)) if times else None


def epochs(results: Path) -> list[float]:
    """Return the seconds of each epoch in a training's results.csv; empty if the file does not have them.

    The column ``time`` counts the whole run. In runs from before that it fell where another process resumed.
    """
    try:
        with results.open(newline="", encoding="utf-8") as file:
            times = [float(row["time"]) for row in csv.DictReader(file, skipinitialspace=True)]
    except (OSError, KeyError, ValueError):
        return []
    return [now - before if now >= before else now for before, now in zip([0.0, *times], times, strict=False)]
