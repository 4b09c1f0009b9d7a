"""Advice on generated sizes: the cheapest way to bring 90 % of the objects above the goal."""

from __future__ import annotations

import numpy as np
import pytest

from pixelkeep.datasets.doctor import advice
from pixelkeep.datasets.doctor.advice import Choice
from pixelkeep.datasets.doctor.agreement import ENOUGH, on_agreement
from pixelkeep.datasets.doctor.recommendations import on_boxes, on_head, on_size, percent

STEP = 32


def sizes(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).lognormal(2.2, 0.6, 997)


def choice(head: str, model: str | None, goal: float, sides: np.ndarray, size, gflops: float | None) -> Choice:
    new = advice.cheapest_size(size, advice.needed_factor(sides, goal), STEP)
    new = max(new, size) if head == "P2" else new
    cost = None if gflops is None else gflops * new[0] * new[1]
    return Choice(head, model, goal, new, advice.reached(sides, goal, advice.enlargement(size, new)), cost)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [(640, 640), (512, 640)])
def test_cheapest_size__does_it_and_one_step_less_does_not(seed, size):
    """The advised size brings 90 % of the objects above the goal; one step less on both sides does not."""
    sides, goal = sizes(seed), advice.goal_for(8)
    best = advice.cheapest_size(size, advice.needed_factor(sides, goal), STEP)
    assert all(side % STEP == 0 for side in best)
    assert advice.reached(sides, goal, advice.enlargement(size, best)) >= advice.SHARE
    less = tuple(side - STEP for side in best)
    assert advice.reached(sides, goal, advice.enlargement(size, less)) < advice.SHARE


def test_needed_factor__of_known_sizes():
    """Nine of ten objects must reach the goal, so the second smallest decides and the smallest does not matter."""
    sides = np.array([0.1, 6.0, 20, 20, 20, 20, 20, 20, 20, 20])
    assert advice.needed_factor(sides, 12) == 2
    assert advice.cheapest_size((640, 640), 2, STEP) == (1280, 1280)
    assert advice.needed_factor(sides, 6) == 1  # a P2 head's goal


def test_goal__follows_the_finest_stride():
    """The goal is one and a half cells: 12 pixels at stride 8, and half of that with a P2 head."""
    assert (advice.goal_for(8), advice.goal_for(4)) == (12, 6)
    assert (advice.head_name(8), advice.head_name(4)) == ("P3", "P2")


@pytest.mark.parametrize("seed", range(4))
def test_tiling__is_the_largest_that_does_it(seed):
    """The tiles bring 90 % above the goal, slightly larger tiles do not, and the overlap holds most objects."""
    sides, size, goal = sizes(seed), (640, 640), 12
    tiles = advice.tiling(sides, sides * 1.5, [(3000, 4000)], size, goal)
    assert tiles.share >= advice.SHARE
    larger = tuple(side + 2 for side in tiles.tile)
    assert advice.reached(sides, goal, advice.enlargement(larger, size)) < advice.SHARE
    assert (sides * 1.5 <= tiles.overlap).mean() >= advice.HELD


def test_tiling__counts_tiles_that_cover_the_image():
    """Tiles of 320 with 16 pixels of overlap count (1000 - 16) / 304 by (700 - 16) / 304, each rounded up."""
    sides = np.full(20, 6.0)
    tiles = advice.tiling(sides, np.full(20, 12.0), [(700, 1000)], (640, 640), 12)
    assert (tiles.tile, tiles.overlap, tiles.tiles) == ((320, 320), 16, 4 * 3)
    assert advice.tiling(sides, sides, [(300, 300)], (640, 640), 12).tiles == 1


def said(sides: np.ndarray, size=(640, 640), fine: tuple[str | None, float | None] = (None, None)) -> tuple:
    choices = [choice("P3", "m-n", 12, sides, size, 1e-5), choice("P2", fine[0], 6, sides, size, fine[1])]
    tiles = advice.tiling(sides, sides, [(2000, 2000)], size, 12)
    here = advice.reached(sides, 12)
    return (
        on_size(size, here, choices, tiles),
        on_head(size, here, choices[1], advice.reached(sides, 6)),
    )


def test_on_size__keeps_enlarges_or_tiles():
    """The advice for large objects is to keep the size, for smaller ones a larger size, and for tiny ones tiles."""
    keep, no_head = said(np.full(50, 24.0))
    assert (keep.text, no_head.text) == ("keep --imgsz 640", "no P2 head")
    assert "320" not in keep.why  # 320 would do, but nobody asked for a smaller size
    larger, head = said(np.full(50, 8.0))
    assert larger.text == "use --imgsz 960" and head.text.startswith("or, at 640, a model with a P2 head")
    assert "not measured" not in larger.why
    tiles, head = said(np.full(50, 3.0))
    assert tiles.kind == "tiles" and "160 x 160 px" in tiles.text
    assert head.text.startswith("or, at 1280, ")
    rectangle, _ = said(np.full(50, 8.0), (512, 640))
    assert rectangle.text == "use --imgsz 768 960"


def test_on_size__both_ways_in_one_line():
    """A larger image and a P2 head at no less than the given size are advised with costs; neither is called better."""
    one, head = said(np.full(50, 8.0), fine=("m-p2-n", 2e-5))
    assert one.text == "use --imgsz 960, or 640 with --model m-p2-n" and head is None
    assert "100% measure 12 px or more at 960, for 9.2 GFLOPs an image" in one.why
    assert "100% measure 6 px or more at 640 with --model m-p2-n, for 8.2 GFLOPs an image" in one.why
    assert one.why.endswith("Which is better was not measured")
    smaller, _ = said(np.full(50, 3.0), fine=("m-p2-n", 2e-5))
    assert smaller.text == "use --imgsz 1280 with --model m-p2-n"  # 2560 without a P2 head is too large


@pytest.mark.parametrize(("share", "told"), [(0.5, False), (0.51, True)])
def test_on_boxes__where_most_are_small(share, told):
    """The advice on boxes is given if more than half of the objects are small."""
    item = on_boxes(share, 8, (640, 640))
    assert (item is not None) == told
    assert item is None or ("initial_box=2" in item.text and "under 16 px at 640" in item.why and "120 px" in item.why)


def row(low, high, above, recall, objects=100, **kinds) -> dict:
    counts = {"missed": 0, "badly_placed": 0, "wrong_class": 0, **kinds}
    return {"low": low, "high": high, "objects": objects, "above_goal": above, "recall": recall, **counts}


def test_on_agreement__names_where_rule_and_recall_differ():
    """Small objects that are found and large ones that are missed are named; bins of few objects are left out."""
    rows = [
        row(0, 8, 0.0, 0.1),
        row(8, 16, 0.1, 0.8),
        row(16, 32, 0.9, 0.2, missed=30, wrong_class=50),
        row(32, 96, 1.0, 0.9),
        row(96, None, 1.0, 0.0, objects=ENOUGH - 1),
    ]
    found, unseen = on_agreement(rows, 12)
    assert "8-16 px: 80% of 100 objects are found, though 10% measure 12 px or more" in found.why
    assert "16-32 px" in unseen.why and "50% are taken for another class" in unseen.why
    (agreed,) = on_agreement([rows[0], rows[3]], 12)
    assert "bears out the advice on sizes" in agreed.text
    assert on_agreement(rows[4:], 12) == []


def test_percent__never_hides_a_near_miss():
    """A share of 89.7 % is not shown as the 90 % that is asked for."""
    assert (percent(0.897), percent(0.9), percent(1)) == ("89.7%", "90%", "100%")
