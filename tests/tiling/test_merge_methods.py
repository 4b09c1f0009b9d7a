"""What all merging methods have in common, and NMS and greedy merging compared with plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tile_views import candidates, sorted_rows

from pixelkeep.tiling import METHODS, Candidates, detect_in_tiles, make_grid, merge, pairs
from pixelkeep.tiling.pairs import meeting


@pytest.fixture
def busy():
    """Overlapping objects of three classes in small tiles, shifted by up to two pixels, many of equal score."""
    rng = np.random.default_rng(5)
    corner, sides = rng.uniform(0, 380, (300, 2)), np.exp(rng.uniform(np.log(5), np.log(90), (300, 2)))
    boxes = np.clip(np.hstack([corner, corner + sides]), 0, 400)
    grid = make_grid(400, 400, 120, 0.3)
    found = candidates(boxes, grid, rng, jitter=2.0, classes=rng.integers(0, 3, 300))
    return Candidates(found.boxes, found.scores.mul(20).round().div(20), found.classes, found.windows), grid


@pytest.mark.parametrize("method", METHODS)
def test_methods__order_changes_not_a_bit(busy, method):
    """Permuting the boxes, and so the tiles, gives the same tensors bit by bit."""
    found, grid = busy
    first = merge(found, grid, method)
    for seed in range(5):
        order = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed))
        again = merge(found[order], grid, method)
        for name in ("boxes", "scores", "classes"):
            assert torch.equal(getattr(first, name), getattr(again, name))
        assert first.seams == again.seams


@pytest.mark.parametrize("method", METHODS)
def test_methods__class_by_class(busy, method):
    """Merging all classes at once equals merging each class by itself."""
    found, grid = busy
    together = merge(found, grid, method)
    for kind in range(3):
        alone = merge(found[found.classes == kind], grid, method)
        assert torch.equal(alone.boxes, together.boxes[together.classes == kind])


def enclosing(*boxes: np.ndarray) -> np.ndarray:
    stacked = np.stack(boxes)
    return np.concatenate([stacked[:, :2].min(0), stacked[:, 2:].max(0)])


@pytest.mark.parametrize("method", ["nms", "ios"])
def test_methods__equal_plain_loops(busy, method):
    """NMS and greedy merging equal the textbook loop over boxes from the best score down.

    Greedy merging takes the boxes that overlap the best one enough, and grows it if they overlap the grown box too.
    """
    found, grid = busy
    found = found.ordered()
    boxes, kinds = found.boxes.numpy(), found.classes.numpy()
    open_, expected, refused = list(range(len(found))), [], 0
    while open_:
        best, rest, grown = open_[0], [], boxes[open_[0]]
        for other in open_[1:]:
            if kinds[best] != kinds[other] or not _same(boxes[best], boxes[other], method):
                rest.append(other)
            elif method == "ios" and _same(grown, boxes[other], method):
                grown = enclosing(grown, boxes[other])
            else:
                refused += method == "ios"
        expected.append(grown)
        open_ = rest
    assert merge(found, grid, method).boxes.tolist() == np.array(expected).tolist()
    assert refused or method == "nms"


def test_ios__equals_sahi(busy):
    """Greedy merging gives the boxes and scores of SAHI's method of that name."""
    combine = pytest.importorskip("sahi.postprocess.combine")
    prediction = pytest.importorskip("sahi.prediction")
    found, grid = busy
    found = found[(found.boxes[:, 2:] > found.boxes[:, :2]).all(1)].ordered()  # SAHI does not accept empty boxes
    columns = (found.boxes.tolist(), found.scores.tolist(), found.classes.tolist())
    given = [
        prediction.ObjectPrediction(box, category_id=kind, category_name=f"{kind}", score=score, full_shape=[400, 400])
        for box, score, kind in zip(*columns, strict=True)
    ]
    theirs = combine.GreedyNMMPostprocess(match_threshold=0.5, match_metric="IOS", class_agnostic=False)(given)
    merged = merge(found, grid, "ios")
    expected = sorted((*one.bbox.to_xyxy(), one.score.value, one.category.id) for one in theirs)
    ours = zip(merged.boxes.tolist(), merged.scores.tolist(), merged.classes.tolist(), strict=True)
    assert sorted((*box, score, kind) for box, score, kind in ours) == expected


def test_ios__half_is_enough():
    """Boxes that share exactly half of the smaller one become their bounding box, with the better score."""
    grid = make_grid(400, 300, 640)
    pair = torch.tensor([[0.0, 0, 20, 10], [10, 0, 30, 10]], dtype=torch.float64)
    zeros = torch.zeros(2, dtype=torch.int64)
    merged = merge(Candidates(pair, torch.tensor([0.4, 0.6]), zeros, zeros), grid, "ios")
    assert merged.boxes.tolist() == [[0, 0, 30, 10]]
    assert merged.scores.tolist() == [pytest.approx(0.6)] and merged.seams.joined == 1


