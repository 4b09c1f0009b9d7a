"""Predictions from geometry alone agree with Ultralytics' own assigner, augmentation and letterbox."""

from __future__ import annotations

import inspect
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from ultralytics.data.augment import LetterBox, RandomPerspective
from ultralytics.utils.instance import Instances
from ultralytics.utils.tal import TaskAlignedAssigner, make_anchors

from pixelkeep.datasets.annotations.record import ImageRecord
from pixelkeep.datasets.doctor.anchors import NONE, match, unassigned
from pixelkeep.datasets.doctor.augmentation import lost_share
from pixelkeep.datasets.doctor.sizes import collect, letterboxed

SIZE = (96, 128)
HEADS = [(8, 16, 32), (4, 8, 16, 32), (8, 16), (16,), (32,)]


def crowd(seed: int, count: int) -> np.ndarray:
    """Return a crowd of at most ``count`` boxes (n, 4) of all sizes, some on whole pixels, some with equal middles."""
    rng = np.random.default_rng(seed)
    sides = rng.uniform(0.5, 24, (count, 2))
    middle = rng.normal(0.5, rng.uniform(0.05, 0.3), (count, 2)) * SIZE[::-1]
    middle[: count // 4] = middle[0]
    boxes = np.clip(np.hstack([middle - sides / 2, middle + sides / 2]), 0, np.tile(SIZE[::-1], 2))
    boxes[::3] = np.round(boxes[::3])
    return boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)]


def in_pixels(boxes: np.ndarray) -> Instances:
    """Return boxes (n, 4) x1 y1 x2 y2 in pixels as Ultralytics' transforms take them."""
    outlines = np.zeros((0, 1000, 2), np.float32)
    return Instances(boxes.astype(np.float32), outlines, bbox_format="xyxy", normalized=False)


