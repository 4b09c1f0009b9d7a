"""Pretrained weights that a training may start from: all in their places, converted, or refused in one line."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from ultralytics.nn.tasks import ClassificationModel, DetectionModel, SegmentationModel
from varied import NAMES, image, output, varied

from pixelkeep.errors import ModelError, PixelkeepError, WeightsError
from pixelkeep.ultra.conversion.pretrained import adapted
from pixelkeep.ultra.network.names import parse

torch.set_num_threads(1)


def definition(name: str) -> dict:
    return parse(name).definition()


def classifier(name: str, classes: int = 3) -> ClassificationModel:
    model = ClassificationModel(definition(name), nc=classes, verbose=False)
    model.names = {number: f"class {number}" for number in range(classes)}
    return model


def equal_tensors(one: torch.nn.Module, other: torch.nn.Module) -> int:
    """Return how many tensors of the first network the second has, equal to the last bit."""
    own, theirs = one.state_dict(), other.state_dict()
    return sum(name in theirs and torch.equal(value, theirs[name]) for name, value in own.items())


def refusals() -> dict[str, tuple]:
    """Return by case the weights, the model that they are to start, the error, and what the refusal says."""
    spd, small = varied("yolov5-spd-n"), "give the checkpoint that training wrote"
    return {
        "size of the same rows": (spd, "yolov5-spd-s", ModelError, "yolov5-spd-n matches them"),
        "stock size": (varied("yolov5n.yaml"), "yolov5-s", ModelError, "yolov5-n matches them"),
        "fused": (deepcopy(spd).fuse(verbose=False), "yolov5-spd-n", WeightsError, small),
        "fused, other rows": (varied("yolov5n.yaml").fuse(verbose=False), "yolov5-spd-n", WeightsError, small),
        "classes": (classifier("yolov8n-cls"), "yolov5-spdconv-n", WeightsError, "for task 'classify', but model"),
        "masks": (SegmentationModel("yolov8n-seg.yaml", nc=3, verbose=False), "yolov8-n", WeightsError, "'segment'"),
        "boxes": (spd, "resnet18-spd-cls", WeightsError, "for task 'detect', but model 'resnet18-spd-cls' is for"),
        "nothing fits": (
            classifier("yolov8n-cls"),
            "resnet18-spd-cls",
            ModelError,
            "nothing in the pretrained weights",
        ),
        "size of classes": (classifier("yolov8n-cls"), "yolov8s-cls", ModelError, "they are of size n"),
    }


@pytest.mark.parametrize("case", refusals())
def test_adapted__refuses(case):
    """Weights that would fill little of a network, or wrong places, are refused in one line."""
    weights, name, error, words = refusals()[case]
    with pytest.raises(error, match=words) as caught:
        adapted(weights, definition(name))
    assert isinstance(caught.value, PixelkeepError) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["yolov5-spd-n", "yolov5-cad-n", "yolov5n.yaml"])
@pytest.mark.parametrize("classes", [1, 80])
def test_adapted__other_classes_alone(name, classes):
    """Weights of the same network for other classes are taken but for the last layer of each class branch."""
    start = varied(name)
    target = DetectionModel(name, nc=classes, verbose=False)
    found, report = adapted(start, target.yaml, names={number: f"other {number}" for number in range(classes)})
    assert found is start and report is None
    target.load(found, verbose=False)
    levels = len(start.model[-1].cv3)
    assert len(start.state_dict()) - equal_tensors(start, target) == 2 * levels  # a weight and a bias for each


@pytest.mark.parametrize("channels", [1, 4])
def test_adapted__other_channels_alone(channels):
    """For images of other channels the same network takes all weights but the stem's, which is adapted."""
    start = varied("yolov5-spd-n")
    found, report = adapted(start, definition("yolov5-spd-n"), channels, NAMES)
    assert report is None and equal_tensors(start, found) == len(start.state_dict()) - 1
    assert found.yaml["channels"] == channels


def test_adapted__classes_that_were_widened():
    """Weights whose class branches are as wide as those of 80 classes still count as the same network."""
    wide = DetectionModel("yolov5-spd-n", nc=3, verbose=False)
    wide.load(varied("yolov5-spd-n", {number: f"class {number}" for number in range(80)}), verbose=False)
    wide.names = dict(NAMES)
    assert wide.model[-1].cv3[0][-1].in_channels == 80
    assert adapted(wide, definition("yolov5-spd-n"))[0] is wide


def test_adapted__classes_of_the_data():
    """Where the data has other classes, the report says so and does not claim the same function."""
    start = varied("yolov5n.yaml")
    same = adapted(start, definition("yolov5-spdconv-n"), names=dict(NAMES))[1]
    assert same.exact and "the same function" in same.summary()
    found, report = adapted(start, definition("yolov5-spdconv-n"), names={0: "ship", 1: "bird"})
    assert not report.exact and "same function" not in report.summary() and found.names == {0: "ship", 1: "bird"}
    notes = {part.note for part in report.parts if part.role.endswith("class")}
    assert notes == {"1 of 2 classes by name; new: ship"}


@pytest.mark.parametrize("name", ["yolov5n.yaml", "yolov5-spdconv-n"])
def test_adapted__classes_alike_but_for_case(name):
    """Classes that differ in case alone keep their own weights, also where Ultralytics loads them."""
    names = {0: "a", 1: "A", 2: " a"}
    start = varied("yolov5n.yaml", names)
    target = DetectionModel(name, nc=3, verbose=False).eval()
    target.names = dict(names)
    target.load(adapted(start, target.yaml, names=dict(names))[0], verbose=False)
    x = image(64, 64)
    expected = output(start, x)
    assert (expected[:, 4] - expected[:, 5]).abs().max() > 1e-3
    assert (output(target, x)[:, 4:] - expected[:, 4:]).abs().max() < 1e-5
    assert start.names == names


def test_adapted__another_width_at_equal_cost():
    """A network of the same size but with a width of its own starts anew, and the report says so."""
    wider = definition("yolov5-spd-n")
    wider["scales"] = {"n": [0.33, 0.32, 1024]}
    report = adapted(varied("yolov5-spd-n"), wider)[1]
    assert report.share < 0.05 and not report.exact


def test_adapted__other_structure_of_classes(caplog):
    """Classification has no conversion by role, and a message counts what starts fresh."""
    start, target = classifier("resnet18-cls"), definition("resnet18-spd-cls")
    assert adapted(start, target) == (start, None)
    assert "differ in structure from model 'resnet18-spd-cls'" in caplog.text
    caplog.clear()
    assert adapted(start, definition("resnet18-cls"))[0] is start and not caplog.text
