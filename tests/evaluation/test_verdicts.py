"""Proves when a verdict is given, which one, and what is reported when there is none."""

import math
from dataclasses import replace

import numpy as np
import pytest

from pixelkeep.evaluation.inference import Sample, estimate_difference
from pixelkeep.evaluation.verdicts import FEWEST, RESOLUTION, judge, measure

NAMES = ("spd", "stock", "AP_S")


def sample(mean, *, seeds=3, images=0.003, training=0.001, rng=0):
    """Return a metric of mean ``mean`` that varies by ``images`` and by ``training``."""
    random = np.random.default_rng(rng)
    figures = mean + training * np.linspace(-1, 1, seeds)
    return Sample(figures, figures[:, None] + images * random.normal(size=200))


def verdict(arm, baseline, objects=900, units=300):
    (found,) = judge([measure(NAMES, arm, baseline, objects, units)])
    return found


@pytest.mark.parametrize(("change", "expected"), [(0.05, "better"), (-0.05, "worse"), (0.001, "not distinguishable")])
def test_verdict__follows_the_difference(change, expected):
    """A clear difference is better or worse by its sign, a small one is neither, and none has a note."""
    found = verdict(sample(0.4 + change), sample(0.4, rng=1))
    assert (found.verdict, found.note, found.objects_needed) == (expected, None, None)
    assert found.value == pytest.approx(change)
    assert found.low < change < found.high
    assert (found.p_holm, found.seeds, found.objects) == (found.p, (3, 3), 900)


def test_one_seed__has_an_interval_and_no_verdict():
    """With a single run in an arm there is no verdict, however large the difference."""
    for seeds in ((1, 3), (3, 1), (1, 1)):
        found = verdict(sample(0.9, seeds=seeds[0]), sample(0.1, seeds=seeds[1]))
        assert (found.verdict, found.p, found.p_holm, found.seeds) == (None, None, None, seeds)
        assert found.note.startswith("images only")
        assert found.low < found.value < found.high


@pytest.mark.parametrize(("change", "expected"), [(0.05, "better"), (0.0005, "not distinguishable")])
def test_one_training__has_a_verdict_of_its_own(change, expected):
    """For one training scored in two ways the images decide, the note says so, and wide intervals keep their note."""
    arm, baseline = (sample(mean, seeds=1, training=0, rng=rng) for rng, mean in enumerate((0.3 + change, 0.3)))
    (found,) = judge([measure(NAMES, arm, baseline, 900, 300, paired=True)])
    assert found.verdict == expected and found.note.startswith("of this one training") and found.paired
    wide = [sample(0.3, seeds=1, training=0, images=0.1, rng=rng) for rng in (2, 3)]
    (open_,) = judge([measure(NAMES, *wide, 900, 300, paired=True)])
    assert open_.verdict is None and open_.note.startswith("too few objects") and "of this one training" in open_.note


def test_no_objects__is_undefined():
    """Without objects of the size there are no values and no verdict."""
    nothing = Sample(np.full(3, np.nan), np.full((3, 200), np.nan))
    found = verdict(nothing, nothing, objects=0, units=0)
    assert (found.value, found.low, found.high, found.p, found.verdict) == (None,) * 5
    assert found.note == "no objects of this size, so the figure is undefined"


@pytest.mark.parametrize("units", [1, 2, FEWEST - 1])
def test_few_images__are_not_ranked(units):
    """Objects in fewer than ten images get no verdict, and the note names the number that would suffice."""
    found = verdict(sample(0.9), sample(0.1), objects=3 * units, units=units)
    assert (found.verdict, found.p, found.objects_needed) == (None, None, 3 * FEWEST)
    assert found.note == (
        f"too few objects: {3 * units} in {units} images or groups; a verdict takes 10 of these, about 30 objects at "
        "this density"
    )
    assert found.value == pytest.approx(0.8)
    assert (found.low is None) == (units == 1)
    assert verdict(sample(0.9), sample(0.1), objects=30, units=FEWEST).verdict == "better"


def test_wide_interval__says_how_many_objects_it_takes():
    """If images leave more than two points open, the note gives the objects needed, by the square-root law."""
    arm, baseline = sample(0.41, images=0.03), sample(0.4, images=0.03, rng=1)
    found = verdict(arm, baseline)
    half = estimate_difference(arm, baseline, 300).images
    assert half > RESOLUTION
    assert found.verdict is None and found.p > 0.05
    assert found.objects_needed == math.ceil(900 * (half / 0.02) ** 2)
    assert found.note.startswith("too few objects: 900 leave the difference uncertain by more than 0.02")
    assert f"about {found.objects_needed} would" in found.note


def test_wide_interval__of_a_larger_difference_is_a_verdict():
    """An uncertainty of more than two points does not prevent a verdict on a difference of forty."""
    assert verdict(sample(0.8, images=0.03), sample(0.4, images=0.03, rng=1)).verdict == "better"


def test_many_differences__are_corrected_together():
    """A difference that is significant alone is not among many, and its note says so; those without p do not count."""
    single = measure(NAMES, sample(0.405, images=0.0015), sample(0.4, images=0.0015, rng=1), 900, 300)
    assert 0.01 < single.p < 0.05
    refused = measure(NAMES, sample(0.5, seeds=1), sample(0.4), 900, 300)
    assert [entry.verdict for entry in judge([single, refused, refused])] == ["better", None, None]
    family = judge([single] * 5)
    assert [entry.p_holm for entry in family] == pytest.approx([5 * single.p] * 5)
    assert {entry.verdict for entry in family} == {"not distinguishable"}
    assert family[0].note == "the interval excludes 0, but one of 5 may do so by chance"
    assert family[0].low > 0
    assert replace(family[0], p_holm=None, verdict=None, note=None) == single
