"""The command pixelkeep convert, and the option --set path=."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from pixelkeep import assets
from pixelkeep.cli.main import run
from pixelkeep.datasets.demo import write_demo


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """The folder of a demo dataset of a few images."""
    return write_demo(tmp_path_factory.mktemp("data") / "tiny", splits={"train": 4, "val": 3, "test": 1}).parent


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        run([str(word) for word in words])
    return ended.value.code


@pytest.mark.parametrize(("source", "to"), [("demo.yaml", "coco"), ("coco.yaml", "voc"), ("voc/voc.yaml", "yolo")])
def test_convert__writes_and_reports(demo, tmp_path, capsys, source, to):
    """The command writes a dataset and prints a table of its content and place, or one document with --json."""
    assert call("convert", demo / source, "--to", to, "--output", tmp_path / "a") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["split", "images", "objects", "regions"]
    assert [line.split()[:2] for line in lines[2:5]] == [["train", "4"], ["val", "3"], ["test", "1"]]
    assert lines[-1].split()[1] == str(tmp_path / "a" / "data.yaml")
    assert call("convert", demo / source, "--to", to, "-o", tmp_path / "b", "--link", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert {split: counts["images"] for split, counts in document["splits"].items()} == {
        "train": 4,
        "val": 3,
        "test": 1,
    }
    assert yaml.safe_load((tmp_path / "b" / "data.yaml").read_text())["names"]


def test_convert__divides_by_group(demo, tmp_path, capsys):
    """--split with --group keeps the pattern's groups together and reports their number."""
    words = ("convert", demo / "coco.yaml", "--to", "coco", "-o", tmp_path / "out", "--json")
    assert call(*words, "--split", "0.5", "--seed", "3", "--group", "(.*)_") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["groups"] == 2 and sorted(c["images"] for c in document["splits"].values()) == [1, 3, 4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "cocoo"], "--to cocoo: not one of yolo, coco, voc; did you mean 'coco'?"),
        (["--to", "coco", "--seed", "1"], "--seed and --group say how to divide images; give --split as well"),
        (["--to", "coco", "--split", "1.5"], "--split 1.5: the share"),
        (["--to", "coco", "--set", "epochs=3"], "--set epochs: has no effect in convert"),
        (["--to", "coco", "--set", "path=nowhere"], "--set path=nowhere: not a folder"),
        ([], "Missing option '--to'"),
    ],
)
def test_convert__bad_options_one_line(demo, tmp_path, capsys, options, message):
    """Bad options end with one line and exit status 2, and nothing is written."""
    assert call("convert", demo / "demo.yaml", "-o", tmp_path / "out", *options) == 2
    captured = capsys.readouterr()
    assert captured.err.strip().splitlines()[-1].startswith(f"pixelkeep: {message}") and not captured.out
    assert not (tmp_path / "out").exists()


def test_convert__full_output_refused(demo, capsys):
    """An output folder that is not empty is refused."""
    assert call("convert", demo / "demo.yaml", "--to", "coco", "-o", demo) == 2
    assert "already exists and is not empty; give a new folder" in capsys.readouterr().err


def test_bundled_data__found_by_path(demo, tmp_path, capsys, monkeypatch):
    """A bundled dataset whose folder is elsewhere is found by --set path= in train, val and convert."""
    monkeypatch.setenv("PIXELKEEP_DATASETS_DIR", str(tmp_path))
    folder = tmp_path / "mine"
    shutil.copytree(demo / "images" / "train", folder / "images")
    document = json.loads((demo / "annotations" / "train.json").read_text())
    names = {"person": "Person", "car": "Car", "truck": "Bicycle", "boat": "OtherVehicle", "building": "DontCare"}
    document["categories"] = [{**c, "name": names[c["name"]]} for c in document["categories"]]
    for split in ("train", "val"):
        path = folder / "annotations" / f"{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(document))
    for command in (["convert", "hituav", "--to", "yolo", "-o", tmp_path / "x"], ["train", "--data", "hituav"]):
        assert call(*command) == 2
        assert "'path: hituav' is not a folder" in (told := capsys.readouterr().err) and "--set path=FOLDER" in told
    words = ["--set", f"path={folder}"]
    assert call("convert", "hituav", "--to", "yolo", "-o", tmp_path / "x", *words) == 0
    tiny = "--model yolov5-n --epochs 1 --imgsz 64 --batch 2 --set plots=false --set mosaic=0 --device cpu".split()
    assert call("train", "--data", "hituav", *words, *tiny, "--project", tmp_path, "--name", "run") == 0
    assert yaml.safe_load((tmp_path / "run" / "data.yaml").read_text())["path"] == str(folder)
    assert "path" not in yaml.safe_load((tmp_path / "run" / "settings.yaml").read_text())
    best = tmp_path / "run" / "weights" / "best.pt"
    capsys.readouterr()
    assert call("val", "--weights", best, "--data", "hituav", *words, "--project", tmp_path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["data"] == str(assets.find("data", "hituav"))


def test_path__needs_data_that_has_one(demo, tmp_path, capsys, monkeypatch):
    """A folder given without data, or for generated data, is refused rather than silently ignored."""
    monkeypatch.setattr("pixelkeep.ultra.data.resolving._generate", lambda name: demo / "demo.yaml")
    assert call("train", "--data", "demo", "--set", f"path={tmp_path}") == 2
    assert "has no effect on data 'demo', which is generated" in capsys.readouterr().err
    assert call("train", "--set", f"path={tmp_path}") == 2
    assert "no data given: pass --data" in capsys.readouterr().err
