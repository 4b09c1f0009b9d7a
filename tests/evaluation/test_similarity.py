"""Proves matching by measures other than IoU: by hand, and by pycocotools given the same similarities."""

import contextlib
import io
import math

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pixelkeep.errors import OptionError
from pixelkeep.evaluation import evaluate
from pixelkeep.evaluation.similarity import IOU, nwd, read_similarity

ONE = pytest.approx(1.0, abs=1e-12)


def apart(a, b):
    """Return the distance between the centres of two boxes x, y, w, h."""
    return math.dist((a[0] + a[2] / 2, a[1] + a[3] / 2), (b[0] + b[2] / 2, b[1] + b[3] / 2))


def wasserstein(a, b):
    """Return the NWD as in the paper: Gaussians with the box centre as mean and half the sides as deviations."""
    squared = apart(a, b) ** 2 + (a[2] / 2 - b[2] / 2) ** 2 + (a[3] / 2 - b[3] / 2) ** 2
    return math.exp(-math.sqrt(squared) / 12.8)


def inside(a, region):
    """Return the share of a box that lies in a region."""
    w = min(a[0] + a[2], region[0] + region[2]) - max(a[0], region[0])
    h = min(a[1] + a[3], region[1] + region[3]) - max(a[1], region[1])
    return w * h / (a[2] * a[3]) if w > 0 and h > 0 else 0.0


def centre_inside(a, region):
    x, y = a[0] + a[2] / 2, a[1] + a[3] / 2
    return region[0] <= x <= region[0] + region[2] and region[1] <= y <= region[1] + region[3]


ORACLES = {
    "nwd": (wasserstein, inside, IOU.thresholds),
    "center:3": (lambda a, b: -apart(a, b), lambda a, r: 0.0 if centre_inside(a, r) else -1e9, np.array([-3.000001])),
}


def run_oracle(ground_truth, detections, match):
    """Run pycocotools' matching on similarities computed pair by pair."""
    pair, region, thresholds = ORACLES[match]

    class OtherEval(COCOeval):
        def computeIoU(self, image, category):
            truth, found = self._gts[image, category], self._dts[image, category]
            found = sorted(found, key=lambda d: -d["score"])[: self.params.maxDets[-1]]
            if not truth or not found:
                return []
            return np.array([[(region if g["iscrowd"] else pair)(d["bbox"], g["bbox"]) for g in truth] for d in found])

    truth = COCO()
    truth.dataset = ground_truth
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = OtherEval(truth, truth.loadRes(detections), iouType="bbox")
        evaluation.params.iouThrs, evaluation.params.maxDets = thresholds, [1, 100, 300]
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]

    def mean(values):
        return float(values[values > -1].mean()) if (values > -1).any() else None

    figures = {}
    for area, suffix in enumerate(("", "_S", "_M", "_L")):
        figures[f"AP{suffix}"] = mean(precision[:, :, :, area, 2])
        figures[f"AR{suffix}"] = mean(recall[:, :, area, 2])
    return figures


@pytest.mark.parametrize("match", ORACLES)
@pytest.mark.parametrize("seed", [*range(1, 8), *range(9, 14)])
def test_random_scene__equals_pycocotools_matching(seed, match, random_scene):
    """AP and AR, overall and by size, are those of pycocotools on the same similarities, regions included."""
    ground_truth, detections = random_scene(seed, objects_to_ignore=False)
    ours = evaluate(ground_truth, detections, match=match, max_dets=300)
    for key, expected in run_oracle(ground_truth, detections, match).items():
        assert getattr(ours, key) == (None if expected is None else pytest.approx(expected, abs=1e-12)), key
    assert ours.protocol.match == match


def test_random_scenes__tell_the_measures_apart(random_scene):
    """The measures give different APs on the scenes, so the comparison above can fail."""
    scenes = [random_scene(seed, objects_to_ignore=False) for seed in range(1, 8)]
    figures = [[evaluate(*scene, match=match).AP for scene in scenes] for match in ("iou", *ORACLES)]
    assert figures[0] != figures[1] != figures[2] != figures[0]


@pytest.mark.parametrize(("offset", "expected"), [(3, 1.0), (3.01, 0.0)])
def test_centre__at_most_k_pixels(offset, expected, one_class):
    """A 4-pixel box 3 pixels off has an IoU of 1/7 and matches by its centre; 0.01 pixels more and it does not."""
    scene = one_class([[100, 100, 4, 4]], [([100 + offset, 100, 4, 4], 0.9)])
    assert evaluate(*scene, match="center:3").AP == pytest.approx(expected, abs=1e-12)
    assert evaluate(*scene).AP50 == 0.0


def test_centre__rounding_does_not_decide(one_class):
    """Centres 3 pixels apart match, although 0.3 + 3 - 0.3 is not 3 in floating point."""
    for x in np.arange(0, 5, 0.1):
        assert evaluate(*one_class([[x, 0.3, 4.1, 4]], [([x + 3, 0.3, 4.1, 4], 0.9)]), match="center:3").AP == ONE


