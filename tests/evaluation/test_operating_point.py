"""The operating point: the chosen confidence is the best of all candidates, and its metrics equal counts by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pixelkeep.errors import OptionError
from pixelkeep.evaluation import Detections, GroundTruthBuilder
from pixelkeep.evaluation.areas import ALL_SIZES
from pixelkeep.evaluation.arrays import DetectionArrays, TruthArrays
from pixelkeep.evaluation.matching import FALSE, TRUE, match
from pixelkeep.evaluation.operating import Objective, operating_point, trusted

AWAY = [300, 300, 10, 10]


def squares(count):
    return [[20 * i, 0, 10, 10] for i in range(count)]


def point(scene, aim="f1", **options):
    truth, found = scene
    return operating_point(truth, Detections.from_json(found), Objective.parse(aim), **options)


@pytest.fixture
def mixed(one_class):
    """Four objects, and detections that are true, true, false, true, false, false by falling score."""
    right = squares(4)
    scores = zip([right[0], right[1], AWAY, right[2], AWAY, AWAY], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4], strict=True)
    return one_class(right, list(scores))


@pytest.mark.parametrize(
    ("aim", "lowest", "below"),
    [
        ("f1", 0.6, 0.5),  # F1 by falling score: 2/5, 4/6, 4/7, 6/8, 6/9, 6/10
        ("precision=1", 0.8, 0.7),  # 1, 1, 2/3, 3/4, 3/5, 3/6
        ("precision=0.75", 0.6, 0.5),  # reached again at a lower score after being missed
        ("precision=0.5", 0.4, 0.0),
        ("recall=0.5", 0.8, 0.7),  # 1/4, 2/4, 2/4, 3/4 ...
        ("recall=0.51", 0.6, 0.5),
    ],
)
def test_objectives__by_hand(mixed, aim, lowest, below):
    """Each objective is met, with the confidence halfway between the last accepted score and the next one."""
    chosen = point(mixed, aim)
    assert chosen.per_class["thing"].confidence == (lowest + below) / 2
    assert chosen.single == chosen.per_class["thing"]
    assert chosen.confidences().tolist() == [(lowest + below) / 2]


def test_floor__nothing_is_known_below_it(mixed):
    """If all detections are kept, the confidence lies between the lowest score and the floor of the detector."""
    assert point(mixed, "precision=0.5", floor=0.25).single.confidence == (0.4 + 0.25) / 2
    assert point(mixed, "precision=0.5", floor=0.45).single.confidence == 0.4


def test_figures__by_hand(mixed):
    """Precision, recall, F1 and counting error at the best F1: three of four objects found, one false positive."""
    figures = point(mixed).per_class["thing"]
    assert (figures.precision, figures.recall, figures.F1) == (3 / 4, 3 / 4, 6 / 8)
    assert (figures.objects, figures.detections, figures.count_mae, figures.count_bias) == (4, 4, 0, 0)


def test_fixed_confidence__counts_images(one_class):
    """With conf=X nothing is chosen, and the counting error is the mean over all images, empty ones included."""
    builder = GroundTruthBuilder(["thing"])
    for name, count in (("a", 3), ("b", 0), ("c", 1)):
        builder.add_image(name, 400, 400, [[20 * i, 0, 20 * i + 10, 10] for i in range(count)], [0] * count)
    found = [(1, squares(1)[0]), (2, AWAY), (2, [0, 0, 9, 9])]
    records = [{"image_id": i, "category_id": 1, "bbox": box, "score": 0.5} for i, box in found]
    figures = point((builder.build(), records), "conf=0.5").overall
    assert figures.count_mae == (2 + 2 + 1) / 3 and figures.count_bias == (-2 + 2 - 1) / 3
    assert point((builder.build(), records), "conf=0.51").overall.detections == 0


def test_ignored__count_neither_way(one_class):
    """Detections that the evaluator ignores count nowhere, and ignored objects need not be found."""
    detections = [([0, 0, 10, 10], 0.9), ([100, 0, 10, 10], 0.8), ([205, 205, 10, 10], 0.7)]
    scene = one_class([[0, 0, 10, 10]], detections, ignored=[[100, 0, 10, 10]], regions=[[200, 200, 50, 50]])
    figures = point(scene, "conf=0.1").overall
    assert (figures.precision, figures.recall, figures.objects, figures.detections) == (1, 1, 1, 1)
    assert (figures.count_mae, figures.count_bias) == (0, 0)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("aim", ["f1", "precision=0.6", "recall=0.4"])
def test_chosen__the_best_of_all_there_are(seed, aim, random_scene):
    """No other confidence meets the objective better, as counted anew at each score that occurs."""
    truth, records = random_scene(seed, objects_to_ignore=True)
    found = Detections.from_json(records)
    chosen = operating_point(truth, found, Objective.parse(aim), enough=1).per_class
    arrays = TruthArrays.from_coco(truth)
    for k, figures in enumerate(chosen.values()):
        objects = int((~arrays.ignored & (arrays.category == k)).sum())
        ours = found.subset(found.category_ids == arrays.category_ids[k])
        best = None
        for score in sorted(set(ours.scores.tolist()), reverse=True):
            kept = DetectionArrays.from_detections(ours.subset(ours.scores >= score), arrays, 1000)
            outcome = match(arrays, kept, [ALL_SIZES])[:, 0, 0]
            hits, false = (outcome == TRUE).sum(), (outcome == FALSE).sum()
            if not hits or not objects:
                continue
            f1, precision, recall = 2 * hits / (hits + false + objects), hits / (hits + false), hits / objects
            if aim == "f1" and (best is None or f1 > best[0]):
                best = (f1, score)
            elif aim.startswith("precision") and precision >= 0.6:
                best = (precision, score)  # keeps the lowest confidence
            elif aim.startswith("recall") and recall >= 0.4 and best is None:
                best = (recall, score)  # keeps the highest confidence
        if best is None:
            assert figures.confidence is None
        else:
            reached = {"f": figures.F1, "p": figures.precision, "r": figures.recall}[aim[0]]
            assert reached == best[0]
            below = ours.scores[ours.scores < best[1]].max(initial=0.0)
            assert below < figures.confidence <= best[1]


def test_class_without_a_point__runs_at_the_single_one():
    """A class without objects or without any hit takes the pooled confidence and still has its metrics."""
    builder = GroundTruthBuilder(["car", "boat", "ghost"])
    builder.add_image("a", 400, 400, [[0, 0, 10, 10], [50, 50, 60, 60]], [0, 1])
    boxes = [(1, [0, 0, 10, 10], 0.8), (3, [300, 300, 9, 9], 0.3)]
    records = [{"image_id": 1, "category_id": c, "bbox": box, "score": score} for c, box, score in boxes]
    found = point((builder.build(), records), enough=1)
    assert found.per_class["boat"].confidence is None and found.per_class["boat"].recall == 0
    assert found.per_class["ghost"].confidence is None and found.per_class["ghost"].objects == 0
    assert found.confidences().tolist() == [0.4, found.single.confidence, found.single.confidence]
    assert found.single.confidence == (0.8 + 0.3) / 2
    assert (found.overall.precision, found.overall.recall, found.overall.confidence) == (1, 1 / 2, None)


def two_classes(common: int, rare: int, false: int):
    """Return objects of two classes, all found; the rare one has the lowest scores, its false positives higher ones."""
    builder = GroundTruthBuilder(["common", "rare"])
    boxes = [[20 * i, 20 * k, 20 * i + 10, 20 * k + 10] for k, count in enumerate((common, rare)) for i in range(count)]
    builder.add_image("a", 9000, 400, boxes, [0] * common + [1] * rare)
    found = [(1, [20 * i, 0, 10, 10], 0.9) for i in range(common)]
    found += [(2, [20 * i, 20, 10, 10], 0.2) for i in range(rare)] + [(2, AWAY, 0.3)] * false
    return builder.build(), [{"image_id": 1, "category_id": c, "bbox": b, "score": s} for c, b, s in found]


@pytest.mark.parametrize("aim", ["f1", "precision=0.5", "recall=0.9"])
@pytest.mark.parametrize(("rare", "own"), [(29, False), (30, True)])
def test_few_objects__no_confidence_of_their_own(rare, own, aim):
    """A class with fewer than 30 objects uses the single confidence, whatever it would choose for itself."""
    found = point(two_classes(100, rare, 0), aim)
    assert (found.per_class["rare"].confidence is not None) == own
    assert found.per_class["common"].confidence is not None
    expected = found.per_class["rare"].confidence if own else found.single.confidence
    assert found.confidences()[1] == expected and found.per_class["rare"].recall is not None


@pytest.mark.parametrize(("false", "own"), [(540, True), (541, False)])
def test_hardly_found__no_confidence_of_its_own(false, own):
    """With 30 of 30 found, F1 is 60 / (60 + false): 0.1 with 540 false positives, less with one more."""
    found = point(two_classes(1000, 30, false))
    assert (found.per_class["rare"].confidence is not None) == own
    assert (found.confidences()[1] == found.single.confidence) != own
    assert point(two_classes(1000, 30, false), "recall=0.9").per_class["rare"].confidence == 0.1  # as asked for


def test_trusted__lone_low_confidences_give_way():
    """Confidences below 0.05, where the best F1 is below 0.1, give way to the others' median unless most are so low."""
    assert trusted([0.2, 0.3, 0.1, 0.0096]) == [0.2, 0.3, 0.1, 0.2]
    assert trusted([0.05, 0.4]) == [0.05, 0.4]
    assert trusted([0.4, 0.049]) == [0.4, 0.4]
    for low in ([0.01, 0.02], [0.01, 0.02, 0.4]):  # a network whose scores are all low
        assert trusted(low) == low


