"""The effect of random scaling on small boxes: those with a side not above a limit are taken out of the labels."""

from __future__ import annotations

import numpy as np


def lost_share(sides: np.ndarray, scale: float, limit: float) -> np.ndarray:
    """Return for each object the share of its augmented views in which it is too small to be taught, (n,).

    Args:
        sides: Width and height of each object in pixels of the network's input, (n, 2).
        scale: Scale gain; images are scaled by a factor drawn uniformly from 1 - scale to 1 + scale.
        limit: Length in pixels that both sides must exceed.
    """
    smallest = sides.min(1, initial=np.inf)
    largest_factor = limit / np.maximum(smallest, 1e-9)  # the scale factor up to which the object is lost
    if scale == 0:
        return (largest_factor >= 1).astype(float)
    return np.clip((largest_factor - (1 - scale)) / (2 * scale), 0, 1)
