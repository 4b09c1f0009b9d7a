"""Fixtures shared by the tests of the Ultralytics side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ultralytics.nn.modules import Conv


@pytest.fixture(autouse=True)
def default_activation() -> Iterator[None]:
    """Restore the default activation: the stock parser of older releases leaves that of a model YAML behind."""
    activation = Conv.default_act
    yield
    Conv.default_act = activation


@pytest.fixture(scope="session")
def noise_weights(tmp_path_factory) -> Path:
    """Return the checkpoint of a network that detects something in noise."""
    import torch
    from ultralytics import YOLO
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(3)
    model = DetectionModel({**YOLO("yolov5-n.yaml").model.yaml}, ch=3, nc=2, verbose=False)
    model.names = {0: "car", 1: "person"}
    for norm in (module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        norm.momentum = 1.0
    model.train()(torch.rand(2, 3, 96, 96))  # so that activations neither vanish nor saturate
    for boxes, classes in zip(model.model[-1].cv2, model.model[-1].cv3, strict=True):
        torch.nn.init.normal_(classes[-1].weight, std=0.02)
        torch.nn.init.constant_(classes[-1].bias, -1.5)
        boxes[-1].weight.data *= 0.2
    path = tmp_path_factory.mktemp("network") / "w.pt"
    torch.save({"model": model.half(), "train_args": {}}, path)
    return path
