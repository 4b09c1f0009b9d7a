"""Proves that size classes are read as documented, apply their benchmark's limit, and score as in pycocotools."""

from itertools import pairwise

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pixelkeep.errors import OptionError
from pixelkeep.evaluation import AITOD_BINS, AreaRange, CocoEvaluator, evaluate


def sides(bins):
    return [(b.low, b.high) for b in bins]


def test_aitod__classes_and_limit(load_scene):
    """AI-TOD's four classes come with its limit of 1,500 detections, unless another limit is given."""
    scene = load_scene("crowded")
    result = evaluate(*scene, bins="aitod")
    assert [b.name for b in result.bins] == [b.name for b in AITOD_BINS] and sides(result.bins) == sides(AITOD_BINS)
    assert (result.protocol.bins, result.protocol.max_dets) == ("aitod", 1500)
    assert result.AP == evaluate(*scene, max_dets=1500).AP != evaluate(*scene).AP
    assert evaluate(*scene, bins="aitod", max_dets=300).protocol.max_dets == 300


def test_borders__one_class_between_each_two(load_scene):
    """Borders in pixels give adjacent classes that are named by them, under the default limit."""
    result = evaluate(*load_scene("border_sizes"), bins="0,8,16.5,32")
    assert [b.name for b in result.bins] == ["0-8", "8-16.5", "16.5-32"]
    assert sides(result.bins) == [(0, 8), (8, 16.5), (16.5, 32)]
    assert [b.gt for b in result.bins] == [2, 2, 1]  # sides of 2 and 8, of 8 and 16, of 32
    assert (result.protocol.bins, result.protocol.max_dets) == ("0-8,8-16.5,16.5-32", 300)


def test_nobody_asked__protocol_names_no_bins(load_scene):
    """The sizes that are always reported are not presented as a benchmark's."""
    assert evaluate(*load_scene("border_sizes")).protocol.bins is None


@pytest.mark.parametrize("seed", range(1, 8))
def test_bins__equal_pycocotools_with_those_area_ranges(seed, random_scene):
    """AP, AP50 and AR of each class are those of stock pycocotools with the same area ranges."""
    ground_truth, detections = random_scene(seed, objects_to_ignore=False)
    borders = (0, 8, 16, 32, 96)
    truth = COCO()
    truth.dataset = ground_truth
    truth.createIndex()
    stock = COCOeval(truth, truth.loadRes(detections), iouType="bbox")
    stock.params.areaRng = [[low**2, high**2] for low, high in pairwise(borders)]
    stock.params.areaRngLbl = [str(low) for low in borders[:-1]]
    stock.params.maxDets = [1, 10, 300]
    stock.evaluate()
    stock.accumulate()
    ours = evaluate(ground_truth, detections, bins=",".join(map(str, borders)), max_dets=300).bins
    for index, size in enumerate(ours):
        precision, recall = stock.eval["precision"][:, :, :, index, 2], stock.eval["recall"][:, :, index, 2]
        for figure, values in ((size.AP, precision), (size.AP50, precision[0]), (size.AR, recall)):
            defined = values[values > -1]
            assert figure == (pytest.approx(defined.mean(), abs=1e-12) if defined.size else None)


def test_undefined__is_none(load_scene):
    """A class without objects has None for its metrics."""
    (size,) = evaluate(*load_scene("no_small"), bins="0,8").bins
    assert (size.gt, size.AP, size.AP50, size.AR) == (0, None, None, None)


@pytest.mark.parametrize("text", ["", "8", "8,8", "16,8", "-1,8", "0,x", "0,nan", "0,inf", "aitot"])
def test_bins__wrong_text_is_refused(text, one_class):
    """Text that is neither a benchmark nor rising borders is refused in one line that says what would be right."""
    with pytest.raises(OptionError, match=r"bins '.*'; expected aitod, visdrone, or rising sides") as error:
        evaluate(*one_class([[0, 0, 9, 9]], []), bins=text)
    assert ("did you mean 'aitod'" in str(error.value)) == (text == "aitot")


def test_ranges__in_python(one_class):
    """From Python, ranges may be given as objects, and an empty list gives no classes."""
    ground_truth, _ = one_class([[0, 0, 9, 9]], [])
    assert CocoEvaluator(ground_truth, bins=[AreaRange("mine", 3, 30)]).evaluate([]).bins[0].gt == 1
    assert CocoEvaluator(ground_truth, bins=()).evaluate([]).bins == []
    assert np.isclose(CocoEvaluator(ground_truth, bins="visdrone").areas[-1].high, 1e5)
