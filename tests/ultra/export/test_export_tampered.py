"""Exported files whose description is invalid or does not match their graph fail in one line, before any image."""

from __future__ import annotations

import dataclasses
import json
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from ultralytics.nn.tasks import DetectionModel

from pixelkeep.errors import WeightsError
from pixelkeep.ultra.export.files import write
from pixelkeep.ultra.export.parity import opened
from pixelkeep.ultra.weights.exported import KEY, read_exported
from pixelkeep.ultra.weights.formats import FORMATS
from pixelkeep.ultra.weights.graphs import told_of_runs

torch.set_num_threads(1)
ROWS = "nc: 3\nbackbone:\n  - [-1, 1, Conv, [8, 3, 2]]\n  - [-1, 1, Conv, [16, 3, 2]]\nhead:\n"
ROWS += "  - [[-1], 1, Detect, [nc]]\n"
CPU = torch.device("cpu")
FACTS = {"precision": "fp32", "folded": False, "folding": {"choose": "static", "choice": "none"}, "tile": None}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """Export a detector of three classes for one image of 64 pixels to three formats, and to dynamic ONNX."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "small.yaml").write_text(ROWS)
    torch.manual_seed(0)
    model = DetectionModel(str(folder / "small.yaml"), verbose=False).eval()
    model.names, model.task = {0: "a", 1: "b", 2: "c"}, "detect"
    made = {}
    for form, dynamic in (("onnx", False), ("openvino", False), ("torchscript", False), ("onnx", True)):
        if all(map(find_spec, FORMATS[form].packages)):
            name = "any" if dynamic else form
            made[name] = folder / f"{name}{FORMATS[form].suffix}"
            settings = dict(format=form, imgsz=[64, 64], batch=1, device="cpu", quantize=32, dynamic=dynamic)
            write(model.fuse(verbose=False), made[name], settings, FACTS)
    return made


def tampered(file: Path, folder: Path, changes: dict[str, Any]) -> Path:
    """Return a copy whose metadata has changed entries; ``own`` changes those of pixelkeep."""
    changes = dict(changes)
    if own := changes.pop("own", None):
        changes[KEY] = json.dumps(FACTS | own)
    target = folder / file.name
    if file.is_dir():
        target.mkdir()
        for part in file.iterdir():
            (target / part.name).write_bytes(part.read_bytes())
        text = target / "metadata.yaml"
        text.write_text(yaml.safe_dump(yaml.safe_load(text.read_text()) | changes))
        return target
    if file.suffix == ".torchscript":
        return _retold(file, target, changes)
    model = onnx.load(file)
    held = {item.key: item.value for item in model.metadata_props}
    onnx.helper.set_model_props(model, held | {key: str(value) for key, value in changes.items()})
    onnx.save(model, target)
    return target


def _retold(file: Path, target: Path, changes: dict[str, Any]) -> Path:
    extra = {"config.txt": ""}
    network = torch.jit.load(str(file), _extra_files=extra)
    held = json.loads(extra["config.txt"]) | changes
    torch.jit.save(network, str(target), _extra_files={"config.txt": json.dumps(held)})
    return target


KINDS = {
    "names a list": ({"names": ["a", "b", "c"]}, "not class names by number"),
    "names with a gap": ({"names": {0: "a", 2: "b"}}, "not class names by number"),
    "names of lists": ({"names": {0: ["a"]}}, "not class names by number"),
    "no names": ({"names": {}}, "not class names by number"),
    "args a list": ({"args": [1]}, "has '[1]' as 'args', not settings by name"),
    "args a text": ({"args": "'x'"}, "not settings by name"),
    "stride 0": ({"stride": 0}, "has '0' as 'stride', not a number of pixels"),
    "stride a text": ({"stride": "x"}, "'stride'"),
    "batch -1": ({"batch": -1}, "not a number of images"),
    "channels 0": ({"channels": 0}, "not a number of channels"),
    "imgsz huge": ({"imgsz": [10**6, 64]}, "not two sides"),
    "imgsz one": ({"imgsz": [64]}, "not two sides"),
    "end2end a number": ({"end2end": 3}, "has '3' as 'end2end', not True or False"),
    "folding 3": ({"own": {"folding": 3}}, "has '3' as 'folding', not texts by name"),
    "folded a text": ({"own": {"folded": "yes"}}, "not true or false"),
    "tile a text": ({"own": {"tile": "abc"}}, "has 'abc' as 'tile', not a number of pixels"),
    "stretch a text": ({"own": {"stretch": "abc"}}, "not two percentiles"),
    "training a list": ({"own": {"training": [1]}}, "not settings by name"),
    "precision unknown": ({"own": {"precision": "bf17"}}, "has 'bf17' as 'precision', not one of fp32, fp16"),
    "task unknown": ({"task": "pose"}, "an export for task 'pose', not one of"),
}
GRAPHS = {
    "task": ({"task": "classify"}, "it is for task 'classify' and 3 classes, but its graph outputs 1x7x256"),
    "fewer names": ({"names": {0: "a"}}, "1 classes, but its graph outputs 1x7x256"),
    "more names": ({"names": {n: str(n) for n in range(4)}}, "4 classes, but its graph outputs 1x7x256"),
    "end2end": ({"end2end": True}, "for task 'detect', without NMS and 3 classes, but its graph outputs"),
    "NMS": ({"args": {"nms": True}}, "for task 'detect', without NMS and 3 classes, but its graph outputs"),
}
SHAPES = {
    "batch": ({"batch": 2}, "it says that it takes batches of 2, 3 channels and 64x64 pixels, but its graph takes 1x3"),
    "imgsz": ({"imgsz": [64, 96]}, "64x96 pixels, but its graph takes 1x3x64x64"),
    "channels": ({"channels": 4}, "4 channels and 64x64 pixels, but its graph takes 1x3x64x64"),
    "dynamic": (
        {"args": {"dynamic": True}},
        "it says that it takes 3 channels and every size, but its graph takes 1x3",
    ),
}


def refusal(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        read_exported(path)
        opened(path, CPU)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(f"weights '{path}': ")
    return str(caught.value)


@pytest.mark.parametrize("case", KINDS)
def test_description__of_another_kind(case, files, tmp_path):
    """A metadata value of the wrong type is refused by a line that names it and what is expected."""
    changes, told = KINDS[case]
    path = tampered(files["onnx"], tmp_path, changes)
    with pytest.raises(WeightsError) as caught:
        read_exported(path)
    assert told in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["onnx", "openvino", "torchscript"])
@pytest.mark.parametrize("case", GRAPHS)
def test_description__of_another_output(case, form, files, tmp_path):
    """A file whose task or classes do not match its graph is refused when it is opened."""
    if form not in files:
        pytest.skip(f"{form} is not installed")
    changes, told = GRAPHS[case]
    assert told in refusal(tampered(files[form], tmp_path, changes))


@pytest.mark.parametrize("form", ["onnx", "openvino"])
@pytest.mark.parametrize("case", SHAPES)
def test_description__of_another_input(case, form, files, tmp_path):
    """Where the runtime tells which input a graph takes, a description that differs is refused."""
    if form not in files:
        pytest.skip(f"{form} is not installed")
    changes, told = SHAPES[case]
    assert told in refusal(tampered(files[form], tmp_path, changes))


def test_description__of_another_input_in_torchscript(files, tmp_path):
    """Where the runtime does not tell, the graph is run once and its error is reported in one line."""
    assert "torchscript cannot load it (" in refusal(tampered(files["torchscript"], tmp_path, {"channels": 4}))


@pytest.mark.parametrize("name", ["onnx", "any", "torchscript", "openvino"])
def test_run__errors_of_the_runtime(name, files):
    """An input that the runtime refuses is reported in one line; an input that fits still runs."""
    if name not in files:
        pytest.skip(f"{name} is not installed")
    run = opened(files[name], CPU)
    assert run(torch.rand(1, 3, 64, 64)).shape == (1, 7, 256)
    with pytest.raises(WeightsError, match=r"it cannot be run on 1x5x64x64 \(") as caught:
        run(torch.rand(1, 5, 64, 64))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("classes", "right"), [([0.0, 2.0], True), ([0.0, 3.0], False)])
def test_run__classes_without_a_name(classes, right, files):
    """If a graph outputs detections, a class without a name is reported in one line."""
    found = np.array([[[0, 0, 9, 9, 0.5, number] for number in classes]], np.float32)
    backend = SimpleNamespace(forward=lambda images: [found])
    said = dataclasses.replace(read_exported(files["onnx"])["model"], end2end=True)
    told_of_runs(backend, said, "net.onnx")
    if right:
        assert backend.forward(None)[0] is found
        return
    with pytest.raises(WeightsError, match=r"net.onnx.: damaged: it detects class 3, but has only 3 names"):
        backend.forward(None)


def test_dynamic__claimed_or_not(files, tmp_path):
    """A dynamic file may be described as one for a fixed size, and then runs at that size."""
    run = opened(tampered(files["any"], tmp_path, {"args": {"dynamic": False}, "imgsz": [64, 96]}), CPU)
    assert run(torch.rand(1, 3, 64, 96)).shape == (1, 7, 384)


def test_fp16__of_openvino_is_told_as_it_is(files, tmp_path):
    """OpenVINO stores fp16 weights and computes in fp32, and the reported precision says so."""
    if "openvino" not in files:
        pytest.skip("openvino is not installed")
    path = tampered(files["openvino"], tmp_path, {"own": {"precision": "fp16"}})
    assert read_exported(path)["model"].precision == "fp32, weights in fp16"
    onnx_file = tampered(files["onnx"], tmp_path, {"own": {"precision": "fp16"}})
    assert read_exported(onnx_file)["model"].precision == "fp16"
    assert str(opened(path, CPU).ov_compiled_model.get_property("INFERENCE_PRECISION_HINT")) == "<Type: 'float32'>"
