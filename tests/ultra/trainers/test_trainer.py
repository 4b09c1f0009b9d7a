"""The trainer: checkpoints are whole or absent, and small datasets get enough optimizer steps."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

import pytest
import torch
from ultralytics import YOLO
from ultralytics.utils import patches

from pixelkeep.datasets.definitions.spec import load_spec
from pixelkeep.datasets.demo import write_demo
from pixelkeep.errors import StorageError
from pixelkeep.ultra.data.resolving import write_resolved
from pixelkeep.ultra.running.runs import storage
from pixelkeep.ultra.trainers import base as run_trainer
from pixelkeep.ultra.trainers import boxes as module
from pixelkeep.ultra.trainers.base import nominal_batch, strip_whole
from pixelkeep.ultra.trainers.boxes import Trainer
from pixelkeep.ultra.trainers.tally import COLUMNS, Tally


@pytest.mark.parametrize(
    ("images", "batch", "expected"), [(80, 8, 8), (639, 16, 16), (640, 16, 64), (118_000, 16, 64), (80, -1, 64)]
)
def test_nominal_batch__small_data_is_not_starved(images, batch, expected):
    """Below ten optimizer steps per epoch gradients are not accumulated; otherwise Ultralytics' nbs of 64 applies."""
    assert nominal_batch(images, batch) == expected


class Stub(Trainer):
    """A trainer with only its folders and the few settings that saving reads."""

    def __init__(self, folder):
        self.wdir, self.last, self.best = folder, folder / "last.pt", folder / "best.pt"
        self.args, self.tally = SimpleNamespace(imgsz=64, model="x.yaml"), Tally()
        self.rectangle = self.model_given = None
        self.halved = False


@pytest.fixture
def half_written(monkeypatch):
    """Replace Ultralytics' save_model by one that is interrupted while it writes best.pt."""

    def save_model(self):
        self.last.write_bytes(b"new")
        self.best.write_bytes(b"n")
        raise KeyboardInterrupt

    monkeypatch.setattr(module.DetectionTrainer, "save_model", save_model)


def test_save__interrupted_leaves_the_old_files(half_written, tmp_path):
    """An interruption while checkpoints are written leaves the previous ones whole under their names."""
    for name in ("last.pt", "best.pt"):
        (tmp_path / name).write_bytes(b"old")
    stub = Stub(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        stub.save_model()
    assert (tmp_path / "last.pt").read_bytes() == (tmp_path / "best.pt").read_bytes() == b"old"
    assert stub.last == tmp_path / "last.pt"


def test_save__best_is_moved_before_last(monkeypatch, tmp_path):
    """After a crash between the two moves, last.pt is still that of the epoch before, which then runs again."""
    monkeypatch.setattr(module.DetectionTrainer, "save_model", lambda self: [self.last.touch(), self.best.touch()])
    moved = []
    monkeypatch.setattr(run_trainer.os, "replace", lambda a, b: (moved.append(b.name), os.rename(a, b)))
    Stub(tmp_path).save_model()
    assert moved == ["best.pt", "last.pt"]
    assert {p.name for p in tmp_path.iterdir()} == {"best.pt", "last.pt"}


def test_save__of_a_killed_run_nothing_is_moved(monkeypatch, tmp_path):
    """A resumed run does not take the half-written files of a killed run for checkpoints."""
    (tmp_path / ".partial").mkdir()
    (tmp_path / ".partial" / "best.pt").write_bytes(b"half")
    (tmp_path / "best.pt").write_bytes(b"old")
    monkeypatch.setattr(module.DetectionTrainer, "save_model", lambda self: self.last.write_bytes(b"new"))
    Stub(tmp_path).save_model()
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"best.pt": b"old", "last.pt": b"new"}


def test_results__table_is_whole_at_every_moment(monkeypatch, tmp_path):
    """A row is added to a copy of results.csv, which then replaces it; an interruption changes nothing."""
    stub, began = Stub(tmp_path), time.time()
    stub.csv, stub.epoch, stub.train_time_start, stub.spent = tmp_path / "results.csv", 0, began, 5000.0
    stub.save_metrics({"AP": 0.5})
    before = stub.csv.read_text()
    assert 5000 <= float(before.splitlines()[1].split(",")[1]) < 6000 and stub.train_time_start == began
    assert before.splitlines()[0] == f"epoch,time,AP,{','.join(COLUMNS)}" and len(before.splitlines()) == 2

    def interrupted(self, metrics):
        with self.csv.open("a") as file:
            file.write("2,")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module.DetectionTrainer, "save_metrics", interrupted)
        stub.save_metrics({"AP": 0.6})
    assert (stub.csv, stub.csv.read_text()) == (tmp_path / "results.csv", before)
    stub.epoch = 1
    stub.save_metrics({"AP": 0.6})
    assert [line.split(",")[0] for line in stub.csv.read_text().splitlines()] == ["epoch", "1", "2"]
    assert [p.name for p in tmp_path.iterdir()] == ["results.csv"]


