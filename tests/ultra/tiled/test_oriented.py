"""Oriented boxes: detection in whole images and in tiles agrees with Ultralytics, and every output is right."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from test_tiled import SIDE, call
from ultralytics import YOLO
from ultralytics.nn.tasks import OBBModel

import pixelkeep
from pixelkeep.tiling import Merged, Seams
from pixelkeep.tiling import run as tiling_run
from pixelkeep.ultra.commands.journal import Journal

NAMES = {0: "ship", 1: "plane"}
COLUMNS = slice(0, 7)  # centre, sides, radians, score, class


def write_weights(path):
    """Write an Ultralytics checkpoint that finds rotated boxes of a dozen pixels in noise, with distinct scores."""
    torch.manual_seed(3)
    model = OBBModel("yolo11n-obb.yaml", nc=len(NAMES), verbose=False)
    model.names = NAMES
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    model.train()(torch.rand(2, 3, SIDE, SIDE))  # so that activations neither vanish nor saturate
    for boxes, scores, angles in zip(model.model[-1].cv2, model.model[-1].cv3, model.model[-1].cv4, strict=True):
        torch.nn.init.normal_(scores[-1].weight, std=0.01)
        torch.nn.init.constant_(scores[-1].bias, -1.5)
        torch.nn.init.normal_(angles[-1].weight, std=0.05)
        boxes[-1].weight.data *= 0.2
        boxes[-1].bias.data = torch.tensor([4.0] * 2 + [-4.0] * 14).repeat(4)  # makes the sides about one cell long
    model.args, model.task = {}, "obb"
    torch.save({"model": model.half(), "train_args": {}}, path)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "w.pt")


def plain(weights, image: np.ndarray, imgsz: int = SIDE) -> np.ndarray:
    """Return Ultralytics' own detections as rows of centre, sides, angle in radians, score and class."""
    (result,) = YOLO(weights, task="obb").predict(
        image, imgsz=imgsz, conf=0.25, device="cpu", verbose=False, save=False
    )
    return result.obb.data.numpy()


def rows(found) -> np.ndarray:
    return np.column_stack([found.rotated, found.scores, found.classes])


def in_order(found: np.ndarray) -> np.ndarray:
    return found[np.lexsort(found[:, :2].round(1).T)]


def assert_equal(found: np.ndarray, expected: np.ndarray, atol: float = 1e-3) -> None:
    assert len(found) == len(expected) > 5
    np.testing.assert_allclose(in_order(found), in_order(expected), atol=atol)


def test_one_tile__equals_plain_detection(weights, noise):
    """With one tile as large as the image, detections equal those of Ultralytics."""
    found = pixelkeep.TiledDetector(weights, tile=SIDE, device="cpu")(noise[:, :SIDE])
    expected = plain(weights, noise[:, :SIDE])
    assert np.ptp(expected[:, 4]) > 0.05 and len(set(expected[:, 6])) == 2
    assert_equal(rows(found), expected)
    assert found.plot().shape[2] == 3


def test_tiles__are_crops_in_their_places(weights, noise, monkeypatch):
    """Every tile gives what plain detection finds in that crop, moved to its place in the image."""

    def keep(found, *_: object) -> Merged:
        return Merged(found.boxes, found.scores, found.classes, Seams(), found.rotated)

    monkeypatch.setattr(tiling_run, "merge", keep)
    found = pixelkeep.TiledDetector(weights, tile=SIDE, overlap=0, device="cpu", batch=2)(noise)
    left, right = (plain(weights, noise[:, start : start + SIDE]) for start in (0, SIDE))
    right[:, 0] += SIDE
    assert_equal(rows(found), np.vstack([left, right]), atol=5e-3)  # convolutions round differently in a batch


