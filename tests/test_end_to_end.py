"""From data to boxes on a tiny demo set: train, validate, detect, and load in plain Ultralytics."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from pycocotools.coco import COCO

from pixelkeep.cli.main import run
from pixelkeep.datasets.demo import write_demo
from pixelkeep.evaluation import Result
from pixelkeep.ultra.running.settings import merge

ROOT = Path(__file__).resolve().parent.parent
TINY = ["--imgsz", "96", "--batch", "4", "--set", "plots=false", "--set", "optimizer=AdamW", "--set", "mosaic=0"]
COLUMNS = ["AP", "AP_S", "AP_M", "AP_L"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A demo dataset of a few images, in a folder whose path has a space and a scale letter."""
    return write_demo(tmp_path_factory.mktemp("exp5s of mine") / "tiny", splits={"train": 8, "val": 4, "test": 2})


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> Path:
    """The run folder of a training of two epochs."""
    project = tmp_path_factory.mktemp("runs")
    command("train", "--data", str(data), "--epochs", "2", "--project", str(project), *TINY)
    return project / "exp"


def command(*args: str) -> None:
    """Run a command in this process and expect it to succeed."""
    with pytest.raises(SystemExit) as ended:
        run(list(args))
    assert not ended.value.code


def spawn(*args: str, cwd: Path) -> subprocess.Popen:
    """Start a command in its own process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-m", "pixelkeep", *args]
    return subprocess.Popen(line, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def rows(folder: Path) -> list[dict]:
    path = folder / "results.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_train__run_folder_is_complete(trained, data):
    """A run folder holds settings, environment, data, model, weights, per-epoch metrics and the final result."""
    names = {p.name for p in trained.iterdir()}
    assert names >= {"settings.yaml", "environment.json", "data.yaml", "model.yaml", "metrics.json", "results.csv"}
    assert {p.name for p in (trained / "weights").iterdir()} == {"best.pt", "last.pt"}
    assert not [p for p in trained.rglob("*") if p.suffix in {".png", ".jpg"}]  # plots are off
    assert [row["epoch"] for row in rows(trained)] == ["1", "2"]
    assert all(set(COLUMNS) <= set(row) for row in rows(trained))
    result = Result.from_dict(json.loads((trained / "metrics.json").read_text()))
    assert (result.model, result.data, result.images) == ("yolov5-spd-n", str(data), 4)
    assert result.protocol.evaluator == "pycocotools" and result.protocol.imgsz == 96
    assert result.counts["S"] > result.counts["L"] and result.protocol.ignored > 0


def test_val__equals_the_end_of_training(trained, data, tmp_path, capsys):
    """val gives the final result of training, and --json prints exactly the document in metrics.json."""
    weights = trained / "weights" / "best.pt"
    command("val", "--weights", str(weights), "--data", str(data), "--project", str(tmp_path), "--json", *TINY[2:4])
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((tmp_path / "exp" / "metrics.json").read_text())
    before = json.loads((trained / "metrics.json").read_text())
    for key in ("AP", "AP50", "AP_S", "AP_M", "AP_L", "AR", "per_class", "counts", "gt_sha256", "params", "gflops"):
        assert document[key] == before[key], key


def test_predictions__refer_to_the_coco_form(trained, data):
    """predictions.json is in COCO results format and refers to the COCO annotations of the same data."""
    predictions = json.loads((trained / "predictions.json").read_text())
    truth = COCO(str(data.parent / "annotations" / "val.json"))
    found = truth.loadRes(predictions)  # raises for unknown images
    assert set(found.getCatIds()) == set(truth.getCatIds())
    assert {p["category_id"] for p in predictions} <= set(truth.cats)
    assert all(0 < p["score"] <= 1 and p["bbox"][2] >= 0 and p["bbox"][3] >= 0 for p in predictions)


def test_resume__finished_run_is_refused(trained, capsys):
    """Resuming a finished run is refused with a message that says so."""
    with pytest.raises(SystemExit) as ended:
        run(["train", "--resume", str(trained)])
    assert ended.value.code == 2 and "finished" in capsys.readouterr().err


def test_detect__pictures_and_video(trained, data, tmp_path, capsys):
    """detect annotates images and a video, and writes labels, crops and COCO results of the same boxes."""
    sources = ["--source", str(data.parent / "images" / "test"), "--source", str(data.parent / "demo.mp4")]
    saving = ["--save-txt", "--save-crop", "--save-json", "--conf", "0.001", "--max-det", "5", "--vid-stride", "8"]
    weights = ["--weights", str(trained / "weights" / "best.pt"), "--project", str(tmp_path)]
    command("detect", *sources, *weights, *saving, "--json")
    summary, folder = json.loads(capsys.readouterr().out), tmp_path / "exp"
    records = json.loads((folder / "predictions.json").read_text())
    assert summary["images"] == 2 + 5 and sum(summary["detections"].values()) == len(records) > 0
    assert {p.name for p in folder.glob("*.jpg")} == {"test_000.jpg", "test_001.jpg"}
    video = cv2.VideoCapture(str(folder / "demo.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    assert {record["frame"] for record in records if "frame" in record} <= {8, 16, 24, 32, 40}
    lines = sum(len(p.read_text().splitlines()) for p in (folder / "labels").glob("*.txt"))
    assert lines == len(records) == len(list((folder / "crops").rglob("*.jpg")))


def test_weights__by_default_the_newest_run_which_is_named(trained, data, tmp_path, monkeypatch, capsys):
    """Without --weights the most recent training is used and named; if there is none, the message says what to do."""
    picture = str(next((data.parent / "images" / "test").iterdir()))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        run(["detect", "--source", picture])
    assert ended.value.code == 2 and "pixelkeep demo" in capsys.readouterr().err
    (tmp_path / "runs" / "train").mkdir(parents=True)
    (tmp_path / "runs" / "train" / "exp").symlink_to(trained)
    command("detect", "--source", picture, "--no-save", "--json")
    used = tmp_path / "runs" / "train" / "exp" / "weights" / "best.pt"
    assert json.loads(capsys.readouterr().out)["weights"] == str(used)
    command("val", "--data", str(data), *TINY[:4], "--set", "plots=false")
    assert f"\nweights   {used}\nresults   " in capsys.readouterr().out


def test_best__by_small_objects_needs_some(trained, tmp_path, capsys):
    """--best AP_S is refused before anything is written if the validation data has no small object."""
    for split in ("train", "val"):
        (tmp_path / "images" / split).mkdir(parents=True)
        (tmp_path / "labels" / split).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "images" / split / "a.png"), cv2.UMat(128, 128, cv2.CV_8UC3).get())
        (tmp_path / "labels" / split / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    yaml = tmp_path / "large.yaml"
    yaml.write_text("train: images/train\nval: images/val\nnames: [thing]\n")
    with pytest.raises(SystemExit) as ended:
        run(["train", "--data", str(yaml), "--best", "AP_S", "--project", str(tmp_path / "runs")])
    assert ended.value.code == 2 and "AP_S" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_unlabelled__refused_and_nothing_overwritten(trained, tmp_path, capsys):
    """Data without any label is refused in one line, and --exist-ok leaves the existing run untouched."""
    for split in ("train", "val"):
        (tmp_path / "images" / split).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "images" / split / "a.png"), cv2.UMat(64, 64, cv2.CV_8UC3).get())
    (tmp_path / "bare.yaml").write_text("train: images/train\nval: images/val\nnames: [thing]\n")
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as ended:
        where = ["--project", str(trained.parent), "--name", "exp", "--exist-ok"]
        run(["train", "--data", str(tmp_path / "bare.yaml"), *where])
    assert ended.value.code == 2
    assert "no image of split" in capsys.readouterr().err.splitlines()[-1]
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


def test_settings_of_a_run__are_a_recipe(trained):
    """The settings file in a run folder can be passed to another run as its recipe."""
    settings = merge({}, command="train", recipe=str(trained / "settings.yaml"))
    assert (settings["epochs"], settings["imgsz"], settings["mosaic"]) == (2, 96, 0)


def test_smallest_size__validates(trained, data, tmp_path):
    """val works at the smallest image size, where the deepest feature map is a single cell."""
    weights = ["--weights", str(trained / "weights" / "best.pt"), "--data", str(data)]
    command("val", *weights, "--imgsz", "32", "--project", str(tmp_path))
    assert json.loads((tmp_path / "exp" / "metrics.json").read_text())["gflops"] > 0


def test_detect__damaged_picture_is_named(trained, data, tmp_path, capsys):
    """An unreadable image is counted and named, and it is an error if no image can be read."""
    good, bad = next((data.parent / "images" / "test").iterdir()), tmp_path / "bad.jpg"
    bad.write_bytes(good.read_bytes()[:100])
    weights = ["--weights", str(trained / "weights" / "best.pt"), "--project", str(tmp_path)]
    command("detect", "--source", str(good), "--source", str(bad), *weights, "--json")
    assert json.loads(capsys.readouterr().out)["unreadable"].keys() == {str(bad)}
    with pytest.raises(SystemExit) as ended:
        run(["detect", "--source", str(bad), *weights])
    assert ended.value.code == 2 and "bad.jpg" in capsys.readouterr().err.splitlines()[-1]


def test_yolo__is_ultralytics_command_line(tmp_path):
    """pixelkeep yolo hands its arguments to Ultralytics' own command line."""
    process = spawn("yolo", "version", cwd=tmp_path)
    out, errors = process.communicate()
    assert process.returncode == 0 and out.strip()[0].isdigit(), errors


def test_plain_ultralytics__loads_the_checkpoint_in_a_fresh_process(trained, tmp_path):
    """A pixelkeep checkpoint predicts and is rebuilt in a process that never imports pixelkeep itself."""
    code = (
        "from ultralytics import YOLO; import sys; m = YOLO(sys.argv[1]);"
        "n = YOLO(m.model.yaml['yaml_file']).load(m.model);"
        "print(type(m.model).__name__, sum('SpaceToDepth' in str(type(x)) for x in n.model.modules()))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ULTRALYTICS_SAFE_LOAD": "false"}  # Ultralytics' default
    line = [sys.executable, "-c", code, str(trained / "weights" / "best.pt")]
    out = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "DetectionModel 6"
