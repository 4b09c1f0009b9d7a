"""Measure how long a comparison of two models takes, with three seeds each and 1,000 resamples, on synthetic data.

Usage: python benchmarks/comparison.py [--images 5000] [--classes 80] [--detections 100000 500000] [--seeds 3]
           [--resamples 1000] [--repeats 3]

Times `compare_arms` from columns in memory to the verdicts for AP and AP_S. Beside it stands the time that evaluating
every resample anew would take, extrapolated from one evaluation. Prints the median of the repeats, the processor time,
and how busy the machine was: on a machine that does other work, wall time says little.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

import numpy as np
from evaluation import synthetic

from pixelkeep.evaluation import CocoEvaluator, Detections
from pixelkeep.evaluation.comparison import compare_arms


def another_run(detections: Detections, seed: int) -> Detections:
    """Return the detections as another seed might give them, with slightly different boxes and scores."""
    rng = np.random.default_rng(seed)
    sides = detections.boxes_xywh[:, [2, 3, 2, 3]]
    boxes = detections.boxes_xywh + rng.normal(0, 0.02, sides.shape) * sides
    boxes[:, 2:] = np.maximum(boxes[:, 2:], 1)
    scores = np.round(np.clip(detections.scores + rng.normal(0, 0.05, len(detections)), 0.001, 1), 4)
    return Detections(detections.image_ids, detections.category_ids, boxes, scores)


def measure(options: argparse.Namespace, count: int) -> None:
    """Print how long a comparison takes with ``count`` detections in each run."""
    ground_truth, detections = synthetic(options.images, options.classes, count)
    runs = [another_run(detections, seed) for seed in range(2 * options.seeds)]
    evaluator = CocoEvaluator(ground_truth)
    start = time.perf_counter()
    evaluator.curves(evaluator.prepare(runs[0]))
    anew = (time.perf_counter() - start) * options.resamples * len(runs)
    clocks, processor = [], []
    for _ in range(options.repeats):
        clock, used = time.perf_counter(), time.process_time()
        arms = {"a": runs[: options.seeds], "b": runs[options.seeds :]}
        compare_arms(ground_truth, arms, "a", resamples=options.resamples)
        clocks.append(time.perf_counter() - clock)
        processor.append(time.process_time() - used)
    print(
        f"{options.images} images, {options.classes} classes, {count} detections a run, 2 x {options.seeds} runs, "
        f"{options.resamples} resamples: median {statistics.median(clocks):.0f} s, "
        f"processor {statistics.median(processor):.0f} s; evaluating anew would take {anew / 60:.0f} min",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 5000), ("classes", 80), ("seeds", 3), ("resamples", 1000), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--detections", type=int, nargs="+", default=[100_000, 500_000])
    options = parser.parse_args()
    for count in options.detections:
        measure(options, count)
    if hasattr(os, "getloadavg"):
        print(f"{os.cpu_count()} cores; load over the last 1, 5 and 15 minutes: {os.getloadavg()}")


if __name__ == "__main__":
    main()
