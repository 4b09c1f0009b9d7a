"""The loss learns nothing where something is ignored; everything else equals Ultralytics' bit for bit."""

from __future__ import annotations

import copy

import pytest
import torch
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel, SegmentationModel
from ultralytics.utils.loss import E2ELoss, v8DetectionLoss

from pixelkeep.ultra.data.ignoring import REGION, encode
from pixelkeep.ultra.trainers.loss import IgnoringLoss, criterion, ignoring

CLASSES, SIDE = 3, 96
HEADS = {"yolov5n.yaml": "one branch", "yolov10n.yaml": "two branches", "yolo26n.yaml": "two, no distribution"}
OBJECTS = [  # image, class, x y w h relative to the image
    [0, 0, 0.7, 0.7, 0.2, 0.2],
    [1, 2, 0.4, 0.4, 0.1, 0.1],  # this object and the next two are inside the region
    [1, 0, 0.3, 0.6, 0.2, 0.1],
    [1, 1, 0.5, 0.7, 0.3, 0.3],
    [1, 1, 0.9, 0.9, 0.1, 0.1],
]
IGNORED = [  # image, code, x y w h relative to the image
    [0, encode(1), 0.25, 0.25, 3 / SIDE, 3 / SIDE],  # three pixels wide, between the anchor points
    [0, encode(2, shrunk=True), 0.75, 0.2, 0.5, 0.3],
    [1, REGION, 0.4, 0.5, 0.7, 0.9],
]


@pytest.fixture(scope="module", params=HEADS)
def model(request) -> DetectionModel:
    torch.manual_seed(0)
    model = DetectionModel(request.param, nc=CLASSES, verbose=False)
    model.args = get_cfg()
    return model.train()


def batch_of(objects: list, ignored: list | None) -> dict:
    rows = torch.tensor(objects, dtype=torch.float32).reshape(-1, 6)
    batch = {"batch_idx": rows[:, 0], "cls": rows[:, 1:2], "bboxes": rows[:, 2:]}
    if ignored is not None:
        batch["ignored"] = torch.tensor(ignored, dtype=torch.float32).reshape(-1, 6)
    return batch


def outputs(model: DetectionModel, dtype: torch.dtype = torch.float32) -> list[dict]:
    """Return random outputs for each branch of the head, with gradients enabled."""
    torch.manual_seed(1)
    with torch.no_grad():
        found = model(torch.rand(2, 3, SIDE, SIDE))
    branches = [found[key] for key in ("one2many", "one2one")] if "one2many" in found else [found]
    return [
        {
            "boxes": (torch.randn_like(branch["boxes"]) * 3 + 2).to(dtype).requires_grad_(),
            "scores": torch.randn_like(branch["scores"]).to(dtype).requires_grad_(),
            "feats": [level.to(dtype) for level in branch["feats"]],
        }
        for branch in branches
    ]


def branches_of(loss) -> list[v8DetectionLoss]:
    return [loss.one2many, loss.one2one] if isinstance(loss, E2ELoss) else [loss]


def gradients(loss: v8DetectionLoss, found: dict, batch: dict) -> tuple[torch.Tensor, ...]:
    """Return the loss, its parts, and its gradients for boxes and scores, the latter (b, anchors, classes)."""
    total, parts = loss(found, batch)
    boxes, scores = torch.autograd.grad(total.sum(), [found["boxes"], found["scores"]])
    return total, torch.stack(list(parts.values())), boxes, scores.transpose(1, 2)


def exempt_by_hand(loss: v8DetectionLoss, found: dict, batch: dict) -> tuple[torch.Tensor, dict[str, int]]:
    """Apply the rule to one anchor at a time; return a mask of exempt scores (b, anchors, classes) and rule counts."""
    assigned = loss.get_assigned_targets_and_loss(found, {k: v for k, v in batch.items() if k != "ignored"})[0]
    positive, _, _, points, strides = assigned
    decoded = loss.bbox_decode(points, found["boxes"].detach().permute(0, 2, 1)) * strides
    exempt = torch.zeros(*positive.shape, CLASSES, dtype=torch.bool)
    held = {"half inside": 0, "centre": 0, "positive": 0}
    for image, code, x, y, w, h in batch["ignored"].tolist():
        x, y, w, h = x * SIDE, y * SIDE, w * SIDE, h * SIDE
        for anchor in range(len(points)):
            x1, y1, x2, y2 = decoded[int(image), anchor].tolist()
            stride = strides[anchor].item()
            px, py = (points[anchor] * stride).tolist()
            wide = max(min(x2, x + w / 2) - max(x1, x - w / 2), 0)
            high = max(min(y2, y + h / 2) - max(y1, y - h / 2), 0)
            half = x2 > x1 and y2 > y1 and wide * high >= 0.5 * (x2 - x1) * (y2 - y1)
            centre = abs(px - x) <= max(w, stride) / 2 and abs(py - y) <= max(h, stride) / 2
            if not half and not centre:
                continue
            if positive[int(image), anchor]:
                held["positive"] += 1
                continue
            held["half inside"] += half and not centre
            held["centre"] += centre and not half
            own = {-1: slice(None), encode(1): 1, encode(2, shrunk=True): 2}[int(code)]
            exempt[int(image), anchor, own] = True
    return exempt, held


