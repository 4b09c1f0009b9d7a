"""Agreement of classification and segmentation networks, by images and by pixels, and the user's own bounds."""

from __future__ import annotations

import numpy as np
import pytest

from pixelkeep.deploy.bounds import bounds_for
from pixelkeep.deploy.label_parity import BOUNDS, LabelBounds, compare_classes, compare_pixels
from pixelkeep.errors import OptionError

PROBABLE = np.array([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4], [0.3, 0.3, 0.4], [0.0, 1.0, 0.0]])


def test_classes__agreement_and_largest_difference():
    """One image of four changes its top class; another keeps it but has the largest change of a probability."""
    other = PROBABLE.copy()
    other[1] = [0.1, 0.4, 0.5]
    other[0] = [0.4, 0.35, 0.25]
    found = compare_classes(PROBABLE, other)
    assert (found.images, found.labels, found.unit, found.agreed) == (4, 4, "images", 0.75)
    assert found.scores_max == pytest.approx(0.3)


def test_classes__what_is_no_number_agrees_with_nothing():
    """An output with NaN agrees with no class, although argmax returns the position of the NaN."""
    other = PROBABLE.copy()
    other[0, 0] = np.nan
    found = compare_classes(PROBABLE, other)
    assert found.agreed == 0.75 and len(found.failures(BOUNDS["fp32"])) == 2


def test_pixels__agreement():
    """If three of sixteen pixels differ, the agreement is 13/16."""
    reference = np.arange(16).reshape(1, 4, 4) % 3
    other = reference.copy()
    other[0, 0, :3] += 1
    found = compare_pixels(reference, other)
    assert (found.images, found.labels, found.unit) == (1, 16, "pixels")
    assert found.agreed == 13 / 16 and found.scores_max is None


def test_shapes__refused():
    """Outputs of different shapes are refused instead of being broadcast."""
    for compare in (compare_classes, compare_pixels):
        with pytest.raises(ValueError, match=r"\(4, 3\) and \(4, 2\)"):
            compare(PROBABLE, PROBABLE[:, :2])


@pytest.mark.parametrize(
    ("agreed", "scores", "losses", "told"),
    [
        (0.95, 0.1, {"top1": 0.02, "top5": 9.0}, []),
        (0.9499, 0.1, {}, ["94.99% of the images"]),
        (1.0, 0.11, {}, ["probabilities differ by up to 0.11"]),
        (1.0, 0.0, {"top1": 0.021}, ["top1 falls by 0.021"]),
        (1.0, 0.0, {"mIoU": 0.5, "top1": None}, []),
    ],
)
def test_failures__by_bound(agreed, scores, losses, told):
    """Each bound fails by itself; metrics of another task and undefined ones are ignored."""
    bounds = LabelBounds(agreed=0.95, scores=0.1, loss=0.02)
    found = compare_classes(PROBABLE, PROBABLE)
    found = type(found)(images=4, unit="images", labels=4, agreed=agreed, scores_max=scores)
    failed = found.failures(bounds, losses)
    assert len(failed) == len(told) and all(line.startswith(start) for line, start in zip(failed, told, strict=True))


def test_bounds__of_the_user():
    """--bound changes only the named bound of the given task and precision."""
    stock = bounds_for("detect", "int8")
    ours = bounds_for("detect", "int8", ["matched=0.99", "ap_s=0"])
    assert (ours.matched, ours.ap_s, ours.ap) == (0.99, 0.0, stock.ap) and ours != stock
    assert bounds_for("semantic", "bf16", ["loss=0.5"]) == LabelBounds(agreed=BOUNDS["bf16"].agreed, loss=0.5)


@pytest.mark.parametrize("task", ["detect", "classify"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_bounds__looser_with_fewer_bits(task, precision):
    """No precision has a tighter bound than fp32."""
    exact, found = bounds_for(task, "fp32"), bounds_for(task, precision)
    share = "matched" if task == "detect" else "agreed"
    assert getattr(found, share) <= getattr(exact, share)
    losses = ("ap", "ap_s") if task == "detect" else ("loss",)
    assert all(getattr(found, key) >= getattr(exact, key) for key in losses)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("match=0.9", "NAME one of boxes, scores, matched, ap, ap_s; did you mean 'matched'?"),
        ("matched", "write NAME=VALUE"),
        ("ap=much", "a number of at least 0"),
        ("ap=-1", "a number of at least 0"),
        ("ap=nan", "a number of at least 0"),
        ("agreed=0.9", "NAME one of boxes"),
    ],
)
def test_bounds__refused(change, told):
    """Unknown bounds and invalid values are refused in one line that says what would be right."""
    with pytest.raises(OptionError) as error:
        bounds_for("detect", "fp32", [change])
    assert told in str(error.value)
