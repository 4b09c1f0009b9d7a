"""YOLOv5's spellings: several numbers for one option, options with an implied value, and how values are read."""

from __future__ import annotations

import pytest

from pixelkeep.cli.main import run
from pixelkeep.ultra.commands import detection, training, validation

SPELLINGS = {
    "train --imgsz 512 640 --epochs 1": {"imgsz": [512, 640], "epochs": 1},
    "train --img 640": {"imgsz": 640},
    "train --imgsz=512 640": {"imgsz": [512, 640]},
    "train --imgsz 512,640": {"imgsz": [512, 640]},
    "train --imgsz [512,640]": {"imgsz": [512, 640]},
    "train --freeze 10": {"freeze": 10},
    "train --freeze 0 1 2 --seed 3": {"freeze": [0, 1, 2], "seed": 3},
    "train --freeze 0 --imgsz 64": {"freeze": 0, "imgsz": 64},
    "train --cache": {"cache": "ram"},
    "train --cache --epochs 1": {"cache": "ram", "epochs": 1},
    "train --cache disk": {"cache": "disk"},
    "train --cache=disk --epochs 1": {"cache": "disk", "epochs": 1},
    "train --pretrained False": {"pretrained": False},
    "train --weights=": {"pretrained": False},
    "train --weights a.pt": {"pretrained": "a.pt"},
    "val --imgsz 512 640 --weights 640": {"imgsz": [512, 640], "weights": "640"},
    "detect --imgsz 512 640 --conf 0.5": {"imgsz": [512, 640], "conf": 0.5},
    "detect --source 0 --classes 0 2": {"classes": "0,2", "sources": ["0"]},
}


class Stop(Exception):
    """An exception that ends a command once its settings are known."""


@pytest.fixture
def given(monkeypatch):
    """Return a function that runs a command up to its work and returns the settings for that work."""
    caught: dict = {}

    def stop(settings, asked=None, **others):
        caught.update(settings | others | (vars(asked) if asked else {}))
        raise Stop

    for module, function in ((training, "train"), (validation, "validate"), (detection, "detect")):
        monkeypatch.setattr(module, function, stop)

    def call(args: list[str]) -> dict:
        with pytest.raises(Stop):
            run(args)
        return caught

    return call


@pytest.mark.parametrize(("line", "expected"), SPELLINGS.items(), ids=SPELLINGS)
def test_spelling__reaches_the_work(given, line, expected):
    """Each spelling arrives as the value that Ultralytics understands and leaves neighbouring options alone."""
    got = given(line.split())
    assert {key: got[key] for key in expected} == expected
    assert all(type(got[key]) is type(value) for key, value in expected.items())


def test_empty_weights__train_from_nothing(given):
    """Empty weights train from scratch, as in YOLOv5."""
    assert given(["train", "--weights", "", "--epochs", "1"])["pretrained"] is False


def test_bare_cache__last_word(given):
    """A bare --cache may be the last word of the command."""
    assert given(["train", "--epochs", "1", "--cache"])["cache"] == "ram"


WRONG = {
    "train --imgsz 64 64 64": "Invalid value for '--imgsz' / '--img': '64,64,64' is not a number of pixels, or height",
    "train --imgsz big": "'big' is not a number of pixels",
    "val --imgsz 640.5": "'640.5' is not a number of pixels",
    "detect --imgsz 640 16": "'640,16' is not a number of pixels, or height and width, of at least 32",
    "train --imgsz 64 -5": "No such option: -5",
    "train --imgsz": "requires an argument",
    "train --freeze head": "Invalid value for '--freeze': 'head' is not a number of layers, or several layer numbers",
    "train --freeze 0 x": "unexpected argument 'x'",
    "train --cache floppy": "cache: 'floppy' is not one of ram, disk",
    "train --weights true": "weights 'true' not found",
    "models --version": "No such option: --version",
}


@pytest.mark.parametrize(("line", "expected"), WRONG.items(), ids=WRONG)
def test_wrong_spelling__one_line(capsys, tmp_path, monkeypatch, line, expected):
    """A wrong value gives one line with the option and what would be right."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        run(line.split())
    out, err = capsys.readouterr()
    assert (ended.value.code, out, err.count("\n")) == (2, "", 1), err
    assert expected in err


def test_yolo__arguments_are_left_alone(monkeypatch, tmp_path):
    """The arguments after yolo are handed on to Ultralytics as they are."""
    import sys

    import ultralytics.cfg

    monkeypatch.setattr(sys, "argv", list(sys.argv))
    seen = []
    monkeypatch.setattr(ultralytics.cfg, "entrypoint", lambda: seen.extend(sys.argv))
    with pytest.raises(SystemExit) as ended:
        run(["yolo", "predict", "--imgsz", "512", "640", "--cache"])
    assert not ended.value.code
    assert seen == ["yolo", "predict", "--imgsz", "512", "640", "--cache"]
