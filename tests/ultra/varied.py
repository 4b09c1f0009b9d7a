"""Networks whose outputs vary as those of trained ones, without a training."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from ultralytics.nn.tasks import DetectionModel

NAMES = {0: "cat", 1: "Dog", 2: "bird"}


def varied(name: str | dict, names: dict[int, str] = NAMES, channels: int = 3) -> DetectionModel:
    """Return a network with statistics, biases and heads as far from their initial values as training takes them."""
    torch.manual_seed(0)
    model = DetectionModel(name, channels, len(names), False).eval()
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.2)
            m.running_var.uniform_(0.3, 1.2)
            nn.init.uniform_(m.weight, 0.7, 1.3)
            nn.init.normal_(m.bias, 0, 0.2)
    head = model.model[-1]
    branches = [(head.cv2, 0.05), (head.cv3, 0.3)]
    if head.end2end:
        branches += [(head.one2one_cv2, 0.05), (head.one2one_cv3, 0.3)]
    for branch, spread in branches:
        for layers in branch:
            nn.init.normal_(layers[-1].weight, 0, spread)
            nn.init.normal_(layers[-1].bias, 0, spread)
    model.names = dict(names)
    return model


def image(height: int, width: int, dtype: torch.dtype = torch.float32, channels: int = 3) -> torch.Tensor:
    """Return two images of noise."""
    return torch.rand(2, channels, height, width, generator=torch.Generator().manual_seed(1)).to(dtype)


@torch.no_grad()
def output(model: DetectionModel, x: torch.Tensor) -> torch.Tensor:
    """Return (N, 4 + classes, boxes): boxes in pixels and scores, before any choice of the best of them."""
    model.model[-1].end2end = False  # its choice would turn rounding into other boxes
    return model.eval()(x)[0]


def write(model: nn.Module, path: Path, **content) -> Path:
    """Write a checkpoint as Ultralytics does at the end of a training: in half precision, with its settings."""
    kept = {"epoch": -1, "ema": None, "optimizer": None, "train_args": {"imgsz": 64, "model": "yolov5n.yaml"}}
    torch.save({**kept, "model": model.half(), "version": "8.4.190", **content}, path)
    return path
