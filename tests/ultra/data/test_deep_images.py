"""Sixteen-bit and multi-channel pictures from the data YAML to detection: thermal cameras, microscopes, satellites."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from pixelkeep.cli.main import run
from pixelkeep.evaluation import Result

SIZE, SIDE = (96, 128), 16  # pixels: pictures (height, width), and side of their one hot square


def write_scene(path: Path, channels: int, rng: np.random.Generator) -> tuple[int, int]:
    """Write a 16-bit picture of sensor noise with one warmer square; return that square's left and top."""
    pixels = rng.normal(7000, 20, (*SIZE, channels))
    x, y = int(rng.integers(0, SIZE[1] - SIDE)), int(rng.integers(0, SIZE[0] - SIDE))
    pixels[y : y + SIDE, x : x + SIDE] += 300
    planes = [np.ascontiguousarray(plane) for plane in np.moveaxis(pixels.astype(np.uint16), 2, 0)]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwritemulti(str(path), planes) if channels > 1 else cv2.imwrite(str(path), planes[0])
    return x, y


def write_data(root: Path, channels: int, declared: str, counts: dict[str, int]) -> Path:
    rng = np.random.default_rng(0)
    for split, count in counts.items():
        for index in range(count):
            image = root / "images" / split / f"{index}.{'tif' if channels > 1 else 'png'}"
            x, y = write_scene(image, channels, rng)
            label = root / "labels" / split / f"{index}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            middle = (x + SIDE / 2) / SIZE[1], (y + SIDE / 2) / SIZE[0]
            label.write_text(f"0 {middle[0]} {middle[1]} {SIDE / SIZE[1]} {SIDE / SIZE[0]}\n")
    file = root / "data.yaml"
    file.write_text(f"train: images/train\nval: images/val\nnames: [hot]\n{declared}")
    return file


def command(*args: object) -> int:
    with pytest.raises(SystemExit) as ended:
        run([str(arg) for arg in args])
    return ended.value.code or 0


@pytest.mark.parametrize("channels", [1, 5])
def test_declared__trained_validated_detected(tmp_path, channels, capsys):
    """A declared number of channels and stretch go through training, validation and detection, pictures included."""
    declared = f"channels: {channels}\nstretch: [0.5, 99.5]\n"
    data = write_data(tmp_path / "data", channels, declared, {"train": 4, "val": 2})
    common = ["--project", tmp_path / "runs", "--exist-ok"]
    weights = tmp_path / "runs" / "t" / "weights" / "best.pt"
    train = ["--model", "yolov5-n", "--data", data, "--epochs", 1, "--imgsz", 64, "--batch", 2, "--name", "t"]
    assert command("train", *train, *common, "--set", "plots=true") == 0
    assert command("val", "--weights", weights, "--data", data, "--name", "v", *common) == 0
    detect = ["--weights", weights, "--source", tmp_path / "data" / "images" / "val", "--conf", 0, "--name", "d"]
    assert command("detect", *detect, *common, "--save-crop", "--json") == 0
    assert {p.name for p in (tmp_path / "runs" / "d").glob("*.jpg")} == {"0.jpg", "1.jpg"}
    capsys.readouterr()
    other = write_data(tmp_path / "other", 1, "", {"train": 4, "val": 2})
    assert command("val", "--weights", weights, "--data", other, *common) == 2
    assert f"take images of {channels} channels, but" in capsys.readouterr().err


def test_undeclared__refused_with_the_line_that_declares_it(tmp_path, capsys):
    """Sixteen-bit data without a stretch is refused before anything is written, and the line to add is named."""
    data = write_data(tmp_path / "data", 1, "", {"train": 2, "val": 2})
    assert command("train", "--data", data, "--project", tmp_path / "runs") == 2
    assert "declare 'stretch: [0.5, 99.5]'" in capsys.readouterr().err and not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_thermal__is_learned(tmp_path):
    """A 16-bit camera's warm squares, invisible in the upper eight bits, are learned, and found in new pictures."""
    data = write_data(tmp_path / "data", 1, "channels: 1\nstretch: [0.5, 99.5]\n", {"train": 24, "val": 8, "test": 4})
    train = ["--data", data, "--imgsz", 128, "--epochs", 25, "--batch", 4, "--optimizer", "AdamW", "--lr0", 0.002]
    assert command("train", *train, "--project", tmp_path / "runs") == 0
    result = Result.from_dict(json.loads((tmp_path / "runs" / "exp" / "metrics.json").read_text()))
    assert result.AP50 > 0.8  # measured 1.0
    weights = tmp_path / "runs" / "exp" / "weights" / "best.pt"
    source = tmp_path / "data" / "images" / "test"
    found = ["detect", "--weights", weights, "--source", source, "--save-json", "--project", tmp_path / "runs"]
    assert command(*found, "--name", "found") == 0
    boxes = json.loads((tmp_path / "runs" / "found" / "predictions.json").read_text())
    best = {}
    for box in sorted(boxes, key=lambda box: box["score"]):
        best[box["file_name"]] = box["bbox"]
    assert len(best) == 4
    for index in range(4):
        label = (tmp_path / "data" / "labels" / "test" / f"{index}.txt").read_text().split()
        middle = float(label[1]) * SIZE[1], float(label[2]) * SIZE[0]
        x, y, w, h = best[f"{index}.png"]
        assert abs(x + w / 2 - middle[0]) < SIDE / 2 and abs(y + h / 2 - middle[1]) < SIDE / 2