def _same(one: np.ndarray, other: np.ndarray, method: str) -> bool:
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = np.clip(sides, 0, None).prod()
    areas = [(box[2:] - box[:2]).prod() for box in (one, other)]
    return shared >= 0.5 * min(areas) if method == "ios" else shared > 0.5 * (sum(areas) - shared)


@pytest.mark.parametrize("method", METHODS)
def test_methods__one_tile_is_the_detector_itself(method):
    """If one tile covers the image, boxes that overlap less than the threshold stay unchanged."""
    rng = np.random.default_rng(2)
    corner = np.stack(np.meshgrid(np.arange(0, 400, 40), np.arange(0, 300, 30)), -1).reshape(-1, 2)
    boxes = np.hstack([corner, corner + rng.uniform(5, 25, corner.shape)])
    grid = make_grid(400, 300, 640)
    merged = merge(candidates(boxes, grid, rng), grid, method)
    np.testing.assert_array_equal(sorted_rows(merged.boxes), boxes[np.lexsort(boxes.T[::-1])])
    assert merged.scores.tolist() == sorted(merged.scores.tolist(), reverse=True)


def test_methods__unknown_is_refused(busy):
    """An unknown method is refused with the names of the known ones."""
    with pytest.raises(ValueError, match=r"merge 'wbf' is not one of border, nms, ios"):
        merge(*busy, "wbf")


@pytest.mark.parametrize("spread", [(5, 20), (5, 300), (200, 300), (0.5, 400)])
def test_meeting__equals_comparing_each_with_each(spread):
    """The pairs found through cells are those found by comparing all boxes, each pair once."""
    rng = np.random.default_rng(7)
    corner, sides = rng.uniform(-50, 400, (250, 2)), rng.uniform(*spread, (250, 2))
    boxes, groups = torch.tensor(np.hstack([corner, corner + sides])), torch.tensor(rng.integers(0, 3, 250))
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    expected = (low < high).all(2) & (groups[:, None] == groups[None]) & torch.ones(250, 250).triu(1).bool()
    found = list(zip(*(part.tolist() for part in meeting(boxes, groups)), strict=True))
    assert len(found) == len(set(found))
    assert sorted(found) == sorted(map(tuple, expected.nonzero().tolist()))


def lattice(step: int, side: int) -> torch.Tensor:
    """Return 71 x 71 boxes (5041, 4) of size ``side`` whose corners are ``step`` apart."""
    places = step * torch.arange(71, dtype=torch.float64)
    corners = torch.cartesian_prod(places, places)
    return torch.cat([corners, corners + side], 1)


@pytest.mark.parametrize("large, meet", [((700, 640), 0), ((0, 40_000), 1)])
def test_meeting__compares_few_boxes_that_are_apart(monkeypatch, large, meet):
    """Small boxes that are apart are not compared, even beside many tile-sized boxes or one of the image's size."""
    entered, compared, within_runs = [], [], pairs._within_runs

    def count(*entries: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = within_runs(*entries)
        entered.append(len(entries[0]))
        compared.append(len(found[0]))
        return found

    monkeypatch.setattr(pairs, "_within_runs", count)
    small, others = lattice(12, 10)[:5000], lattice(*large)[:1] if meet else lattice(*large)
    groups = torch.cat([torch.zeros(len(small)), torch.full((len(others),), 1 - meet)]).long()
    one, _ = meeting(torch.cat([small, others]), groups)
    assert len(one) == meet * len(small)
    assert sum(entered) < 50 * len(small) and sum(compared) < 50 * len(small)  # of 2,500 times as many


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_run__batches_and_progress(batch):
    """Every window is processed once, in batches of one size, the whole image alone, and progress reaches the total."""
    grid, calls, told = make_grid(500, 300, 100, 0.25, whole=True), [], []

    def look(windows: np.ndarray) -> list[torch.Tensor]:
        calls.append(windows)
        return [torch.tensor([[1.0, 2, 11, 12, 0.5, 3]]) for _ in windows]

    merged = detect_in_tiles(look, grid, batch=batch, progress=lambda *state: told.append(state))
    assert np.array_equal(np.vstack(calls), grid.windows)
    assert max(map(len, calls)) <= batch and len(calls[-1]) == 1
    assert told[-1] == (len(grid), len(grid))
    places = sorted({(x + 1, y + 2) for x, y in grid.windows[:, :2].tolist()})
    assert [tuple(box[:2]) for box in sorted_rows(merged.boxes).tolist()] == places
    assert set(merged.classes.tolist()) == {3}
