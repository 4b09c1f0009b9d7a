"""Confusion matrices at the operating point and curves of boxes in whole images, for scenes made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from ultralytics.utils.metrics import ConfusionMatrix, DetMetrics

from pixelkeep.evaluation import CocoEvaluator, Detections, GroundTruthBuilder
from pixelkeep.evaluation.overlaps import Scene
from pixelkeep.ultra.validators.drawn import Drawn

FOUND, MISSED, HIDDEN, AWAY = ([x, 100, 10, 10] for x in (100, 200, 300, 400))
CAR, TRUCK, NOTHING = range(3)


def scene(detections, images=1):
    """Build images with a car, a truck, an ignored car and an ignored region; the first has the given detections."""
    builder = GroundTruthBuilder(["car", "truck"])
    for number in range(images):
        corners = [[x, y, x + w, y + h] for x, y, w, h in (FOUND, MISSED, HIDDEN)]
        marks = dict(ignore=[0, 0, 1], regions=[[500, 0, 600, 480]])
        builder.add_image(f"{number}.jpg", 640, 480, corners, [CAR, TRUCK, CAR], **marks)
    truth = builder.build()
    records = [{"image_id": 1, "category_id": c + 1, "bbox": box, "score": s} for c, box, s in detections]
    return Scene.of(truth, Detections.from_json(records)), truth, Detections.from_json(records)


@pytest.fixture
def matrices(monkeypatch):
    """Record the confusion matrices that are drawn."""
    drawn, stock = [], ConfusionMatrix.plot

    def plot(self, *args, **keywords):
        drawn.append(self.matrix.copy())
        stock(self, *args, **keywords)

    monkeypatch.setattr(ConfusionMatrix, "plot", plot)
    return drawn


def test_confusion__at_the_confidence_of_each_class(matrices, tmp_path):
    """Rows are predictions, columns ground truth; boxes below their class's confidence or ignored are left out."""
    said = [(TRUCK, FOUND, 0.6), (CAR, AWAY, 0.5), (CAR, AWAY, 0.3), (TRUCK, AWAY, 0.5)]
    said += [(CAR, HIDDEN, 0.9), (TRUCK, [510, 100, 10, 10], 0.9), (CAR, [595, 100, 40, 10], 0.9)]
    Drawn(tmp_path, scene(said, images=2)[0]).confusion(np.array([0.4, 0.55]))
    expected = np.zeros((3, 3))
    expected[TRUCK, CAR] = 1  # the truck predicted on a car in the first image
    expected[CAR, NOTHING] = 2  # the car of 0.5, and the one that only begins in the region
    expected[NOTHING, CAR] = 1  # missed in the second image
    expected[NOTHING, TRUCK] = 2
    assert all((matrix == expected).all() for matrix in matrices) and len(matrices) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"confusion_matrix.png", "confusion_matrix_normalized.png"}


def test_curves__rise_with_what_is_found(monkeypatch, tmp_path):
    """Curves use the same matches as AP: with one class found and one not, AP50 is 0.5."""
    processed, stock = [], DetMetrics.process

    def process(self, *args, **keywords):
        processed.append(self)
        return stock(self, *args, **keywords)

    monkeypatch.setattr(DetMetrics, "process", process)
    found, truth, detections = scene([(CAR, FOUND, 0.9), (CAR, HIDDEN, 0.95), (TRUCK, AWAY, 0.8)])
    Drawn(tmp_path, found).curves()
    assert {path.name for path in tmp_path.iterdir()} == {f"Box{name}_curve.png" for name in ("PR", "F1", "P", "R")}
    (metrics,) = processed
    assert metrics.nt_per_class.tolist() == [1, 1]
    ours = CocoEvaluator(truth).evaluate(detections).AP50
    assert metrics.box.ap50.mean() == pytest.approx(ours, abs=0.01) and ours == pytest.approx(0.5)


def test_nothing_found__is_drawn_too(matrices, tmp_path):
    """Without detections every object counts as missed, and drawing the curves raises no error."""
    drawn = Drawn(tmp_path, scene([])[0])
    drawn.confusion(np.array([0.25, 0.25]))
    drawn.curves()
    assert matrices[0][NOTHING].tolist() == [1, 1, 0] and matrices[0][:NOTHING].sum() == 0
