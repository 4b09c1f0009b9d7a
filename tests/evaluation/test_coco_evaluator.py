"""Proves the evaluator's metrics on scenes small enough to compute by hand: perfect, degenerate and in between."""

import json
from dataclasses import replace

import pytest

from pixelkeep.errors import DataError, OptionError
from pixelkeep.evaluation import AreaRange, CocoEvaluator, Detections, evaluate, sha256

ONE = pytest.approx(1.0, abs=1e-12)  # a precision of 1 is 1 / (1 + 2**-52)
BOX = [100, 100, 20, 20]
EVALUATORS = ("pixelkeep", "pycocotools")
both = pytest.mark.parametrize("evaluator", EVALUATORS)


@both
def test_perfect__every_defined_figure_is_one(evaluator, one_class):
    """Detections equal to the ground truth, with one box of each size, give 1.0 for every metric."""
    boxes = [[0, 0, 20, 20], [100, 100, 50, 50], [300, 200, 120, 120]]
    result = evaluate(*one_class(boxes, [(box, 0.9) for box in boxes]), evaluator=evaluator)
    figures = [value for key, value in result.to_dict().items() if key.startswith(("AP", "AR"))]
    assert figures == [ONE] * 13
    assert result.counts == {"S": 1, "M": 1, "L": 1}


@both
def test_no_detections__is_zero_where_there_is_ground_truth(evaluator, one_class):
    """Without detections the metrics are 0.0, and those of sizes without ground truth are undefined."""
    result = evaluate(*one_class([BOX], []), evaluator=evaluator)
    assert (result.AP, result.AP50, result.AP_S, result.AP_100, result.AR) == (0.0,) * 5
    assert (result.AP_M, result.AR_L) == (None, None)


@both
def test_no_ground_truth__is_undefined(evaluator, one_class):
    """Without ground truth no metric is defined, whatever was detected, and JSON holds null."""
    for detections in ([], [(BOX, 0.9)]):
        result = evaluate(*one_class([], detections), evaluator=evaluator)
        assert {value for key, value in result.to_dict().items() if key.startswith(("AP", "AR"))} == {None}
        assert json.loads(result.to_json())["AP"] is None
        assert result.per_class["thing"].AP is None and result.per_class["thing"].gt == 0


@both
def test_no_small_object__leaves_ap_small_undefined(evaluator, load_scene):
    """AP_S, AP50_S and AR_S are None without small ground truth, while AP is a number."""
    result = evaluate(*load_scene("no_small"), evaluator=evaluator)
    assert (result.AP_S, result.AP50_S, result.AR_S) == (None, None, None)
    assert result.AP > 0 and result.counts["S"] == 0


@both
def test_intermediate__hand_computed(evaluator, one_class):
    """Hit, miss, hit of four objects: precision 1 up to recall 1/4 (26 points), 2/3 up to 1/2 (25 points), then 0."""
    boxes = [[60 * i, 0, 20, 20] for i in range(4)]
    found = [(boxes[0], 0.9), ([300, 300, 20, 20], 0.8), (boxes[1], 0.7)]
    result = evaluate(*one_class(boxes, found), evaluator=evaluator)
    assert result.AP == pytest.approx((26 + 25 * 2 / 3) / 101, abs=1e-12)
    assert result.AR == 0.5


@both
def test_envelope__takes_the_best_later_precision(evaluator, one_class):
    """With miss, hit, hit of two objects precision rises to 2/3, which then holds for every recall."""
    boxes = [[0, 0, 20, 20], [60, 0, 20, 20]]
    found = [([300, 300, 20, 20], 0.9), (boxes[0], 0.8), (boxes[1], 0.7)]
    assert evaluate(*one_class(boxes, found), evaluator=evaluator).AP == pytest.approx(2 / 3, abs=1e-12)


@both
def test_threshold__iou_equal_to_it_matches(evaluator, one_class):
    """An IoU of exactly 0.75 matches at thresholds 0.50 to 0.75, six of the ten."""
    result = evaluate(*one_class([[0, 0, 20, 20]], [([0, 0, 20, 15], 0.9)]), evaluator=evaluator)
    assert (result.AP, result.AP50, result.AP75, result.AR) == pytest.approx((0.6, 1, 1, 0.6), abs=1e-12)


