"""Networks whose outputs vary like those of trained networks, made without training."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from ultralytics.nn.tasks import DetectionModel

NAMES = {0: "cat", 1: "Dog", 2: "bird"}


def varied(name: str | dict, names: dict[int, str] = NAMES, channels: int = 3) -> DetectionModel:
    """Return a network in evaluation mode whose BatchNorms hold the statistics of their inputs.

    With the statistics of a new network, every layer reduces the variation of its input until only biases are left:
    the boxes would be those of the anchors, whatever the first layers compute.
    """
    torch.manual_seed(0)
    model = DetectionModel(name, channels, len(names), False)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for m in norms:
        nn.init.uniform_(m.weight, 0.7, 1.3)
        nn.init.normal_(m.bias, 0, 0.2)
    _calibrate(model, norms, channels)
    head = model.model[-1]
    branches = [(head.cv2, 0.002), (head.cv3, 0.002)]  # keeps rounding below 1e-3 pixels and 1e-5 in score
    if head.end2end:
        branches += [(head.one2one_cv2, 0.002), (head.one2one_cv3, 0.002)]
    for branch, spread in branches:
        for layers in branch:
            nn.init.normal_(layers[-1].weight, 0, spread)
            nn.init.normal_(layers[-1].bias, 0, spread)
    model.names = dict(names)
    return model.eval()


@torch.no_grad()
def _calibrate(model: DetectionModel, norms: list[nn.BatchNorm2d], channels: int) -> None:
    """Set the statistics of the BatchNorms to those of noise images, slightly perturbed."""
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.momentum = 1.0
    model.train()(torch.rand(4, channels, 128, 128))
    for m, momentum in zip(norms, momenta, strict=True):
        m.momentum = momentum
        m.running_mean.add_(0.2 * m.running_var.sqrt() * torch.randn_like(m.running_mean))
        m.running_var.mul_(torch.empty_like(m.running_var).uniform_(0.7, 1.4))


def image(height: int, width: int, dtype: torch.dtype = torch.float32, channels: int = 3) -> torch.Tensor:
    """Return two images of noise."""
    return torch.rand(2, channels, height, width, generator=torch.Generator().manual_seed(1)).to(dtype)


@torch.no_grad()
def output(model: DetectionModel, x: torch.Tensor) -> torch.Tensor:
    """Return decoded boxes in pixels and scores, (N, 4 + classes, boxes), before NMS or any other selection."""
    model.model[-1].end2end = False  # its top-k selection would turn rounding errors into different boxes
    return model.eval()(x)[0]


@torch.no_grad()
def branches(model: DetectionModel, x: torch.Tensor) -> list[torch.Tensor]:
    """Return the raw outputs of the head: distances in cells, then logits, for each branch (yolo26 has two)."""
    raw = model.eval()(x)[1]
    pairs = [raw["one2many"], raw["one2one"]] if "one2one" in raw else [raw]
    return [pair[name] for pair in pairs for name in ("boxes", "scores")]


def write(model: nn.Module, path: Path, **content) -> Path:
    """Write a checkpoint as Ultralytics does at the end of training: in half precision, with its settings."""
    kept = {"epoch": -1, "ema": None, "optimizer": None, "train_args": {"imgsz": 64, "model": "yolov5n.yaml"}}
    torch.save({**kept, "model": model.half(), "version": "8.4.190", **content}, path)
    return path
