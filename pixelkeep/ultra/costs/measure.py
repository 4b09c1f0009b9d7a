"""Parameters and multiply-adds of a model, counted the same way everywhere: see `pixelkeep.ultra.network.counting`.

A network that adapts to its images is counted at the share of active regions measured on images, where there are any
(:class:`Watch`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from ultralytics.nn import tasks

from pixelkeep.ultra.network.counting import adaptive_layers, count_gflops


def count_parameters(model: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(p.numel() for p in model.parameters())


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
