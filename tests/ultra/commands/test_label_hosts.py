"""Classification and segmentation networks go through train, val and detect, a few steps each.

Training runs in this process. val and detect run in a new one, which knows the weights only from their file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from pixelkeep.cli.main import run
from pixelkeep.datasets.demo.labels import write_class_demo, write_mask_demo

CLASSIFY = {
    "resnet18-cls": 32,
    "resnet18-spd-cls": 32,
    "resnet50-slicesamp-cls": 32,
    "resnet50-lip-cls": 64,
    "densenet121-lip-cls": 64,
}
SEMANTIC = {
    "yolo26-sem-n": 64,
    "yolo26-slicesamp-up-sem-n": 64,
    "resnet18-cad-sem": 64,
    "resnet18-select-sem": 64,
}
FRESH = """
import sys
from pixelkeep.cli.main import run
for line in sys.argv[1:]:
    try:
        run(line.split("|"))
    except SystemExit as ended:
        if ended.code:
            raise
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, Path]:
    """A demo set of a few images for each task."""
    root = tmp_path_factory.mktemp("data")
    return {
        "classify": write_class_demo(root / "cls", per_class={"train": 2, "val": 1, "test": 1}),
        "semantic": write_mask_demo(root / "sem", splits={"train": 4, "val": 2, "test": 1}),
    }


@pytest.mark.slow
@pytest.mark.parametrize("model", [*CLASSIFY, *SEMANTIC])
def test_host__trains_validates_and_detects(model, data, tmp_path):
    """Under safe loading the weights load in a new process, and give there the figures that training wrote."""
    task = "classify" if model in CLASSIFY else "semantic"
    size = (CLASSIFY | SEMANTIC)[model]
    line = ["train", "--model", model, "--data", data[task], "--imgsz", size, "--epochs", 1, "--batch", 2]
    with pytest.raises(SystemExit) as ended:
        run([str(word) for word in (*line, "--project", tmp_path, "--set", "plots=false", "--set", "workers=0")])
    assert not ended.value.code
    trained = json.loads((tmp_path / "exp" / "metrics.json").read_text())
    weights = tmp_path / "exp" / "weights" / "best.pt"
    val = ["val", "--weights", weights, "--data", data[task], "--project", tmp_path, "--name", "val"]
    source = data[task].parent / ("test/boat" if task == "classify" else "images/test")
    detect = ["detect", "--weights", weights, "--source", source, "--project", tmp_path, "--name", "seen"]
    lines = ["|".join(map(str, words)) for words in (val, [*detect, "--save-json"])]
    subprocess.run([sys.executable, "-c", FRESH, *lines], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    again = json.loads((tmp_path / "val" / "metrics.json").read_text())
    for key in ("per_class", "params", "gflops", "images"):
        assert again[key] == trained[key], key
    (row,) = json.loads((tmp_path / "seen" / "predictions.json").read_text())
    if task == "classify":
        assert sum(entry["score"] for entry in row["predicted"]) == pytest.approx(1, abs=1e-4)
    else:
        assert sum(row["pixels"].values()) == 256**2
    (picture,) = (tmp_path / "seen").glob("*.jpg")
    assert cv2.imread(str(picture)) is not None
