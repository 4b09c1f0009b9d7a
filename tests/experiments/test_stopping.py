"""When a contrast is done, and how many more seeds it would need."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pixelkeep.evaluation.inference import Sample, estimate_difference
from pixelkeep.evaluation.student import quantile
from pixelkeep.experiments.stopping import ENOUGH, decide, half_width, progress


def difference(half: float, images: float, value: float = 0.02) -> dict:
    return {"value": value, "low": value - half, "high": value + half, "images": images}


def spaced(spread: float, seeds: int) -> list[float]:
    """Return so many figures with the given sample standard deviation."""
    steps = np.arange(seeds) - (seeds - 1) / 2
    return list(0.3 + steps * spread / steps.std(ddof=1))


@pytest.mark.parametrize("noise", [0.0, 0.004, 0.02])
def test_half_width__is_that_of_the_inference(noise):
    """half_width recovers the half-width of an interval of the evaluation from its variances."""
    drawn = np.random.default_rng(0)
    shared = drawn.normal(0, 0.01, 400)
    samples = []
    for mean in (0.30, 0.33):
        figures = mean + drawn.normal(0, 0.006, 3)
        resampled = figures[:, None] + shared + drawn.normal(0, noise, (3, 400)) + mean * drawn.normal(0, 0.02, 400)
        samples.append(Sample(figures, resampled))
    units = 21
    found = estimate_difference(samples[1], samples[0], units)
    images = (found.images / quantile(0.95, units - 1)) ** 2
    own = sum(sample.resampled.var(axis=1, ddof=1).sum() for sample in samples)
    apart = [sample.resampled - sample.resampled.mean(axis=0) for sample in samples]
    counted = sum(rows.var(axis=1, ddof=1).sum() for rows in apart) * units / (units - 1) / 2
    assert own > 0
    spreads = [(sample.figures.var(ddof=1), 3) for sample in samples]
    variance = max(images, images + sum(s / n for s, n in spreads) - counted / 3)
    assert half_width(variance, images, units, spreads) == pytest.approx(found.high - found.value)


@pytest.mark.parametrize("spread", [0.005, 0.006, 0.009, 0.012, 0.015, 0.02])
def test_progress__without_images_it_is_welch(spread):
    """If images do not matter and both arms are alike, the half-width is t * s * sqrt(2 / S) at 2 S - 2 degrees."""
    expected = {s: quantile(0.95, 2 * s - 2) * spread * math.sqrt(2 / s) for s in range(2, 60)}
    needed = min(s for s, half in expected.items() if half <= ENOUGH)
    assert needed > 3
    found = progress(difference(expected[3], 0.0), spaced(spread, 3), spaced(spread, 3), 21)
    assert (found.seeds, found.done) == (needed, False)
    assert found.half == pytest.approx(expected[3])


@pytest.mark.parametrize("spread", [0.005, 0.008, 0.012])
def test_progress__images_stay_and_seeds_fall(spread):
    """The variance that images cause stays as it is, and that of the seeds is divided by their number."""
    units, images = 21, 0.008
    fixed = (images / quantile(0.95, units - 1)) ** 2

    def half(seeds: int) -> float:
        own = spread**2 / seeds
        variance = fixed + 2 * own
        freedom = variance**2 / (fixed**2 / (units - 1) + 2 * own**2 / (seeds - 1))
        return quantile(0.95, max(freedom, min(units - 1, seeds - 1))) * math.sqrt(variance)

    needed = min(s for s in range(2, 60) if half(s) <= ENOUGH)
    assert needed > 3
    found = progress(difference(half(3), images), spaced(spread, 3), spaced(spread, 3), units)
    assert (found.seeds, found.done) == (needed, False)


def test_progress__done_at_one_point():
    """A half-width of one point is enough, whatever the sign of the difference; a little more is not."""
    figures = spaced(0.002, 3)
    for value in (0.03, -0.03):
        assert progress(difference(ENOUGH - 1e-9, 0.004, value), figures, figures, 21).done
    assert not progress(difference(ENOUGH + 1e-4, 0.004), figures, figures, 21).done


def test_progress__images_that_no_seeds_mend():
    """Where the images alone leave more than one point, no number of seeds is promised."""
    figures = spaced(0.004, 3)
    found = progress(difference(0.03, 0.0101), figures, figures, 21)
    assert (found.images, found.seeds, found.done) == (0.0101, None, False)
    more = progress(difference(0.03, 0.0099), spaced(0.012, 3), spaced(0.012, 3), 21)
    assert more.seeds is None or more.seeds > 10  # hardly anything of the point is left for the seeds


def test_progress__one_seed_is_never_done():
    """With one seed a contrast is never done, however narrow the interval of the images alone is."""
    found = progress(difference(0.001, 0.001), [0.3], [0.29], 21)
    assert (found.half, found.seeds, found.done) == (None, None, False)


def test_progress__no_interval():
    """Without an interval a contrast is not done, and its images have no half-width."""
    nothing = {"value": None, "low": None, "high": None, "images": None}
    assert not progress(nothing, [0.1, 0.2], [0.1, 0.2], 21).done
    assert progress(nothing, [0.1, 0.2], [0.1, 0.2], 21).images is None


@pytest.mark.parametrize(
    ("answers", "fixed", "now", "why"),
    [
        ([(True, None), (True, None)], False, True, "every interval is ±0.01 or less"),
        ([(True, None), (False, 6), (False, 4), (False, None)], False, False, "about 6 seeds of each arm"),
        ([(False, 6)], True, True, "asked for with 3 seeds"),
        ([(True, None), (False, None)], False, True, "no number of seeds"),
        ([], False, True, "every interval"),
    ],
)
def test_decide__on_dev_before_val(answers, fixed, now, why):
    """Val waits for the seeds of the slowest interval that seeds can narrow enough, unless their number is given."""
    found = decide([{"done": done, "seeds": seeds} for done, seeds in answers], 3, fixed=fixed)
    assert found.now == now and why in found.why
    assert now or ("--seeds 6" in found.why and "--seeds 3" in found.why)
    assert "no telling" in decide([{"done": False, "seeds": None}], 1, fixed=False).why
