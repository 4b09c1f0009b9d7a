"""What becomes of the stored values of an image that is read in windows: eight bits, by statistics of all of it.

Of 16-bit images the percentiles are exact, by counting levels. Of others they are those of pixels on a regular grid
over the image, so many that they are all of a small one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pixelkeep.datasets.images.pixels import LEVELS, bounds_of_counts, ramp

SAMPLE = 4_000_000  # pixels at most that percentiles of floats are taken from
Part = tuple[np.ndarray, np.ndarray | None]  # values (h, w, C), and bool (h, w) where they mean something


@dataclass(frozen=True, eq=False)
class Levels:
    """How values become bytes: for each channel a lowest and a highest one, or None where they are bytes already."""

    bounds: list[tuple[float, float]] | None

    def apply(self, raw: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
        """Return (h, w, C) as uint8; deep pixels that mean nothing, by ``valid`` (h, w), are 0."""
        if self.bounds is None:
            return raw
        shown = np.empty(raw.shape, np.uint8)
        for channel, (low, high) in enumerate(self.bounds):
            values = raw[..., channel]
            if raw.dtype == np.uint16:
                shown[..., channel] = ramp(np.arange(LEVELS, dtype=np.float64), low, high)[values]
            else:
                shown[..., channel] = ramp(np.nan_to_num(values.astype(np.float64)), low, high)
        if valid is not None:
            shown[~valid] = 0
        return shown


def measure_levels(
    parts: Iterable[Part], percentiles: tuple[float, float] | None, shape: tuple[int, int], channels: int
) -> Levels:
    """Return the levels of an image.

    Args:
        parts: Windows that cover it once, in any order; those of uint8 need none.
        percentiles: What becomes 0 and 255; None for bytes that stay as they are.
        shape: Height and width of the image.
        channels: Of the image.
    """
    if percentiles is None:
        return Levels(None)
    counts = np.zeros((channels, LEVELS), np.int64)
    sample: list[list[np.ndarray]] = [[] for _ in range(channels)]
    step = max(1, int(np.ceil(np.sqrt(shape[0] * shape[1] / SAMPLE))))
    for raw, valid in parts:
        for channel in range(channels):
            values = raw[..., channel]
            if raw.dtype == np.uint16:
                chosen = values.ravel() if valid is None else values[valid]
                counts[channel] += np.bincount(chosen, minlength=LEVELS)
            else:
                thin = np.s_[::step, ::step]
                chosen = values[thin].ravel() if valid is None else values[thin][valid[thin]]
                sample[channel].append(chosen)
    return Levels([_bounds(*of_one, percentiles) for of_one in zip(counts, sample, strict=True)])


def _bounds(counts: np.ndarray, sample: list[np.ndarray], percentiles: tuple[float, float]) -> tuple[float, float]:
    if counts.any():
        return bounds_of_counts(counts, percentiles)
    values = np.concatenate([np.zeros(0), *sample])
    return tuple(np.percentile(values, percentiles)) if values.size else (0.0, 0.0)
