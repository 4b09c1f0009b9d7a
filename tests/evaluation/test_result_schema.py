"""Proves that a result follows the documented schema, survives a round trip through JSON, and cannot hold NaN."""

import json

import pytest

from pixelkeep.errors import DataError
from pixelkeep.evaluation import Result, evaluate

KEYS = (
    "schema task model weights data gt_sha256 split images protocol AP AP50 AP75 AP_S AP_M AP_L AP50_S AP_100 "
    "AR AR_S AR_M AR_L counts bins per_class voc params gflops speed_ms AP25 alarms by operating_point active_fraction"
).split()
PROTOCOL = (
    "evaluator imgsz conf nms_iou max_dets area ignored tile precision folded device seed match bins format"
).split()
ALARMS = "conf Pd Pd_S found gt false per_image per_megapixel".split()


@pytest.fixture
def result(load_scene):
    """A result with metrics, some of them None, and the other fields as a validation fills them in."""
    result = evaluate(*load_scene("regions"), by=r"\d", voc=True)
    result.model, result.split, result.speed_ms = "yolov5-spd-n", "val", {"inference": 1.5}
    result.protocol.imgsz = 640
    return result


def test_schema__keys_are_frozen(result):
    """The document has exactly the documented keys, in their order."""
    document = json.loads(result.to_json())
    assert list(document) == KEYS
    assert list(document["protocol"]) == PROTOCOL
    assert list(document["bins"][0]) == ["name", "low", "high", "gt", "AP", "AP50", "AR"]
    assert list(document["per_class"]["class 1"]) == ["AP", "AP50", "AP_S", "gt"]
    assert list(document["counts"]) == ["S", "M", "L"]
    assert list(document["alarms"]) == ALARMS
    assert list(document["voc"]) == ["AP50_11", "AP50_area"]
    assert list(document["by"]) == ["regex", "name", "unmatched", "values"]
    assert list(document["by"]["values"]["1"]) == ["images", "AP", "AP50", "AP_S", "counts"]
    assert (document["schema"], document["task"], document["images"]) == (1, "detect", 2)


def test_round_trip__gives_an_equal_result(result):
    """A result that is written and read back equals the original, nested metrics included."""
    assert Result.from_dict(json.loads(result.to_json())) == result
    assert Result.from_dict(result.to_dict()) == result


def test_undefined__is_null(result):
    """A metric without ground truth is null in JSON."""
    assert json.loads(result.to_json())["AP_L"] is None


def test_nan__cannot_be_written(result):
    """NaN in a metric is a bug, and writing it is refused."""
    result.AP = float("nan")
    with pytest.raises(ValueError):
        result.to_json()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda d: d.update(schema=2), "result has schema 2; expected 1"),
        (lambda d: d.pop("schema"), "result has schema None; expected 1"),
        (lambda d: d.pop("AP_S"), "result lacks AP_S; expected schema, task"),
        (lambda d: d.update(mAP=1), "result has unknown mAP; expected schema, task"),
        (lambda d: d["protocol"].pop("seed"), "protocol lacks seed; expected evaluator"),
        (lambda d: d.update(protocol=None), "protocol is None; expected an object with evaluator"),
        (lambda d: d["bins"][1].pop("gt"), "bins[1] lacks gt; expected name"),
        (lambda d: d["per_class"]["class 2"].pop("AP"), "per_class['class 2'] lacks AP; expected AP"),
        (lambda d: d.update(bins=None), "result has bins None; expected a list"),
        (lambda d: d["alarms"].pop("Pd"), "alarms lacks Pd; expected conf"),
        (lambda d: d["by"].update(values=[]), "by has values []; expected an object"),
        (lambda d: d["by"]["values"]["1"].update(AR=1), "by['1'] has unknown AR; expected images"),
        (lambda d: d.update(per_class=[]), "result has per_class []; expected an object"),
    ],
)
def test_from_dict__names_the_fault(change, text, result):
    """Another schema version and missing, unknown or malformed keys are refused."""
    document = result.to_dict()
    change(document)
    with pytest.raises(DataError) as error:
        Result.from_dict(document)
    assert str(error.value).startswith(text)


def test_from_dict__reads_documents_from_before_later_keys(result):
    """A document from before a key was added can be read, with that metric undefined."""
    document = result.to_dict()
    for key in ("AP25", "alarms", "by"):
        del document[key]
    del document["protocol"]["match"], document["protocol"]["bins"]
    assert Result.from_dict(document).AP == result.AP
    assert Result.from_dict(document).alarms is None


def test_from_dict__refuses_what_is_no_object():
    """A document that is not an object is refused."""
    with pytest.raises(DataError, match="result has schema 3; expected 1"):
        Result.from_dict(3)
