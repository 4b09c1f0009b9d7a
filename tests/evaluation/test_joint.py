"""Proves the verdict against several rivals: when it is better or worse, and how rarely it is wrong."""

import numpy as np
import pytest
from simulated import World

from pixelkeep.errors import OptionError
from pixelkeep.evaluation.comparison import compare_arms
from pixelkeep.evaluation.inference import Sample, holm
from pixelkeep.evaluation.joint import join
from pixelkeep.evaluation.verdicts import Difference, judge, measure

IMAGES = 100


def difference(rival, value, p, **others):
    """Return a measured difference between the variant and one rival."""
    facts = {"low": None, "high": None, "p_holm": None, "verdict": None, "note": None, "seeds": (3, 3)}
    facts |= {"objects": 900, "objects_needed": None} | others
    return Difference("spd", rival, "AP_S", value, p=p, **facts)


@pytest.mark.parametrize(
    ("values", "ps", "p", "ahead"),
    [
        ((0.03, 0.02), (0.001, 0.04), 0.04, True),  # better than both: as certain as the less certain of the two
        ((0.03, -0.02), (0.001, 0.04), 0.08, False),  # worse than one of the two
        ((-0.03, -0.02), (0.001, 0.04), 0.002, False),
        ((-0.03, -0.02, 0.01), (0.2, 0.4, 0.001), 0.6, False),
        ((-0.03, -0.02), (0.7, 0.8), 1.0, False),
        ((0.03, 0.0), (0.001, 1.0), 1.0, False),  # equal to a rival: neither better nor worse
    ],
)
def test_chance__of_the_one_claim_that_is_left(values, ps, p, ahead):
    """p is the largest if all differences are above 0, else the smallest of those below times their number."""
    entries = [difference(f"r{i}", value, each) for i, (value, each) in enumerate(zip(values, ps, strict=True))]
    joint = join(entries, "r0")
    assert (joint.p, joint.ahead) == (pytest.approx(p), ahead)
    (judged,) = judge([joint])
    assert judged.verdict == ("not distinguishable" if p > 0.05 else "better" if ahead else "worse")
    assert (judged.value, judged.stronger) == (values[0], "r0")


def test_stronger__decides_no_verdict():
    """Whichever rival is shown, p value and verdict are the same."""
    entries = [difference("plain", 0.03, 0.001), difference("wide", 0.02, 0.04)]
    assert {judge([join(entries, name)])[0].verdict for name in ("plain", "wide")} == {"better"}
    assert {join(entries, name).p for name in ("plain", "wide")} == {0.04}


def test_note__of_an_interval_that_leaves_out_0():
    """If the variant beats the rival shown but not another, there is no verdict, and the note names the other."""
    entries = [difference("plain", 0.03, 0.001), difference("wide", 0.02, 0.3)]
    (judged,) = judge([join(entries, "plain")])
    assert judged.verdict == "not distinguishable"
    assert judged.note == "the interval excludes 0, but not against wide"


def test_unknown__of_one_rival_is_unknown_of_all():
    """If one rival has a single seed or too few objects, there is no verdict, and the reason is given."""
    entries = [difference("plain", 0.03, 0.001), difference("wide", 0.02, None, note="images only: so")]
    (judged,) = judge([join(entries, "plain")])
    assert (judged.p, judged.verdict, judged.note) == (None, None, "images only: so")
    wide = difference("wide", 0.001, 0.8, objects_needed=5000)
    (judged,) = judge([join([difference("plain", 0.03, 0.5), wide], "plain")])
    assert judged.verdict is None and judged.objects_needed == 5000 and judged.note.startswith("too few objects")


def test_holm__counts_all_verdicts():
    """A joint verdict counts as one more in the family that Holm's method corrects."""
    asked = [difference("plain", 0.03, 0.02), join([difference("plain", 0.03, 0.02), difference("w", 0.1, 0.01)], "w")]
    assert [entry.p_holm for entry in judge(asked)] == pytest.approx([0.04, 0.04])


def family(rng, gains, seeds=3, ratio=1.0):
    """Return a variant's verdicts against the plain baseline and jointly against it and two matched arms.

    The metric is the mean over images; ``gains`` are the true effects of variant, plain, wider and larger.
    """
    image = rng.normal(0, 1, (IMAGES, 1, 1)) + rng.normal(0, np.sqrt(0.5), (IMAGES, 4, 1))
    runs = rng.normal(0, np.sqrt(ratio / IMAGES), (4, seeds))
    values = image + runs + np.array(gains)[:, None]
    counts = rng.multinomial(IMAGES, np.full(IMAGES, 1 / IMAGES), 200).T / IMAGES
    arms = [Sample(arm.mean(axis=0), arm.T @ counts) for arm in np.moveaxis(values, 1, 0)]
    variant, *rivals = arms
    measured = [measure(("spd", str(i), "AP_S"), variant, rival, 900, IMAGES) for i, rival in enumerate(rivals)]
    strongest = max(range(3), key=lambda i: rivals[i].figures.mean())
    # in this metric the images' half-width is far above two points, which does not matter here: return verdicts only
    return [entry.verdict for entry in judge([measured[0], join(measured, str(strongest))])]


