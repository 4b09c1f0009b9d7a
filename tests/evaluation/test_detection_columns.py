"""Proves that detections in columns and in COCO results format hold the same numbers, and that faults are named."""

import json

import numpy as np
import pytest

from pixelkeep.errors import DataError
from pixelkeep.evaluation import Detections

RECORD = {"image_id": 3, "category_id": 1, "bbox": [0.1, 2, 3, 4.5], "score": 0.25}


def columns(**more):
    values = {"image_ids": [1, 2], "category_ids": [1, 1], "boxes_xywh": [[0, 0, 1, 1]] * 2, "scores": [0.5, 0.6]}
    return Detections(**{**values, **more})


def test_json__round_trip_keeps_every_bit(tmp_path):
    """Random float64 and float32 numbers come back exactly, from text in a file as from records."""
    rng = np.random.default_rng(0)
    boxes, scores = rng.random((50, 4)) * 100, rng.random(50).astype(np.float32)
    written = Detections(rng.integers(0, 9, 50), rng.integers(0, 9, 50), boxes, scores)
    path = tmp_path / "predictions.json"
    path.write_text(written.to_json())
    for read in (Detections.from_json(path), Detections.from_json(written.records())):
        for name in ("image_ids", "category_ids", "boxes_xywh", "scores"):
            assert np.array_equal(getattr(read, name), getattr(written, name))
    assert np.array_equal(written.scores.astype(np.float32), scores)


def test_json__is_coco_results_form():
    """A record in COCO results format holds image_id, category_id, bbox and score."""
    assert json.loads(Detections.from_json([RECORD]).to_json()) == [RECORD]


def test_empty__has_no_records():
    """No detections give an empty list, from records and from empty columns of any shape."""
    for empty in (Detections.from_json([]), Detections([], [], [], []), Detections([], [], np.zeros((0, 4)), [])):
        assert len(empty) == 0 and empty.boxes_xywh.shape == (0, 4) and empty.to_json() == "[]"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"image_id": "a.jpg"}, "detections[1] has image_id 'a.jpg'; expected an integer"),
        ({"image_id": 2**70}, "detections[1] has image_id 1180591620717411303424; expected an integer"),
        ({"category_id": 1.5}, "detections[1] has category_id 1.5; expected an integer"),
        ({"score": float("nan")}, "detections[1] has score nan; expected a finite number"),
        ({"score": 10**400}, "detections[1] has score 1000"),
        ({"score": None}, "detections[1] has score None; expected a finite number"),
        ({"bbox": [0, 0, 1]}, "detections[1] has bbox [0, 0, 1]; expected [x, y, width, height]"),
        ({"bbox": [0, 0, 1, float("inf")]}, "detections[1] has bbox [0, 0, 1, inf]; expected [x, y, width, height]"),
        ({"bbox": [0, 0, -1, 1]}, "detections[1] has bbox [0, 0, -1, 1]; expected [x, y, width, height]"),
        ({"bbox": None}, "detections[1] has bbox None; expected [x, y, width, height]"),
        ({"bbox": {0: 1, 1: 2, 2: 3, 3: 4, 4: 5}}, "detections[1] has bbox {"),
    ],
)
def test_records__name_the_fault(change, text):
    """A wrong value is reported in one line with the record's index, the value and what would be right."""
    with pytest.raises(DataError) as error:
        Detections.from_json([RECORD, {**RECORD, **change}])
    assert str(error.value).startswith(text) and "\n" not in str(error.value)


@pytest.mark.parametrize("key", RECORD)
def test_records__name_the_missing_key(key):
    """A record that lacks a key is named."""
    with pytest.raises(DataError, match=rf"detections\[0\] has no '{key}'; expected"):
        Detections.from_json([{name: value for name, value in RECORD.items() if name != key}])


def test_records__must_be_a_list_of_objects():
    """A document that is not a list of objects is refused."""
    with pytest.raises(DataError, match="detections is not a list; expected a list of objects"):
        Detections.from_json({"annotations": []})
    with pytest.raises(DataError, match=r"detections\[0\] is 3; expected an object"):
        Detections.from_json([3])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"image_ids": [1]}, "image_ids has shape (1,); expected (2,)"),
        ({"image_ids": [1.5, 2.5]}, "image_ids has type float64; expected int64"),
        ({"boxes_xywh": [[0, 0, 1]] * 2}, "boxes_xywh has shape (2, 3); expected (2, 4)"),
        ({"boxes_xywh": []}, "boxes_xywh has shape (0,); expected (2, 4)"),
        ({"boxes_xywh": [["a"] * 4] * 2}, "boxes_xywh has type <U1; expected float64"),
        ({"scores": [0.5, float("nan")]}, "detections[1] has bbox [0.0, 0.0, 1.0, 1.0], score nan; expected"),
        ({"boxes_xywh": [[0, 0, 1, 1], [0, 0, 1, -1]]}, "detections[1] has bbox [0.0, 0.0, 1.0, -1.0]"),
        ({"boxes_xywh": [[0, float("inf"), 1, 1], [0, 0, 1, 1]]}, "detections[0] has bbox [0.0, inf, 1.0, 1.0]"),
    ],
)
def test_columns__name_the_fault(change, text):
    """Columns of wrong shape, type or value are refused."""
    with pytest.raises(DataError) as error:
        columns(**change)
    assert text in str(error.value)
