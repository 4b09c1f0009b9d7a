"""Parameters and multiply-adds of a model, counted the same way everywhere.

GFLOPs are two operations for each multiply-add of convolutions and matrix products, at the stated image size, counted
while the real network runs on torch's meta device. Ultralytics extrapolates from a 32x32 proxy and adds normalisation
layers; its figures differ by about one percent on convolutional networks.

A network that adapts to its images is counted at a share of active regions: the one measured on images where there are
any (:class:`Watch`), else the one that its masks are trained for. Its dense count on the meta device is corrected by
what its layers say they save (``saved_multiply_adds(fraction)``), which is linear in the share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from ultralytics.nn import tasks

from pixelkeep.blocks import LearnedMask


def count_parameters(model: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(p.numel() for p in model.parameters())


def count_gflops(
    model: nn.Module, imgsz: int | tuple[int, int], channels: int = 3, fractions: Sequence[float] | None = None
) -> float:
    """Return GFLOPs for one image of ``imgsz`` pixels (a side, or height and width).

    The model itself is not run and not changed, unless it is on the meta device already.

    Args:
        model: The network.
        imgsz: Image size in pixels.
        channels: Of the images.
        fractions: Share of active regions in each of the network's adaptive layers; None for the target fraction.
    """
    height, width = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
    on_meta = all(p.is_meta for p in model.parameters())
    shadow = model if on_meta else deepcopy(model).to("meta").float()
    shadow.train()  # no decoding, whose anchors need real data
    images = torch.empty(2, channels, height, width, device="meta")  # two: one value a channel cannot be normalised
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shadow(images)
    layers = adaptive_layers(shadow)
    if fractions is None:
        fractions = [target_fraction(shadow) or 1.0] * len(layers)
    saved = sum(layer.saved_multiply_adds(share) for layer, share in zip(layers, fractions, strict=True))
    return (counter.get_total_flops() / len(images) - 2 * saved) / 1e9


def adaptive_layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers whose work depends on the image, in the order of the network."""
    return [layer for layer in model.modules() if hasattr(layer, "saved_multiply_adds")]


def target_fraction(model: nn.Module) -> float | None:
    """Return the share of active regions that a network's masks are trained for, their mean; None without any."""
    targets = [layer.target_fraction for layer in model.modules() if isinstance(layer, LearnedMask)]
    return sum(targets) / len(targets) if targets else None


def mean_fraction(fractions: Sequence[float] | None) -> float | None:
    """Return the mean over adaptive layers as results have it; None without any."""
    return round(sum(fractions) / len(fractions), 4) if fractions else None


class Watch:
    """Follows a network's adaptive layers while it runs, and tells the mean share of active regions in each.

    Args:
        model: The network, or Ultralytics' AutoBackend around it, which does not count it among its modules.
    """

    def __init__(self, model: nn.Module) -> None:
        inside = getattr(getattr(model, "backend", None), "model", None)
        self._layers = adaptive_layers(inside if isinstance(inside, nn.Module) else model)
        self._shares: list[list[tuple[int, float]]] = [[] for _ in self._layers]
        self._hooks = [
            layer.register_forward_hook(self._noting(shares))
            for layer, shares in zip(self._layers, self._shares, strict=True)
        ]

    @staticmethod
    def _noting(shares: list[tuple[int, float]]) -> Callable:
        def note(layer: nn.Module, inputs: tuple, output: Any) -> None:
            if layer.region_mask is not None:
                shares.append((len(layer.region_mask), layer.active_fraction))

        return note

    def fractions(self) -> list[float] | None:
        """Return the mean over images for each layer; None where the network has none, or none has run."""
        if not self._layers or not all(self._shares):
            return None
        return [sum(n * share for n, share in shares) / sum(n for n, _ in shares) for shares in self._shares]

    def stop(self) -> None:
        """Let go of the network."""
        for hook in self._hooks:
            hook.remove()


def definition_gflops(definition: dict, imgsz: int | tuple[int, int], channels: int, classes: int) -> float:
    """Return GFLOPs of the network that a definition makes for data of so many channels and classes.

    Whatever the parser raises on a definition that cannot be built, this raises.
    """
    network = tasks.BaseModel()  # without the stride probe of DetectionModel, which needs real data
    with torch.device("meta"):
        network.model, network.save = tasks.parse_model({**deepcopy(definition), "nc": classes}, channels, False)
    return count_gflops(network, imgsz, channels)
