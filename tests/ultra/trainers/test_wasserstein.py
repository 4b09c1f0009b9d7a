"""The Wasserstein distance of boxes in the loss and the assignment, and the size to which boxes are enlarged."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.loss import BboxLoss, E2ELoss
from ultralytics.utils.metrics import bbox_iou
from ultralytics.utils.tal import TaskAlignedAssigner

from pixelkeep.ultra.running.recipe import Recipe
from pixelkeep.ultra.trainers.loss import criterion
from pixelkeep.ultra.trainers.wasserstein import Assigner, BoxLoss, nwd

SIDE = 96
HEADS = {
    "yolov5n.yaml": "distribution",
    "yolo26n.yaml": "two branches, no distribution",
    "yolov5-p2-n.yaml": "stride 4",
}
OBJECTS = torch.tensor(  # image, class, x y w h relative to the image; sides of 40, 2 and 5 pixels
    [
        [0, 0, 0.7, 0.7, 40 / SIDE, 40 / SIDE],
        [1, 2, 0.31, 0.43, 2 / SIDE, 2 / SIDE],
        [1, 1, 0.8, 0.2, 5 / SIDE, 5 / SIDE],
    ]
)
BATCH = {"batch_idx": OBJECTS[:, 0], "cls": OBJECTS[:, 1:2], "bboxes": OBJECTS[:, 2:]}


@pytest.fixture(scope="module", params=HEADS)
def model(request) -> DetectionModel:
    torch.manual_seed(0)
    model = DetectionModel(request.param, nc=3, verbose=False)
    model.args = get_cfg()
    return model.train()


def branches(loss) -> list:
    return [loss.one2many, loss.one2one] if isinstance(loss, E2ELoss) else [loss]


def outputs(model: DetectionModel, dtype: torch.dtype = torch.float32) -> list[dict]:
    """Return outputs for each branch of the head that decode to boxes of a few strides around their anchor points."""
    torch.manual_seed(1)
    with torch.no_grad():
        found = model(torch.rand(2, 3, SIDE, SIDE))
    parts = [found[key] for key in ("one2many", "one2one")] if "one2many" in found else [found]
    bins = model.model[-1].reg_max
    near = -torch.arange(bins).repeat(4)[None, :, None]  # makes distributions, if any, favour small distances
    return [
        {
            "boxes": (torch.rand_like(part["boxes"]) * 2 + near).to(dtype).requires_grad_(),
            "scores": torch.randn_like(part["scores"]).to(dtype).requires_grad_(),
            "feats": [level.to(dtype) for level in part["feats"]],
        }
        for part in parts
    ]


def gradients(loss, found: dict) -> list[torch.Tensor]:
    total, parts = loss(found, BATCH)
    return [total, *parts.values(), *torch.autograd.grad(total.sum(), [found["boxes"], found["scores"]])]


def gaussian_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the 2-Wasserstein distance of two boxes as Gaussians, by the general formula for any covariances."""

    def root(matrix: np.ndarray) -> np.ndarray:
        values, vectors = np.linalg.eigh(matrix)
        return vectors @ np.diag(np.sqrt(values)) @ vectors.T

    means = [(box[:2] + box[2:]) / 2 for box in (one, other)]
    spreads = [np.diag(((box[2:] - box[:2]) / 2) ** 2) for box in (one, other)]
    inner = root(root(spreads[0]) @ spreads[1] @ root(spreads[0]))
    return math.sqrt(((means[0] - means[1]) ** 2).sum() + np.trace(spreads[0] + spreads[1] - 2 * inner))


