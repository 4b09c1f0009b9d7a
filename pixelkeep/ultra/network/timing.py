"""Times two ways to compute the same result against each other on this machine, in paired runs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

PAIRS = 9


def ratio(before: Callable[[Any], Any], after: Callable[[Any], Any], inputs: Any, device: torch.device) -> float:
    """Return the time of ``after`` divided by that of ``before``: the median over pairs of successive runs."""
    with torch.inference_mode():
        for run in (before, after):
            run(inputs)  # the first run allocates and chooses algorithms
        pairs = [(_seconds(before, inputs, device), _seconds(after, inputs, device)) for _ in range(PAIRS)]
    return statistics.median(second / first for first, second in pairs)


def _seconds(run: Callable[[Any], Any], inputs: Any, device: torch.device) -> float:
    start = time.perf_counter()
    run(inputs)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