def test_scale__tile_is_seen_at_imgsz(weights, noise):
    """A tile of 64 pixels seen at 128 equals plain detection of that crop at 128, in pixels of the image."""
    found = pixelkeep.TiledDetector(weights, tile=64, imgsz=SIDE, device="cpu")(noise[:64, :64])
    assert_equal(rows(found), plain(weights, noise[:64, :64]))


@pytest.mark.parametrize("tile", [None, SIDE])
def test_detect__every_output(weights, noise, tmp_path, capfd, tile):
    """The drawn image, JSON, CSV, label file and crops agree, with and without tiles."""
    cv2.imwrite(str(tmp_path / "a.png"), noise[:, :SIDE])
    words = ["--tile", tile] if tile else ["--imgsz", SIDE]
    code, text, _ = call(
        "detect", "--weights", weights, "--source", tmp_path / "a.png", *words, "--device", "cpu", "--save-json",
        "--save-csv", "--save-txt", "--save-crop", "--json", "--project", tmp_path / "runs", capfd=capfd,
    )  # fmt: skip
    summary, folder = json.loads(text), tmp_path / "runs" / "exp"
    expected = plain(weights, noise[:, :SIDE])
    assert code == 0 and summary["task"] == "obb" and sum(summary["detections"].values()) == len(expected)
    records = json.loads((folder / "predictions.json").read_text())
    found = np.array([[*record["obb"], record["score"], record["category_id"] - 1] for record in records])
    assert_equal(found, expected)
    corners = np.array([record["segmentation"][0] for record in records]).reshape(-1, 4, 2)
    for box, points, record in zip(found, corners, records, strict=True):
        np.testing.assert_allclose(points.mean(0), box[:2], atol=2e-3)
        sides = np.linalg.norm(points - np.roll(points, -1, 0), axis=1)
        np.testing.assert_allclose(sorted(sides), sorted([*box[2:4]] * 2), atol=4e-3)
        x, y, width, height = record["bbox"]
        around = [*points.min(0), *points.max(0)]
        np.testing.assert_allclose([x, y, x + width, y + height], around, atol=4e-3)
    label = np.loadtxt(folder / "labels" / "a.txt")
    assert label.shape == (len(expected), 9)
    np.testing.assert_allclose(np.sort(label[:, 1:].mean(1)), np.sort((corners / SIDE).mean((1, 2))), atol=1e-4)
    table = (folder / "predictions.csv").read_text().splitlines()
    assert table[0].endswith("x1,y1,x2,y2,center_x,center_y,width,height,radians")
    last = np.array([[float(value) for value in line.split(",")[-5:]] for line in table[1:]])
    np.testing.assert_allclose(last, found[:, :5], atol=1e-6)
    assert (folder / "a.jpg").exists()
    assert len(list((folder / "crops").rglob("*.jpg"))) == len(expected)


@pytest.mark.parametrize(
    "command, words, message",
    [
        ("detect", ["--track"], "--track has no effect"),
        ("detect", ["--conf", "auto"], "--conf-auto has no effect in detect for task 'obb'"),
        ("val", ["--tile", "128"], "'pixelkeep yolo obb val'"),
        ("train", ["--tile", "128", "--data", "demo"], "'pixelkeep yolo obb train'"),
    ],
)
def test_refused__by_one_line(weights, noise, tmp_path, capfd, command, words, message):
    """What is not available for oriented boxes is refused in one line that says what is."""
    cv2.imwrite(str(tmp_path / "a.png"), noise)
    given = ["--model", weights] if command == "train" else ["--weights", weights]
    source = ["--source", tmp_path / "a.png"] if command == "detect" else []
    code, _, error = call(command, *given, *source, *words, capfd=capfd)
    told = " ".join(error.split())
    assert code == 2 and "Traceback" not in error
    assert message.replace("-auto", " auto") in told or message in told


