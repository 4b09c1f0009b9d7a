"""Proves that our evaluator gives pycocotools' figures, on committed scenes and on random ones.

The reference is stock pycocotools where only regions are ignored, and our subclass of it where objects are too.
"""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from pixelkeep.errors import OptionError
from pixelkeep.evaluation import CocoEvaluator, Detections, Scoring, evaluate, normalise
from pixelkeep.evaluation.reference import FastEvaluator, ReferenceEvaluator
from pixelkeep.evaluation.similarity import box_iou

HERE = Path(__file__).parent
SCENES = sorted(path.stem for path in (HERE / "fixtures").glob("*.json"))


def assert_equal(ours, theirs, where="result"):
    """Compare two documents: numbers to 1e-12, everything else exactly."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for key, value in theirs.items():
            assert_equal(ours[key], value, f"{where}.{key}")
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs), where
        for index, value in enumerate(theirs):
            assert_equal(ours[index], value, f"{where}[{index}]")
    elif isinstance(theirs, float):
        assert isinstance(ours, float) and abs(ours - theirs) <= 1e-12, f"{where}: {ours} and {theirs}"
    else:
        assert ours == theirs, f"{where}: {ours!r} and {theirs!r}"


def assert_parity(ground_truth, detections, max_dets=None):
    """Compare both evaluators in every metric of the schema and return our result."""
    ours = CocoEvaluator(ground_truth, max_dets=max_dets).evaluate(detections)
    theirs = ReferenceEvaluator(ground_truth, max_dets=max_dets).evaluate(detections)
    assert (ours.protocol.evaluator, theirs.protocol.evaluator) == ("pixelkeep", "pycocotools")
    theirs.protocol.evaluator = "pixelkeep"
    assert_equal(ours.to_dict(), theirs.to_dict())
    return ours


def assert_stock(ours, stock):
    """Compare a result with the metrics read from stock pycocotools."""
    per_class = stock.pop("per_class")
    assert_equal({key: getattr(ours, key) for key in stock}, stock)
    figures = ours.per_class.values()
    for name, expected in zip(("AP", "AP50", "AP_S"), zip(*per_class, strict=True), strict=True):
        assert_equal([getattr(f, name) for f in figures], list(expected), name)


def test_fixtures__are_what_their_generator_writes():
    """The committed scenes are exactly those of make_fixtures.py."""
    texts = runpy.run_path(str(HERE / "make_fixtures.py"))["texts"]()
    assert sorted(texts) == [f"{name}.json" for name in SCENES]
    for name, text in texts.items():
        assert (HERE / "fixtures" / name).read_text(encoding="utf-8") == text


@pytest.mark.parametrize("name", SCENES)
def test_committed_scene__equals_reference(name, load_scene):
    """On committed scenes every metric equals the reference's."""
    assert_parity(*load_scene(name))


@pytest.mark.parametrize("name", [name for name in SCENES if name != "difficult"])
def test_committed_scene__equals_stock_pycocotools(name, load_scene, stock_figures):
    """Without objects to ignore, every metric equals that of unmodified pycocotools on the JSON documents."""
    ground_truth, detections = load_scene(name)
    ours = evaluate(ground_truth, detections)
    assert_stock(ours, stock_figures(normalise(ground_truth), detections, ours.protocol.max_dets))


def test_crowded_scene__caps_bind(load_scene):
    """The scene with 340 detections scores differently at 100, 300 and 1000, so the limits are really compared."""
    ground_truth, detections = load_scene("crowded")
    at_300, at_1000 = evaluate(ground_truth, detections), assert_parity(ground_truth, detections, 1000)
    assert len({at_300.AP_100, at_300.AP, at_1000.AP}) == 3
    assert at_300.AP_100 == at_1000.AP_100


def test_difficult_scene__stock_overwrites_ignore(load_scene, stock_figures):
    """Stock pycocotools counts objects to ignore, which is why the reference restores the ``ignore`` mark."""
    ground_truth, detections = load_scene("difficult")
    assert stock_figures(ground_truth, detections, 300)["AP"] != evaluate(ground_truth, detections).AP


def test_annotation_id_zero__is_matched(load_scene, stock_figures):
    """A file whose ids start at 0 scores 1.0, although stock pycocotools never matches the annotation with id 0."""
    ground_truth, detections = load_scene("annotation_id_zero")
    raw = {**ground_truth, "annotations": [{"iscrowd": 0, "area": 625, **a} for a in ground_truth["annotations"]]}
    assert evaluate(ground_truth, detections).AP == pytest.approx(1.0)
    assert stock_figures(raw, detections, 300)["AP"] < 0.9