def test_strip__full_disk(monkeypatch, tmp_path):
    """PyTorch's error for a full disk becomes one line, and the unstripped checkpoint stays whole."""
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(patches.time, "sleep", lambda seconds: None)  # Ultralytics retries with growing pauses
    path = tmp_path / "last.pt"
    model = YOLO("yolov5-spd-n.yaml", verbose=False).model
    torch.save({"model": None, "ema": model, "optimizer": None, "epoch": 3, "train_args": {}}, path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(StorageError, match=str(tmp_path)), storage(tmp_path):
            strip_whole(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert torch.load(path, weights_only=False)["epoch"] == 3
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_strip__keeps_the_model_and_drops_the_optimizer(tmp_path):
    """A stripped checkpoint holds the EMA's weights in half precision and no optimizer, under the same name."""
    model = YOLO("yolov5-spd-n.yaml", verbose=False).model
    path = tmp_path / "last.pt"
    torch.save({"model": None, "ema": model, "optimizer": {"state": 1}, "epoch": 3, "train_args": {}}, path)
    strip_whole(path)
    content = torch.load(path, weights_only=False)
    assert content["epoch"] == -1 and content["optimizer"] is None
    before, after = model.state_dict(), content["model"].state_dict()
    assert all(torch.equal(before[k].half(), after[k]) for k in before if before[k].is_floating_point())
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_rectangle__reaches_every_batch_and_the_checkpoint(tmp_path):
    """With imgsz [height, width], training and validation use images of that size, and the checkpoint records it."""
    spec = load_spec(write_demo(tmp_path / "demo", splits={"train": 4, "val": 2, "test": 1}))
    settings = {"model": "yolov5-n.yaml", "data": str(write_resolved(spec)), "imgsz": [60, 96], "epochs": 1}
    settings |= {"batch": 2, "workers": 0, "save_dir": str(tmp_path / "run"), "plots": False, "mosaic": 1.0}
    trainer = Trainer(overrides=settings)
    shapes = {"train": set(), "val": set()}
    trainer.add_callback("on_train_start", lambda t: t.model.register_forward_pre_hook(record("train")))
    trainer.add_callback("on_val_batch_start", lambda v: shapes["val"].add(tuple(v.dataloader.dataset.rectangle)))

    def record(split):
        return lambda model, inputs: shapes[split].add(tuple(inputs[0]["img"].shape[2:])) if model.training else None

    trainer.train()
    assert shapes == {"train": {(64, 96)}, "val": {(64, 96)}}  # 60 is rounded up to the stride
    assert torch.load(tmp_path / "run" / "weights" / "last.pt", weights_only=False)["train_args"]["imgsz"] == [64, 96]


@pytest.fixture
def told(monkeypatch):
    """Record the lines that a training logs."""
    lines = []
    monkeypatch.setattr(module.LOGGER, "info", lines.append)
    return lines


@pytest.mark.parametrize(("last", "seconds", "line"), [(0, 4, "1 epoch in 4 s"), (2, 720, "3 epochs in 12 min")])
def test_end__says_what_was_shown_and_how_long_it_took(told, monkeypatch, tmp_path, last, seconds, line):
    """The last lines count the objects shown, learnt or not, and give the time in a suitable unit."""
    stub = Stub(tmp_path)
    stub.csv, stub.epoch, stub.start_epoch, stub.train_time_start = tmp_path / "results.csv", last, 0, 1000.0
    stub.csv.write_text(f"epoch,{','.join(COLUMNS)}\n1,40,2,3,1\n2,50,2,0,1\n")
    monkeypatch.setattr(run_trainer.time, "time", lambda: 1000.0 + seconds)
    stub.final_eval()
    counted = "Over all epochs 90 objects were shown; 4 that the data marks, 3 that augmentation shrank or "
    assert told == [f"{counted}cut too much, and 2 regions were ignored", line]


def test_batch__that_fits_is_the_default_on_a_cpu(told, monkeypatch, tmp_path):
    """On a CPU no memory is measured: one line says which batch size is used instead."""
    stub = Stub(tmp_path)
    stub.device = torch.device("cpu")
    monkeypatch.setattr(module.DetectionTrainer, "auto_batch", None)
    assert stub.auto_batch() == 16
    assert told == ["batch -1 measures the memory of a GPU; on a CPU, batch is 16"]
