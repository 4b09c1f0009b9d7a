"""The same boxes in YOLO, COCO and VOC form, in the same order, give the same batches, weights and figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ultralytics.cfg import get_cfg
from ultralytics.data.utils import check_det_dataset

from pixelkeep.datasets.definitions.spec import load_spec
from pixelkeep.datasets.demo import FORMS, write_demo
from pixelkeep.ultra.data.box_dataset import build_dataset
from pixelkeep.ultra.data.resolving import resolve_data, write_resolved

ROOT = Path(__file__).resolve().parents[3]
# Keys of metrics.json that name files, depend on time, or exist for VOC data alone.
FOREIGN = {"data", "weights", "gt_sha256", "speed_ms", "voc"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """The folder of a demo dataset of a few images."""
    return write_demo(tmp_path_factory.mktemp("data") / "tiny", splits={"train": 6, "val": 4, "test": 1}).parent


@pytest.mark.parametrize("name", FORMS.values())
def test_resolved__passes_ultralytics_check_and_changes_nothing(demo, name):
    """The file for Ultralytics passes its check, reads back to the same dataset, and writes nothing beside the data."""
    before = {path: path.stat().st_mtime_ns for path in demo.rglob("*")}
    spec = resolve_data(str(demo / name))
    resolved = write_resolved(spec)
    data = check_det_dataset(str(resolved))
    assert data["names"] == spec.names and load_spec(resolved).form == spec.form
    assert {path: path.stat().st_mtime_ns for path in demo.rglob("*")} == before


@pytest.mark.parametrize("train", [True, False])
def test_samples__identical_in_every_form(demo, train):
    """Images, boxes and classes of every sample are the same to the last bit, augmented or not."""
    samples = []
    for name in FORMS.values():
        spec = load_spec(demo / name)
        args = get_cfg(overrides={"imgsz": 96, "task": "detect", "split": "val"})
        data = {"yaml_file": str(write_resolved(spec)), "names": spec.names, "channels": spec.channels}
        dataset = build_dataset(args, 2, data, train=train, stride=32)
        torch.manual_seed(0)
        seed_all()
        samples.append([dataset[index] for index in range(len(dataset))])
    for other in samples[1:]:
        for one, same in zip(samples[0], other, strict=True):
            assert Path(one["im_file"]).name == Path(same["im_file"]).name
            for key in ("img", "bboxes", "cls"):
                assert torch.equal(one[key], same[key]), key


def seed_all() -> None:
    import random

    import numpy as np

    random.seed(0)
    np.random.seed(0)


def trained(data: Path, folder: Path) -> tuple[dict, dict]:
    """Train for an epoch in a process of its own, and return the weights and the figures."""
    options = "--model yolov5-spd-n --epochs 1 --imgsz 64 --batch 2 --seed 3 --device cpu --set plots=false".split()
    command = [sys.executable, "-m", "pixelkeep", "train", "--data", str(data), *options]
    command += ["--optimizer", "SGD", "--lr0", "0.05", "--project", str(folder), "--name", "run"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    weights = torch.load(folder / "run" / "weights" / "last.pt", weights_only=False)["model"].state_dict()
    return weights, json.loads((folder / "run" / "metrics.json").read_text())


@pytest.mark.slow
def test_training__identical_weights_and_figures_in_every_form(demo, tmp_path):
    """For a seed and a thread count, every form trains to the same weights and scores the same figures."""
    runs = [trained(demo / name, tmp_path / str(number)) for number, name in enumerate(FORMS.values())]
    weights, figures = runs[0]
    for other, scored in runs[1:]:
        assert weights.keys() == other.keys()
        assert all(torch.equal(value, other[name]) for name, value in weights.items())
        assert {k: v for k, v in scored.items() if k not in FOREIGN} == {
            k: v for k, v in figures.items() if k not in FOREIGN
        }
    start = trained(demo / "demo.yaml", tmp_path / "again")[0]
    assert all(torch.equal(value, start[name]) for name, value in weights.items())
