"""Convert the stored values of images deeper than eight bits to bytes, by percentiles over the whole image.

One rule serves images that are read whole and images that are read in windows, so that training and detection see the
same bytes. For 16-bit images the percentiles are exact, from counts of each level. For other images they come from the
pixels on a regular grid over the image, which in a small image are all pixels. Pixels without data do not count towards
the percentiles and become 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

SAMPLE = 4_000_000  # pixels: the largest sample for percentiles of floats
LEVELS = 1 << 16
VERSION = 2  # change it when the same file would give other bytes, because decoded images are cached under it
# Values (h, w, C), bool (h, w) where they are data (None: everywhere), and x, y of the part's first pixel in the image.
Part = tuple[np.ndarray, np.ndarray | None, tuple[int, int]]


@dataclass(frozen=True, eq=False)
class Levels:
    """How values become bytes: for each channel the values that become 0 and 255, or None for values that are bytes."""

    bounds: list[tuple[float, float]] | None

    def apply(self, raw: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
        """Return ``raw`` (h, w, C) as uint8; in deep images, pixels without data by ``valid`` (h, w) become 0."""
        if self.bounds is None:
            return raw
        shown = np.empty(raw.shape, np.uint8)
        for channel, (low, high) in enumerate(self.bounds):
            values = raw[..., channel]
            if raw.dtype == np.uint16:
                shown[..., channel] = _ramp(np.arange(LEVELS, dtype=np.float64), low, high)[values]
            else:
                shown[..., channel] = _ramp(np.nan_to_num(values.astype(np.float64)), low, high)
        if valid is not None:
            shown[~valid] = 0
        return shown


def meaning(raw: np.ndarray, valid: np.ndarray | None) -> np.ndarray | None:
    """Return where pixels hold data, bool (h, w) or None for everywhere.

    These are the pixels in ``valid`` (the same type) at which every channel of ``raw`` (h, w, C) is finite.
    """
    finite = np.isfinite(raw).all(2) if raw.dtype.kind == "f" else None
    if finite is None or finite.all():
        return valid
    return finite if valid is None else valid & finite


def measure_levels(
    parts: Iterable[Part], percentiles: tuple[float, float] | None, shape: tuple[int, int], channels: int
) -> Levels:
    """Return the levels of an image.

    Args:
        parts: Windows that cover the image exactly once, in any order; may be empty for an image of uint8.
        percentiles: The percentiles that become 0 and 255; None for bytes, which stay as they are.
        shape: Height and width of the image in pixels.
        channels: Number of channels of the image.
    """
    if percentiles is None:
        return Levels(None)
    counts = np.zeros((channels, LEVELS), np.int64)
    sample: list[list[np.ndarray]] = [[] for _ in range(channels)]
    step = max(1, int(np.ceil(np.sqrt(shape[0] * shape[1] / SAMPLE))))
    for raw, valid, (x, y) in parts:
        thin = np.s_[-y % step :: step, -x % step :: step]
        for channel in range(channels):
            values = raw[..., channel]
            if raw.dtype == np.uint16:
                chosen = values.ravel() if valid is None else values[valid]
                counts[channel] += np.bincount(chosen, minlength=LEVELS)
            else:
                chosen = values[thin].ravel() if valid is None else values[thin][valid[thin]]
                sample[channel].append(chosen)
    return Levels([_bounds(*of_one, percentiles) for of_one in zip(counts, sample, strict=True)])


def _bounds(counts: np.ndarray, sample: list[np.ndarray], percentiles: tuple[float, float]) -> tuple[float, float]:
    if counts.any():
        return _bounds_of_counts(counts, percentiles)
    values = np.concatenate([np.zeros(0), *sample])
    return tuple(np.percentile(values, percentiles)) if values.size else (0.0, 0.0)


def _bounds_of_counts(counts: np.ndarray, percentiles: tuple[float, float]) -> tuple[int, int]:
    """Return the levels at two percentiles, from the number of pixels at each level (65536,)."""
    cumulated = counts.cumsum()
    ranks = np.maximum(np.array(percentiles) / 100 * cumulated[-1], 1)  # percentile 0 is the lowest level that occurs
    return tuple(np.searchsorted(cumulated, ranks))


def _ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return values as bytes, from 0 at ``low`` and below to 255 at ``high`` and above."""
    return np.round(np.clip((values - low) / max(high - low, 1e-9), 0, 1) * 255).astype(np.uint8)
