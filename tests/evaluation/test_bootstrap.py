"""Proves resampling: a resample scores like the evaluator on each image repeated as often as it was drawn."""

import copy
from itertools import product

import numpy as np
import pytest
from simulated import World

from pixelkeep.evaluation import CocoEvaluator, Detections
from pixelkeep.evaluation.arrays import DetectionArrays
from pixelkeep.evaluation.bootstrap import Run, areas_of, draw, portions, resample
from pixelkeep.evaluation.matching import match
from pixelkeep.evaluation.metrics import read_metrics

HEADLINE = ["AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L", "AP50_S", "AP_100", "AR", "AR_S", "AR_M", "AR_L"]
BINS = ["AP:tiny", "AP50:small", "AR:medium"]
COPIES = 10  # a copy has the id COPIES * image id + copy number


def matched(evaluator, detections, metrics):
    """Return the matched detections as the `Run` that `resample` takes."""
    found = DetectionArrays.from_detections(evaluator.prepare(detections), evaluator.truth, max(evaluator.caps))
    outcome = match(evaluator.truth, found, areas_of(metrics), evaluator.similarity)
    return Run.of(evaluator.truth, found, outcome)


def figures(result):
    """Return the metrics named in `HEADLINE` and `BINS`."""
    values = {name: getattr(result, name) for name in HEADLINE}
    for entry in result.bins:
        values |= {f"{kind}:{entry.name}": getattr(entry, kind) for kind in ("AP", "AP50", "AR")}
    return np.array([values[name] for name in HEADLINE + BINS], float)


def without_ties(detections):
    """Return detections without equal scores in one image and class; different images may still tie."""
    seen, changed = {}, copy.deepcopy(detections)
    for record in changed:
        key = record["image_id"], record["category_id"], record["score"]
        seen[key] = seen.get(key, 0) + 1
        record["score"] -= seen[key] * 1e-4
    return changed


def repeated(ground_truth, detections, counts):
    """Return ground truth and detections with each image repeated ``counts`` times, by image id."""
    copies = {key: [COPIES * key + number for number in range(count)] for key, count in counts.items()}
    document = {"categories": ground_truth["categories"]}
    document["images"] = [{**i, "id": key} for i in ground_truth["images"] for key in copies[i["id"]]]
    document["annotations"] = [{**a, "image_id": k} for a in ground_truth["annotations"] for k in copies[a["image_id"]]]
    return document, [{**d, "image_id": key} for d in detections for key in copies[d["image_id"]]]


@pytest.mark.parametrize(("objects_to_ignore", "max_dets"), product((False, True), (2, None)))
def test_resample__equals_the_repeated_images(random_scene, objects_to_ignore, max_dets):
    """On 40 random scenes, images drawn 0 to 3 times score like the evaluator on that many copies of them."""
    rng = np.random.default_rng(0)
    defined = 0
    for seed in range(40):
        ground_truth, detections = random_scene(seed, objects_to_ignore=objects_to_ignore)
        detections = without_ties(detections)
        evaluator = CocoEvaluator(ground_truth, max_dets=max_dets)
        metrics = read_metrics(HEADLINE + BINS, evaluator)
        run = matched(evaluator, detections, metrics)
        weights = rng.integers(0, 4, (len(evaluator.truth.image_ids), 3)).astype(np.int32)
        weights[0] = weights[0].clip(1)
        (found,) = resample(evaluator.truth, [run], metrics, weights)
        for column, values in zip(weights.T, found.T, strict=True):
            counts = dict(zip(evaluator.truth.image_ids.tolist(), column.tolist(), strict=True))
            document, copies = repeated(ground_truth, detections, counts)
            expected = figures(CocoEvaluator(document, max_dets=max_dets or evaluator.caps[0]).evaluate(copies))
            np.testing.assert_allclose(values, expected, rtol=0, atol=1e-12)
            defined += np.count_nonzero(expected > 0)
    assert defined > 500


def test_weights_of_one__give_the_evaluators_figures(random_scene):
    """Drawing each image once gives the evaluator's metrics, ties included; several runs do not affect each other."""
    for seed in range(40):
        ground_truth, detections = random_scene(seed, objects_to_ignore=True)
        evaluator = CocoEvaluator(ground_truth)
        metrics = read_metrics(HEADLINE + BINS, evaluator)
        both = [detections, detections[::2]]
        ones = np.ones((len(evaluator.truth.image_ids), 1), np.int32)
        found = resample(evaluator.truth, [matched(evaluator, d, metrics) for d in both], metrics, ones)
        for values, records in zip(found[:, :, 0], both, strict=True):
            np.testing.assert_allclose(values, figures(evaluator.evaluate(records)), rtol=0, atol=1e-12)


