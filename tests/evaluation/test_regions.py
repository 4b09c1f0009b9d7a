"""Proves VisDrone's rules: boxes at least half inside regions to ignore are dropped, then 500 an image are kept."""

import numpy as np
import pytest

from pixelkeep.evaluation import Detections, GroundTruthBuilder, evaluate
from pixelkeep.evaluation.regions import covered

ONE = pytest.approx(1.0, abs=1e-12)


def test_covered__equals_counting_pixels():
    """For boxes of whole pixels the covered fraction is that of a painted map, overlapping regions counted once."""
    rng = np.random.default_rng(0)
    regions = np.hstack([rng.integers(0, 30, (5, 2)), rng.integers(1, 20, (5, 2))]).astype(float)
    boxes = np.hstack([rng.integers(0, 40, (200, 2)), rng.integers(1, 15, (200, 2))]).astype(float)
    painted = np.zeros((80, 80), bool)
    for x, y, w, h in regions.astype(int):
        painted[y : y + h, x : x + w] = True
    expected = [painted[y : y + h, x : x + w].mean() for x, y, w, h in boxes.astype(int)]
    assert covered(boxes, regions) == pytest.approx(expected, abs=1e-12)
    assert 0.0 in expected and 1.0 in expected and any(0.3 < value < 0.7 for value in expected)


def test_box_without_area__is_outside():
    """A box of no width lies in no region."""
    assert covered(np.array([[5.0, 5, 0, 4]]), np.array([[0.0, 0, 10, 10]])).tolist() == [0]


def scene(regions, boxes, found):
    """Return a scene of one image and one class, from boxes as x, y, w, h."""
    builder = GroundTruthBuilder(["thing"])
    corners = [[[x, y, x + w, y + h] for x, y, w, h in rows] for rows in (boxes, regions)]
    builder.add_image("a.jpg", 640, 480, corners[0], [0] * len(boxes), regions=corners[1])
    return builder.build(), [{"image_id": 1, "category_id": 1, "bbox": b, "score": s} for b, s in found]


def test_object_half_inside__is_dropped():
    """An object half of which lies inside is neither found nor missed; one with less inside counts."""
    half, less = [90, 0, 20, 20], [89, 100, 20, 20]
    ground_truth, found = scene([[100, 0, 100, 200]], [half, less], [(less, 0.9)])
    result = evaluate(ground_truth, found, bins="visdrone")
    assert result.counts["S"] == 1 and result.AP == ONE
    assert evaluate(ground_truth, found).counts["S"] == 2


def test_detection_half_inside__is_dropped_even_on_an_object():
    """A detection half inside is dropped even if it matches a counted object, as in the VisDrone toolkit."""
    box, shifted = [89, 100, 20, 20], [90, 100, 20, 20]
    ground_truth, found = scene([[100, 0, 100, 200]], [box], [(shifted, 0.9)])
    assert evaluate(ground_truth, found, bins="visdrone").AP == 0.0
    assert evaluate(ground_truth, found).AP50 == ONE


def test_union__two_regions_cover_together():
    """A detection is dropped if two regions together cover half of it, even if neither does alone."""
    box, stray = [300, 300, 20, 20], [100, 100, 20, 20]
    ground_truth, found = scene([[100, 100, 5, 20], [115, 100, 10, 20]], [box], [(stray, 0.9), (box, 0.5)])
    assert evaluate(ground_truth, found, bins="visdrone").AP == ONE
    assert evaluate(ground_truth, found).AP == pytest.approx(0.5, abs=1e-12)


def test_limit__is_of_all_classes_together():
    """The best detections of an image are kept whatever their class, after those inside regions are dropped."""
    builder = GroundTruthBuilder(["a", "b"])
    builder.add_image("a.jpg", 640, 480, [[0, 0, 20, 20], [50, 0, 70, 20]], [0, 1], regions=[[300, 300, 400, 400]])
    inside = [[310, 310, 20, 20]] * 500
    boxes = np.array([*inside, [0, 0, 20, 20], *[[200, 200, 20, 20]] * 499, [50, 0, 20, 20]], float)
    scores = np.linspace(0.9, 0.1, len(boxes))
    classes = np.array([1] * 500 + [1] + [1] * 499 + [2])
    found = Detections(np.ones(len(boxes), int), classes, boxes, scores)
    kept = evaluate(builder.build(), found, bins="visdrone")
    assert kept.protocol.max_dets == 500 and kept.protocol.ignored == 1
    assert (kept.per_class["a"].AP, kept.per_class["b"].AP) == (ONE, 0.0)
    assert evaluate(builder.build(), found, bins="visdrone", max_dets=501).per_class["b"].AP == ONE


def test_no_regions__changes_nothing_but_the_limit(load_scene):
    """On data without regions the metrics are those of the default protocol with a limit of 500."""
    scene = load_scene("crowded")
    visdrone, plain = evaluate(*scene, bins="visdrone"), evaluate(*scene, max_dets=500)
    assert (visdrone.AP, visdrone.AP_S, visdrone.AR) == (plain.AP, plain.AP_S, plain.AR)
    assert [b.AP for b in visdrone.bins] == [plain.AP_S, plain.AP_M, plain.AP_L]


def test_hash__is_of_the_ground_truth_as_given(load_scene):
    """Two protocols on the same ground truth give the same hash."""
    scene = load_scene("regions")
    assert evaluate(*scene, bins="visdrone").gt_sha256 == evaluate(*scene).gt_sha256