def shares(gains, families=1500):
    """Return how often plain and joint verdict are better, how often worse, and how often any is one of these."""
    rng = np.random.default_rng(7)
    found = [family(rng, gains) for _ in range(families)]
    share = {word: np.mean([[v == word for v in entry] for entry in found], axis=0) for word in ("better", "worse")}
    return share["better"], share["worse"], np.mean([bool({"better", "worse"} & set(entry)) for entry in found])


def test_null__family_is_wrong_in_one_of_twenty():
    """If all four arms are alike, at most 0.05 of the comparisons give any verdict of a difference.

    The bound allows for three standard errors of 1,500 simulations, 0.0056 each.
    """
    better, worse, any_ = shares((0, 0, 0, 0))
    print(f"alike: better {better}, worse {worse}, any {any_:.4f}")
    assert any_ <= 0.05 + 3 * 0.0056


def test_compute_alone__is_not_better():
    """A variant that gains as much over the plain baseline as the wider one does is better only than the plain one.

    Calling it better at equal cost is an error, and so is calling it worse: together at most one in twenty.
    """
    better, worse, _ = shares((1.5, 0, 1.5, 0.2))
    print(f"compute alone: better {better}, worse {worse}")
    assert better[0] > 0.95
    assert better[1] + worse[1] <= 0.05 + 3 * 0.0056


def test_gain_over_all__is_found():
    """A true gain over all three rivals is found, and a variant behind the best of them is called worse."""
    better, _, _ = shares((3.0, 0, 1.5, 1.0), families=200)
    assert better[1] > 0.9
    _, worse, _ = shares((1.0, 0, 2.8, 1.0), families=200)
    assert worse[1] > 0.9 and worse[0] == 0


@pytest.fixture(scope="module")
def world():
    return World(600, 5)


def test_arms__stronger_by_small_objects(world):
    """compare_arms joins the given rivals, shows the one with the highest AP_S, and gives rivals no verdicts."""
    skills = {"plain": 0.6, "spd": 0.66, "wide": 0.65, "large": 0.62}
    arms = {name: world.arm(skill, range(i * 9, i * 9 + 3), 0.002) for i, (name, skill) in enumerate(skills.items())}
    found = compare_arms(world.truth, arms, "plain", rivals={"spd": ["plain", "wide", "large"]}, resamples=100)
    assert [(entry.arm, entry.baseline) for entry in found.differences] == [("spd", "plain")] * 2
    assert {entry.verdict for entry in found.differences} == {"better"}
    means = {arm.name: arm.mean for arm in found.arms}
    assert means["wide"]["AP_S"] > max(means["plain"]["AP_S"], means["large"]["AP_S"])
    for joint, metric in zip(found.joints, ("AP", "AP_S"), strict=True):
        assert (joint.arm, joint.metric, joint.stronger) == ("spd", metric, "wide")
        assert joint.value == pytest.approx(means["spd"][metric] - means["wide"][metric])
        assert [entry.baseline for entry in joint.differences] == ["plain", "wide", "large"]
        assert joint.p == max(entry.p for entry in joint.differences) and joint.verdict == "not distinguishable"
    asked = [*found.differences, *found.joints]  # corrected as one family
    assert [entry.p_holm for entry in asked] == pytest.approx(holm([entry.p for entry in asked]))
    assert found.differences[0].p_holm > 2 * found.differences[0].p
    (plain, *_) = found.joints[0].differences
    assert (plain.value, plain.p) == (found.differences[0].value, found.differences[0].p)


def test_arms__a_gain_over_all_is_better(world):
    """A gain of two points over the wider baseline is found with the same images and runs."""
    skills = {"plain": 0.6, "spd": 0.69, "wide": 0.65}
    arms = {name: world.arm(skill, range(i * 9, i * 9 + 3), 0.002) for i, (name, skill) in enumerate(skills.items())}
    found = compare_arms(world.truth, arms, "plain", rivals={"spd": ["plain", "wide"]}, resamples=100)
    assert {entry.verdict for entry in found.joints} == {"better"}


@pytest.mark.parametrize(
    ("rivals", "told"),
    [
        ({"b": ["c"]}, "'c' is not among a, b"),
        ({"c": ["a"]}, "'c' is not among a, b"),
        ({"b": []}, "rivals of 'b' are none"),
        ({"b": ["a", "b"]}, "rivals of 'b' are a, b"),
        ({"a": ["b"]}, "rivals of 'a' are b"),
    ],
)
def test_rivals__that_make_no_sense_are_refused(rivals, told):
    """Unknown rivals, an empty list and the arm itself are refused by name."""
    world = World(10, 0)
    arms = {name: world.arm(0.5, range(2)) for name in "ab"}
    with pytest.raises(OptionError, match=told):
        compare_arms(world.truth, arms, "a", rivals=rivals, resamples=100)