@pytest.mark.parametrize("aim", ["f1", "precision=0.9", "recall=0.8"])
def test_nothing_found__no_point(one_class, aim):
    """Without detections, or with none that meets the objective, there are no confidences and no metrics."""
    for detections in ([], [(AWAY, 0.9)]):
        found = point(one_class(squares(2), detections), aim)
        assert found.confidences() is None
        assert found.overall.precision is None and found.overall.count_mae is None and found.overall.objects == 2


def test_no_objects__no_point(one_class):
    """Without objects no confidence can be chosen."""
    assert point(one_class([], [(AWAY, 0.9)])).confidences() is None


def test_recall_out_of_reach__is_none(mixed):
    """A recall that is never reached has no confidence; a precision of the same value has one."""
    assert point(mixed, "recall=0.8").single.confidence is None
    assert point(mixed, "precision=0.8").single.confidence is not None


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("presicion=0.9", "did you mean 'precision'?"),
        ("precision", "precision=X"),
        ("f1=0.5", "expected f1"),
        ("recall=2", "at most 1"),
        ("recall=nan", "at most 1"),
        ("conf=0", "above 0"),
        ("precision=high", "precision=X"),
        ("", "expected f1"),
    ],
)
def test_objective__refused(text, hint):
    """An invalid objective is refused in one line that says what would be right."""
    with pytest.raises(OptionError) as error:
        Objective.parse(text)
    assert f"--at {text}: " in str(error.value) and hint in str(error.value)


@pytest.mark.parametrize("text", ["f1", "precision=0.9", "recall=0.8", "conf=0.25"])
def test_objective__written_as_read(text):
    """Converting an objective to text gives the text it was parsed from."""
    assert str(Objective.parse(text)) == text


def test_document__plain_numbers(mixed):
    """The document for metrics.json holds plain Python numbers."""
    document = point(mixed).to_dict()
    values = [*document["overall"].values(), *document["single"].values(), *document["per_class"]["thing"].values()]
    assert not any(isinstance(value, np.generic) for value in values)
    assert (document["objective"], document["iou"]) == ("f1", 0.5)
