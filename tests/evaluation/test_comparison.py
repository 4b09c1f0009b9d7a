"""Proves `compare_arms`: it finds planted differences and no others, and refuses invalid arguments."""

import json

import numpy as np
import pytest
from simulated import World

from pixelkeep.errors import DataError, OptionError
from pixelkeep.evaluation import CocoEvaluator, Detections
from pixelkeep.evaluation.comparison import compare_arms

SKILL = 0.6
TWO_POINTS, TENTH_OF_A_POINT = 0.038, 0.0019  # in skill; one unit of skill is worth 0.53 of AP
TRAINING = 0.003  # standard deviation of skill between the runs of an arm


@pytest.fixture(scope="module")
def world():
    return World(40, 0)


def verdicts(comparison):
    return {entry.verdict for entry in comparison.differences}


def planted(gain, seed, images=600):
    """Return the comparison of three runs with three of ``gain`` more skill, in a world of their own."""
    world = World(images, seed)
    arms = {
        "plain": world.arm(SKILL, range(10 * seed, 10 * seed + 3), TRAINING),
        "other": world.arm(SKILL + gain, range(10 * seed + 5, 10 * seed + 8), TRAINING),
    }
    return compare_arms(world.truth, arms, "plain", resamples=200)


def test_planted__is_as_large_as_it_says():
    """On many images and runs the planted skills are worth two points and a tenth of a point of AP."""
    world = World(2000, 99)
    evaluator = CocoEvaluator(world.truth)
    means = [np.mean([evaluator.evaluate(d).AP for d in world.arm(SKILL + gain, range(4))]) for gain in (0, TWO_POINTS)]
    assert means[1] - means[0] == pytest.approx(0.02, abs=0.002)
    assert TENTH_OF_A_POINT == pytest.approx(TWO_POINTS / 20)


def test_two_points__are_found():
    """In five worlds of 600 images, three runs against three detect a gain of two points in AP and in AP_S."""
    for seed in range(5):
        assert verdicts(planted(TWO_POINTS, seed)) == {"better"}
    assert verdicts(planted(-TWO_POINTS, 0)) == {"worse"}


def test_tenth_of_a_point__is_not_found():
    """In five worlds of 600 images, a tenth of a point is not distinguishable."""
    for seed in range(5):
        assert verdicts(planted(TENTH_OF_A_POINT, seed)) == {"not distinguishable"}


@pytest.mark.slow
def test_alike__is_seldom_told_apart():
    """Over 200 worlds of 60 images, the interval between equal arms contains 0 in at least 0.93 of the cases."""
    held = [entry.low <= 0 <= entry.high for seed in range(200) for entry in planted(0.0, seed, images=60).differences]
    print(f"coverage {np.mean(held):.3f}")
    assert np.mean(held) >= 0.93


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_itself__is_never_better(world, seeds):
    """An arm differs from a copy of itself by 0, with 0 in the interval, whatever the order of its runs."""
    runs = world.arm(SKILL, range(seeds), 0.02)
    names = ["AP", "AP_S", "AR", "AP50", "AP:tiny"]
    found = compare_arms(world.truth, {"a": runs, "b": runs[::-1]}, "a", metrics=names, resamples=100)
    assert [entry.metric for entry in found.differences] == names
    for entry in found.differences:
        assert entry.verdict not in ("better", "worse")
        assert entry.value == 0
        assert entry.low <= 0 <= entry.high


def test_one_run_many_times__is_never_better(world):
    """Copies of one run, in different numbers, differ by rounding alone and are not distinguishable."""
    for seed in range(5):
        run = world.detect(SKILL, seed)
        found = compare_arms(world.truth, {"a": [run] * 3, "b": [run] * 2, "c": [run] * 7}, "a", resamples=100)
        assert verdicts(found) == {"not distinguishable"}