def test_centre__boxes_apart_may_match(one_class):
    """Boxes that do not touch can match, in every direction."""
    box = [100, 100, 2, 2]
    for dx, dy in ((5, 0), (-5, 0), (0, 5), (0, -5), (3, 4), (-3, -4)):
        scene = one_class([box], [([100 + dx, 100 + dy, 2, 2], 0.9)])
        assert evaluate(*scene, match="center:5").AP == ONE
        assert evaluate(*scene, match="center:4.9").AP == 0.0


def test_centre__the_nearest_object_is_taken(one_class):
    """Of two objects within reach a detection takes the nearer one and leaves the other free."""
    boxes = [[100, 100, 4, 4], [104, 100, 4, 4]]
    found = [([101.5, 100, 4, 4], 0.9), ([98, 100, 4, 4], 0.8)]
    assert evaluate(*one_class(boxes, found), match="center:3").AR == 0.5
    assert evaluate(*one_class(boxes, [([102.5, 100, 4, 4], 0.9), found[1]]), match="center:3").AR == 1.0


def test_centre__has_no_figure_at_an_iou(one_class):
    """With a single threshold there are AP and AR, but no AP50 and the like."""
    result = evaluate(*one_class([[0, 0, 9, 9]], [([0, 0, 9, 9], 0.9)]), match="center:3", bins="0,16")
    assert (result.AP, result.AP_S, result.AR, result.AP_100) == (ONE, ONE, 1.0, ONE)
    assert (result.AP25, result.AP50, result.AP75, result.AP50_S) == (None,) * 4
    assert (result.per_class["thing"].AP50, result.bins[0].AP50, result.bins[0].AP) == (None, None, ONE)
    assert result.alarms.Pd == 1.0


def test_centre__region_takes_centres_inside(one_class):
    """A detection whose centre lies in a region is neutral, one whose centre lies outside is a false positive."""
    box, region = [0, 0, 9, 9], [200, 200, 50, 50]
    for x, expected in ((196, 1.0), (194, 0.5)):
        scene = one_class([box], [([x, 210, 10, 10], 0.95), (box, 0.5)], regions=[region])
        assert evaluate(*scene, match="center:3").AP == pytest.approx(expected, abs=1e-12)


def test_nwd__threshold_in_pixels(one_class):
    """Boxes of one size match up to 12.8 ln 2 = 8.87 pixels apart at 0.50, and up to 17.74 at 0.25."""
    for distance, at_50, at_25 in ((8.87, 1, 1), (8.88, 0, 1), (17.74, 0, 1), (17.75, 0, 0)):
        result = evaluate(*one_class([[100, 100, 4, 4]], [([100, 100 + distance, 4, 4], 0.9)]), match="nwd")
        across = evaluate(*one_class([[100, 100, 4, 4]], [([100 - distance, 100, 4, 4], 0.9)]), match="nwd")
        assert (result.AP50, result.AP25) == pytest.approx((at_50, at_25), abs=1e-12)
        assert (across.AP50, across.AP25) == (result.AP50, result.AP25)


def test_nwd__equals_the_paper_pair_by_pair():
    """The vectorised distance equals the paper's formula for each pair."""
    rng = np.random.default_rng(0)
    a, b = rng.uniform(1, 30, (50, 4)), rng.uniform(1, 30, (50, 4))
    expected = [wasserstein(*pair) for pair in zip(a, b, strict=True)]
    assert nwd(a, b, np.zeros(50, bool)) == pytest.approx(expected, rel=1e-12)


def test_objects_to_ignore__absorb_one_by_any_measure(one_class):
    """With any measure an object to ignore absorbs one detection, and the second is a false positive."""
    box, other = [0, 0, 4, 4], [100, 100, 4, 4]
    for match in ("iou", *ORACLES):
        scene = one_class([box], [(other, 0.9), (other, 0.8), (box, 0.5)], ignored=[other])
        assert evaluate(*scene, match=match).AP == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize("text", ["", "center", "center:", "center:0", "center:-1", "center:x", "center:nan", "ioo"])
def test_match__wrong_text_is_refused(text, one_class):
    """Unknown measures and invalid distances are refused in one line."""
    with pytest.raises(OptionError, match=r"match '.*'; expected"):
        evaluate(*one_class([[0, 0, 9, 9]], []), match=text)
    assert read_similarity("center:2.50").name == "center:2.5"
    with pytest.raises(OptionError, match="did you mean 'center:3'"):
        read_similarity("center")


def test_reference__has_the_iou_alone(one_class):
    """The pycocotools evaluator refuses any measure other than IoU."""
    with pytest.raises(
        OptionError, match="evaluator 'pycocotools' matches by IoU alone; expected evaluator 'pixelkeep'"
    ):
        evaluate(*one_class([[0, 0, 9, 9]], []), match="nwd", evaluator="pycocotools")
