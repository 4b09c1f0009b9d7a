"""Latency of several networks on one device, measured in turns, so that a slower machine affects all of them alike.

One image at a time runs through the network alone, fused as in val; loading, resizing and NMS are not included. In each
round every network runs once, in a newly drawn order, and is compared with the baseline of the same round.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Hashable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from ultralytics.utils.torch_utils import get_cpu_info, select_device

from pixelkeep.ultra.running.environment import use_all_cores
from pixelkeep.ultra.weights.checkpoints import load, model_of

WARM_UP = 3  # rounds that are not counted
SECONDS = 20.0  # seconds that the counted rounds may take
FEWEST, MOST = 10, 100  # limits of the number of counted rounds


@dataclass(frozen=True)
class Latency:
    """Milliseconds per image, and the ratio to the baseline: the median of each, with its lower and upper quartile."""

    ms: float
    low: float
    high: float
    ratio: float
    ratio_low: float
    ratio_high: float

    def to_dict(self) -> dict:
        return asdict(self)


def measure_latency(
    networks: Mapping[str, tuple[Path, int | list[int]]], baseline: str, device: str | None = None
) -> tuple[dict[str, Latency], dict]:
    """Measure the latency of several networks in turns.

    Args:
        networks: For each name a checkpoint and the image size in pixels, a side or height and width.
        baseline: The name of the network that the others are compared with.
        device: The device, as for training; by default GPU 0 if there is one, else the CPU.

    Returns:
        The latencies by name, and facts about the measurement: device, threads, torch version and number of rounds.
    """
    place = device_of(device)
    steps = {
        name: network_step(deepcopy(model_of(load(weights))), imgsz, place)
        for name, (weights, imgsz) in networks.items()
    }
    times = rounds_within(steps, SECONDS, MOST)
    facts = {"device": name_of(place), "threads": torch.get_num_threads(), "torch": torch.__version__}
    return summarise(list(networks), times, baseline), facts | {"rounds": len(times)}


def device_of(device: str | None) -> torch.device:
    """Return the device to measure latency on; if it is a CPU, let torch use all cores."""
    place = select_device(device or "", verbose=False)
    if place.type == "cpu":
        use_all_cores()
    return place


def rounds_within(steps: Mapping[Hashable, Callable[[], object]], seconds: float, most: int) -> np.ndarray:
    """Warm up, then time as many rounds as fit into ``seconds``, at least `FEWEST` and at most ``most``.

    Returns:
        Seconds of each step in each counted round, (rounds, steps).
    """
    warm = take_turns(steps, WARM_UP)
    return take_turns(steps, int(np.clip(seconds / max(warm[-1].sum(), 1e-6), FEWEST, most)))


def take_turns(
    steps: Mapping[Hashable, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> np.ndarray:
    """Return the seconds of each step in each round, (rounds, steps); the order of steps is drawn anew each round."""
    calls, drawn = list(steps.values()), np.random.default_rng(0)
    times = np.zeros((rounds, len(calls)))
    for row in times:
        for index in drawn.permutation(len(calls)):
            start = clock()
            calls[index]()
            row[index] = clock() - start
    return times


def summarise(names: list[str], times: np.ndarray, baseline: str) -> dict[str, Latency]:
    """Return the medians and quartiles of the times and of their ratios to the baseline's time in the same round.

    Args:
        names: Names of the networks.
        times: Seconds, (rounds, names).
        baseline: The name of the baseline.
    """
    ratios = times / times[:, [names.index(baseline)]]
    quartiles = [np.percentile(values, (50, 25, 75), axis=0).T for values in (times * 1e3, ratios)]  # (names, 3)
    return {name: Latency(*map(float, (*quartiles[0][i], *quartiles[1][i]))) for i, name in enumerate(names)}


def network_step(
    network: nn.Module, imgsz: int | list[int] | tuple[int, int], device: torch.device
) -> Callable[[], None]:
    """Return a function that runs a network once on one image and waits until the result is there.

    The network is folded and moved in place, so pass a copy.
    """
    network = network.float().to(device).eval().fuse(verbose=False)
    height, width = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
    image = torch.zeros(1, network.yaml.get("channels", 3), height, width, device=device)

    def step() -> None:
        with torch.inference_mode():
            network(image)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return step


def name_of(device: torch.device) -> str:
    """Return the name of a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return get_cpu_info() if device.type == "cpu" else f"{device.type} on {platform.machine()}"
