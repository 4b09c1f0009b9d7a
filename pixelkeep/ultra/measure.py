"""Parameters and multiply-adds of a model, counted the same way everywhere.

GFLOPs are two operations for each multiply-add of convolutions and matrix products, at the stated image size, counted
while the real network runs on torch's meta device. Ultralytics extrapolates from a 32x32 proxy and adds normalisation
layers; its figures differ by about one percent on convolutional networks.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(model: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(p.numel() for p in model.parameters())


def count_gflops(model: nn.Module, imgsz: int | tuple[int, int], channels: int = 3) -> float:
    """Return GFLOPs for one image of ``imgsz`` pixels (a side, or height and width).

    The model itself is not run and not changed, unless it is on the meta device already.
    """
    height, width = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
    on_meta = all(p.is_meta for p in model.parameters())
    shadow = model if on_meta else deepcopy(model).to("meta").float()
    shadow.train()  # no decoding, whose anchors need real data
    images = torch.empty(2, channels, height, width, device="meta")  # two: one value a channel cannot be normalised
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shadow(images)
    return counter.get_total_flops() / len(images) / 1e9