def anchor_points(strides: tuple[int, ...]) -> torch.Tensor:
    levels = [torch.zeros(1, 1, SIZE[0] // stride, SIZE[1] // stride) for stride in strides]
    points, stride = make_anchors(levels, torch.tensor(strides), 0.5)
    return points * stride


def assigned(boxes: np.ndarray, strides: tuple[int, ...], anchors: np.ndarray) -> set[int]:
    """Return the indices of the boxes to which the assigner gives an anchor if the network is right at ``anchors``."""
    points = anchor_points(strides)
    truth = torch.tensor(boxes, dtype=torch.float32)[None]
    predicted = torch.cat([points - 1, points + 1], 1)[None]
    scores = torch.full((1, len(points), 1), 0.01)
    for row, anchor in enumerate(anchors.tolist()):
        if anchor != NONE:
            predicted[0, anchor], scores[0, anchor] = truth[0, row], 1
    assigner = TaskAlignedAssigner(topk=10, num_classes=1, alpha=0.5, beta=6.0, stride=list(strides))
    zeros, ones = torch.zeros(1, len(boxes), 1), torch.ones(1, len(boxes), 1)
    found, index = assigner(scores, predicted, points, zeros, truth, ones)[3:]
    return set(index[found].tolist())


@pytest.mark.parametrize("strides", HEADS, ids=str)
@pytest.mark.parametrize("seed", range(6))
def test_unassigned__equals_the_assigners_result(strides, seed):
    """If the network is right at the matched anchors, exactly the matched boxes get anchors, as many as possible."""
    boxes = crowd(seed, [1, 4, 20, 60, 120, 200][seed])
    anchors = match(boxes, SIZE, strides)
    assert assigned(boxes, strides, anchors) == set(np.flatnonzero(anchors != NONE).tolist())


@pytest.mark.parametrize("strides", HEADS, ids=str)
@pytest.mark.parametrize("seed", range(6))
def test_unassigned__no_predictions_do_better(strides, seed):
    """Whatever the network predicts, the assigner serves no more boxes than the matching does."""
    boxes = crowd(seed, 80)
    best = int((match(boxes, SIZE, strides) != NONE).sum())
    rng = np.random.default_rng(seed)
    for _ in range(5):
        anchors = np.array([rng.integers(len(anchor_points(strides))) for _ in boxes])
        assert len(assigned(boxes, strides, anchors)) <= best


@pytest.mark.parametrize("strides", HEADS, ids=str)
def test_match__gives_candidates_only(strides):
    """A lone box is served if and only if the assigner has a candidate for it, and by one of them."""
    assigner = TaskAlignedAssigner(topk=10, num_classes=1, stride=list(strides))
    points, served = anchor_points(strides), []
    for seed in range(3):
        for box in crowd(seed, 60):
            truth = torch.tensor(box, dtype=torch.float32)[None, None]
            candidates = assigner.select_candidates_in_gts(points, truth, torch.ones(1, 1, 1))[0, 0]
            (anchor,) = match(box[None], SIZE, strides)
            assert bool(candidates.any()) == (anchor != NONE)
            assert anchor == NONE or candidates[anchor]
            served.append(anchor != NONE)
    assert any(served)


def test_unassigned__counts_image_by_image():
    """Two images with the same crowd lose twice as many as one; an image without objects loses none."""
    boxes = np.tile([[60.0, 40, 62, 42]], (9, 1))  # enlarged to 16 px: 2 x 2 anchors at stride 8, one at 16, one at 32
    records = [
        ImageRecord(Path(f"{i}.png"), SIZE[1], SIZE[0], boxes[:count], [0] * count) for i, count in enumerate((9, 0, 9))
    ]
    one = int((match(boxes, SIZE, (8, 16, 32)) == NONE).sum())
    missing = unassigned(collect(records, SIZE), SIZE, (8, 16, 32))
    assert 0 < one < 9 and missing[:9].sum() == missing[9:].sum() == one


def test_letterboxed__is_ultralytics_letterbox():
    """Boxes land where Ultralytics' own transform puts them, up to its rounding to whole pixels."""
    box = np.array([[30.0, 20, 90, 70]])
    for width, height, size in ((200, 100, (96, 96)), (100, 203, (96, 128)), (64, 48, (128, 128))):
        labels = {
            "img": np.zeros((height, width, 3), np.uint8),
            "cls": np.zeros(1),
            "instances": in_pixels(box),
        }
        moved = LetterBox(size)(labels)["instances"]
        moved.convert_bbox("xyxy")
        own = letterboxed(box, ImageRecord(Path("a.png"), width, height, box, [0]), size)
        assert np.abs(moved.bboxes - own).max() <= 1


@pytest.mark.parametrize("scale", [0.5, 0.9])
def test_lost_share__equals_that_of_random_perspective(scale):
    """Over random views the share that Ultralytics filters out is the predicted one, within four standard errors."""
    random.seed(0)
    views = 600
    sides = np.array([[1.0, 9], [2, 2], [2.5, 3], [3, 8], [3.9, 3.9], [4.2, 4.2], [12, 12]])
    middle = np.array([[40.0 + 60 * i, 200] for i in range(len(sides))])
    boxes = np.hstack([middle - sides / 2, middle + sides / 2])
    limit = inspect.signature(RandomPerspective.box_candidates).parameters["wh_thr"].default
    transform = RandomPerspective(translate=0, scale=scale, size=(1200, 1200))
    kept = np.zeros(len(sides))
    for _ in range(views):
        labels = {
            "img": np.zeros((480, 480, 3), np.uint8),
            "cls": np.arange(len(sides))[:, None],
            "instances": in_pixels(boxes),
        }
        kept[transform(labels)["cls"][:, 0]] += 1
    predicted = lost_share(sides, scale, limit)
    error = np.sqrt(predicted * (1 - predicted) / views)
    assert (np.abs(1 - kept / views - predicted) <= 4 * error + 1e-9).all()


def test_lost_share__without_scaling():
    """With scale 0 only objects that already are too small are lost."""
    assert lost_share(np.array([[2.0, 9], [2.1, 9]]), 0, 2).tolist() == [1, 0]
