"""What random scaling does to small boxes: those with a side under a limit are taken out of the labels."""

from __future__ import annotations

import numpy as np


def lost_share(sides: np.ndarray, scale: float, limit: float) -> np.ndarray:
    """Return in which share of its views an object is too small to be taught, (n,).

    Args:
        sides: (n, 2) in pixels of the network's input.
        scale: Images are scaled by a factor drawn evenly from 1 - scale to 1 + scale.
        limit: Pixels that both sides must exceed.
    """
    smallest = sides.min(1, initial=np.inf)
    largest_factor = limit / np.maximum(smallest, 1e-9)  # up to which the object is lost
    if scale == 0:
        return (largest_factor >= 1).astype(float)
    return np.clip((largest_factor - (1 - scale)) / (2 * scale), 0, 1)
