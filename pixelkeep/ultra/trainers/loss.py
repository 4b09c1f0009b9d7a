"""Ultralytics' detection loss without the places where something is ignored, and with a recipe's terms.

The criterion is set on the model class, not on a model, and only during training, so checkpoints never refer to it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.loss import E2ELoss, v8DetectionLoss
from ultralytics.utils.ops import xywh2xyxy
from ultralytics.utils.tal import make_anchors

from pixelkeep.ultra.data.ignoring import decode
from pixelkeep.ultra.running.recipe import Recipe
from pixelkeep.ultra.running.whole import replaced
from pixelkeep.ultra.trainers import wasserstein

INSIDE = 0.5  # least share of a decoded box that must lie in an ignored box to leave its anchor point out


class IgnoringLoss(v8DetectionLoss):
    """A detection loss that leaves unassigned anchor points out of the classification loss where something is ignored.

    An anchor point is left out if half of its decoded box lies in an ignored box, or if the anchor point itself does.
    For the second test the ignored box is enlarged to at least one cell of the anchor point's level, as a box of 3
    pixels may contain no anchor point. An ignored region affects the scores of all classes. An ignored object affects
    its own class only, as in evaluation: whether it should be detected is open, but detecting it as another class is
    wrong. Everything else is Ultralytics' own, including the divisor of the loss.

    Args:
        model: Model to train, passed to Ultralytics' loss together with the further arguments.
        recipe: Recipe with the terms for tiny boxes; None for none.
    """

    def __init__(self, model: nn.Module, *args: Any, recipe: Recipe | None = None, **keywords: Any):
        super().__init__(model, *args, **keywords)
        if recipe:
            wasserstein.adapt(self, weight=recipe.nwd, enlarge=recipe.enlarge)

    def get_assigned_targets_and_loss(self, preds: dict[str, torch.Tensor], batch: dict[str, Any], **keywords: Any):
        """Return what Ultralytics' method returns, computed without the ignored scores.

        Args:
            preds: Outputs of the head.
            batch: Batch whose ``ignored`` is as :func:`pixelkeep.ultra.data.ignoring.collate` returns it.
            keywords: Further arguments of Ultralytics' method.
        """
        ignored = batch.get("ignored")
        if ignored is None or not len(ignored):
            return super().get_assigned_targets_and_loss(preds, batch, **keywords)
        with self._leaving_out(ignored.to(self.device), preds["feats"]):
            return super().get_assigned_targets_and_loss(preds, batch, **keywords)

    @contextlib.contextmanager
    def _leaving_out(self, ignored: torch.Tensor, feats: list[torch.Tensor]) -> Iterator[None]:
        """Set the classification loss of ignored scores to 0 inside the context.

        One hook builds the mask when the assigner is called, which receives the decoded boxes. Another applies it to
        the binary cross entropy before the losses are summed.
        """
        _, strides = make_anchors(feats, self.stride, 0.5)
        height, width = feats[0].shape[2:]
        scale = torch.tensor([width, height, width, height], device=self.device) * self.stride[0]
        rows = torch.cat([ignored[:, 1:2], xywh2xyxy(ignored[:, 2:] * scale)], 1)  # code, x1 y1 x2 y2 in pixels
        counts = torch.bincount(ignored[:, 0].long(), minlength=len(feats[0])).tolist()
        masks = []

        def watch(assigner: nn.Module, inputs: tuple, outputs: tuple) -> None:
            scores, boxes, centres = inputs[:3]
            mask = torch.zeros_like(scores, dtype=torch.bool)  # (b, anchors, classes)
            for image, own in enumerate(rows.split(counts)):
                if len(own):
                    mask[image] = held(own, boxes[image], centres, strides, self.nc)
            masks.append(mask & ~outputs[3][..., None])

        def leave_out(bce: nn.Module, inputs: tuple, losses: torch.Tensor) -> torch.Tensor:
            return losses.masked_fill(masks.pop(), 0)

        hooks = [self.assigner.register_forward_hook(watch), self.bce.register_forward_hook(leave_out)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def held(
    rows: torch.Tensor, boxes: torch.Tensor, centres: torch.Tensor, strides: torch.Tensor, classes: int
) -> torch.Tensor:
    """Return which scores of an image are affected by ignored objects or regions, bool (anchors, classes).

    Args:
        rows: Ignored boxes, (n, 5), code and x1 y1 x2 y2 in pixels.
        boxes: Decoded boxes, (anchors, 4), x1 y1 x2 y2 in pixels.
        centres: Anchor points, (anchors, 2), x y in pixels.
        strides: Stride of each anchor point's level, (anchors, 1), in pixels.
        classes: Number of classes.
    """
    corner, other = rows[:, None, 1:3], rows[:, None, 3:5]  # (n, 1, 2)
    shared = (torch.minimum(boxes[:, 2:], other) - torch.maximum(boxes[:, :2], corner)).clamp(min=0).prod(2)
    area = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)
    inside = (shared >= INSIDE * area) & (area > 0)  # (n, anchors)
    reach = torch.maximum(other - corner, strides) / 2  # (n, anchors, 2)
    inside |= ((centres - (corner + other) / 2).abs() <= reach).all(2)
    own = decode(rows[:, :1])
    concerned = (own < 0) | (own == torch.arange(classes, device=rows.device))  # (n, classes)
    return inside.T.float() @ concerned.float() > 0


def criterion(model: DetectionModel, recipe: Recipe | None = None) -> IgnoringLoss | E2ELoss:
    """Return the loss of a model, for both branches if its head has two."""
    loss = partial(IgnoringLoss, recipe=recipe)
    if getattr(model.model[-1], "one2one_cv2", None) is not None:
        return E2ELoss(model, loss_fn=loss)
    return loss(model)


def ignoring(recipe: Recipe | None = None) -> contextlib.AbstractContextManager:
    """Return a context in which detection models that start to train use :func:`criterion`."""
    return replaced(DetectionModel, "init_criterion", lambda model: criterion(model, recipe))