def test_equal_scores_in_an_image__stay_together(one_class):
    """If a hit and a miss of equal score are drawn twice, both hits come first, as the hit does in the evaluator."""
    ground_truth, detections = one_class([[0, 0, 20, 20]], [([0, 0, 20, 20], 0.5), ([99, 99, 20, 20], 0.5)])
    evaluator = CocoEvaluator(ground_truth)
    metrics = read_metrics(["AP"], evaluator)
    found = resample(evaluator.truth, [matched(evaluator, detections, metrics)], metrics, np.array([[1, 2]], np.int32))
    assert found.ravel() == pytest.approx([1, 1], abs=1e-12)


def test_nothing_drawn__is_undefined(one_class):
    """A resample without objects has no metric; one with objects but without detections has 0."""
    ground_truth, _ = one_class([[0, 0, 20, 20]], [])
    evaluator = CocoEvaluator(ground_truth)
    metrics = read_metrics(["AP", "AP_L", "AR"], evaluator)
    found = resample(evaluator.truth, [matched(evaluator, [], metrics)], metrics, np.array([[0, 1]], np.int32))
    np.testing.assert_array_equal(found[0], [[np.nan, 0], [np.nan, np.nan], [np.nan, 0]])


def test_draw__takes_groups_whole():
    """As many groups are drawn as there are, and the images of a group are drawn equally often."""
    group = np.array([0, 1, 1, 2, 0, 3])
    counts = draw(group, 0, 200, 7)
    assert counts.shape == (6, 200)
    assert (counts[0] == counts[4]).all() and (counts[1] == counts[2]).all()
    assert (counts[[0, 1, 3, 5]].sum(axis=0) == 4).all()
    assert counts.mean() == pytest.approx(1, abs=0.15)  # four groups, 200 draws: standard error 0.06


def test_draw__does_not_depend_on_portions():
    """Drawing in portions gives the same resamples as drawing all at once; another seed gives others."""
    group = np.arange(30)
    whole = draw(group, 0, 20, 5)
    np.testing.assert_array_equal(whole, np.hstack([draw(group, 0, 7, 5), draw(group, 7, 20, 5)]))
    assert (whole != draw(group, 0, 20, 6)).any()


def test_portions__cover_every_resample_once(monkeypatch):
    """With little memory there are more portions, without gap or overlap."""
    world = World(60, 0)
    evaluator = CocoEvaluator(world.truth)
    run = matched(evaluator, world.detect(0.6, 1), read_metrics(["AP"], evaluator))
    assert portions(evaluator.truth, [run], 130) == [(0, 130)]
    monkeypatch.setattr("pixelkeep.evaluation.bootstrap.AT_ONCE", 1)
    assert portions(evaluator.truth, [run], 130) == [(0, 50), (50, 100), (100, 130)]


def test_spread__is_that_of_new_images():
    """Resamples of one image set spread as much as the metric over new image sets, for runs of equal skill."""
    values, guesses = [], []
    for seed in range(60):
        world = World(50, seed)
        evaluator = CocoEvaluator(world.truth)
        metrics = read_metrics(["AP"], evaluator)
        run = matched(evaluator, world.detect(0.6, seed), metrics)
        values.append(evaluator.evaluate(world.detect(0.6, seed)).AP)
        guesses.append(resample(evaluator.truth, [run], metrics, draw(np.arange(50), 0, 100, 0)).std())
    # the standard deviation of 60 values has a standard error of 9 %
    assert np.mean(guesses) == pytest.approx(np.std(values, ddof=1), rel=0.27)


def test_empty_columns__are_taken():
    """Empty columns of detections are accepted."""
    world = World(3, 0)
    evaluator = CocoEvaluator(world.truth)
    metrics = read_metrics(["AP"], evaluator)
    none = Detections([], [], [], [])
    assert (
        resample(evaluator.truth, [matched(evaluator, none, metrics)], metrics, np.ones((3, 2), np.int32)) == 0
    ).all()
