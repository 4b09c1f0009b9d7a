"""What becomes of the stored values of an image deeper than eight bits: bytes, by percentiles of all of it.

One rule for images that are read whole and for those that are read in windows, so that training and detection see the
same. Of 16-bit images the percentiles are exact, by counting levels. Of others they are those of pixels on a regular
grid over the image, so many that they are all of a small one. Pixels that hold no data do not count, and become 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

SAMPLE = 4_000_000  # pixels at most that percentiles of floats are taken from
LEVELS = 1 << 16
VERSION = 2  # change it where the same file gives other bytes: decoded images are cached under it
# Values (h, w, C), bool (h, w) where they mean something (None: everywhere), and x, y of the first one in the image.
Part = tuple[np.ndarray, np.ndarray | None, tuple[int, int]]


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
                shown[..., channel] = _ramp(np.arange(LEVELS, dtype=np.float64), low, high)[values]
            else:
                shown[..., channel] = _ramp(np.nan_to_num(values.astype(np.float64)), low, high)
        if valid is not None:
            shown[~valid] = 0
        return shown


def meaning(raw: np.ndarray, valid: np.ndarray | None) -> np.ndarray | None:
    """Return ``valid``, bool (h, w) or None for everywhere, less where a channel of ``raw`` (h, w, C) is not finite."""
    finite = np.isfinite(raw).all(2) if raw.dtype.kind == "f" else None
    if finite is None or finite.all():
        return valid
    return finite if valid is None else valid & finite


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
    """Return the levels at two percentiles, from how often each level occurs (65536,)."""
    cumulated = counts.cumsum()
    ranks = np.maximum(np.array(percentiles) / 100 * cumulated[-1], 1)  # percentile 0 is the lowest level there is
    return tuple(np.searchsorted(cumulated, ranks))


def _ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return values as bytes, from 0 at ``low`` and below to 255 at ``high`` and above."""
    return np.round(np.clip((values - low) / max(high - low, 1e-9), 0, 1) * 255).astype(np.uint8)
