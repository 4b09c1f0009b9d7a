"""The trainer: checkpoints are whole or not there, small data is not starved of optimizer steps."""

from __future__ import annotations

import os

import pytest
import torch
from ultralytics import YOLO

from pixelkeep.ultra import trainer as module
from pixelkeep.ultra.trainer import Trainer, nominal_batch, strip_whole


@pytest.mark.parametrize(
    ("images", "batch", "expected"), [(80, 8, 8), (639, 16, 16), (640, 16, 64), (118_000, 16, 64), (80, -1, 64)]
)
def test_nominal_batch__small_data_is_not_starved(images, batch, expected):
    """Below ten optimizer steps an epoch gradients are not accumulated; above, Ultralytics' 64 stands."""
    assert nominal_batch(images, batch) == expected


class Stub(Trainer):
    """A trainer with nothing but its folders."""

    def __init__(self, folder):
        self.wdir, self.last, self.best = folder, folder / "last.pt", folder / "best.pt"


@pytest.fixture
def half_written(monkeypatch):
    """Ultralytics' save_model, interrupted while it writes best.pt."""

    def save_model(self):
        self.last.write_bytes(b"new")
        self.best.write_bytes(b"n")
        raise KeyboardInterrupt

    monkeypatch.setattr(module.DetectionTrainer, "save_model", save_model)


def test_save__interrupted_leaves_the_old_files(half_written, tmp_path):
    """An interruption while checkpoints are written leaves the former ones whole under their names."""
    for name in ("last.pt", "best.pt"):
        (tmp_path / name).write_bytes(b"old")
    stub = Stub(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        stub.save_model()
    assert (tmp_path / "last.pt").read_bytes() == (tmp_path / "best.pt").read_bytes() == b"old"
    assert stub.last == tmp_path / "last.pt"


def test_save__best_is_moved_before_last(monkeypatch, tmp_path):
    """After a crash between the two moves last.pt still is the epoch before, which then runs again."""
    monkeypatch.setattr(module.DetectionTrainer, "save_model", lambda self: [self.last.touch(), self.best.touch()])
    moved = []
    monkeypatch.setattr(module.os, "replace", lambda a, b: (moved.append(b.name), os.rename(a, b)))
    Stub(tmp_path).save_model()
    assert moved == ["best.pt", "last.pt"]
    assert {p.name for p in tmp_path.iterdir()} == {"best.pt", "last.pt"}


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
