"""Train the demo's recipe, the same at half the image size, and stock yolov5-n, and check the demo's promises.

Prints the table of docs/demo.md and exits with status 1 if a promise of configs/demo.yaml is broken:

    make check-demo
"""

from __future__ import annotations

import sys

from pixelkeep.cli.session import session
from pixelkeep.report.tables import figure, text_table

LEAST_LOSS = 0.30  # least share of AP_S that half the image size must cost


def main() -> int:
    with session():
        from pixelkeep.ultra.commands import training
        from pixelkeep.ultra.running import settings

        recipe = settings.load_recipe("demo")
        expected, imgsz = recipe["expected"], recipe["imgsz"]
        arms = {
            "yolov5-spd-n": {},
            f"yolov5-spd-n at {imgsz // 2}": {"imgsz": imgsz // 2},
            "yolov5-n": {"model": "yolov5-n"},
        }
        results = {
            name: training.train(
                settings.merge(changes | {"project": "runs/check-demo"}, command="train", recipe="demo")
            )[0]
            for name, changes in arms.items()
        }
    figures = ("AP", "AP50", "AP_S", "AP_M", "AP_L")
    rows = [[name, *(figure(getattr(r, f)) for f in figures), f"{r.gflops:.2f}"] for name, r in results.items()]
    print(text_table(["model", *figures, "GFLOPs"], rows))
    full, half, *_ = results.values()
    loss = 1 - (half.AP_S or 0) / full.AP_S if full.AP_S else 0
    checks = {f"{key} at least {least}": getattr(full, key) >= least for key, least in expected.items()}
    checks[f"half the image size costs {loss:.0%} of AP_S, at least {LEAST_LOSS:.0%}"] = loss >= LEAST_LOSS
    for claim, holds in checks.items():
        print(f"{'holds ' if holds else 'BROKEN'}  {claim}")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