def test_value__closed_form():
    """In float64 the value is exp(-W / 12.8) with W by the general formula; a shift of (3, 4) gives W = 5."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 30, (2, 50, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 20, (2, 50, 2))], 2)
    expected = [math.exp(-gaussian_distance(*pair) / 12.8) for pair in zip(*boxes, strict=True)]
    assert nwd(*torch.from_numpy(boxes)).numpy() == pytest.approx(expected, abs=1e-12)
    moved, grown = (
        torch.tensor([[10.0, 10, 12, 12], [13, 14, 15, 16]]).double(),
        torch.tensor([5.0, 3, 17, 19]).double(),
    )
    assert nwd(*moved).item() == pytest.approx(math.exp(-5 / 12.8), abs=1e-12)
    assert nwd(moved[0], grown).item() == pytest.approx(math.exp(-math.hypot(5, 7) / 12.8), abs=1e-12)
    assert nwd(moved, moved).tolist() == pytest.approx([1, 1], abs=1e-6)


def test_gradient__two_pixels():
    """For boxes of two pixels that do not overlap, the gradient is finite and points at the other box."""
    wanted = torch.tensor([20.0, 30, 22, 32]).double()
    for dx, dy in ((5, 0), (-4, 3), (0.5, -12), (40, 30)):
        found = (wanted + torch.tensor([dx, dy, dx, dy])).requires_grad_()
        (slope,) = torch.autograd.grad(nwd(found, wanted), found)
        pull = slope[:2] + slope[2:]  # gradient for the centre
        length = math.hypot(dx, dy)
        assert pull.tolist() == pytest.approx([-dx / length * math.exp(-length / 12.8) / 12.8 for dx in (dx, dy)])
        assert slope[:2].tolist() == pytest.approx(slope[2:].tolist())
        assert torch.autograd.gradcheck(nwd, (found, wanted))
    same = wanted.clone().requires_grad_()
    assert torch.autograd.grad(nwd(same, wanted), same)[0].tolist() == [0, 0, 0, 0]
    wide = torch.tensor([19.0, 30, 23, 32]).double().requires_grad_()
    left, top, right, bottom = torch.autograd.grad(nwd(wide, wanted), wide)[0].tolist()
    assert left > 0 > right and top == bottom == 0  # the gradient makes the box narrower


def test_weight_zero__is_ultralytics(model):
    """With a weight of 0 nothing is replaced, and loss and gradients equal Ultralytics' bit for bit."""
    for recipe in (None, Recipe(), Recipe(nwd=0.0)):
        ours, stock = branches(criterion(model, recipe)), branches(model.init_criterion())
        for loss, other, found in zip(ours, stock, outputs(model), strict=True):
            assert type(loss.assigner) is TaskAlignedAssigner and type(loss.bbox_loss) is BboxLoss
            assert all(map(torch.equal, gradients(loss, found), gradients(other, found)))


@pytest.mark.parametrize("weight", [0.25, 1.0])
def test_loss__shared_by_both(model, weight):
    """The box loss is the weighted mean of the IoU loss and the distance loss, in pixels; other parts are unchanged."""
    for loss, stock, found in zip(
        branches(criterion(model, Recipe(nwd=weight))), branches(model.init_criterion()), outputs(model), strict=True
    ):
        assert isinstance(loss.assigner, Assigner) and isinstance(loss.bbox_loss, BoxLoss)
        stock.assigner = loss.assigner  # so that both losses have the same positives
        kept = {}
        hook = loss.assigner.register_forward_hook(lambda m, inputs, outs, kept=kept: kept.update(i=inputs, o=outs))
        parts = gradients(loss, found)
        hook.remove()
        other = gradients(stock, found)
        boxes, (_, targets, scores, positive, _) = kept["i"][1], kept["o"]
        each = np.array(
            [
                math.exp(-gaussian_distance(*pair) / 12.8)
                for pair in zip(boxes[positive].double().numpy(), targets[positive].double().numpy(), strict=True)
            ]
        )
        weights = scores[positive].sum(-1).numpy()
        distance = ((1 - each) * weights).sum() / max(scores.sum().item(), 1) * loss.hyp.box
        assert positive.sum() >= 3
        assert parts[1].item() == pytest.approx((1 - weight) * other[1].item() + weight * distance, rel=1e-4)
        assert torch.equal(parts[2], other[2]) and torch.equal(parts[3], other[3])
        assert all(part.isfinite().all() for part in parts) and not torch.equal(parts[-2], other[-2])


def test_assigner__nearest_of_those_that_do_not_meet():
    """If no predicted box overlaps an object of two pixels, IoU ranks none, and the distance ranks them correctly."""
    stock = TaskAlignedAssigner(topk=2, num_classes=1, alpha=0.5, beta=6.0, stride=[8, 16, 32])
    wanted = torch.tensor([[[15.0, 15, 17, 17]]])
    points = torch.tensor([[12.0, 12], [20, 12], [12, 20], [20, 20]])
    shifts = torch.tensor([[9.0], [3], [6], [4]])
    found = wanted + shifts[None]
    arguments = torch.full((1, 4, 1), 0.5), found, points, torch.zeros(1, 1, 1), wanted, torch.ones(1, 1, 1)
    assert stock(*arguments)[2].sum() == 0
    for weight in (0.3, 1.0):
        _, _, scores, positive, _ = Assigner(stock, weight, None)(*arguments)
        assert positive[0].tolist() == [False, True, False, True]
        best = weight * math.exp(-3 * math.sqrt(2) / 12.8)
        assert scores.max().item() == pytest.approx(best, rel=1e-4)