def test_gradient__zero_where_ignored_and_else_unchanged(model):
    """Exempt scores get zero gradient; the gradients of all other scores and of boxes are unchanged bit for bit."""
    batch = batch_of(OBJECTS, IGNORED)
    with ignoring():
        ours = model.init_criterion()
    assert type(ours) is (E2ELoss if "one2one_cv2" in dict(model.model[-1].named_children()) else IgnoringLoss)
    for loss, stock, found in zip(branches_of(ours), branches_of(model.init_criterion()), outputs(model), strict=True):
        exempt, held = exempt_by_hand(stock, found, batch)
        assert min(held.values()) > 0
        *_, boxes, scores = gradients(loss, found, batch)
        *_, stock_boxes, stock_scores = gradients(stock, found, batch)
        assert (scores[exempt] == 0).all() and (stock_scores[exempt] != 0).all()
        assert torch.equal(scores[~exempt], stock_scores[~exempt]) and torch.equal(boxes, stock_boxes)


def test_loss__lacks_what_is_left_out_over_the_same_divisor(model):
    """The classification loss is smaller by exactly the exempt terms; the parts for boxes are unchanged."""
    batch = batch_of(OBJECTS, IGNORED)
    for loss, stock, found in zip(
        branches_of(criterion(model)), branches_of(model.init_criterion()), outputs(model), strict=True
    ):
        exempt, _ = exempt_by_hand(stock, found, batch)
        parts, stock_parts = gradients(loss, found, batch)[1], gradients(stock, found, batch)[1]
        targets = {}
        hook = stock.assigner.register_forward_hook(lambda m, i, o, kept=targets: kept.update(scores=o[2]))
        stock(found, batch)
        hook.remove()
        terms = torch.nn.functional.softplus(found["scores"].detach().transpose(1, 2))[exempt]  # BCE for a target of 0
        less = terms.sum() / targets["scores"].sum().clamp(min=1) * stock.hyp.cls
        assert less > 0 and stock_parts[1] - parts[1] == pytest.approx(less.item(), rel=1e-4)
        assert parts[0] == stock_parts[0] and parts[2] == stock_parts[2]


@pytest.mark.parametrize("objects", [OBJECTS, []], ids=["objects", "no objects"])
@pytest.mark.parametrize("ignored", [None, []], ids=["absent", "empty"])
def test_nothing_to_ignore__is_ultralytics(model, objects, ignored):
    """With nothing to ignore, loss, parts and gradients equal Ultralytics' bit for bit."""
    batch = batch_of(objects, ignored)
    for loss, stock, found in zip(
        branches_of(criterion(model)), branches_of(model.init_criterion()), outputs(model), strict=True
    ):
        for one, other in zip(gradients(loss, found, batch), gradients(stock, found, batch), strict=True):
            assert torch.equal(one, other)


def test_region_without_objects__teaches_nothing(model):
    """An image covered by one ignored region and without objects gives no loss and no gradient."""
    everywhere = [[image, REGION, 0.5, 0.5, 1, 1] for image in range(2)]
    for loss, found in zip(branches_of(criterion(model)), outputs(model), strict=True):
        total, _, boxes, scores = gradients(loss, found, batch_of([], everywhere))
        assert total.sum() == 0 and not boxes.any() and not scores.any()


def test_reduced_precision__leaves_out_the_same(model):
    """The same scores are exempt in bfloat16 under autocast."""
    batch = batch_of(OBJECTS, IGNORED)
    for loss, stock, found in zip(
        branches_of(criterion(model)), branches_of(model.init_criterion()), outputs(model, torch.bfloat16), strict=True
    ):
        with torch.autocast("cpu", torch.bfloat16):
            scores, stock_scores = gradients(loss, found, batch)[3], gradients(stock, found, batch)[3]
            exempt, _ = exempt_by_hand(stock, found, batch)
        assert not scores[exempt].any() and torch.equal(scores[~exempt], stock_scores[~exempt])


def test_criterion__only_inside_and_for_detection_alone(model):
    """Outside training, and for other tasks, models keep Ultralytics' loss; a model with ours can be copied."""
    segmentation = SegmentationModel("yolov8n-seg.yaml", verbose=False)
    segmentation.args = get_cfg()
    before = type(segmentation.init_criterion())
    with ignoring():
        assert {type(part) for part in branches_of(model.init_criterion())} == {IgnoringLoss}
        assert type(segmentation.init_criterion()) is before
        own = copy.deepcopy(model)
        own.loss({"img": torch.rand(2, 3, SIDE, SIDE), **batch_of(OBJECTS, IGNORED)})
    assert {type(part) for part in branches_of(model.init_criterion())} == {v8DetectionLoss}
    copied = copy.deepcopy(own)
    assert {type(part) for part in branches_of(copied.criterion)} == {IgnoringLoss}
    assert not any(part.bce._forward_hooks or part.assigner._forward_hooks for part in branches_of(own.criterion))
