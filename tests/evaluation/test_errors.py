"""Errors by kind: each kind in a hand-made scene, agreement with the evaluator, and totals that add up."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pixelkeep.evaluation import Detections, GroundTruthBuilder
from pixelkeep.evaluation.areas import ALL_SIZES, AreaRange
from pixelkeep.evaluation.errors import DETECTIONS, OBJECTS, find_errors, worst_misses
from pixelkeep.evaluation.matching import FALSE, NEUTRAL, TRUE, match
from pixelkeep.evaluation.overlaps import Scene

CAR, TRUCK = 0, 1


def build(objects, detections, ignored=(), regions=()):
    """Return a scene of one image from (class, box) and (class, box, score), with boxes as x, y, width, height."""
    builder = GroundTruthBuilder(["car", "truck"])
    every = [*objects, *ignored]
    corners = [[x, y, x + w, y + h] for _, (x, y, w, h) in every]
    marks = [0] * len(objects) + [1] * len(ignored)
    areas = [[x, y, x + w, y + h] for x, y, w, h in regions]
    builder.add_image("a.jpg", 640, 480, corners, [c for c, _ in every], ignore=marks, regions=areas)
    records = [{"image_id": 1, "category_id": c + 1, "bbox": box, "score": s} for c, box, s in detections]
    return Scene.of(builder.build(), Detections.from_json(records))


def kinds(scene, confidence=0.3):
    errors = find_errors(scene, np.full(2, confidence))
    return sorted(errors.objects[~errors.scene.truth.crowd].tolist()), sorted(errors.detections.tolist())


OBJECT = [100, 100, 10, 10]
GOOD = [101, 100, 10, 10]  # IoU 9/11
SHIFTED = [105, 100, 10, 10]  # IoU 1/3
EDGE = [109, 100, 10, 10]  # IoU 1/19
AWAY = [300, 300, 10, 10]


@pytest.mark.parametrize(
    ("objects", "detections", "expected"),
    [
        pytest.param([(CAR, OBJECT)], [(CAR, GOOD, 0.9)], (["matched"], ["matched"]), id="matched"),
        pytest.param([(CAR, OBJECT)], [], (["missed"], []), id="missed"),
        pytest.param([(CAR, OBJECT)], [(CAR, GOOD, 0.2)], (["missed"], []), id="below-the-confidence"),
        pytest.param([(CAR, OBJECT)], [(TRUCK, GOOD, 0.9)], (["wrong_class"], ["wrong_class"]), id="wrong-class"),
        pytest.param([(CAR, OBJECT)], [(CAR, SHIFTED, 0.9)], (["badly_placed"], ["badly_placed"]), id="badly-placed"),
        pytest.param(
            [(CAR, OBJECT)],
            [(CAR, OBJECT, 0.9), (CAR, GOOD, 0.8)],
            (["matched"], ["duplicate", "matched"]),
            id="duplicate",
        ),
        pytest.param([], [(CAR, AWAY, 0.9)], ([], ["background"]), id="background"),
        pytest.param([(CAR, OBJECT)], [(CAR, EDGE, 0.9)], (["missed"], ["background"]), id="too-far"),
        pytest.param(
            [(CAR, OBJECT)], [(TRUCK, SHIFTED, 0.9)], (["missed"], ["background"]), id="other-class-badly-placed"
        ),
        pytest.param(
            [(CAR, OBJECT)],
            [(CAR, GOOD, 0.9), (TRUCK, GOOD, 0.8)],
            (["matched"], ["matched", "wrong_class"]),
            id="second-opinion-on-a-matched-object",
        ),
        pytest.param(
            [(CAR, OBJECT)],
            [(TRUCK, GOOD, 0.9), (CAR, SHIFTED, 0.8)],
            (["wrong_class"], ["badly_placed", "wrong_class"]),
            id="wrong-class-before-badly-placed",
        ),
        pytest.param(
            [(CAR, OBJECT), (CAR, [104, 100, 10, 10])],
            [(CAR, OBJECT, 0.9), (CAR, [102, 106, 10, 10], 0.8)],
            (["badly_placed", "matched"], ["badly_placed", "matched"]),
            id="the-unmatched-neighbour-first",
        ),
    ],
)
def test_kinds__by_hand(objects, detections, expected):
    """Every object and detection gets the kind expected by hand."""
    assert kinds(build(objects, detections)) == expected


def test_equal_overlap__the_later_object_as_the_evaluator():
    """A detection that overlaps two objects equally takes the later one, as in the evaluator."""
    errors = find_errors(build([(CAR, OBJECT), (CAR, OBJECT)], [(CAR, OBJECT, 0.9)]), np.full(2, 0.3))
    assert errors.objects.tolist() == ["missed", "matched"]


def test_ignored__are_no_errors():
    """Objects to ignore, and detections on them or in a region to ignore, count as neither objects nor detections."""
    scene = build(
        [], [(CAR, GOOD, 0.9), (CAR, [205, 205, 9, 9], 0.9)], ignored=[(CAR, OBJECT)], regions=[[200, 200, 60, 60]]
    )
    assert kinds(scene) == (["ignored"], ["ignored", "ignored"])
    counts = find_errors(scene, np.full(2, 0.3)).to_dict()["all"]
    assert counts["objects"]["total"] == counts["detections"]["total"] == 0


@pytest.mark.parametrize("seed", range(60))
def test_random_scenes__agree_with_the_evaluator_and_add_up(seed, random_scene):
    """Matched, false and ignored detections are the evaluator's, and the counts of the kinds add up to the totals."""
    truth, records = random_scene(seed, objects_to_ignore=True)
    scene = Scene.of(truth, Detections.from_json(records))
    confidences = np.linspace(0.2, 0.7, len(scene.categories))
    errors = find_errors(scene, confidences)
    outcome = match(scene.truth, errors.scene.found, [ALL_SIZES])[:, 0, 0]
    assert np.array_equal(errors.detections == "matched", outcome == TRUE)
    assert np.array_equal(errors.detections == "ignored", outcome == NEUTRAL)
    assert np.isin(errors.detections[outcome == FALSE], DETECTIONS[1:]).all()
    assert np.array_equal(errors.objects == "ignored", scene.truth.ignored)
    partners = errors.partner[errors.detections == "matched"]
    assert len(set(partners)) == len(partners) == (errors.objects == "matched").sum()
    document = errors.to_dict([AreaRange("x", 0, 20), AreaRange("y", 20.001, 1e5)])
    parts = [document["all"], *document["sizes"], *document["per_class"].values()]
    for part in parts:
        assert sum(part["objects"][kind] for kind in OBJECTS) == part["objects"]["total"]
        assert sum(part["detections"][kind] for kind in DETECTIONS) == part["detections"]["total"]
    for group in (document["sizes"], list(document["per_class"].values())):
        for what, kind in (("objects", "missed"), ("objects", "total"), ("detections", "background")):
            assert sum(part[what][kind] for part in group) == document["all"][what][kind]
    assert document["all"]["objects"]["total"] == (~scene.truth.ignored).sum()


