"""The cost of networks as a multiple of one network's cost: compute is counted, latency is measured side by side."""

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
PROBE_SECONDS, PROBE_ROUNDS = 4.0, 60  # limits of one measurement in a search: seconds and rounds


class Compute:
    """GFLOPs of networks as multiples of those of one network, the target."""

    def __init__(self, target: Network, channels: int, classes: int) -> None:
        self._data = channels, classes
        self._counted: dict[str, float] = {}
        self._target = self._count(target)

    def ratio(self, network: Network) -> float | None:
        """Return a network's multiple, or None if the network cannot be built."""
        try:
            return self._count(network) / self._target
        except Exception:  # with a wrong row Ultralytics' parser may raise anything
            return None

    def settle(self, networks: Sequence[Network]) -> list[float]:
        """Return the multiples of several networks, all of which can be built."""
        return [self._count(network) / self._target for network in networks]

    def _count(self, network: Network) -> float:
        key = json.dumps(network, sort_keys=True)
        if key not in self._counted:
            self._counted[key] = definition_gflops(*network, *self._data)
        return self._counted[key]

    @property
    def device(self) -> None:
        """None, since nothing is measured on a device."""


class Latency:
    """Latency of networks as a multiple of that of one network, the target: one image at a time on one device.

    Each measurement runs both networks in turns and takes the median of the ratios of all rounds, as a busy machine
    slows both alike.
    """

    def __init__(self, target: Network, channels: int, classes: int, device: str | None) -> None:
        self._data, self._place = (channels, classes), device_of(device)
        self._target = self._step(target)

    @property
    def device(self) -> str:
        """Name of the device that latency is measured on."""
        return name_of(self._place)

    def ratio(self, network: Network) -> float | None:
        """Return a network's multiple by one measurement, or None if the network cannot be built or run."""
        try:
            steps = {"target": self._target, "network": self._step(network)}
            times = rounds_within(steps, PROBE_SECONDS, PROBE_ROUNDS)
        except Exception:  # building may raise anything, and the network may not fit into GPU memory
            return None
        return float(np.median(times[:, 1] / times[:, 0]))

    def settle(self, networks: Sequence[Network]) -> list[float]:
        """Return the multiples of several networks, measured in the same rounds and for longer.

        A search that keeps the networks measured nearest to its goal favours lucky measurements, so these are new ones.
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
    """Return the largest stride of a network in pixels, but at least 32; image sides must be multiples of it."""
    network = DetectionModel({**deepcopy(definition), "nc": classes}, channels, verbose=False)
    return max(int(network.stride.max()), 32)
