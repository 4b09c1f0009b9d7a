"""What counts as the same output: differences place by place, detections matched one to one, bounds by precision."""

from __future__ import annotations

import numpy as np
import pytest

from pixelkeep.deploy.parity import BOUNDS, Bounds, Parity, compare, matches

BOX = (10.0, 10.0, 30.0, 30.0)  # 20 x 20; moved by d pixels to the right its IoU is (20 - d) / (20 + d)
AGREES = dict(images=1, boxes_max=0, boxes_most=0, scores_max=0, scores_most=0, detections=9, matched=1.0)


def found(*rows: tuple[float, float, int]) -> np.ndarray:
    """Return detections of `BOX` moved to the right, from (pixels, score, class) each."""
    return np.array([[BOX[0] + d, BOX[1], BOX[2] + d, BOX[3], score, c] for d, score, c in rows]).reshape(-1, 6)


@pytest.mark.parametrize(
    ("a", "b", "hits"),
    [
        ([(0, 0.9, 0)], [(1, 0.3, 0)], [True]),  # IoU 19 / 21 = 0.905
        ([(0, 0.9, 0)], [(1.1, 0.3, 0)], [False]),  # 18.9 / 21.1 = 0.896
        ([(0, 0.9, 0)], [(0, 0.9, 1)], [False]),
        ([(0, 0.9, 0)], [], [False]),
        ([(0, 0.24, 0)], [(0, 0.9, 0)], []),  # below the score from which a detection needs a match ...
        ([(0, 0.25, 0)], [(0, 0.2, 0)], [True]),  # ... but high enough to be that match
        ([(0, 0.5, 0), (0.1, 0.9, 0)], [(0, 0.9, 0)], [True, False]),  # nothing is matched twice
        ([(0, 0.5, 0), (0.1, 0.9, 0)], [(0, 0.9, 0), (0.1, 0.4, 0)], [True, True]),
    ],
)
def test_matches__iou_class_and_one_to_one(a, b, hits):
    """A match needs an IoU of 0.9 and the same class, and each detection is matched at most once."""
    assert matches(found(*a), found(*b)).tolist() == hits


def outputs() -> np.ndarray:
    """Return raw outputs for two images: (2, 4 + 2 classes, 1000 places)."""
    return np.random.default_rng(0).random((2, 6, 1000)).astype(np.float32)


def test_compare__largest_and_most():
    """Boxes and scores are compared apart, and one place among thousands changes only the largest difference."""
    reference, other = outputs(), outputs()
    other[1, 3, 7] += 0.5
    other[0, 4] += 0.25
    nothing = [found(), found()]
    parity = compare(reference, other, nothing, nothing)
    assert parity.boxes_max == pytest.approx(0.5, abs=1e-6) and parity.boxes_most == 0
    assert parity.scores_max == pytest.approx(0.25, abs=1e-6) == pytest.approx(parity.scores_most, abs=1e-6)
    assert (parity.images, parity.detections, parity.matched) == (2, 0, None)


@pytest.mark.parametrize("swapped", [False, True])
def test_compare__what_is_missing_and_what_is_added(swapped):
    """One detection lost of four gives a matched share of three quarters, and so does one added to three."""
    four, three = [(60.0 * i, 0.9, 0) for i in range(4)], [(60.0 * i, 0.9, 0) for i in range(3)]
    pair = [found(*three)], [found(*four)]
    first, second = pair if swapped else pair[::-1]
    parity = compare(outputs()[:1], outputs()[:1], first, second)
    assert parity.matched == 0.75 and parity.detections == len(first[0])


def test_compare__shapes():
    """Outputs of different shapes are refused instead of being broadcast."""
    with pytest.raises(ValueError, match=r"\(2, 6, 1000\) and \(2, 6, 1\)"):
        compare(outputs(), outputs()[..., :1], [], [])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, []),
        (
            {"boxes_max": 0.01, "boxes_most": 1e-3, "scores_max": 1e-4, "scores_most": 1e-5, "matched": 0.995},
            [],
        ),  # exactly at the bounds
        ({"boxes_max": 0.011}, ["boxes differ"]),
        ({"boxes_most": 1.1e-3}, ["boxes differ"]),
        ({"scores_most": 1.1e-5}, ["scores differ"]),
        ({"boxes_max": float("nan")}, ["boxes differ"]),
        ({"scores_max": 1.1e-4}, ["scores differ"]),
        ({"scores_max": float("inf"), "matched": 0.99}, ["scores differ", "99.0% of the detections"]),
        ({"matched": None}, []),  # enough, because every place was compared
    ],
)
def test_failures__fp32(change, told):
    """In fp32 the difference at every place is bounded, and NaN or infinity fails."""
    found = Parity(**AGREES | change).failures(BOUNDS["fp32"])
    assert len(found) == len(told) and all(line.startswith(start) for line, start in zip(found, told, strict=True))


def test_failures__ap():
    """A loss of AP or AP_S fails by its own bound; a gain does not, nor does an undefined figure."""
    bounds = Bounds(matched=0.9, ap=0.01, ap_s=0.02)
    failed = Parity(**AGREES).failures(bounds, {"AP": 0.021, "AP_S": 0.021})
    assert failed == ["AP falls by 0.021 (bound 0.01)", "AP_S falls by 0.021 (bound 0.02)"]
    assert not Parity(**AGREES).failures(bounds, {"AP": 0.01, "AP_S": 0.02})
    assert not Parity(**AGREES).failures(bounds, {"AP": -0.5, "AP_S": None})
    assert len(Parity(**AGREES).failures(bounds, {"AP": float("nan"), "AP_S": 0.0})) == 1


def test_failures__nothing_to_match():
    """Where only detections are bounded, finding none at all is a failure."""
    told = Parity(**AGREES | {"matched": None, "boxes_max": 5.0}).failures(BOUNDS["fp16"])
    assert len(told) == 1 and told[0].startswith("nothing is detected")