def test_assigner__shares_of_the_overlap():
    """The overlap of a pair is (1 - weight) CIoU, clamped at 0, plus weight times the similarity by distance."""
    rng = torch.Generator().manual_seed(0)
    corners = torch.rand(2, 40, 2, generator=rng) * 8
    one, other = torch.cat([corners, corners + 1 + torch.rand(2, 40, 2, generator=rng) * 9], 2)
    stock = TaskAlignedAssigner(num_classes=1)
    mixed = Assigner(stock, 0.4, None).iou_calculation(one, other)
    ciou = bbox_iou(one, other, xywh=False, CIoU=True).squeeze(-1).clamp(min=0)
    torch.testing.assert_close(mixed, 0.6 * ciou + 0.4 * nwd(one, other))
    assert torch.equal(Assigner(stock, 0, 3.0).iou_calculation(one, other), stock.iou_calculation(one, other))


@pytest.mark.parametrize("strides", [[8, 16, 32], [4, 8, 16, 32]])
def test_enlarge__anchors_within_so_many_strides(strides):
    """A two-pixel object has the anchor points in a square of that many strides; two is what Ultralytics uses."""
    points = torch.cat([torch.cartesian_prod(*2 * [torch.arange(s / 2, 96, s)]) for s in strides])
    stock = TaskAlignedAssigner(num_classes=1, stride=strides)
    generator = torch.Generator().manual_seed(3)
    centres = 20 + torch.rand(1, 60, 2, generator=generator) * 56
    boxes, real = torch.cat([centres - 1, centres + 1], 2), torch.ones(1, 60, 1)
    own = stock.select_candidates_in_gts(points, boxes, real)
    assert torch.equal(Assigner(stock, 0, 2).select_candidates_in_gts(points, boxes, real), own)
    for enlarge in (1, 2, 2.75):
        found = Assigner(stock, 0, enlarge).select_candidates_in_gts(points, boxes, real)
        reach = enlarge * strides[0] / 2
        expected = ((points[None, None] - centres[:, :, None]).abs() < reach).all(-1)
        assert torch.equal(found, expected)
        # The mean is how many cells of each level fit into the square: 10 at 2.75, which is how many can be chosen.
        mean = sum((enlarge * strides[0] / s) ** 2 for s in strides)
        assert found.sum(-1).float().mean().item() == pytest.approx(mean, rel=0.2)
    assert found.sum() > own.sum()


def test_enlarge__reaches_the_loss(model):
    """Two strides change nothing, bit for bit; more change what is learnt where the distance sees far boxes."""
    for weight in (0.0, 0.5):
        losses = [branches(criterion(model, Recipe(nwd=weight, enlarge=enlarge))) for enlarge in (None, 2, 3.5)]
        changed = []
        for own, two, more, found in zip(*losses, outputs(model), strict=True):
            expected = gradients(own, found)
            assert all(map(torch.equal, gradients(two, found), expected))
            changed.append(not torch.equal(gradients(more, found)[-1], expected[-1]))
        assert weight == 0 or changed[0]  # with one anchor per object, as in the second branch, it may stay


def test_reduced_precision__near_full(model):
    """In bfloat16 under autocast everything is finite, and the loss equals that in full precision but for rounding."""
    ours = branches(criterion(model, Recipe(nwd=0.5)))
    for loss, full, half in zip(ours, outputs(model), outputs(model, torch.bfloat16), strict=True):
        expected = gradients(loss, full)
        with torch.autocast("cpu", torch.bfloat16):
            found = gradients(loss, half)
        assert all(part.isfinite().all() for part in found)
        assert found[1].item() == pytest.approx(expected[1].item(), rel=0.1)


def test_no_object__no_box_loss(model):
    """Images without objects give no box loss and no gradient, and no NaN."""
    empty = {"batch_idx": torch.zeros(0), "cls": torch.zeros(0, 1), "bboxes": torch.zeros(0, 4)}
    for loss, found in zip(branches(criterion(model, Recipe(nwd=0.5))), outputs(model), strict=True):
        total, parts = loss(found, empty)
        (slope,) = torch.autograd.grad(total.sum(), found["boxes"])
        assert parts["box_loss"] == 0 and not slope.any()


def test_copies__keep_the_terms(model):
    """A copy of a model in training, such as its moving average, keeps the loss and the assigner."""
    own = copy.deepcopy(model)
    own.criterion = criterion(own, Recipe(nwd=0.5, enlarge=3))
    for part in branches(copy.deepcopy(own).criterion):
        assert (part.bbox_loss.weight, part.assigner.weight) == (0.5, 0.5)
        assert part.assigner.stride_val == 3 * own.stride.min()