@pytest.mark.parametrize("seed", range(24))
def test_random_scene__equals_stock_pycocotools(seed, random_scene, stock_figures):
    """With regions only, random scenes score as in stock pycocotools, at a loose and at a binding limit."""
    ground_truth, detections = random_scene(seed, objects_to_ignore=False)
    limit = 2 if seed % 3 == 0 else 300
    ours = evaluate(ground_truth, detections, max_dets=limit)
    if detections:
        assert_stock(ours, stock_figures(ground_truth, detections, limit))


@pytest.mark.parametrize("seed", range(100, 132))
def test_random_scene__equals_reference(seed, random_scene):
    """With objects to ignore, random scenes score as in the reference, bins included."""
    ground_truth, detections = random_scene(seed, objects_to_ignore=True)
    assert_parity(ground_truth, detections, 2 if seed % 3 == 0 else None)


@pytest.mark.parametrize("scene", [*SCENES, *range(100, 132)])
def test_fast__equals_reference(scene, load_scene, random_scene):
    """faster-coco-eval, if installed, gives the reference's metrics, with objects to ignore and bins."""
    pytest.importorskip("faster_coco_eval")
    ground_truth, detections = load_scene(scene) if scene in SCENES else random_scene(scene, objects_to_ignore=True)
    reference = ReferenceEvaluator(ground_truth, bins="aitod").evaluate(detections)
    fast = FastEvaluator(ground_truth, bins="aitod").evaluate(detections)
    assert fast.protocol.evaluator == "faster-coco-eval"
    fast.protocol.evaluator = "pycocotools"
    assert_equal(fast.to_dict(), reference.to_dict())


def test_fast__that_is_not_installed(load_scene, monkeypatch):
    """If faster-coco-eval is missing, one line says how to install it before anything is scored."""
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(OptionError, match=r"'faster-coco-eval' is not installed; pip install 'pixelkeep\[fast\]'"):
        Scoring(evaluator="faster-coco-eval")


def test_random_scenes__hold_what_they_should(random_scene):
    """The random scenes include ties, empty images, empty classes, no detections, regions and ignored objects."""
    seen = set()
    for seed in range(100, 132):
        ground_truth, detections = random_scene(seed, objects_to_ignore=True)
        annotations, scores = ground_truth["annotations"], [d["score"] for d in detections]
        facts = {
            "tie": len(set(scores)) < len(scores),
            "no detections": not detections,
            "empty image": len({a["image_id"] for a in annotations}) < len(ground_truth["images"]),
            "empty class": len({a["category_id"] for a in annotations}) < len(ground_truth["categories"]),
            "region": any(a["iscrowd"] for a in annotations),
            "object": any(a["ignore"] and not a["iscrowd"] for a in annotations),
            "area": any(a["area"] != a["bbox"][2] * a["bbox"][3] for a in annotations),
        }
        seen |= {name for name, holds in facts.items() if holds}
    assert seen == facts.keys()


def test_pairs__many_chunks_equal_one(load_scene, monkeypatch):
    """Computing IoUs in chunks of seven pairs changes nothing."""
    ground_truth, detections = load_scene("crowded")
    whole = evaluate(ground_truth, detections)
    monkeypatch.setattr("pixelkeep.evaluation.matching.PAIRS_AT_ONCE", 7)
    assert evaluate(ground_truth, detections) == whole


def test_box_iou__equals_pycocotools_bit_for_bit():
    """IoU and intersection over detection equal pycocotools' mask.iou bit for bit."""
    from pycocotools import mask

    rng = np.random.default_rng(0)
    found, truth = rng.uniform(0, 50, (60, 4)), rng.uniform(0, 50, (40, 4))
    found[:3, 2] = 0
    crowd = rng.random(40) < 0.5
    expected = mask.iou(found, truth, crowd.astype(np.uint8).tolist())
    ours = box_iou(np.repeat(found, 40, axis=0), np.tile(truth, (60, 1)), np.tile(crowd, 60)).reshape(60, 40)
    assert np.array_equal(ours, expected)


def test_reference__prints_nothing(load_scene, capsys):
    """The reference evaluator prints nothing to standard output or standard error."""
    evaluate(*load_scene("regions"), evaluator="pycocotools")
    assert capsys.readouterr() == ("", "")


def test_detections__columns_and_records_agree(load_scene):
    """Columns and records give the same metrics, whatever the order of the dataset's images."""
    ground_truth, detections = load_scene("regions")
    by_records = evaluate(ground_truth, detections)
    assert evaluate(ground_truth, Detections.from_json(detections)) == by_records
    turned = {**ground_truth, "images": ground_truth["images"][::-1]}
    assert evaluate(turned, detections).AP == by_records.AP
