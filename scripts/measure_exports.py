"""Export every block in every format, and measure each export's distance from its network, loss of AP and speed.

    python scripts/measure_exports.py --json exports.json --markdown docs/deploy.md
    python scripts/measure_exports.py yolov5-keep-n yolov5-fine-n --markdown docs/deploy.md
    python scripts/measure_exports.py yolov5-n=a/best.pt yolov5-spd-n=b/best.pt --formats onnx:int8 openvino:bf16

A model given by its name alone is trained by the demo's recipe first; NAME=FILE takes existing weights. Each cell is
one ``pixelkeep export``, compared on the data's val images. Cells are measured in the order of the table and saved one
by one, so a second call continues where the first was stopped; ``--again`` measures everything anew. Speeds are ratios
to the unfolded network in PyTorch, measured in turns; on a machine that does other work they say little.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("YOLO_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pixelkeep import assets
from pixelkeep.errors import PixelkeepError
from pixelkeep.ultra.running.environment import prepare

HOST = "yolov5-"
FORMATS = ("onnx:fp32", "onnx:fp16", "onnx:int8", "openvino:fp32", "openvino:fp16", "openvino:bf16", "openvino:int8")
FORMATS += ("torchscript:fp32", "ncnn:fp32", "ncnn:fp16")
MARKS = ("<!-- exports -->", "<!-- end of exports -->")
LOOSE = ("matched=0", "ap=1", "ap_s=1", "boxes=1e9", "scores=1")  # bounds so loose that every result is reported


def smallest() -> list[str]:
    """Return the smallest size of the host's family and of all its variants."""
    return [f"{HOST}n", *(f"{family}-n" for family in assets.names("models") if family.startswith(HOST))]


def weights_of(model: str, folder: Path) -> tuple[str, Path]:
    """Return a model's name and weights, which are trained by the demo's recipe if no file is given."""
    name, given, file = model.partition("=")
    if given:
        return name, Path(file)
    weights = folder / name / "weights" / "best.pt"
    if not weights.is_file():
        from pixelkeep.ultra.commands.training import train
        from pixelkeep.ultra.running.settings import merge

        train(merge({"model": name, "project": str(folder), "name": name}, command="train", recipe="demo"))
    return name, weights


def cell(weights: Path, kind: str, data: str) -> dict[str, Any]:
    """Export weights in one format and precision, and return the measurements, or the reason why there are none."""
    from pixelkeep.deploy.bounds import bounds_for
    from pixelkeep.ultra.export.exporting import Request, export

    form, precision = kind.split(":")
    with tempfile.TemporaryDirectory() as folder:
        asked = dict(weights=str(weights), format=form, precision=precision, data=data, output=folder)
        try:
            done = export(Request(**asked, bounds=LOOSE))
        except PixelkeepError as error:
            return {"told": str(error)}
    bounds = bounds_for("detect", precision)
    own, ours = done.accuracy.values()
    found = {"passed": not done.parity.failures(bounds, done.losses()), "parity": done.parity.to_dict()}
    found |= {"AP": [own["AP"], ours["AP"]], "AP_S": [own["AP_S"], ours["AP_S"]], "megabytes": done.megabytes}
    found |= {"quantized": done.quantized, "folded": done.folded, "machine": done.machine}
    return found | {"speed": {name: time.to_dict() for name, time in done.speed.items()}}


def markdown(cells: dict[str, dict[str, Any]]) -> str:
    """Return the table of all cells, by model and format, in Markdown."""
    lines = [
        "| network | format | boxes: 99.9 %, all (px) | matched | AP lost | AP_S lost | MB | times PyTorch |",
        "|---|---|---|--:|--:|--:|--:|--:|",
    ]
    for model, row in cells.items():
        for kind, found in row.items():
            lines.append(f"| {model} | {' '.join(kind.split(':'))} | " + " | ".join(_figures(found)) + " |")
            if "told" not in found and kind == next((k for k, v in row.items() if "told" not in v), None):
                speed = _speed(found["speed"]["PyTorch, folded"])
                lines.insert(len(lines) - 1, f"| {model} | pytorch folded | | | | | | {speed} |")
    return "\n".join(lines) + "\n"


def placed(table: str, file: Path) -> str:
    """Return a file's text with the table put between its marks, or the table alone if it has no marks."""
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    before, mark, rest = text.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    return f"{before}{mark}\n{table}{end}{after}" if mark and end else table


def _figures(found: dict[str, Any]) -> list[str]:
    if "told" in found:
        return [found["told"].replace("|", "/"), *[""] * 5]
    parity = found["parity"]
    matched = "n/a" if parity["matched"] is None else f"{parity['matched']:.1%} of {parity['detections']}"
    lost = [f"{found[key][0] - found[key][1]:+.4f}" for key in ("AP", "AP_S")]
    boxes = f"{parity['boxes_most']:.1e}, {parity['boxes_max']:.1e}"
    return [boxes, matched, *lost, f"{found['megabytes']:.1f}", _speed(found["speed"]["exported"])]


def _speed(time: dict[str, float]) -> str:
    return f"{1 / time['ratio']:.2f} ({1 / time['ratio_high']:.2f}-{1 / time['ratio_low']:.2f})"


def main() -> None:
    prepare()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="NAME[=FILE]", default=smallest())
    parser.add_argument("--formats", nargs="+", metavar="FORMAT:PRECISION", default=FORMATS)
    parser.add_argument("--data", default="demo")
    parser.add_argument("--project", type=Path, default=Path("runs/exports"), help="where models are trained")
    parser.add_argument("--json", type=Path, default=Path("exports.json"), help="what has been measured")
    parser.add_argument("--markdown", type=Path, help="the table, or a text with marks for it: docs/deploy.md")
    parser.add_argument("--seconds", type=float, default=15, help="of measuring the speed of each; 0: ten rounds")
    parser.add_argument("--again", action="store_true", help="measure anew what is there")
    options = parser.parse_args()
    from pixelkeep.ultra.export import parity
    from pixelkeep.writing import write_text

    parity.SECONDS = options.seconds
    cells = json.loads(options.json.read_text(encoding="utf-8")) if options.json.is_file() else {}
    for model in options.models:
        name, weights = weights_of(model, options.project)
        row = cells.setdefault(name, {})
        for kind in options.formats:
            if kind not in row or options.again:
                row[kind] = cell(weights, kind, options.data)
                print(f"{name} {kind}: {row[kind].get('told') or _figures(row[kind])}", file=sys.stderr, flush=True)
                cells[name] = row = {kind: row[kind] for kind in (*FORMATS, *row) if kind in row}
                write_text(options.json, json.dumps(cells, indent=1))
    if options.markdown:
        write_text(options.markdown, placed(markdown(cells), options.markdown))
    print(markdown(cells))


if __name__ == "__main__":
    main()
