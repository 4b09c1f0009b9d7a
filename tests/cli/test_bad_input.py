"""Bad input gives one clear line on standard error, exit status 2, empty output, and no new or changed file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from ultralytics.nn.tasks import ClassificationModel, DetectionModel

from pixelkeep.cli.main import run

ROOT = Path(__file__).resolve().parents[2]
DATA = "train: images/train\nval: images/val\nnames: [car, person]\n"


class Executes:
    """An object that creates a file when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch executed",)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with a good dataset and weights, and with bad ones of every kind."""
    folder = tmp_path_factory.mktemp("workplace")
    for split in ("train", "val"):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
        cv2.imwrite(str(folder / "images" / split / "a.png"), np.zeros((64, 64, 3), np.uint8))
        (folder / "labels" / split / "a.txt").write_text("0 .5 .5 .2 .2\n")
    write_data(folder)
    write_weights(folder)
    (folder / "block.yaml").write_text("nc: 2\nbackbone:\n - [-1, 1, SPDConvv, [8]]\nhead: []\n")
    (folder / "hello.yaml").write_text("hello: 1\n")
    (folder / "film.mp4").write_bytes(b"no film" * 99)
    (folder / "files.txt").write_text("gone.png\n")
    (folder / "binary.yaml").write_bytes(bytes(range(256)))
    (folder / "runs" / "train" / "exp" / "weights").mkdir(parents=True)
    (folder / "runs" / "train" / "exp" / "metrics.json").write_text("{}")
    return folder


def write_data(folder):
    texts = {
        "good": DATA,
        "no-train": DATA.replace("train:", "tain:"),
        "no-val": DATA.replace("val: images/val\n", ""),
        "no-names": DATA.replace("names:", "nmaes:"),
        "no-folder": DATA.replace("images/val", "images/vla"),
        "list": "- 1\n",
        "broken": "train: [\n",
        "three": DATA.replace("person", "person, bus"),
    }
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)


