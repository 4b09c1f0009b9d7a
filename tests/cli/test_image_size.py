"""--imgsz with one number and with two, in val and detect: the size of the network's input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ultralytics.nn.tasks import DetectionModel

from pixelkeep.cli.main import run
from pixelkeep.datasets.demo import CLASSES, write_demo
from pixelkeep.ultra.costs.measure import count_gflops
from pixelkeep.ultra.predictors.boxes import Predictor
from pixelkeep.ultra.validators.boxes import Validator


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A demo dataset of a few images."""
    return write_demo(tmp_path_factory.mktemp("data") / "tiny", splits={"train": 1, "val": 2, "test": 1})


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A checkpoint with random weights and without an image size from training."""
    model = DetectionModel("yolov5-n.yaml", nc=len(CLASSES), verbose=False)
    model.names = dict(enumerate(CLASSES))
    path = tmp_path_factory.mktemp("weights") / "random.pt"
    torch.save({"model": model.half(), "train_args": {}}, path)
    return path


@pytest.fixture
def inputs(data, weights, tmp_path, monkeypatch):
    """Return a function that runs a command and returns the (height, width) of every input of its network."""

    def call(command: str, *size: str) -> set[tuple[int, int]]:
        seen = set()
        owner = Validator if command == "val" else Predictor
        prepare = owner.preprocess

        def spy(self: Validator | Predictor, given: dict | list) -> dict | torch.Tensor:
            prepared = prepare(self, given)
            images = prepared["img"] if isinstance(prepared, dict) else prepared
            seen.add(tuple(images.shape[2:]))
            return prepared

        monkeypatch.setattr(owner, "preprocess", spy)
        what = ["--data", str(data)] if command == "val" else ["--source", str(data.parent / "images" / "test")]
        with pytest.raises(SystemExit) as ended:
            run([command, *what, "--weights", str(weights), "--project", str(tmp_path), "--imgsz", *size])
        assert not ended.value.code
        return seen

    return call


@pytest.mark.parametrize("command", ["val", "detect"])
@pytest.mark.parametrize("size", [(64, 128), (128, 64), (96, 96)], ids=str)
def test_two_numbers__are_height_and_width(inputs, command, size):
    """The network's input has exactly the given height and width, whatever the shape of the images."""
    assert inputs(command, *map(str, size)) == {size}


@pytest.mark.parametrize("command", ["val", "detect"])
@pytest.mark.parametrize(("given", "used"), [(("100",), "128"), (("50", "100"), "64, 128")], ids=["one", "two"])
def test_no_multiple_of_the_stride__one_line(inputs, caplog, command, given, used):
    """Sizes are rounded up to multiples of the stride, and one line says so."""
    seen = inputs(command, *given)
    told = [record.getMessage() for record in caplog.records if "stride" in record.getMessage()]
    assert len(told) == 1 and "\n" not in told[0]
    assert f"imgsz=[{', '.join(given)}]" in told[0] and f"updating to [{used}]" in told[0]
    assert all(side % 32 == 0 for shape in seen for side in shape)


def test_metrics__say_what_was_used(inputs, weights, tmp_path):
    """metrics.json holds the height and width used, and the GFLOPs at that size."""
    inputs("val", "64", "128")
    document = json.loads((tmp_path / "exp" / "metrics.json").read_text())
    assert document["protocol"]["imgsz"] == [64, 128]
    model = torch.load(weights, weights_only=False)["model"]
    assert document["gflops"] == round(count_gflops(model, (64, 128)), 3)
