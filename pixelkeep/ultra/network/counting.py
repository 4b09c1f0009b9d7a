"""Multiply-adds of a network, also for Ultralytics' summaries: its own count fails where a Focus reads the image.

GFLOPs are two operations for each multiply-add of convolutions and matrix products at the stated image size, counted
while the real network runs on torch's meta device. Ultralytics extrapolates from a 32x32 proxy image and includes
normalisation layers; its figures differ by about one percent on convolutional networks. It takes the channels of its
proxy from the first parameter. In a Focus that parameter has four times the channels of the image, and Ultralytics then
reports no figure.

A network that adapts to its images is counted at a share of active regions, by default the share that its masks are
trained for. Its dense count on the meta device is reduced by the savings that its layers report
(``saved_multiply_adds(fraction)``), which are linear in the share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import wraps
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pixelkeep.blocks import LearnedMask


def count_gflops(
    model: nn.Module, imgsz: int | tuple[int, int], channels: int = 3, fractions: Sequence[float] | None = None
) -> float:
    """Return GFLOPs for one image of ``imgsz`` pixels (a side, or height and width).

    The model itself is not run and not changed, unless it is on the meta device already.

    Args:
        model: The network.
        imgsz: Image size in pixels: a side, or height and width.
        channels: Number of image channels.
        fractions: Share of active regions in each of the network's adaptive layers; None for the target fraction.
    """
    height, width = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
    on_meta = all(p.is_meta for p in model.parameters())
    shadow = model if on_meta else deepcopy(model).to("meta").float()
    shadow.train()  # no decoding, whose anchors need real data
    images = torch.empty(2, channels, height, width, device="meta")  # BatchNorm cannot train on one value per channel
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shadow(images)
    layers = adaptive_layers(shadow)
    if fractions is None:
        fractions = [target_fraction(shadow) or 1.0] * len(layers)
    saved = sum(layer.saved_multiply_adds(share) for layer, share in zip(layers, fractions, strict=True))
    return (counter.get_total_flops() / len(images) - 2 * saved) / 1e9


def adaptive_layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers whose work depends on the image, in network order."""
    return [layer for layer in model.modules() if hasattr(layer, "saved_multiply_adds")]


def target_fraction(model: nn.Module) -> float | None:
    """Return the mean share of active regions that a network's masks are trained for; None if it has no masks."""
    targets = [layer.target_fraction for layer in model.modules() if isinstance(layer, LearnedMask)]
    return sum(targets) / len(targets) if targets else None


def extend_counting(stock: Callable[..., float], module: ModuleType) -> Callable[..., float]:
    """Return a ``get_flops`` that counts networks with pixelkeep blocks by `count_gflops`.

    Args:
        stock: Ultralytics' own ``get_flops``, which counts all other networks.
        module: The module that defines it, ``ultralytics.utils.torch_utils``.
    """

    @wraps(stock)
    def get_flops(model: nn.Module, imgsz: Any = 640) -> float:
        network = module.unwrap_model(model)
        if not any(type(part).__module__.startswith("pixelkeep.") for part in network.modules()):
            return stock(model, imgsz)
        size = tuple(imgsz) if isinstance(imgsz, (list, tuple)) else int(imgsz)
        try:
            return count_gflops(network, size, getattr(network, "yaml", {}).get("channels", 3))
        except Exception:  # a user's layer may raise anything; as in Ultralytics, a summary can do without the figure
            return 0.0

    return get_flops