def test_same_trainings__differ_by_what_each_gains(world):
    """Scoring the same trainings in two ways leaves out what they share, and a single training has a p value."""
    runs = [world.detect(skill, seed) for seed, skill in enumerate((0.5, 0.6, 0.7, 0.8))]
    best = [detections.scores >= np.quantile(detections.scores, 0.3) for detections in runs]
    fewer = [
        Detections(*(getattr(found, key)[kept] for key in ("image_ids", "category_ids", "boxes_xywh", "scores")))
        for found, kept in zip(runs, best, strict=True)
    ]
    arms = {"all": runs, "fewer": fewer}
    (apart,), (within,) = (
        compare_arms(world.truth, arms, "all", paired=paired, metrics=["AP"], resamples=100).differences
        for paired in ((), ("fewer",))
    )
    assert within.value == apart.value and within.paired and not apart.paired
    assert within.high - within.low < (apart.high - apart.low) / 2
    one = {"all": runs[:1], "fewer": fewer[:1]}
    (alone,) = compare_arms(world.truth, one, "all", paired=["fewer"], metrics=["AP"], resamples=100).differences
    assert alone.p is not None and alone.note.endswith("how far others would differ")


def test_figures__are_the_evaluators(world):
    """Means and standard deviations over seeds are those of the evaluator's metrics, bins included."""
    runs = {"a": world.arm(0.5, range(3)), "b": world.arm(0.7, range(3, 4))}
    found = compare_arms(world.truth, runs, "a", metrics=("AP", "AP50_S", "AP:tiny"), resamples=100, max_dets=5)
    evaluator = CocoEvaluator(world.truth, max_dets=5)
    for arm in found.arms:
        results = [evaluator.evaluate(detections) for detections in runs[arm.name]]
        bins = [{entry.name: entry.AP for entry in result.bins}["tiny"] for result in results]
        for name, values in {
            "AP": [r.AP for r in results],
            "AP50_S": [r.AP50_S for r in results],
            "AP:tiny": bins,
        }.items():
            assert arm.mean[name] == pytest.approx(np.mean(values), abs=1e-15)
            assert arm.spread[name] == (pytest.approx(np.std(values, ddof=1)) if arm.seeds > 1 else None)
    first, second = found.arms
    assert (first.seeds, second.seeds) == (3, 1)
    assert found.differences[0].value == pytest.approx(second.mean["AP"] - first.mean["AP"])


def test_document__is_json(world, tmp_path):
    """The document is valid JSON with null for undefined metrics; ground truth and detections may be files."""
    runs = {name: world.arm(skill, range(2)) for name, skill in (("a", 0.5), ("b", 0.6), ("c", 0.7))}
    found = compare_arms(world.truth, runs, "b", metrics=("AP", "AP_L"), resamples=100)
    document = found.to_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert [(d["arm"], d["baseline"], d["metric"]) for d in document["differences"]] == [
        ("a", "b", "AP"),
        ("a", "b", "AP_L"),
        ("c", "b", "AP"),
        ("c", "b", "AP_L"),
    ]
    assert document["differences"][1] | {"note": None} == {
        **dict.fromkeys(document["differences"][1]),
        "arm": "a",
        "baseline": "b",
        "metric": "AP_L",
        "objects": 0,
        "seeds": [2, 2],
        "paired": False,
    }
    assert document["arms"][0]["mean"]["AP_L"] is document["arms"][0]["spread"]["AP_L"] is None
    assert (document["images"], document["groups"], document["resamples"], document["level"]) == (40, 40, 100, 0.95)
    (tmp_path / "truth.json").write_text(json.dumps(world.truth))
    files = {name: [] for name in runs}
    for name, detections in runs.items():
        for number, entry in enumerate(detections):
            files[name].append(tmp_path / f"{name}{number}.json")
            files[name][-1].write_text(entry.to_json())
    assert compare_arms(tmp_path / "truth.json", files, "b", metrics=("AP", "AP_L"), resamples=100) == found


def test_seed__decides_the_resamples(world):
    """The same seed gives the same document, another seed another interval of the same value."""
    runs = {"a": world.arm(0.5, range(2)), "b": world.arm(0.6, range(2, 4))}
    first, again, other = (compare_arms(world.truth, runs, "a", resamples=100, seed=s) for s in (3, 3, 4))
    assert first == again
    assert first.differences[0].value == other.differences[0].value
    assert first.differences[0].low != other.differences[0].low


