"""What networks cost as multiples of one network's cost: compute by counting, latency by measuring side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from copy import deepcopy

import numpy as np
import torch
from ultralytics.nn.tasks import DetectionModel

from pixelkeep.ultra.costs.latency import SECONDS, device_of, name_of, network_step, rounds_within
from pixelkeep.ultra.costs.measure import definition_gflops

Network = tuple[dict, tuple[int, int]]  # a definition, and the height and width of its images in pixels
PROBE_SECONDS, PROBE_ROUNDS = 4.0, 60  # of one measurement in a search


class Compute:
    """GFLOPs of networks over those of one network."""

    def __init__(self, target: Network, channels: int, classes: int) -> None:
        self._data = channels, classes
        self._counted: dict[str, float] = {}
        self._target = self._count(target)

    def ratio(self, network: Network) -> float | None:
        """Return the multiple, or None where the network cannot be built."""
        try:
            return self._count(network) / self._target
        except Exception:  # Ultralytics' parser fails in whatever way a wrong row makes it fail
            return None

    def settle(self, networks: Sequence[Network]) -> list[float]:
        """Return the multiples of networks that can be built."""
        return [self._count(network) / self._target for network in networks]

    def _count(self, network: Network) -> float:
        key = json.dumps(network, sort_keys=True)
        if key not in self._counted:
            self._counted[key] = definition_gflops(*network, *self._data)
        return self._counted[key]

    @property
    def device(self) -> None:
        """Nothing is measured on a device."""


class Latency:
    """Latency of networks over that of one network, one image a time on one device.

    Each measurement runs both in turns and takes the median of the rounds' ratios, as a busy machine slows both alike.
    """

    def __init__(self, target: Network, channels: int, classes: int, device: str | None) -> None:
        self._data, self._place = (channels, classes), device_of(device)
        self._target = self._step(target)

    @property
    def device(self) -> str:
        """Name of what it is measured on."""
        return name_of(self._place)

    def ratio(self, network: Network) -> float | None:
        """Return the multiple of one measurement, or None where the network cannot be built or run."""
        try:
            steps = {"target": self._target, "network": self._step(network)}
            times = rounds_within(steps, PROBE_SECONDS, PROBE_ROUNDS)
        except Exception:  # as in building; a GPU's memory may not hold it either
            return None
        return float(np.median(times[:, 1] / times[:, 0]))

    def settle(self, networks: Sequence[Network]) -> list[float]:
        """Return the multiples of several networks, measured in the same rounds and for longer.

        A search that ends with what came out nearest picks lucky measurements; these are new ones.
        """
        steps = {-1: self._target} | {index: self._step(network) for index, network in enumerate(networks)}
        times = rounds_within(steps, SECONDS, 2 * PROBE_ROUNDS)
        return np.median(times[:, 1:] / times[:, :1], axis=0).tolist()

    def _step(self, network: Network) -> Callable[[], None]:
        definition, size = network
        channels, classes = self._data
        with torch.random.fork_rng(devices=[]):
            built = DetectionModel({**deepcopy(definition), "nc": classes}, channels, verbose=False)
        return network_step(built, size, self._place)


def stride_of(definition: dict, channels: int, classes: int) -> int:
    """Return the largest stride of a network, which the sides of its images are multiples of; 32 at least."""
    network = DetectionModel({**deepcopy(definition), "nc": classes}, channels, verbose=False)
    return max(int(network.stride.max()), 32)
