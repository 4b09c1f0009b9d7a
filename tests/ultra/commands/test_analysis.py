"""Analyses of a validation besides AP: the files they write, the confidences they store, and what is refused."""

from __future__ import annotations

import csv
import json
from functools import partial

import cv2
import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from ultralytics.nn.tasks import DetectionModel

from pixelkeep.cli.main import run
from pixelkeep.datasets.demo import CLASSES, write_demo
from pixelkeep.evaluation import Detections
from pixelkeep.evaluation.operating import operating_point
from pixelkeep.ultra.commands import analysis
from pixelkeep.ultra.validators.boxes import Validator
from pixelkeep.ultra.weights.checkpoints import load
from pixelkeep.ultra.weights.confidence import KEY

FOUND = {"errors.json", "misses.jpg", "label_audit.csv", "label_audit.json", "label_audit.jpg"}
TINY = "--epochs 1 --imgsz 64 --batch 2 --set plots=false --set mosaic=0 --set warmup_epochs=0".split()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_demo(tmp_path_factory.mktemp("demo") / "tiny", splits={"train": 2, "val": 4, "test": 1})


@pytest.fixture
def weights(tmp_path):
    """A checkpoint of yolov5-spd-n with random weights."""
    torch.manual_seed(3)
    model = DetectionModel("yolov5-spd-n.yaml", nc=len(CLASSES), verbose=False)
    model.names = dict(enumerate(CLASSES))
    path = tmp_path / "w.pt"
    torch.save({"model": model.half(), "train_args": {"imgsz": 64}}, path)
    return path


def labels_of(truth):
    """Return the labels that are not ignored, as detection records with a score of 0.8."""
    keys = ("image_id", "category_id", "bbox")
    return [{key: a[key] for key in keys} | {"score": 0.8} for a in truth["annotations"] if not a["ignore"]]


@pytest.fixture
def stub(monkeypatch):
    """Make the detector find every label except the first two small ones, and one object that does not exist."""

    def detections(self):
        records = labels_of(self.truth)
        small = [r for r in records if r["bbox"][2] * r["bbox"][3] < 32**2][:2]
        nowhere = {"image_id": 1, "category_id": 1, "bbox": [244.0, 0.0, 11.0, 11.0], "score": 0.6}
        return Detections.from_json([r for r in records if r not in small] + [nowhere])

    monkeypatch.setattr(Validator, "detections", detections)


def val(weights, data, folder, *options):
    with pytest.raises(SystemExit) as ended:
        run(["val", "--weights", str(weights), "--data", str(data), "--project", str(folder), "--name", "r", *options])
    return ended.value.code, folder / "r"


def test_errors_and_audit__files_agree(stub, weights, data, tmp_path, capsys):
    """errors.json and the audit report two missed objects and one false detection, and both pictures are drawn."""
    code, folder = val(weights, data, tmp_path, "--errors", "--audit", "--at", "conf=0.5", "--set", "plots=false")
    assert not code and {path.name for path in folder.iterdir()} >= FOUND
    out = capsys.readouterr().out
    assert "Operating point (conf=0.5, IoU 0.5): confidence 0.50; " in " ".join(out.split()) and "Label audit: " in out
    errors = json.loads((folder / "errors.json").read_text())
    metrics = json.loads((folder / "metrics.json").read_text())
    objects = sum(entry["gt"] for entry in metrics["per_class"].values())
    assert errors["all"]["objects"] == {
        "total": objects, "matched": objects - 2, "wrong_class": 0, "badly_placed": 0, "missed": 2
    }  # fmt: skip
    assert errors["all"]["detections"]["background"] == 1
    assert metrics["operating_point"]["overall"]["detections"] == objects - 1
    with (folder / "label_audit.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["kind"] for row in rows) == ["missing label", "never found", "never found"]
    reader = COCO(str(folder / "label_audit.json"))
    assert [a["score"] for a in reader.anns.values()] == pytest.approx([float(r["score"]) for r in rows], abs=1e-4)
    assert all((data.parent / image["file_name"]).is_file() for image in reader.imgs.values())
    for name in ("misses.jpg", "label_audit.jpg"):
        picture = cv2.imread(str(folder / name))
        assert picture.shape[1] > 600 and picture.std() > 20


def test_unasked__writes_and_stores_nothing(stub, weights, data, tmp_path):
    """Without the options no such file is written, those of an earlier run are removed, and the weights stay."""
    content = weights.read_bytes()
    val(weights, data, tmp_path, "--errors", "--audit", "--set", "plots=false")
    _, folder = val(weights, data, tmp_path, "--exist-ok", "--set", "plots=false")
    assert not FOUND & {path.name for path in folder.iterdir()}
    assert weights.read_bytes() == content
    point = json.loads((folder / "metrics.json").read_text())["operating_point"]
    assert point["objective"] == "f1" and list(point["per_class"]) == list(CLASSES)


def test_store_conf__keeps_what_metrics_say(stub, weights, data, tmp_path, monkeypatch):
    """--store-conf writes the confidences in metrics.json into the weights, chosen by the requested objective."""
    monkeypatch.setattr(analysis, "operating_point", partial(operating_point, enough=1))
    code, folder = val(weights, data, tmp_path, "--store-conf", "--at", "precision=1", "--set", "plots=false")
    point = json.loads((folder / "metrics.json").read_text())["operating_point"]
    kept = load(weights)[KEY]
    own = [entry["confidence"] for entry in point["per_class"].values()]
    assert not code and kept["objective"] == "precision=1" and kept["imgsz"] == 64 and kept["split"] == "val"
    assert kept["confidence"] == [point["single"]["confidence"] if value is None else value for value in own]
    assert len(set(kept["confidence"])) > 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--split train", "chosen on val, not on train"),
        ("--set single_cls=true", "leave out single_cls"),
        ("--set classes=[0]", "leave out classes"),
        ("--at precision=high", "--at precision=high"),
    ],
)
def test_store_conf__refused_before_anything_is_written(weights, data, tmp_path, options, said, capsys):
    """--store-conf is refused for other splits, for merged or chosen classes, and for an invalid objective."""
    content = weights.read_bytes()
    code, folder = val(weights, data, tmp_path, "--store-conf", *options.split())
    assert code == 2 and said in capsys.readouterr().err.splitlines()[-1]
    assert not folder.exists() and weights.read_bytes() == content