@pytest.mark.parametrize("name", ["yolo11n-seg", "yolo11n-pose"])
def test_other_tasks__refused_by_one_line(tmp_path, noise, capfd, name):
    """Weights for instance segmentation and pose are refused in one line that names the command to use."""
    model = YOLO(f"{name}.yaml").model
    model.args = {}
    torch.save({"model": model.half(), "train_args": {}}, tmp_path / "w.pt")
    cv2.imwrite(str(tmp_path / "a.png"), noise)
    code, _, error = call(
        "detect", "--weights", tmp_path / "w.pt", "--source", tmp_path / "a.png", "--tile", 128, capfd=capfd
    )
    told = " ".join(error.split())
    assert code == 2 and f"is for task '{model.task}'" in told and "Traceback" not in error
    assert told.endswith(f"use 'pixelkeep yolo {model.task}'")


@pytest.fixture(scope="module")
def exported(weights):
    """Export the network to ONNX with Ultralytics' exporter."""
    return YOLO(weights, task="obb").export(format="onnx", imgsz=SIDE, device="cpu")


@pytest.mark.parametrize("tile", [None, SIDE])
def test_export__finds_what_the_checkpoint_finds(weights, exported, noise, tmp_path, capfd, tile):
    """An exported file gives the same rotated boxes as the checkpoint, with and without tiles."""
    cv2.imwrite(str(tmp_path / "a.png"), noise if tile else noise[:, :SIDE])
    words = ["--tile", tile] if tile else []
    found = []
    for name, file in (("own", weights), ("file", exported)):
        more = [] if tile or name == "file" else ["--imgsz", SIDE]
        code, _, error = call(
            "detect", "--weights", file, "--source", tmp_path / "a.png", *words, *more, "--device", "cpu",
            "--save-json", "--project", tmp_path, "--name", name, "--conf", "0.3", capfd=capfd,
        )  # fmt: skip
        assert code == 0, error
        records = json.loads((tmp_path / name / "predictions.json").read_text())
        found.append(np.array([[*record["obb"], record["score"], record["category_id"]] for record in records]))
    assert_equal(found[1], found[0], atol=2e-2)


def write_film(path, noise: np.ndarray, frames: int = 8) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, noise.shape[1::-1])
    for number in range(frames):
        writer.write(np.roll(noise, 4 * number, axis=1))
    writer.release()


def test_video__killed_and_gone_on_with(weights, noise, tmp_path, capfd, monkeypatch):
    """A tiled detection of oriented boxes in a video, cut off and resumed, records what an uninterrupted run does."""
    write_film(tmp_path / "a.mp4", noise)
    add = Journal.add

    def added(self: Journal, entry: dict) -> None:
        add(self, entry)
        if entry.get("frame") == 3:
            shutil.copytree(tmp_path / "whole", tmp_path / "cut")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", added)
        code, _, error = call(
            "detect", "--weights", weights, "--source", tmp_path / "a.mp4", "--tile", SIDE, "--device", "cpu",
            "--save-json", "--save-csv", "--save-txt", "--project", tmp_path, "--name", "whole", capfd=capfd,
        )  # fmt: skip
    assert code == 0, error
    code, _, error = call("detect", "--resume", tmp_path / "cut", capfd=capfd)
    assert code == 0, error
    for name in ("predictions.json", "predictions.csv", "labels/a_8.txt"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_video__tiles_in_turn(weights, noise, tmp_path, capfd):
    """At a rate that leaves too little time, tiles of oriented boxes are processed in turn, and the summary says so."""
    write_film(tmp_path / "a.mp4", noise)
    code, text, error = call(
        "detect", "--weights", weights, "--source", tmp_path / "a.mp4", "--tile", SIDE, "--device", "cpu",
        "--fps", 1000, "--json", "--project", tmp_path, capfd=capfd,
    )  # fmt: skip
    assert code == 0, error
    (told,) = json.loads(text)["videos"].values()
    assert told["tiles"] == 3 and told["frames"] <= told["tiles_looked_at"] < 3 * told["frames"]
    assert told["frames"] + told["skipped"] == 8
