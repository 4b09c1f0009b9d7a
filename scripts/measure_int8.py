"""Measure what each step of int8 costs: how much of the head stays in float, how far the export is from the network.

    python scripts/measure_int8.py yolov5-n=a/best.pt yolov5-spd-n=b/best.pt --json int8.json
    python scripts/measure_int8.py --formats onnx        # models by name are trained by the demo's recipe first

Makes one export for each network, format and step of `pixelkeep.ultra.export.quantizing`. Prints the share of
detections matched on the calibration images, which decides between the steps, then what the val images show: the share
of detections matched and the loss of AP and AP_S. Also prints megabytes, and the speed as a ratio to the unfolded
network in PyTorch, measured in turns, which says little on a machine that does other work. A second call continues
where the first was stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from measure_exports import cell, smallest, weights_of

from pixelkeep.ultra.running.environment import prepare

FORMATS = ("onnx", "openvino")


def measured(weights: Path, form: str, step: str, data: str) -> dict[str, Any]:
    """Export with a single step of int8, and return the measurements."""
    from pixelkeep.ultra.export import quantizing

    every, quantizing.LADDER = quantizing.LADDER, (step,)
    try:
        return cell(weights, f"{form}:int8", data)
    finally:
        quantizing.LADDER = every


def row(found: dict[str, Any], step: str) -> list[str]:
    """Return the table cells of one step."""
    if "told" in found:
        return [found["told"], *[""] * 6]
    lost = [f"{found[key][0] - found[key][1]:+.4f}" for key in ("AP", "AP_S")]
    shares = [f"{found['quantized']['agreed'][step]:.1%}", f"{found['parity']['matched']:.1%}"]
    return [step, *shares, *lost, f"{found['megabytes']:.1f}", f"{1 / found['speed']['exported']['ratio']:.2f}"]


def main() -> None:
    prepare()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="NAME[=FILE]", default=smallest())
    parser.add_argument("--formats", nargs="+", default=FORMATS)
    parser.add_argument("--data", default="demo")
    parser.add_argument("--project", type=Path, default=Path("runs/exports"), help="where models are trained")
    parser.add_argument("--json", type=Path, default=Path("int8.json"), help="what has been measured")
    parser.add_argument("--seconds", type=float, default=15, help="of measuring the speed of each; 0: ten rounds")
    options = parser.parse_args()
    from pixelkeep.ultra.export import parity, quantizing
    from pixelkeep.writing import write_text

    parity.SECONDS = options.seconds
    cells = json.loads(options.json.read_text(encoding="utf-8")) if options.json.is_file() else {}
    print("| network | format | in float | calibration | val | AP lost | AP_S lost | MB | times PyTorch |")
    print("|---|---|---|--:|--:|--:|--:|--:|--:|")
    for model in options.models:
        name, weights = weights_of(model, options.project)
        for form in options.formats:
            for step in quantizing.STEPS:
                key = f"{name} {form} {step}"
                if key not in cells:
                    cells[key] = measured(weights, form, step, options.data)
                    write_text(options.json, json.dumps(cells, indent=1))
                print(f"| {name} | {form} | {' | '.join(row(cells[key], step))} |", flush=True)
            print(f"{name} {form}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