def write_weights(folder):
    model = DetectionModel("yolov5-spd-n.yaml", nc=2, verbose=False)
    model.names = {0: "car", 1: "person"}
    torch.save({"model": model.half(), "train_args": {"imgsz": 64}}, folder / "good.pt")
    torch.save({"model": torch.nn.Linear(1, 1)}, folder / "linear.pt")
    torch.save({"model": model, "extra": Executes()}, folder / "evil.pt")
    torch.save({"model": ClassificationModel("yolov8n-cls.yaml", nc=2, verbose=False)}, folder / "classes.pt")
    content = (folder / "good.pt").read_bytes()
    (folder / "cut.pt").write_bytes(content[: len(content) // 2])
    (folder / "empty.pt").touch()


def state(folder):
    """Return every path below a folder, with the content of each file and None for folders."""
    return {p: p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


@pytest.fixture
def command(workplace, monkeypatch, capsys):
    """Return a function that runs a command, asserts that it fails cleanly, and returns its standard error."""
    monkeypatch.chdir(workplace)

    def call(args):
        before = state(workplace)
        with pytest.raises(SystemExit) as end:
            run(args.split())
        out, err = capsys.readouterr()
        assert (end.value.code, out) == (2, ""), err
        assert "Traceback" not in err
        assert state(workplace) == before
        return err

    return call


TRAIN = "train --epochs 1 --imgsz 64 --data good.yaml"
DETECT = "detect --imgsz 64 --weights good.pt --source images/val"
VAL = "val --imgsz 64 --weights good.pt --data good.yaml"
LINES = {
    f"{TRAIN} --model yolov5-spdd-n": "model 'yolov5-spdd-n' not found; did you mean 'yolov5-spd-n'?",
    f"{TRAIN} --model yolov5-spd": "which size? One of yolov5-spd-n, yolov5-spd-s",
    f"{TRAIN} --model yolov5-spd-q": "yolov5-spd has no size 'q'; give one of n, s, m, l, x",
    f"{TRAIN} --model gone.yaml": "model 'gone.yaml' not found",
    f"{TRAIN} --model god.pt": "weights 'god.pt' not found; did you mean 'good.pt'?",
    f"{TRAIN} --model cut.pt": "damaged, truncated or not a PyTorch checkpoint",
    f"{TRAIN} --model evil.pt": "refused without executing it",
    f"{TRAIN} --weights god.pt": "did you mean 'good.pt'?",
    f"{TRAIN} --weights linear.pt": "no model inside",
    f"{TRAIN} --weights good.yaml": "a '.yaml' file; give a PyTorch checkpoint (.pt or .safetensors)",
    "train": "no data given: pass --data YOUR.yaml",
    "train --data god.yaml": "data 'god.yaml' not found",
    "train --data dmo": "data 'dmo' not found; did you mean 'demo'?",
    "train --data images": "data 'images' is a folder; detection takes a dataset YAML",
    "train --data images/val/a.png": "cannot be read as text",
    "train --data no-train.yaml": "no 'train:'; a dataset YAML needs train, val and names; is it written as 'tain'?",
    "train --data no-val.yaml": "no 'val:'; a dataset YAML needs train, val and names",
    "train --data no-names.yaml": "no 'names:'; give the classes as a list or as 'index: name'; is it written as",
    "train --data no-folder.yaml": "'val: images/vla' not found at",
    "train --data list.yaml": "a dataset YAML is a mapping with train, val and names, not list",
    "train --data broken.yaml": "broken.yaml, line 2: not valid YAML",
    "train --data binary.yaml": "binary.yaml: cannot be read as text",
    f"{TRAIN} --device gpu": "device: 'gpu' is not there; give cpu, or GPUs by their numbers",
    f"{TRAIN} --device 99": "device: '99' is not there; give cpu, or GPUs by their numbers",
    f"{TRAIN} --optimizer AdanW": "did you mean 'AdamW'?",
    f"{TRAIN} --cache floppy": "cache: 'floppy' is not one of ram, disk",
    f"{TRAIN} --best mAP": "best: 'mAP' is not one of AP, AP_S",
    f"{TRAIN} --batch 0": "batch: '0' is not a positive whole number",
    f"{TRAIN} --seed -1": "'seed=-1' is an invalid value",
    f"{TRAIN} --config dmo": "--config dmo: no such recipe; did you mean 'demo'?",
    f"{TRAIN} --config list.yaml": "a recipe is a mapping of settings, not list",
    f"{TRAIN} --config binary.yaml": "binary.yaml: cannot be read as text",
    f"{TRAIN} --set mosiac=1": "unknown setting 'mosiac'; did you mean 'mosaic'?",
    f"{TRAIN} --set mosaic=a": "'mosaic=a' is of invalid type str",
    f"{TRAIN} --set mosaic": "--set mosaic: write it as key=value",
    "train runs/train/exp": "to go on with a run, write --resume runs/train/exp",
    "train --resume": "--resume: no unfinished run in runs/train",
    "train --resume gone": "--resume gone: no such run",
    "train --resume runs/train/exp": "last.pt is missing, so nothing can be resumed",
    "train --resume --epochs 3 --set lr0=0.1": "leave out --epochs, --set lr0=0.1",
    "detect": "no source given: pass --source",
    "detect --source images/val": "no weights given and no trained run",
    f"{DETECT} --source images/vla": "source 'images/vla' not found; did you mean 'val'?",
    "detect --weights good.pt --source images/*.bmp": "no images or videos there",
    "detect --weights good.pt --source good.yaml": "'.yaml' is neither an image",
    "detect --weights good.pt --source film.mp4": "cannot be opened as a video",
    "detect --weights good.pt --source files.txt": "it lists 'gone.png', which is neither here nor in",
    f"{DETECT} --weights empty.pt": "weights 'empty.pt': the file is empty",
    f"{DETECT} --weights cut.pt": "weights 'cut.pt': damaged, truncated or not a PyTorch checkpoint",
    f"{DETECT} --weights linear.pt": "weights 'linear.pt': no model inside",
    f"{DETECT} --weights evil.pt": "weights 'evil.pt': refused without executing it",
    f"{DETECT} --weights classes.pt --conf 0.5": "setting 'conf' has no effect in detect for task 'classify'",
    f"{DETECT} --weights classes.pt --classes car": "--classes has no effect in detect for task 'classify'",
    f"{DETECT} --classes cra": "--classes cra: no such class; did you mean 'car'? (classes: car, person)",
    f"{DETECT} --classes 7": "--classes 7: no such class",
    f"{DETECT} --device 99": "device: '99' is not there",
    f"{DETECT} --set imgsz=big": "imgsz: 'big' is not a positive number of pixels",
    f"{DETECT} --set embed=[1]": "embed: [1] cannot be set",
    "val --data good.yaml": "no weights given and no trained run",
    f"{VAL} --weights evil.pt": "refused without executing it",
    f"{VAL} --weights classes.pt": "has no class folders; classification data has a folder of images for each class",
    f"{VAL} --weights classes.pt --audit": "--audit has no effect in val for task 'classify'; it is for detection",
    f"{VAL} --split test": "no split 'test'; it has train, val",
    f"{VAL} --data three.yaml": "know 2 classes (car, person), but",
    f"{VAL} --device gpu": "device: 'gpu' is not there",
    f"{VAL} --set epochs=7": "setting 'epochs' has no effect in val; it is for train",
    f"{DETECT} --set mosaic=0.1": "setting 'mosaic' has no effect in detect; it is for train",
    f"{TRAIN} --set vid_stride=2": "setting 'vid_stride' has no effect in train; it is for detect",
    "models nothing-like-it": "no model name contains 'nothing-like-it'",
}


@pytest.mark.parametrize(("args", "expected"), LINES.items(), ids=LINES)
def test_bad_input__one_line(command, args, expected):
    """Bad input gives one line that opens with the program's name and says what is wrong or would be right."""
    err = command(args)
    assert err.startswith("pixelkeep: ") and err.count("\n") == 1 and err.endswith("\n")
    assert expected in err


def test_unusable_project__ends_with_one_line(command):
    """A run folder that cannot be created is reported in one line, after the scan of the data."""
    last = command(f"{TRAIN} --project good.pt").splitlines()[-1]
    assert last.startswith("pixelkeep: cannot create the run folder good.pt/exp")


USAGE = {
    "trian": "No such command 'trian'",
    "train --epoch 3": "No such option: --epoch",
    "train --epochs many": "Invalid value for '--epochs'",
    "train --epochs 0": "Invalid value for '--epochs'",
    "train --imgsz 8": "Invalid value for '--imgsz'",
    "detect --conf 2": "Invalid value for '--conf'",
    "detect --max-det 0": "Invalid value for '--max-det'",
    "val --workers -1": "Invalid value for '--workers'",
    "val --weights": "requires an argument",
}


@pytest.mark.parametrize(("args", "expected"), USAGE.items(), ids=USAGE)
def test_bad_usage__one_line(command, args, expected):
    """A wrong option, type or range is answered by one line that says what is wrong."""
    err = command(args)
    assert err.startswith("pixelkeep: ") and err.count("\n") == 1
    assert expected in err


UNBUILDABLE = {
    f"{TRAIN} --model block.yaml": "unknown block 'SPDConvv'; did you mean 'SPDConv'?",
    f"{TRAIN} --model hello.yaml": "hello.yaml",
    f"{TRAIN} --model list.yaml": "list.yaml",
    f"{TRAIN} --model binary.yaml": "binary.yaml",
    f"{TRAIN} --model images/val/a.png": "a.png",
    f"{TRAIN} --model classes.pt": "has no class folders",
    f"{TRAIN} --model yolo11-seg-n": "is for task 'segment'; these commands support detection, classification and",
    f"{TRAIN} --model yolo11-cls-n --best AP_S": "best: 'AP_S' is not measured in classification; give one of top1",
    f"{TRAIN} --model yolo11-cls-n --set mosaic=0.5": "setting 'mosaic' has no effect in train for task 'classify'",
    f"{TRAIN} --model yolo11-cls-n --imgsz 32 64": "is a rectangle; task 'classify' takes one side in pixels",
    f"{TRAIN} --best top1": "best: 'top1' is not measured in detection; give one of AP, AP_S",
    f"{TRAIN} --model yolo26-sem-n --set dropout=0.1": "setting 'dropout' has no effect in train for task 'semantic'",
    f"{TRAIN} --model yolo26-sem-n": "images of split 'train' cannot be used",
    "train --data demo-sem": "data 'demo-sem' is made for task 'semantic', not for 'detect'; use demo",
    "detect --weights good.pt --source 97": "97",
}


@pytest.mark.parametrize(("args", "expected"), UNBUILDABLE.items(), ids=UNBUILDABLE)
def test_unbuildable__one_line(command, args, expected):
    """A model that cannot be built or used, or a missing camera, gives one line and leaves no run folder behind."""
    *progress, told = command(args).splitlines()
    assert told.startswith("pixelkeep: ") and expected in told
    assert all(line.startswith("checking train images: 100%") for line in progress)  # if no test has checked them yet


@pytest.mark.parametrize("start", [[str(ROOT / "train.py")], ["-m", "pixelkeep", "train"]], ids=["script", "module"])
def test_process__exit_status(workplace, tmp_path, start):
    """A process started from another folder ends with status 2, one line and nothing on standard output."""
    command = [sys.executable, *start, "--data", str(workplace / "good.yaml"), "--model", str(workplace / "evil.pt")]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("pixelkeep: ") and done.stderr.count("\n") == 1
    assert "refused without executing it" in done.stderr
    assert not list(tmp_path.iterdir())
