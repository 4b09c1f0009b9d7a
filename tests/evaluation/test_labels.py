"""Metrics of classification and segmentation: equal to counts by hand, and to Ultralytics' where it has them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from ultralytics.utils.metrics import ClassifyMetrics, SemanticMetrics

from pixelkeep.evaluation.labels import IGNORED, ConfusionMatrix, score_classes, unique_names


def test_classes__counted_by_hand():
    """Of four images two are right at once, one at the second guess and one never; one of the classes has no image."""
    truth = np.array([0, 0, 1, 1])
    ranked = np.array([[0, 1, 2], [1, 0, 2], [1, 2, 0], [2, 0, 2]])
    result = score_classes(truth, ranked, ["a", "b", "c"])
    assert (result.top1, result.top5, result.images) == (0.5, 0.75, 4)
    assert {name: (entry.top1, entry.n) for name, entry in result.per_class.items()} == {
        "a": (0.5, 2),
        "b": (0.5, 2),
        "c": (None, 0),
    }
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert (document["schema"], document["task"], document["per_class"]["c"]) == (1, "classify", {"top1": None, "n": 0})


def test_classes__only_the_first_five_count():
    """A class that is right only at the sixth guess does not count for top-5."""
    result = score_classes(np.array([5, 4]), np.tile(np.arange(6), (2, 1)), list("abcdef"))
    assert (result.top1, result.top5) == (0.0, 0.5)


def test_classes__without_images_undefined():
    """Without images the metrics are None, not 0."""
    result = score_classes(np.zeros(0, int), np.zeros((0, 5), int), ["a"])
    assert result.top1 is None and result.top5 is None


def test_classes__equal_to_ultralytics():
    """Top-1 and top-5 of random guesses are those of Ultralytics' own metrics."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 8, 300)
    ranked = np.argsort(rng.random((300, 8)), 1)[:, :5]
    theirs = ClassifyMetrics()
    theirs.process([torch.tensor(truth)], [torch.tensor(ranked)])
    ours = score_classes(truth, ranked, [str(i) for i in range(8)])
    assert (ours.top1, ours.top5) == pytest.approx((theirs.top1, theirs.top5), abs=1e-6)


def test_pixels__counted_by_hand():
    """Of five labelled pixels, a has 2 of 3 right and b 1 of 2; each has one false pixel of the other; c is absent."""
    matrix = ConfusionMatrix(3)
    truth = np.array([[0, 0, 0], [1, 1, IGNORED]])
    matrix.add(truth, np.array([[0, 0, 1], [1, 0, 2]]))
    result = matrix.score(["a", "b", "c"])
    assert matrix.counts.tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert result.per_class["a"].IoU == 2 / 4 and result.per_class["b"].IoU == 1 / 3
    assert result.per_class["a"].accuracy == 2 / 3 and result.per_class["b"].accuracy == 1 / 2
    assert (result.per_class["c"].IoU, result.per_class["c"].accuracy, result.per_class["c"].pixels) == (None, None, 0)
    assert result.mIoU == pytest.approx((1 / 2 + 1 / 3) / 2) and result.pixel_accuracy == 3 / 5


def test_pixels__a_class_said_in_vain_lowers_only_the_others():
    """A class that is predicted but not in the ground truth has no IoU and is not part of the mean."""
    matrix = ConfusionMatrix(2)
    matrix.add(np.array([[0, 0]]), np.array([[0, 1]]))
    result = matrix.score(["a", "b"])
    assert (result.mIoU, result.per_class["b"].IoU) == (0.5, None)


def test_pixels__nothing_judged_is_undefined():
    """If all pixels are to be ignored, the metrics are None."""
    matrix = ConfusionMatrix(2)
    matrix.add(np.full((2, 2), IGNORED), np.zeros((2, 2), int))
    assert matrix.score(["a", "b"]).mIoU is None and matrix.score(["a", "b"]).pixel_accuracy is None


def test_pixels__equal_to_ultralytics():
    """Over images of several sizes the metrics are those of Ultralytics."""
    rng = np.random.default_rng(1)
    ours, theirs = ConfusionMatrix(5), SemanticMetrics(dict(enumerate("abcde")))
    for shape in ((7, 9), (12, 5), (30, 30)):
        truth = rng.integers(0, 4, shape)  # the last class does not occur
        truth[rng.random(shape) < 0.2] = IGNORED
        found = np.where(rng.random(shape) < 0.6, np.minimum(truth, 4), rng.integers(0, 5, shape))
        ours.add(truth, found)
        theirs.update_stats(torch.tensor(found)[None], torch.tensor(truth)[None])
    theirs.process()
    result = ours.score(list("abcde"))
    assert (result.mIoU, result.pixel_accuracy) == pytest.approx((theirs.miou, theirs.pixel_accuracy), abs=1e-6)
    shares = [entry.IoU for entry in result.per_class.values()][:4]
    assert shares == pytest.approx(theirs.per_class_iou[:4].tolist(), abs=1e-6)


def test_names__that_repeat_keep_their_own_figures():
    """Two classes of the same name are told apart by their numbers."""
    assert unique_names(["a", "b", "a"]) == ["a 0", "b", "a 2"]
