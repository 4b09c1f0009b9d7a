"""Proves probability of detection, false alarms and AP at IoU 0.25, by hand and against evaluating high scores only."""

import pytest

from pixelkeep.errors import OptionError
from pixelkeep.evaluation import CocoEvaluator, evaluate

SMALL, LARGE, AWAY = [0, 0, 20, 20], [100, 100, 150, 150], [400, 300, 30, 30]


def test_counts__by_hand(one_class):
    """Two objects, one found at 0.6; two false detections above 0.25, one below; an image of 640 x 480."""
    found = [(SMALL, 0.6), (AWAY, 0.5), (SMALL, 0.3), (LARGE, 0.2), (AWAY, 0.1)]
    alarms = evaluate(*one_class([SMALL, LARGE], found)).alarms
    assert (alarms.conf, alarms.found, alarms.gt, alarms.false) == (0.25, 1, 2, 2)
    assert (alarms.Pd, alarms.Pd_S, alarms.per_image) == (0.5, 1.0, 2.0)
    assert alarms.per_megapixel == pytest.approx(2 / 0.3072)


@pytest.mark.parametrize(
    ("conf", "expected"), [(0.0, (2, 3)), (0.2, (2, 2)), (0.21, (1, 2)), (0.6, (1, 0)), (1, (0, 0))]
)
def test_confidence__at_and_above(conf, expected, one_class):
    """A score equal to the confidence threshold counts."""
    found = [(SMALL, 0.6), (AWAY, 0.5), (SMALL, 0.3), (LARGE, 0.2), (AWAY, 0.1)]
    alarms = evaluate(*one_class([SMALL, LARGE], found), alarm_conf=conf).alarms
    assert (alarms.found, alarms.false) == expected


def test_ignored__neither_found_nor_false(one_class):
    """Detections of objects to ignore and in regions to ignore are no alarms, and those objects are no targets."""
    scene = one_class([SMALL], [(AWAY, 0.9), ([210, 210, 9, 9], 0.8)], ignored=[AWAY], regions=[[200, 200, 50, 50]])
    alarms = evaluate(*scene).alarms
    assert (alarms.found, alarms.gt, alarms.false, alarms.Pd) == (0, 1, 0, 0.0)


def test_match__decides(one_class):
    """A 3-pixel target detected 2 pixels off is found when matching by centre and a false alarm by IoU."""
    scene = one_class([[50, 50, 3, 3]], [([52, 50, 3, 3], 0.9)])
    by_overlap, by_centre = evaluate(*scene).alarms, evaluate(*scene, match="center:3").alarms
    assert (by_overlap.Pd, by_overlap.false) == (0.0, 1)
    assert (by_centre.Pd, by_centre.false) == (1.0, 0)


def test_undefined__no_target_and_no_size(one_class):
    """Pd is None without targets, and the density is None without an image size."""
    ground_truth, found = one_class([], [(AWAY, 0.9)])
    assert (evaluate(ground_truth, found).alarms.Pd, evaluate(ground_truth, found).alarms.false) == (None, 1)
    del ground_truth["images"][0]["width"]
    assert evaluate(ground_truth, found).alarms.per_megapixel is None


@pytest.mark.parametrize("seed", range(100, 112))
def test_leaving_out_low_scores__changes_no_other_match(seed, random_scene):
    """The counts are those of an evaluation without the lower scores, and its recall at IoU 0.50 gives Pd."""
    ground_truth, detections = random_scene(seed, objects_to_ignore=True)
    alarms = evaluate(ground_truth, detections, alarm_conf=0.5).alarms
    kept = [d for d in detections if d["score"] >= 0.5]
    assert evaluate(ground_truth, kept, alarm_conf=0).alarms.found == alarms.found
    assert evaluate(ground_truth, kept, alarm_conf=0).alarms.false == alarms.false
    recall = CocoEvaluator(ground_truth).curves(CocoEvaluator(ground_truth).prepare(kept)).recall[0, :, 0, 0]
    counts = [
        sum(a["category_id"] == c["id"] and not a["ignore"] for a in ground_truth["annotations"])
        for c in ground_truth["categories"]
    ]
    assert alarms.found == round(sum(r * n for r, n in zip(recall, counts, strict=True) if n))


@pytest.mark.parametrize("conf", [-0.1, 1.1, float("nan"), "x", None])
def test_confidence__outside_0_to_1_is_refused(conf, one_class):
    """The error for a confidence outside 0 to 1 says what would be right."""
    with pytest.raises(OptionError, match=r"alarm_conf is .*; expected a confidence from 0 to 1"):
        evaluate(*one_class([SMALL], []), alarm_conf=conf)


def test_ap25__between_two_overlaps(one_class):
    """A detection with an IoU of exactly 1/4 counts at 0.25 but not at 0.50; one of 6/25 counts at neither."""
    for width, expected in ((5, 1.0), (4.8, 0.0)):
        result = evaluate(*one_class([SMALL], [([0, 0, width, 20], 0.9)]))
        assert (result.AP25, result.AP50) == pytest.approx((expected, 0), abs=1e-12)


@pytest.mark.parametrize("seed", range(1, 8))
def test_ap25__equals_pycocotools(seed, random_scene):
    """AP25 is what stock pycocotools gives with that threshold."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    ground_truth, detections = random_scene(seed, objects_to_ignore=False)
    truth = COCO()
    truth.dataset = ground_truth
    truth.createIndex()
    stock = COCOeval(truth, truth.loadRes(detections), iouType="bbox")
    stock.params.iouThrs, stock.params.maxDets = [0.25], [1, 10, 300]
    stock.evaluate()
    stock.accumulate()
    precision = stock.eval["precision"][0, :, :, 0, 2]
    defined = precision[precision > -1]
    expected = pytest.approx(defined.mean(), abs=1e-12) if defined.size else None
    assert evaluate(ground_truth, detections, max_dets=300).AP25 == expected
