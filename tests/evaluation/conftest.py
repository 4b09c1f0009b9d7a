"""Scenes to evaluate, and unmodified pycocotools as the reference."""

import contextlib
import copy
import io
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pixelkeep.evaluation import GroundTruthBuilder

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture
def load_scene():
    """Return a function that maps a fixture's name to its ground truth and detections."""

    def load(name):
        document = json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))
        return document["ground_truth"], document["detections"]

    return load


@pytest.fixture
def one_class():
    """Return a function that builds a scene of one image and class from boxes x, y, w, h and (box, score) pairs.

    ``ignored`` are boxes of objects to ignore, ``regions`` boxes of regions to ignore.
    """

    def build(boxes, detections, ignored=(), regions=()):
        builder = GroundTruthBuilder(["thing"])
        every = [[x, y, x + w, y + h] for x, y, w, h in (*boxes, *ignored)]
        marks = [0] * len(boxes) + [1] * len(ignored)
        corners = [[x, y, x + w, y + h] for x, y, w, h in regions]
        builder.add_image("a.jpg", 640, 480, every, [0] * len(every), ignore=marks, regions=corners)
        found = [{"image_id": 1, "category_id": 1, "bbox": box, "score": score} for box, score in detections]
        return builder.build(), found

    return build


@pytest.fixture
def random_scene():
    """Return a function that maps a seed to a scene with ties in scores and IoUs, empty images and empty classes."""
    return make_random_scene


def make_random_scene(seed, *, objects_to_ignore):
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(1, 5))
    builder = GroundTruthBuilder([f"class {index}" for index in range(classes)])
    detections = []
    for image_id in rng.permutation(np.arange(3, 3 + rng.integers(1, 6))).tolist():
        count = int(rng.integers(0, 9)) * int(rng.integers(0, 3) > 0)
        xywh = np.hstack([rng.integers(0, 12, (count, 2)) * 10, rng.choice([4, 8, 16, 20, 32, 40, 100], (count, 2))])
        labels = rng.integers(0, max(classes - 1, 1), count)
        builder.add_image(
            f"{image_id}.jpg",
            240,
            240,
            np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]]),
            labels,
            areas=xywh[:, 2] * xywh[:, 3] * rng.choice([1, 1, 0.5], count),
            ignore=rng.random(count) < 0.3 if objects_to_ignore else None,
            regions=[[0, 0, 60, 60]] * int(rng.integers(0, 2)),
            image_id=image_id,
        )
        sources = rng.integers(0, count, 3 * count) if count else np.zeros(0, int)
        for source in sources.tolist():
            box = xywh[source] + rng.integers(-1, 2, 4) * [2, 2, 2, 2]
            category = int(labels[source]) if rng.random() < 0.8 else int(rng.integers(0, classes))
            detections.append((image_id, category + 1, box.tolist(), float(rng.integers(1, 8)) / 8))
        detections += [(image_id, 1, [20, 20, int(side), 20], 0.5) for side in rng.integers(0, 60, 2)]
    keys = ("image_id", "category_id", "bbox", "score")
    order = rng.permutation(len(detections)) if seed % 8 else []
    return builder.build(), [dict(zip(keys, detections[index], strict=True)) for index in order]


@pytest.fixture
def stock_figures():
    """Return a function that runs stock pycocotools and reads the schema's metrics from its arrays."""
    return run_stock


def run_stock(ground_truth, detections, limit):
    truth = COCO()
    truth.dataset = copy.deepcopy(ground_truth)
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(detections)), iouType="bbox")
        evaluation.params.maxDets = sorted({100, limit})
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
    cap, coco_cap = (evaluation.params.maxDets.index(value) for value in (limit, 100))

    def mean(values):
        return float(values[values > -1].mean()) if (values > -1).any() else None

    figures = {
        "AP50": mean(precision[0, :, :, 0, cap]),
        "AP75": mean(precision[5, :, :, 0, cap]),
        "AP50_S": mean(precision[0, :, :, 1, cap]),
        "AP_100": mean(precision[:, :, :, 0, coco_cap]),
        "per_class": [
            (mean(precision[:, :, k, 0, cap]), mean(precision[0, :, k, 0, cap]), mean(precision[:, :, k, 1, cap]))
            for k in range(precision.shape[2])
        ],
    }
    for area, suffix in enumerate(("", "_S", "_M", "_L")):
        figures[f"AP{suffix}"] = mean(precision[:, :, :, area, cap])
        figures[f"AR{suffix}"] = mean(recall[:, :, area, cap])
    return figures
