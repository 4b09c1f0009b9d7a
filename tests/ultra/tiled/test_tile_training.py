"""Training in tiles, end to end on a mosaic of demo scenes: its windows, its metrics, validation and resuming."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import yaml
from ultralytics.cfg import get_cfg

from pixelkeep.datasets.demo import write_demo
from pixelkeep.datasets.loading import load_split
from pixelkeep.errors import OptionError
from pixelkeep.ultra.commands import training
from pixelkeep.ultra.commands.validation import validate
from pixelkeep.ultra.data.box_dataset import build_dataset
from pixelkeep.ultra.data.resolving import resolve_data
from pixelkeep.ultra.data.window_dataset import WindowDataset
from pixelkeep.ultra.running.settings import check_task, merge
from pixelkeep.ultra.tiled.epochs import TiledEpochs
from pixelkeep.ultra.tiled.images import Request, Tiles
from pixelkeep.ultra.tiled.validator import TiledValidator
from pixelkeep.ultra.weights.checkpoints import load, model_of

TILE = 256
NETWORK = {
    "nc": 2,
    "backbone": [[-1, 1, "Conv", [8, 3, 4]], [-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [16, 3, 2]]],
    "head": [[[1, 2], 1, "Detect", ["nc"]]],
}
PLAIN = ["batch=16", "workers=0", "plots=false", "optimizer=SGD", "lr0=0.01", "warmup_epochs=0", "max_det=20"]
PLAIN += ["conf=0.00001"]  # so that even an untrained network detects something
FILES = {".jpg", ".png", ".npy"}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Stitch scenes of 256 pixels 4 x 4 into one image, used for training and validation."""
    folder = tmp_path_factory.mktemp("mosaic")
    demo = resolve_data(str(write_demo(folder / "demo", splits={"train": 16, "val": 1, "test": 1})))
    records, rows = load_split(demo, "train").records, []
    side = records[0].width
    canvas = np.zeros((4 * side, 4 * side, 3), np.uint8)
    for number, record in enumerate(records):
        x, y = number % 4 * side, number // 4 * side
        canvas[y : y + side, x : x + side] = cv2.imread(str(record.path))
        for box, kind in zip(record.boxes + np.array([x, y, x, y]), record.classes, strict=True):
            middle, sides = (box[:2] + box[2:]) / 2 / (4 * side), (box[2:] - box[:2]) / (4 * side)
            rows.append(f"{kind} {middle[0]} {middle[1]} {sides[0]} {sides[1]}\n")
    for part in ("images", "labels"):
        (folder / part).mkdir()
    cv2.imwrite(str(folder / "images" / "large.png"), canvas)
    (folder / "labels" / "large.txt").write_text("".join(rows))
    names = list(demo.names.values())
    (folder / "data.yaml").write_text(yaml.safe_dump({"train": "images", "val": "images", "names": names}))
    (folder / "net.yaml").write_text(yaml.safe_dump(NETWORK | {"nc": len(names)}))
    return folder / "data.yaml"


def settings(data: Path, project: Path, *assignments: str, **flags) -> dict:
    flags = {"model": str(data.parent / "net.yaml"), "data": str(data), "project": str(project), "tile": TILE} | flags
    return merge(flags, command="train", assignments=[*PLAIN, *assignments])


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> tuple[Path, list[tuple[int, int]]]:
    """Train three epochs, the last without mosaics; return the run folder and the samples that were shown."""
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WindowDataset, "__getitem__", _noting(shown))
        _, folder = training.train(settings(data, tmp_path_factory.mktemp("run"), "close_mosaic=1", epochs=3))
    return folder, shown


def _noting(shown: list):
    original = WindowDataset.__getitem__

    def get(self: WindowDataset, place: tuple[int, int]) -> dict:
        shown.append(place)
        return original(self, place)

    return get


def test_epochs__show_all_their_windows_once(trained):
    """Three epochs show the windows of epochs 0, 1 and 2 although mosaics end in between; no tile is on disk."""
    folder, shown = trained
    count = len(shown) // 3
    assert shown == [(epoch, number) for epoch in range(3) for number in range(count)] and count >= 12
    assert not [path for path in folder.rglob("*") if path.suffix in FILES]


def test_figures__are_those_of_tiles(trained, data):
    """metrics.json records the tiles, and ``val --tile auto`` finds the same tile and gives the same figures."""
    folder, _ = trained
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["protocol"]["tile"] | {"size": TILE, "imgsz": TILE} == metrics["protocol"]["tile"]
    assert yaml.safe_load((folder / "settings.yaml").read_text())["tile"] == TILE
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 and all(row["AP"] == row["metrics/mAP50-95(B)"] for row in rows)
    chosen = {"weights": str(folder / "weights" / "best.pt"), "data": str(data), "max_det": 20, "conf": 1e-5}
    again, other = validate(chosen | {"project": str(folder.parent), "name": "again"}, tiling=Request(tile="auto"))
    assert again.protocol.tile == metrics["protocol"]["tile"]
    assert (other / "predictions.json").read_text() == (folder / "predictions.json").read_text()
    assert json.loads((folder / "predictions.json").read_text())


@pytest.mark.parametrize(("asked", "expected"), [(None, (TILE, TILE)), (64, (64, 64)), (512, (512, 512))])
def test_auto__keeps_the_scale_of_the_training(trained, asked, expected):
    weights = load(trained[0] / "weights" / "best.pt")
    tiles = Request(tile="auto").resolve(weights, {} if asked is None else {"imgsz": asked})
    assert (tiles.size, tiles.imgsz) == expected


