"""Measure how long our COCO evaluator, faster-coco-eval (if installed) and pycocotools take for equal figures.

Usage: python benchmarks/evaluation.py [--images 1000] [--classes 80] [--detections 20000] [--pairs 3]
       python benchmarks/evaluation.py --images 5000 --detections 100000

Each round times the evaluators one after the other, from columns in memory to the figures, with the ground truth
already prepared. The last lines are the medians over the rounds of each evaluator's time divided by ours. The others
read lists of dictionaries; making these from the columns is part of their time, as it is in a validation.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np

from pixelkeep.errors import OptionError
from pixelkeep.evaluation import CocoEvaluator, Detections, GroundTruthBuilder
from pixelkeep.evaluation.reference import FastEvaluator, ReferenceEvaluator

SIDE = 640


def synthetic(images: int, classes: int, count: int, seed: int = 0) -> tuple[dict[str, Any], Detections]:
    """Return a ground truth with 7 boxes per image, as in COCO, and ``count`` detections, half of them near a box."""
    rng = np.random.default_rng(seed)
    builder = GroundTruthBuilder([f"class {index}" for index in range(classes)])
    boxes, labels = [], []
    for index in range(images):
        sides = np.exp(rng.uniform(np.log(8), np.log(200), (7, 2)))
        corner = rng.uniform(0, SIDE - sides)
        labels.append(rng.integers(0, classes, 7))
        boxes.append(np.hstack([corner, sides]))
        builder.add_image(f"{index}.jpg", SIDE, SIDE, np.hstack([corner, corner + sides]), labels[-1])
    image = rng.integers(0, images, count)
    source = rng.integers(0, 7, count)
    near = rng.random(count) < 0.5
    truth = np.stack(boxes)[image, source]  # (count, 4)
    shifted = truth + rng.normal(0, 0.08, (count, 4)) * truth[:, [2, 3, 2, 3]]
    random = np.hstack([rng.uniform(0, SIDE / 2, (count, 2)), rng.uniform(8, 200, (count, 2))])
    found = np.where(near[:, None], shifted, random)
    found[:, 2:] = np.maximum(found[:, 2:], 1)
    category = np.where(near, np.stack(labels)[image, source], rng.integers(0, classes, count)) + 1
    return builder.build(), Detections(image + 1, category, found, np.round(rng.random(count), 4))


def seconds(evaluator: CocoEvaluator, detections: Detections) -> tuple[float, dict[str, Any]]:
    """Return the wall time of one evaluation in seconds, and its figures."""
    start = time.perf_counter()
    figures = evaluator.evaluate(detections).to_dict()
    return time.perf_counter() - start, figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 1000), ("classes", 80), ("detections", 20000), ("pairs", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    ground_truth, detections = synthetic(options.images, options.classes, options.detections)
    ours, others = CocoEvaluator(ground_truth), peers(ground_truth)
    ratios: dict[str, list[float]] = {other.name: [] for other in others}
    for _ in range(options.pairs):
        mine, figures = seconds(ours, detections)
        parts = [f"pixelkeep {mine:.2f} s"]
        for other in others:
            theirs, expected = seconds(other, detections)
            ratios[other.name].append(theirs / mine)
            parts.append(f"{other.name} {theirs:.2f} s, {difference(figures, expected)}")
        print("; ".join(parts))
    for name, values in ratios.items():
        print(f"{options.images} images, {len(detections)} detections: {name} takes {statistics.median(values):.1f}x")


def peers(ground_truth: dict[str, Any]) -> list[CocoEvaluator]:
    """Return the other evaluators that are installed."""
    found = []
    for kind in (FastEvaluator, ReferenceEvaluator):
        try:
            found.append(kind(ground_truth))
        except OptionError as error:
            print(error)
    return found


def difference(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """Return a phrase that says how far the figures of two evaluators are apart."""
    apart = max(abs(a - b) for a, b in zip(numbers(ours), numbers(theirs), strict=True))
    return "figures equal" if apart == 0 else f"figures within {apart:.0e}"


def numbers(document: Any) -> list[float]:
    """Return every number in a nested result, in order."""
    if isinstance(document, dict | list):
        values = document.values() if isinstance(document, dict) else document
        return [number for value in values for number in numbers(value)]
    return [document] if isinstance(document, int | float) else []


if __name__ == "__main__":
    main()
