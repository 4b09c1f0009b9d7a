"""The label audit: faults planted in correct labels rank first, and correct labels are left alone."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools.coco import COCO

from pixelkeep.evaluation import Detections, GroundTruthBuilder
from pixelkeep.evaluation.audit import audit, audit_document, audit_rows
from pixelkeep.evaluation.overlaps import Scene

NAMES = ["car", "truck", "boat"]
CONFIDENCES = np.full(3, 0.4)


@pytest.fixture
def world():
    """Return the labels (image, class, box) of 30 images and the detections of a stub detector on them.

    The detector finds every object slightly shifted, at scores from 0.5 to 0.7, adds a second class at a low score, and
    like a real detector reports low-scoring boxes everywhere.
    """
    rng = np.random.default_rng(5)
    labels, found = [], []
    for image in range(30):
        for slot in rng.permutation(16)[:5].tolist():
            box = [60 * (slot % 4) + 10, 60 * (slot // 4) + 10, int(rng.integers(8, 40)), int(rng.integers(8, 40))]
            kind = int(rng.integers(0, 3))
            labels.append((image, kind, box))
            shifted = (np.array(box) + rng.uniform(-0.6, 0.6, 4)).tolist()
            found.append((image, kind, shifted, float(rng.uniform(0.5, 0.7))))
            found.append((image, (kind + 1) % 3, shifted, float(rng.uniform(0.01, 0.3))))
        found += [(image, 0, [*rng.uniform(0, 230, 2), 12, 12], float(rng.uniform(0.001, 0.009))) for _ in range(30)]
    return labels, found


def scene_of(labels, found, ignored=(), regions=()):
    builder = GroundTruthBuilder(NAMES)
    for image in range(30):
        ours = [(c, box, 0) for i, c, box in labels if i == image] + [
            (c, box, 1) for i, c, box in ignored if i == image
        ]
        corners = [[x, y, x + w, y + h] for _, (x, y, w, h), _ in ours]
        areas = [[x, y, x + w, y + h] for i, (x, y, w, h) in regions if i == image]
        marks = [mark for *_, mark in ours]
        builder.add_image(f"{image}.jpg", 256, 256, corners, [c for c, *_ in ours], ignore=marks, regions=areas)
    records = [{"image_id": i + 1, "category_id": c + 1, "bbox": b, "score": s} for i, c, b, s in found]
    return Scene.of(builder.build(), Detections.from_json(records))


def test_good_labels__nothing_to_look_at(world):
    """Where detector and labels agree there is no candidate, whether or not there are low-scoring boxes."""
    assert audit(scene_of(*world), CONFIDENCES) == []


def test_planted_faults__are_the_top_entries(world):
    """Labels removed, given another class or placed on nothing become the candidates, and nothing else does."""
    labels, found = world
    rng = np.random.default_rng(1)
    chosen = rng.choice(len(labels), 12, replace=False).tolist()
    gone, swapped = chosen[:6], chosen[6:]
    faulty = [(i, (c + 1) % 3 if n in swapped else c, box) for n, (i, c, box) in enumerate(labels) if n not in gone]
    nowhere = [(i, 1, [244, 244, 10, 10]) for i in (3, 7, 20)]
    faint = [(i, 1, box, 0.009) for i, _, box in nowhere]  # low-scoring boxes as they occur everywhere
    scene = scene_of(faulty + nowhere, found + faint)
    candidates = audit(scene, CONFIDENCES)
    expected = {("missing label", labels[n][0], None, labels[n][1]) for n in gone}
    expected |= {("wrong class", labels[n][0], (labels[n][1] + 1) % 3, labels[n][1]) for n in swapped}
    expected |= {("never found", i, 1, None) for i, *_ in nowhere}
    assert {(c.kind, c.image, c.label, c.detected) for c in candidates} == expected
    assert len(candidates) == 15
    scores = [c.score for c in candidates]
    assert scores == sorted(scores, reverse=True) and all(0 < score <= 1 for score in scores)
    labelled = {(i, tuple(map(float, box))) for i, _, box in faulty + nowhere}
    assert all((c.image, c.box) in labelled for c in candidates if c.label is not None)


def test_planted_among_noise__still_on_top(world):
    """The planted faults come first even among false detections of lower score."""
    labels, found = world
    noise = [(i, 0, [244, 4, 9, 9], 0.45) for i in range(0, 30, 2)]
    candidates = audit(scene_of(labels[6:], found + noise), CONFIDENCES)
    top = {(c.image, round(c.box[0]), round(c.box[1])) for c in candidates[:6]}
    assert len(candidates) == 6 + 15
    assert all(any(i == j and abs(b[0] - x) < 2 and abs(b[1] - y) < 2 for j, x, y in top) for i, _, b in labels[:6])


def test_one_place__is_one_candidate():
    """Several confident boxes of one unlabelled object, of any class, are one candidate: the most confident box."""
    found = [(0, 0, [10, 10, 20, 20], 0.6), (0, 1, [11, 10, 20, 20], 0.8), (0, 0, [100, 100, 20, 20], 0.5)]
    shown = [(c.detected, c.score) for c in audit(scene_of([], found), CONFIDENCES)]
    assert shown == [(1, 0.8), (0, 0.5)]


def test_ignored__is_not_audited():
    """Objects to ignore give no candidate, found or not, nor do detections inside regions to ignore."""
    found = [(0, 1, [10, 10, 20, 20], 0.9), (0, 1, [110, 110, 10, 10], 0.9)]
    ignored = [(0, 0, [10, 10, 20, 20]), (0, 0, [200, 200, 20, 20])]
    assert audit(scene_of([], found, ignored, [(0, [100, 100, 50, 50])]), CONFIDENCES) == []


def test_neighbour_of_another_class__contradicts_nothing():
    """A detection that covers a label of its own class does not contradict another label that it also covers."""
    labels = [(0, 0, [10, 10, 20, 20]), (0, 1, [12, 10, 20, 20])]
    found = [(0, 1, [12, 10, 20, 20], 0.9), (0, 0, [10, 10, 20, 20], 0.2)]
    assert audit(scene_of(labels, found), CONFIDENCES) == []


def test_wrong_class__needs_more_confidence_than_the_right_one():
    """The score is the difference of confidences; a label that its own class covers as confidently is left alone."""
    labels = [(0, 0, [10, 10, 20, 20])]
    sure, other = (0, 0, [10, 10, 20, 20], 0.6), (0, 1, [11, 10, 20, 20], 0.9)
    (candidate,) = audit(scene_of(labels, [sure, other]), CONFIDENCES)
    assert (candidate.kind, candidate.score) == ("wrong class", pytest.approx(0.3))
    assert audit(scene_of(labels, [sure, (*other[:3], 0.6)]), CONFIDENCES) == []


def test_never_found__weighs_how_well_its_kind_is_found():
    """The score is the share of labels of the same class and size that are found: 3 of 4 small cars, 0 of 1 boats."""
    labels = [(0, 0, [30 * n, 10, 10, 10]) for n in range(4)] + [(0, 2, [10, 100, 10, 10])]
    found = [(0, 1, box, 0.02) for _, _, box in labels[:3]]  # a low score and another class, but not nothing
    scores = {c.label: c.score for c in audit(scene_of(labels, found), CONFIDENCES)}
    assert scores == {0: 3 / 4, 2: 0.0}


def test_rows_and_document__hold_the_same(world, tmp_path):
    """The rows and the COCO document list the same candidates, and pycocotools reads the document."""
    labels, found = world
    scene = scene_of([(i, (c + 1) % 3, box) for i, c, box in labels[:4]] + labels[8:], found)
    candidates = audit(scene, CONFIDENCES)
    rows, document = audit_rows(scene, candidates), audit_document(scene, candidates)
    assert sorted(row["kind"] for row in rows) == ["missing label"] * 4 + ["wrong class"] * 4
    reader = COCO()
    reader.dataset = document
    reader.createIndex()
    for row, annotation in zip(rows, document["annotations"], strict=True):
        assert reader.imgs[annotation["image_id"]]["file_name"] == row["file"]
        assert reader.cats[annotation["category_id"]]["name"] == row["detected"]
        assert [row[key] for key in ("x", "y", "width", "height")] == pytest.approx(annotation["bbox"], abs=0.01)
        assert annotation["score"] == pytest.approx(row["score"], abs=1e-4)
        assert annotation["attributes"] == {"kind": row["kind"], "labelled": row["class"]}
    assert [c["name"] for c in document["categories"]] == NAMES