@both
def test_duplicate__second_is_a_false_positive(evaluator, one_class):
    """Of two detections of one object the better one counts and the other is a false positive."""
    boxes = [[0, 0, 20, 20], [60, 0, 20, 20]]
    found = [(boxes[0], 0.9), (boxes[0], 0.8), (boxes[1], 0.7)]
    expected = (51 + 50 * 2 / 3) / 101
    assert evaluate(*one_class(boxes, found), evaluator=evaluator).AP == pytest.approx(expected, abs=1e-12)


@both
def test_equal_iou__later_ground_truth_wins(evaluator, one_class):
    """A detection midway between two boxes takes the later one, which leaves the earlier for the next detection."""
    first, second, midway = [0, 0, 20, 20], [0, 10, 20, 20], [0, 5, 20, 20]
    found = [(midway, 0.9), (first, 0.8)]
    assert evaluate(*one_class([first, second], found), evaluator=evaluator).AP50 == ONE
    assert evaluate(*one_class([second, first], found), evaluator=evaluator).AP50 == pytest.approx(51 / 101, abs=1e-12)


@both
def test_region__absorbs_any_number(evaluator, one_class):
    """Any number of detections inside a region is neutral, where overlap is relative to the detection's own area."""
    inside = [([300 + 30 * i, 200, 20, 20], 0.95) for i in range(5)]
    scene = one_class([BOX], [*inside, (BOX, 0.5)], regions=[[290, 190, 300, 200]])
    assert evaluate(*scene, evaluator=evaluator).AP == ONE


@both
def test_region__half_a_detection_inside_is_enough_at_50_alone(evaluator, one_class):
    """A detection half inside is neutral at threshold 0.50 and a false positive above it."""
    scene = one_class([BOX], [([290, 200, 20, 20], 0.95), (BOX, 0.5)], regions=[[300, 190, 300, 200]])
    result = evaluate(*scene, evaluator=evaluator)
    assert (result.AP50, result.AP75) == pytest.approx((1.0, 0.5), abs=1e-12)


@both
def test_object_to_ignore__absorbs_one(evaluator, one_class):
    """The first detection of an object to ignore is neutral, the second is a false positive."""
    other = [300, 300, 20, 20]
    once = one_class([BOX], [(other, 0.9), (BOX, 0.5)], ignored=[other])
    twice = one_class([BOX], [(other, 0.9), (other, 0.8), (BOX, 0.5)], ignored=[other])
    assert evaluate(*once, evaluator=evaluator).AP == ONE
    assert evaluate(*twice, evaluator=evaluator).AP == pytest.approx(0.5, abs=1e-12)


@both
def test_ignored__only_when_no_counted_one_matches(evaluator, one_class):
    """A detection takes a counted object at IoU 0.6 rather than an ignored one that it fits exactly."""
    scene = one_class([[0, 5, 20, 20]], [([0, 0, 20, 20], 0.9)], ignored=[[0, 0, 20, 20]])
    assert evaluate(*scene, evaluator=evaluator).AP50 == ONE


@both
def test_border__32_squared_counts_as_small_and_medium(evaluator, one_class):
    """A box of exactly 32 x 32 is ground truth of both S and M, and found in both."""
    box = [10, 10, 32, 32]
    result = evaluate(*one_class([box], [(box, 0.9)]), evaluator=evaluator)
    assert result.counts == {"S": 1, "M": 1, "L": 0}
    assert (result.AP_S, result.AP_M, result.AP_L) == (ONE, ONE, None)


@both
def test_size__unmatched_detections_of_other_size_are_neutral(evaluator, one_class):
    """A large false positive lowers AP and leaves AP_S alone."""
    result = evaluate(*one_class([BOX], [([200, 200, 150, 150], 0.95), (BOX, 0.5)]), evaluator=evaluator)
    assert (result.AP, result.AP_S) == pytest.approx((0.5, 1.0), abs=1e-12)


@both
def test_area__decides_over_the_box(evaluator, load_scene):
    """Objects of 40 x 40 with an area of 600.5 are small, and the protocol says that areas come from annotations."""
    result = evaluate(*load_scene("annotation_area"), evaluator=evaluator)
    assert result.counts == {"S": 3, "M": 3, "L": 0}
    assert result.protocol.area == "annotation"
    assert evaluate(*load_scene("border_sizes"), evaluator=evaluator).protocol.area == "box"


