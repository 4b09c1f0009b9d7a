"""The uncertainty of a difference between two sets of trained runs, scored on the same images.

The difference of the means over seeds would be another on other images and with other seeds. Its variance is

    V = max(I, I + (s_a**2 - g_a) / S_a + (s_b**2 - g_b) / S_b)

I: variance of the difference over resamples of the images, the same resample for every run, times n / (n - 1) for n
units, which are images or groups of them. s**2: sample variance of an arm's S figures. g: the part of s**2 that comes
from the images at hand, because each of these suits some runs better than others. It is the variance over resamples of
each run's distance from the mean of the runs, summed over the runs, times n / (n - 1) and divided by S - 1. I already
contains g / S, so g / S is subtracted; otherwise it would count twice. V never falls below I.

The interval is the difference +- t * sqrt(V), with Student's t at Welch and Satterthwaite's degrees of freedom,

    V**2 / (I**2 / (n - 1) + (s_a**2 / S_a)**2 / (S_a - 1) + (s_b**2 / S_b)**2 / (S_b - 1)),

though never fewer than the smallest of n - 1, S_a - 1 and S_b - 1.

Where both arms are the same trainings, one for one, the luck of a training is common to both. The differences within
the trainings are then one sample d, with V = max(I, I + (s_d**2 - g_d) / S) and degrees of freedom to match. From a
single training nothing is claimed beyond that training, and V = I.

Sources: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993 (resampling). Satterthwaite, "An Approximate
Distribution of Estimates of Variance Components", Biometrics Bulletin 1946, and Welch, "The Generalization of
'Student's' Problem when Several Different Population Variances are Involved", Biometrika 1947 (degrees of freedom).
Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 1979. Bouthillier et
al., "Accounting for Variance in Machine Learning Benchmarks", MLSys 2021, on why seeds and data must both vary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pixelkeep.evaluation.student import quantile, two_sided

LEVEL = 0.95
ROUNDING = 1e-12  # smaller differences come from the order of summation and count as none


@dataclass(frozen=True, eq=False)
class Sample:
    """One metric of one arm: (S,) for its runs, and (S, B) on resamples of the images, NaN where undefined."""

    figures: np.ndarray
    resampled: np.ndarray

    @property
    def seeds(self) -> int:
        """Number of runs."""
        return len(self.figures)


@dataclass(frozen=True)
class Estimate:
    """A difference with its interval.

    Attributes:
        value: The difference.
        low, high: Ends of its interval at `LEVEL`.
        p: Probability of a difference as large or larger between arms that are alike. It is None with a single seed in
            an arm, where the interval is that of the images alone, unless both arms are that one training.
        images: Half-width of the interval that the images alone would give.
    """

    value: float
    low: float
    high: float
    p: float | None
    images: float


def estimate_difference(arm: Sample, baseline: Sample, units: int, *, paired: bool = False) -> Estimate:
    """Return the difference ``arm`` minus ``baseline`` with its interval.

    Args:
        arm, baseline: Samples of the two arms.
        units: Number of images, or groups of images, that hold objects counting in the metric; 2 or more.
        paired: Whether the runs of both arms are of the same trainings, in the same order.
    """
    value = float(arm.figures.mean() - baseline.figures.mean())
    value = value if abs(value) > ROUNDING else 0.0
    inflation = units / (units - 1)
    apart = arm.resampled.mean(axis=0) - baseline.resampled.mean(axis=0)
    images = _variance(apart) * inflation
    alone = quantile(LEVEL, units - 1) * math.sqrt(images)
    if min(arm.seeds, baseline.seeds) < 2 and not paired:
        return Estimate(value, value - alone, value + alone, None, alone)
    samples = [_within(arm, baseline)] if paired else [arm, baseline]
    parts = [_seed_parts(sample, inflation) for sample in samples if sample.seeds > 1]
    variance = max(images, images + sum(spread - counted for spread, counted, _ in parts))
    if variance <= ROUNDING**2:  # every image and every seed give the same difference
        return Estimate(value, value, value, float(value == 0), alone)
    squares = images**2 / (units - 1) + sum(spread**2 / df for spread, _, df in parts)
    df = max(variance**2 / squares, min([units - 1, *(df for *_, df in parts)]))
    half = quantile(LEVEL, df) * math.sqrt(variance)
    p = two_sided(value / math.sqrt(variance), df)
    return Estimate(value, value - half, value + half, p, alone)


def _within(arm: Sample, baseline: Sample) -> Sample:
    """Return the sample of differences within each training."""
    return Sample(arm.figures - baseline.figures, arm.resampled - baseline.resampled)


def holm(chances: Sequence[float]) -> list[float]:
    """Return p values corrected for their number: rejecting at 0.05 errs at all in at most 1 family of 20."""
    order = sorted(range(len(chances)), key=chances.__getitem__)
    corrected, least = [0.0] * len(chances), 0.0
    for place, index in enumerate(order):
        least = max(least, min(1.0, (len(chances) - place) * chances[index]))
        corrected[index] = least
    return corrected


def _seed_parts(sample: Sample, inflation: float) -> tuple[float, float, int]:
    """Return s**2 / S, the seeds' part of the mean's variance; g / S, the images' part of that; and S - 1."""
    df = sample.seeds - 1
    apart = sample.resampled - sample.resampled.mean(axis=0)
    counted = sum(_variance(row) for row in apart) * inflation / df
    return float(sample.figures.var(ddof=1)) / sample.seeds, counted / sample.seeds, df


def _variance(resampled: np.ndarray) -> float:
    defined = resampled[~np.isnan(resampled)]
    return float(defined.var(ddof=1)) if len(defined) > 1 else 0.0
