"""Parameters and multiply-adds of a model, counted in the same way everywhere: see `pixelkeep.ultra.network.counting`.

A network that adapts to its images is counted at the share of active regions that was measured on images
(:class:`Watch`), where images are at hand.
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
    """Return the number of parameters of a model."""
    return sum(p.numel() for p in model.parameters())


def mean_fraction(fractions: Sequence[float] | None) -> float | None:
    """Return the mean share over adaptive layers, rounded as in the results; None if there are no such layers."""
    return round(sum(fractions) / len(fractions), 4) if fractions else None


class Watch:
    """Observes a network's adaptive layers while it runs, and reports the mean share of active regions in each.

    Args:
        model: The network, or an Ultralytics AutoBackend, which does not list the network among its modules.
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
        """Return each layer's mean share over images; None if there is no adaptive layer, or one has not run yet."""
        if not self._layers or not all(self._shares):
            return None
        return [sum(n * share for n, share in shares) / sum(n for n, _ in shares) for shares in self._shares]

    def stop(self) -> None:
        """Stop observing the network, by removing the hooks."""
        for hook in self._hooks:
            hook.remove()


def definition_gflops(definition: dict, imgsz: int | tuple[int, int], channels: int, classes: int) -> float:
    """Return the GFLOPs of the network that a definition describes, for the given numbers of channels and classes.

    If the definition cannot be built, the parser's exception is passed on, whatever it is.
    """
    network = tasks.BaseModel()  # without the stride probe of DetectionModel, which needs real data
    with torch.device("meta"):
        network.model, network.save = tasks.parse_model({**deepcopy(definition), "nc": classes}, channels, False)
    return count_gflops(network, imgsz, channels)
