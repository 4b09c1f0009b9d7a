"""Proves that metrics read by name are the evaluator's, and that the error for a wrong name lists the right ones."""

import pytest

from pixelkeep.errors import OptionError
from pixelkeep.evaluation import CocoEvaluator
from pixelkeep.evaluation.bootstrap import areas_of
from pixelkeep.evaluation.metrics import read_metrics

NAMES = ["AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L", "AP50_S", "AP_100", "AR", "AR_S", "AR_M", "AR_L"]


@pytest.mark.parametrize("max_dets", [2, 100, None])
def test_value__is_the_evaluators(random_scene, max_dets):
    """Every name gives the result's field of that name bit for bit, including undefined ones."""
    for seed in range(8):
        ground_truth, detections = random_scene(seed, objects_to_ignore=True)
        evaluator = CocoEvaluator(ground_truth, max_dets=max_dets)
        curves, result = evaluator.curves(evaluator.prepare(detections)), evaluator.evaluate(detections)
        metrics = read_metrics(NAMES + [f"AP:{entry.name}" for entry in result.bins], evaluator)
        values = [metric.value(curves, evaluator.areas, evaluator.caps) for metric in metrics]
        assert values == [getattr(result, name) for name in NAMES] + [entry.AP for entry in result.bins]


def test_names__each_once(one_class):
    """A repeated name counts once, a string is one name, and areas are in the order in which they are needed."""
    evaluator = CocoEvaluator(one_class([[0, 0, 9, 9]], [])[0])
    metrics = read_metrics(["AP_S", "AP", "AP_S", "AR_S"], evaluator)
    assert [metric.name for metric in metrics] == ["AP_S", "AP", "AR_S"]
    assert [area.name for area in areas_of(metrics)] == ["S", "all"]
    assert [metric.name for metric in read_metrics("AP_S", evaluator)] == ["AP_S"]


def test_unknown_name__is_refused(one_class):
    """The error lists all names, including those of bins, and the closest one; an empty list is refused too."""
    ground_truth, _ = one_class([[0, 0, 9, 9]], [])
    with pytest.raises(OptionError, match=r"metric 'APs'; expected one of AP, .*AP:tiny.*did you mean 'AP_S'\?"):
        read_metrics(["AP", "APs"], CocoEvaluator(ground_truth))
    with pytest.raises(OptionError, match="metrics is empty; expected one or more of AP, "):
        read_metrics([], CocoEvaluator(ground_truth))
    with pytest.raises(OptionError, match="metric 'AP50'"):
        read_metrics(["AP50"], CocoEvaluator(ground_truth, match="center:3"))  # a distance has no IoU of 0.50
