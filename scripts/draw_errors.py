"""Draw the three pictures in docs/errors.md with weights trained on the demo data.

    python -m pixelkeep train --config demo --name errors
    python scripts/draw_errors.py runs/train/errors/weights/best.pt

For the label audit, faults are planted in a copy of the demo's validation labels: six labels are removed, six get
another class, and four are added where there is no object. The copy is in the folder of the runs, runs/draw-errors.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from pathlib import Path

import cv2
import matplotlib
import numpy as np

from pixelkeep.cli.session import session
from pixelkeep.evaluation import Detections
from pixelkeep.evaluation.operating import Objective, operating_point

matplotlib.use("Agg")
from matplotlib import pyplot

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
RUNS = Path("runs/draw-errors")
ROWS, SCALE = 2, 0.7  # rows of a contact sheet that are shown, and their scale


def main() -> int:
    with session():
        from pixelkeep.ultra.commands.analysis import Analysis
        from pixelkeep.ultra.commands.validation import validate
        from pixelkeep.ultra.data.resolving import resolve_data

        demo = resolve_data("demo").file
        shutil.rmtree(RUNS, ignore_errors=True)
        settings = {"weights": sys.argv[1], "project": str(RUNS), "plots": False}
        _, good = validate({**settings, "data": str(demo), "name": "good"}, analysis=Analysis(errors=True))
        faulty = _plant(demo, RUNS / "data")
        _, bad = validate({**settings, "data": str(faulty), "name": "faulty"}, analysis=Analysis(audit=True))
    _curves(demo.parent / "annotations" / "val.json", good, IMAGES / "operating-point.jpg")
    _top(good / "misses.jpg", IMAGES / "misses.jpg")
    _top(bad / "label_audit.jpg", IMAGES / "label-audit.jpg")
    return 0


def _plant(demo: Path, folder: Path) -> Path:
    """Copy the demo data, plant faults in labels of images without difficult objects, and return the copy's YAML."""
    shutil.copytree(demo.parent, folder)
    marked = json.loads((folder / "extras" / "val.json").read_text(encoding="utf-8"))["images"]
    files = [f for f in sorted((folder / "labels" / "val").glob("*.txt")) if f.read_text(encoding="utf-8").strip()]
    plain = [f for f in files if not any(f.stem in name and entry.get("difficult") for name, entry in marked.items())]
    draw = random.Random(0)
    for number, file in enumerate(draw.sample(plain, 16)):
        rows = file.read_text(encoding="utf-8").splitlines()
        row = draw.randrange(len(rows))
        if number < 6:
            del rows[row]
        elif number < 12:
            label, *box = rows[row].split()
            rows[row] = " ".join([str((int(label) + 2) % 5), *box])
        else:
            rows.append("1 0.93 0.06 0.08 0.06")
        file.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return folder / demo.name


def _curves(truth: Path, run: Path, path: Path) -> None:
    """Plot precision, recall and F1 against one confidence for all classes, with the operating points."""
    found = Detections.from_json(run / "predictions.json")
    levels = np.linspace(0.01, 0.9, 90)
    points = [operating_point(truth, found, Objective("conf", float(level))).single for level in levels]
    figure, axes = pyplot.subplots(figsize=(7, 3.4), dpi=110, layout="constrained")
    for name in ("precision", "recall", "F1"):
        axes.plot(levels, [getattr(p, name) if getattr(p, name) is not None else np.nan for p in points], label=name)
    chosen = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["operating_point"]
    by_value = sorted(chosen["per_class"].items(), key=lambda item: item[1]["confidence"])
    for number, (name, entry) in enumerate(by_value):
        axes.axvline(entry["confidence"], color="0.7", lw=0.8, zorder=0)
        axes.text(entry["confidence"], 1.02 + 0.07 * (number % 3), name, ha="center", fontsize=8, color="0.35")
    best = chosen["single"]
    axes.plot(best["confidence"], best["F1"], "ko", ms=5, label="best F1, one confidence for all")
    axes.set(xlabel="confidence", ylim=(0, 1.24), xlim=(0, 0.9))
    axes.legend(fontsize=8, loc="lower left")
    figure.savefig(path, pil_kwargs={"quality": 88})


def _top(source: Path, path: Path) -> None:
    """Write the first rows of a contact sheet's pictures to ``path``, scaled down."""
    sheet = cv2.imread(str(source))
    height = round(sheet.shape[0] * ROWS / 5.15)  # a sheet has five rows and a note below them
    small = cv2.resize(sheet[:height], None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(path), small, [cv2.IMWRITE_JPEG_QUALITY, 82])


if __name__ == "__main__":
    sys.exit(main())