def test_bins__count_and_score_their_own_sizes(load_scene):
    """Boxes on the borders count in both neighbouring bins; a user's own bins replace the default ones."""
    ground_truth, detections = load_scene("border_sizes")
    bins = evaluate(ground_truth, detections).bins
    assert [(b.name, b.low, b.high, b.gt) for b in bins] == [
        ("very tiny", 2, 8, 2),
        ("tiny", 8, 16, 2),
        ("small", 16, 32, 2),
        ("medium", 32, 64, 2),
    ]
    (own,) = evaluate(ground_truth, detections, bins=[AreaRange("up to 16", 0, 16)]).bins
    assert (own.gt, own.AR) == (3, 1.0)


def test_counts__leave_out_what_is_ignored(one_class):
    """Objects and regions to ignore count only under ``ignored``, a region once for all classes."""
    ground_truth, _ = one_class([BOX], [], ignored=[[200, 0, 20, 20]], regions=[[300, 0, 20, 20], [400, 0, 50, 50]])
    result = evaluate(ground_truth, [])
    assert result.counts == {"S": 1, "M": 0, "L": 0}
    assert result.per_class["thing"].gt == 1
    assert result.protocol.ignored == 3


def test_region__in_every_class_is_one_ignored_thing(load_scene):
    """A region that is annotated in two classes is counted once."""
    assert evaluate(*load_scene("regions")).protocol.ignored == 1


def test_classes_of_one_name__are_told_apart(one_class):
    """Repeated class names get the id appended, so that no class is lost from ``per_class``."""
    ground_truth, detections = one_class([BOX], [(BOX, 0.9)])
    ground_truth["categories"].insert(0, {"id": 0, "name": "thing"})
    per_class = evaluate(ground_truth, detections).per_class
    assert {name: figures.AP for name, figures in per_class.items()} == {"thing (id 0)": None, "thing (id 1)": ONE}


def test_prepared_evaluator__scores_again_and_again(load_scene):
    """A prepared evaluator gives the metrics of `evaluate` each time it is used, and changes no input."""
    ground_truth, detections = load_scene("regions")
    before = json.dumps(ground_truth)
    evaluator = CocoEvaluator(ground_truth)
    first, whole = evaluator.evaluate(detections), evaluate(ground_truth, detections)
    assert first == evaluator.evaluate(detections)
    assert first == replace(whole, AP25=None, alarms=None)
    assert whole.AP25 is not None and whole.alarms is not None
    assert evaluator.evaluate([]).AP == 0.0
    assert json.dumps(ground_truth) == before


@both
def test_paths__are_read(evaluator, tmp_path, load_scene):
    """Both arguments may be paths to JSON files."""
    ground_truth, detections = load_scene("regions")
    truth_file, found_file = tmp_path / "truth.json", tmp_path / "found.json"
    truth_file.write_text(json.dumps(ground_truth))
    found_file.write_text(Detections.from_json(detections).to_json())
    expected = evaluate(ground_truth, detections, evaluator=evaluator)
    assert evaluate(truth_file, str(found_file), evaluator=evaluator) == expected
    assert expected.gt_sha256 == sha256(truth_file)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"image_id": 7}, "detections[1] names image_id 7, which the ground truth lacks; expected one of 1"),
        ({"category_id": 0}, "detections[1] names category_id 0, which the ground truth lacks; expected one of 1"),
    ],
)
@both
def test_unknown_id__is_refused(evaluator, change, text, one_class):
    """Either evaluator refuses a detection whose image or category is not in the ground truth, and names it."""
    ground_truth, detections = one_class([BOX], [(BOX, 0.9), (BOX, 0.8)])
    detections[1] |= change
    with pytest.raises(DataError) as error:
        evaluate(ground_truth, detections, evaluator=evaluator)
    assert str(error.value) == text


@pytest.mark.parametrize("max_dets", [0, -1, 2.5, True, "300"])
def test_max_dets__must_be_a_positive_integer(max_dets, one_class):
    """A limit that is not a positive integer is refused."""
    with pytest.raises(OptionError, match=r"max_dets is .*; expected an integer, 1 or more"):
        evaluate(*one_class([BOX], []), max_dets=max_dets)


def test_evaluator__unknown_name_is_refused(one_class):
    """The error for an unknown evaluator lists the known ones and names the closest."""
    expected = "expected pixelkeep, pycocotools, faster-coco-eval; did you mean 'pycocotools'"
    with pytest.raises(OptionError, match=expected):
        evaluate(*one_class([BOX], []), evaluator="pycocotool")
