"""The options of val that add figures: they reach the result, the table and the limit of detections."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ultralytics.nn.tasks import DetectionModel

from pixelkeep.cli.main import run
from pixelkeep.datasets.definitions.forms import VOC
from pixelkeep.datasets.demo import CLASSES, FORMS, write_demo


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A demo dataset of a few images, in YOLO form and with VOC and COCO files beside it."""
    return write_demo(tmp_path_factory.mktemp("data") / "tiny", splits={"train": 1, "val": 3, "test": 1})


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A checkpoint with random weights."""
    model = DetectionModel("yolov5-n.yaml", nc=len(CLASSES), verbose=False)
    model.names = dict(enumerate(CLASSES))
    path = tmp_path_factory.mktemp("weights") / "random.pt"
    torch.save({"model": model.half(), "train_args": {}}, path)
    return path


@pytest.fixture
def val(data, weights, tmp_path, capfd):
    """Return a function that runs val and returns exit status, standard output and standard error."""

    def call(*options: str, source: Path = data) -> tuple[int, str, str]:
        given = ["--data", str(source), "--weights", str(weights), "--project", str(tmp_path / "runs"), "--imgsz", "64"]
        with pytest.raises(SystemExit) as ended:
            run(["val", *given, *options])
        return ended.value.code or 0, *capfd.readouterr()

    return call


def test_every_option__reaches_result_and_table(val, tmp_path):
    """Bins, match, file name parts, VOC figures and the alarms' confidence reach metrics.json and the table."""
    options = ("--bins", "0,8,32", "--match", "center:3", "--by", r"(?P<digit>\d)\.", "--voc", "--alarm-conf", "0.1")
    code, table, _ = val(*options)
    document = json.loads((tmp_path / "runs" / "exp" / "metrics.json").read_text())
    protocol = document["protocol"]
    assert code == 0 and [b["name"] for b in document["bins"]] == ["0-8", "8-32"]
    assert (protocol["match"], protocol["evaluator"], protocol["bins"]) == ("center:3", "pixelkeep", "0-8,8-32")
    assert sum(part["images"] for part in document["by"]["values"].values()) == 3 and document["by"]["name"] == "digit"
    assert document["alarms"]["conf"] == 0.1 and document["voc"].keys() == {"AP50_11", "AP50_area"}
    for text in ("0 to 8 px", "digit", "VOC AP50", "false alarms", "match center:3"):
        assert text in table


@pytest.mark.parametrize(
    ("options", "limit"),
    [(("--bins", "aitod"), 1500), (("--bins", "visdrone"), 500), (("--bins", "aitod", "--max-det", "7"), 7)],
)
def test_benchmark__limits_suppression_too(val, tmp_path, options, limit):
    """A benchmark's limit on detections holds in NMS as in the evaluation, and --max-det overrides it."""
    assert val(*options)[0] == 0
    document = json.loads((tmp_path / "runs" / "exp" / "metrics.json").read_text())
    assert document["protocol"]["max_dets"] == limit
    found = json.loads((tmp_path / "runs" / "exp" / "predictions.json").read_text())
    images = [detection["image_id"] for detection in found]
    assert max(map(images.count, set(images)), default=0) <= limit


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--bins", "aitodd"), "bins 'aitodd'; expected aitod, visdrone, or rising sides"),
        (("--match", "center"), "match 'center'; expected one of iou, nwd, center:3"),
        (("--by", "(dusk)"), "by '(dusk)' matches none of 3 file names, such as images/val/"),
        (("--by", "("), "by '(' is not a regular expression"),
        (("--evaluator", "coco"), "evaluator 'coco'; expected pixelkeep, pycocotools, faster-coco-eval"),
        (("--evaluator", "pycocotools", "--match", "nwd"), "evaluator 'pycocotools' matches by IoU alone"),
    ],
)
def test_wrong_option__one_line_and_no_folder(val, tmp_path, options, text):
    """A wrong value is refused before anything is run or written."""
    code, out, err = val(*options)
    assert code == 2 and out == "" and text in err and "Traceback" not in err
    assert not (tmp_path / "runs").exists()


def test_voc_data__has_voc_figures_unasked(val, data):
    """Data in VOC form gets VOC figures without --voc; the same data in YOLO form does not."""
    assert json.loads(val("--json")[1])["voc"] is None
    figures = json.loads(val("--json", source=data.parent / FORMS[VOC])[1])["voc"]
    assert figures.keys() == {"AP50_11", "AP50_area"} and all(0 <= value <= 1 for value in figures.values())