@pytest.mark.parametrize("seed", range(20))
def test_random_scenes__explanations_hold(seed, random_scene):
    """A wrong-class or badly placed detection refers to an object in its IoU range."""
    truth, records = random_scene(seed, objects_to_ignore=True)
    errors = find_errors(Scene.of(truth, Detections.from_json(records)), np.full(len(truth["categories"]), 0.2))
    scene = errors.scene
    explained = dict.fromkeys(("wrong_class", "badly_placed"), 0)
    for d, g, iou in scene.by_image():
        at = {box: column for column, box in enumerate(g)}
        for row, detection in enumerate(d):
            kind, box = errors.detections[detection], errors.partner[detection]
            if kind not in explained:
                continue
            same = scene.found_category[detection] == scene.truth.category[box]
            value = iou[row, at[box]]
            assert same == (kind == "badly_placed") and (value >= 0.5 if not same else 0.1 <= value < 0.5)
            assert errors.objects[box] in ("matched", "wrong_class", kind)
            explained[kind] += 1
    for kind, count in explained.items():
        assert (errors.objects == kind).sum() <= count


def test_document__is_json_and_lists_the_errors():
    """errors.json lists every unmatched object and false detection with its image, class and box."""
    errors = find_errors(build([(CAR, OBJECT)], [(TRUCK, AWAY, 0.9)]), np.full(2, 0.3))
    document = json.loads(json.dumps(errors.to_dict()))
    assert document["list"] == [
        {"what": "object", "kind": "missed", "image": "a.jpg", "class": "car", "bbox": OBJECT},
        {"what": "detection", "kind": "background", "image": "a.jpg", "class": "truck", "bbox": AWAY, "score": 0.9},
    ]
    assert document["confidence"] == {"car": 0.3, "truck": 0.3}


def test_worst_misses__no_trace_first_then_the_larger():
    """Missed small objects that no detection overlaps come first, and of equals the larger one does."""
    objects = [(CAR, [0, 0, 8, 8]), (CAR, [50, 0, 12, 12]), (CAR, [100, 0, 20, 20]), (CAR, [200, 0, 40, 40])]
    found = [(CAR, [100, 0, 20, 20], 0.2), (TRUCK, [50, 0, 12, 12], 0.25)]
    scene = build(objects, found)
    worst = worst_misses(scene, find_errors(scene, np.full(2, 0.3)), 9)
    shown = [(scene.truth.boxes[box][2], score) for box, score in worst]
    assert shown == [(12, 0.0), (8, 0.0), (20, 0.2)]
    assert worst_misses(scene, find_errors(scene, np.full(2, 0.3)), 1) == worst[:1]