def test_groups__are_drawn_whole(world):
    """Four copies of each image carry the information of one: groups give the interval of one, single images do not."""
    size, copies = len(world.truth["images"]), 4
    document = {"categories": world.truth["categories"], "images": [], "annotations": []}
    groups = {}
    for copy in range(copies):
        for image in world.truth["images"]:
            document["images"].append({**image, "id": image["id"] + copy * size})
            groups[image["id"] + copy * size] = f"video {image['id']}"
        for entry in world.truth["annotations"]:
            document["annotations"].append({**entry, "image_id": entry["image_id"] + copy * size})
    runs = {"a": world.arm(0.5, range(1)), "b": world.arm(0.6, range(1, 2))}
    fourfold = {
        name: [
            [{**r, "image_id": r["image_id"] + copy * size} for r in run.records() for copy in range(copies)]
            for run in detections
        ]
        for name, detections in runs.items()
    }

    def width(*args, **keywords):
        entry = compare_arms(*args, "a", metrics=["AR"], resamples=100, **keywords).differences[0]
        return entry.high - entry.low

    once, grouped = width(world.truth, runs), width(document, fourfold, groups=groups)
    assert grouped == pytest.approx(once, rel=0.35)  # the resamples differ: two widths that each vary by 7 %
    assert width(document, fourfold) < 0.7 * once
    found = compare_arms(document, fourfold, "a", groups=groups, resamples=100)
    assert (found.images, found.groups) == (copies * size, size)


def test_progress__counts_to_the_end(world):
    """The reported steps rise by one up to their total."""
    steps = []
    runs = {name: world.arm(0.5, range(1)) for name in "ab"}
    compare_arms(world.truth, runs, "a", resamples=100, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(number + 1, len(steps)) for number in range(len(steps))]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"baseline": "stok"}, "baseline 'stok'; expected one of stock, spd; did you mean 'stock'?"),
        ({"arms": {"stock": [[]]}}, "there is one arm, 'stock'; expected another to compare it with"),
        (
            {"arms": {"stock": [[]], "spd": []}},
            "arm 'spd' has no detections; expected those of one trained run or more",
        ),
        (
            {"arms": {"stock": [[]], "spd": "found.json"}},
            "arm 'spd' is one set of detections; expected a list of them, one for each seed",
        ),
        ({"resamples": 99}, "resamples is 99; expected an integer, 100 or more"),
        ({"resamples": "many"}, "resamples is 'many'; expected an integer, 100 or more"),
        ({"seed": -1}, "seed is -1; expected an integer, 0 or more"),
        ({"max_dets": 0}, "max_dets is 0; expected an integer, 1 or more"),
        ({"paired": ["spt"]}, "paired: 'spt' is not an arm; expected 1, as 'stock' has"),
        (
            {"paired": ["spd"], "arms": {"stock": [[]], "spd": [[], []]}},
            "paired: 'spd' has 2 runs; expected 1, as 'stock' has",
        ),
        ({"groups": {1: "a", 2: "a"}}, "groups lacks image 3; expected a group for each of the images"),
        (
            {"groups": dict.fromkeys(range(1, 5), "a")},
            "groups names image 4; expected a group for each of the images",
        ),
    ],
)
def test_wrong_argument__is_refused(change, text):
    """Each wrong argument is refused in one line that says what would be right."""
    arguments = {"truth": World(3, 0).truth, "arms": {"stock": [[]], "spd": [[]]}, "baseline": "stock"} | change
    with pytest.raises(OptionError) as error:
        compare_arms(**arguments)
    assert str(error.value) == text


def test_wrong_detections__are_refused(world):
    """Detections on images that the ground truth lacks are refused by name."""
    wrong = [{"image_id": 99, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.5}]
    with pytest.raises(DataError, match=r"detections\[0\] names image_id 99"):
        compare_arms(world.truth, {"a": [[]], "b": [wrong]}, "a")