def test_no_point__results_stay_and_it_is_told(weights, data, tmp_path, monkeypatch, capsys, caplog):
    """If no confidence meets the objective, errors use 0.25, metrics.json is there; --store-conf ends in one line."""
    monkeypatch.setattr(Validator, "detections", lambda self: Detections.from_json([]))
    content = weights.read_bytes()
    code, folder = val(weights, data, tmp_path, "--store-conf", "--errors", "--set", "plots=false")
    assert code == 2 and "no confidence serves f1" in capsys.readouterr().err.splitlines()[-1]
    assert "errors and audit use confidence 0.25" in caplog.text
    assert set(json.loads((folder / "errors.json").read_text())["confidence"].values()) == {0.25}
    point = json.loads((folder / "metrics.json").read_text())["operating_point"]
    assert point["single"]["confidence"] is None and weights.read_bytes() == content


def test_audit__of_the_training_split(stub, weights, data, tmp_path):
    """The audit examines the split that is requested."""
    code, folder = val(weights, data, tmp_path, "--audit", "--split", "train", "--set", "plots=false")
    images = json.loads((folder / "label_audit.json").read_text())["images"]
    assert not code and images and all("train" in image["file_name"] for image in images)


def test_train__keeps_the_confidences_of_its_end(stub, data, tmp_path):
    """Training's final validation stores the confidences in best.pt, for the image size of the training."""
    with pytest.raises(SystemExit) as ended:
        run(["train", "--data", str(data), "--project", str(tmp_path), "--name", "t", *TINY])
    point = json.loads((tmp_path / "t" / "metrics.json").read_text())["operating_point"]
    checkpoint = load(tmp_path / "t" / "weights" / "best.pt")
    assert not ended.value.code and checkpoint[KEY]["imgsz"] == 64
    own = [entry["confidence"] for entry in point["per_class"].values()]
    pairs = zip(checkpoint[KEY]["confidence"], own, strict=True)
    assert all(kept == (point["single"]["confidence"] if value is None else value) for kept, value in pairs)
    assert KEY not in load(tmp_path / "t" / "weights" / "last.pt")


def test_deep_images__can_be_shown(stub, tmp_path, weights):
    """The pictures show grey 16-bit images as the network sees them."""
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / kind / split).mkdir(parents=True)
        image = np.random.default_rng(0).integers(0, 60_000, (64, 64), dtype=np.uint16)
        cv2.imwrite(str(tmp_path / "images" / split / "a.png"), image)
        (tmp_path / "labels" / split / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n1 0.2 0.2 0.1 0.1\n2 0.8 0.8 0.1 0.1\n")
    yaml = tmp_path / "deep.yaml"
    yaml.write_text(f"train: images/train\nval: images/val\nnames: {list(CLASSES)}\nchannels: 1\nstretch: [1, 99]\n")
    model = DetectionModel("yolov5-spd-n.yaml", ch=1, nc=len(CLASSES), verbose=False)
    model.names, model.yaml["channels"] = dict(enumerate(CLASSES)), 1
    torch.save({"model": model.half(), "train_args": {"imgsz": 64}}, weights)
    code, folder = val(weights, yaml, tmp_path / "runs", "--errors", "--audit", "--set", "plots=false")
    assert not code and cv2.imread(str(folder / "misses.jpg")).std() > 20