def test_epochs_validation__is_val_tile(trained, data, tmp_path):
    """Validation after an epoch finds what ``val --tile`` finds with the same weights."""
    weights = trained[0] / "weights" / "best.pt"
    spec = resolve_data(str(data))
    split, network = load_split(spec, "val"), model_of(load(weights)).float()
    options = {"max_det": 20, "conf": 1e-5, "data": str(data), "plots": False}
    args = get_cfg(overrides=options | {"imgsz": TILE})
    images = build_dataset(
        args, 4, {"names": spec.names, "channels": 3, "yaml_file": str(data)}, train=False, stride=32
    )
    loader = torch.utils.data.DataLoader(images, 4)
    ours = TiledEpochs(loader, tile=TILE, save_dir=tmp_path, args=args, best="AP", limit=20)
    items = dict.fromkeys(("box_loss", "cls_loss"), torch.zeros(1))
    trainer = SimpleNamespace(ema=SimpleNamespace(ema=network), device=torch.device("cpu"), amp=False, loss_items=items)
    trainer.args, trainer.data = args, {"names": spec.names, "val": str(data.parent)}
    trainer.label_loss_items = lambda losses, prefix: {f"{prefix}/{key}": value for key, value in losses.items()}
    stats = ours(trainer)
    theirs = TiledValidator(
        Tiles(size=TILE, imgsz=TILE),
        options | {"model": str(weights), "device": "cpu", "split": "val"},
        spec,
        split,
        20,
    )
    theirs()
    one, other = ours.detections(), theirs.detections()
    assert len(one.scores) == len(other.scores) == 20
    rows = np.column_stack([other.category_ids * 1e4, other.boxes_xywh])
    for number in np.argsort(-one.scores)[:15]:  # at max_det, detections of equal score may change places
        distances = abs(rows - [one.category_ids[number] * 1e4, *one.boxes_xywh[number]]).max(1)
        assert distances.min() < 0.01 and other.scores[distances.argmin()] == pytest.approx(
            one.scores[number], rel=1e-3
        )
    assert np.isnan(stats["val/box_loss"]) and stats["fitness"] == pytest.approx(1.001 * stats["AP"], abs=1e-4)


def test_resume__goes_on_with_the_same_windows(trained, data, tmp_path, monkeypatch):
    """A run interrupted in its second epoch shows after ``--resume`` the windows that an uninterrupted run shows."""
    shown, whole = [], trained[1]
    with monkeypatch.context() as patch:
        patch.setattr(WindowDataset, "__getitem__", _stopping(shown, len(whole) // 2))
        with pytest.raises(KeyboardInterrupt):
            training.train(settings(data, tmp_path, "close_mosaic=1", epochs=3))
    resumed = []
    monkeypatch.setattr(WindowDataset, "__getitem__", _noting(resumed))
    _, folder = training.resume(str(tmp_path / "exp"), {}, requested=True, assignments=None)
    assert shown == whole[: len(whole) // 2] and resumed == whole[len(whole) // 3 :]
    assert len((folder / "results.csv").read_text().splitlines()) == 4
    assert json.loads((folder / "metrics.json").read_text())["protocol"]["tile"]["size"] == TILE


def _stopping(shown: list, after: int):
    noting = _noting(shown)

    def get(self: WindowDataset, place: tuple[int, int]) -> dict:
        if len(shown) == after:
            raise KeyboardInterrupt
        return noting(self, place)

    return get


@pytest.mark.parametrize(
    ("assignments", "told"),
    [
        (["tile=20"], "tile: '20' is not a number of pixels of at least 32"),
        (["tile=auto"], "tile: 'auto' is not a number of pixels"),
        (["empty_tiles=0.95"], "empty_tiles: '0.95' is not between 0.0 and 0.9"),
        (["tile_visibility=2"], "tile_visibility: '2' is not between 0.0 and 1.0"),
        (["zoom=0.5"], "zoom: 0.5 has no meaning in windows of --tile"),
        (["rect=true"], "rect: True has no meaning in windows of --tile"),
        (["imgsz=[64, 128]"], "imgsz: with tile, give one side"),
    ],
)
def test_wrong_settings__are_refused(data, tmp_path, assignments, told):
    with pytest.raises(OptionError, match=told.replace("[", r"\[")):
        settings(data, tmp_path, *assignments)


@pytest.mark.parametrize("name", ["empty_tiles", "tile_visibility"])
def test_settings_of_tiles__need_tiles(data, tmp_path, name):
    with pytest.raises(OptionError, match=f"{name}: 0.7 has no effect without tile"):
        settings(data, tmp_path, f"{name}=0.7", tile=None)


@pytest.mark.parametrize("task", ["classify", "semantic"])
def test_other_tasks__refuse_tiles(task):
    with pytest.raises(OptionError, match=f"'tile' has no effect in train for task '{task}'; it is for detect"):
        check_task({"tile": TILE}, "train", task)


@pytest.mark.parametrize("command", ["val", "detect"])
def test_tile_as_setting__names_the_option(command):
    with pytest.raises(OptionError, match=f"setting 'tile' has no effect in {command}; give --tile"):
        merge({}, command=command, assignments=["tile=640"])


def test_tile_between_cells__is_rounded_up():
    """A tile is rounded up to whole cells, unless an image size is given to which its windows are resized."""
    given = {"tile": 100}
    assert training._whole_cells(given) == given["tile"] == 128
    assert training._whole_cells({"tile": 100, "imgsz": 320}) == 100
    assert training._whole_cells({}) is None
