"""Relative differences with their intervals, against Fieller's closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pixelkeep.evaluation.inference import LEVEL, Sample, estimate_difference
from pixelkeep.evaluation.ratio import relative
from pixelkeep.evaluation.student import quantile

UNITS = 21


def samples(arm: float, baseline: float, seeds: int = 3, noise: float = 0.01, rng: int = 0) -> tuple[Sample, Sample]:
    """Return two arms that share most of the difficulty of the images but not all of it."""
    drawn = np.random.default_rng(rng)
    shared = drawn.normal(0, 2 * noise, 400)
    return tuple(
        Sample(
            mean + noise / 2 * (np.arange(seeds) - (seeds - 1) / 2),
            mean + shared + drawn.normal(0, noise, 400) + drawn.normal(0, noise / 4, (seeds, 400)),
        )
        for mean in (arm, baseline)
    )


@pytest.mark.parametrize(("arm", "baseline"), [(0.34, 0.30), (0.2, 0.3), (0.1, 0.06)])
def test_relative__is_fiellers_interval(arm, baseline):
    """With one seed the ends solve (a - r b)^2 = t^2 (Va - 2 r Vab + r^2 Vb), a quadratic equation in r."""
    one, other = samples(arm, baseline, seeds=1)
    cov = np.cov(one.resampled[0], other.resampled[0]) * UNITS / (UNITS - 1)
    t = quantile(LEVEL, UNITS - 1)
    square, linear, constant = (
        baseline**2 - t**2 * cov[1, 1], -2 * (arm * baseline - t**2 * cov[0, 1]), arm**2 - t**2 * cov[0, 0]
    )  # fmt: skip
    root = math.sqrt(linear**2 - 4 * square * constant)
    ends = [(-linear + sign * root) / (2 * square) - 1 for sign in (-1, 1)]
    found = relative(one, other, UNITS)
    assert found.value == pytest.approx(arm / baseline - 1)
    assert [found.low, found.high] == pytest.approx(ends, abs=1e-6)


@pytest.mark.parametrize("gain", [-0.03, -0.01, 0.0, 0.01, 0.015, 0.03])
def test_relative__leaves_out_0_where_the_difference_does(gain):
    """Relative and absolute difference exclude 0 in the same cases, with variation by seeds and by images."""
    one, other = samples(0.3 + gain, 0.3)
    apart, found = estimate_difference(one, other, UNITS), relative(one, other, UNITS)
    assert (found.low <= 0 <= found.high) == (apart.low <= 0 <= apart.high)
    assert found.low < found.value < found.high


def test_relative__of_what_never_varies_is_exact():
    """If images and seeds do not vary, the interval has no width."""
    one, other = (Sample(np.full(2, mean), np.full((2, 100), mean)) for mean in (0.26, 0.2))
    found = relative(one, other, UNITS)
    assert [found.value, found.low, found.high] == pytest.approx([0.3, 0.3, 0.3])


def test_relative__without_an_end():
    """A baseline that may be 0 gives no upper end, an arm that may be 0 gives -100 %; without a ratio it is None."""
    one, other = samples(0.03, 0.01, noise=0.02)
    found = relative(one, other, UNITS)
    assert (found.low, found.high) == (-1.0, None)
    assert relative(*samples(0.3, 0.0), UNITS) is None
    assert relative(Sample(np.array([np.nan] * 2), np.full((2, 9), np.nan)), other, UNITS) is None
