"""Ultralytics' detection loss, in which nothing is learnt from where something is ignored, with a recipe's terms.

The criterion is told to a model class, not to a model, and only while it trains: checkpoints never refer to it.
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

INSIDE = 0.5  # share of a decoded box from which it lies in an ignored one


class IgnoringLoss(v8DetectionLoss):
    """Leaves anchors without an object out of the classification loss where something is ignored.

    An anchor is left out if half of its decoded box lies in an ignored box, or if its centre does, the box being
    enlarged to a cell of the anchor's level (a box of 3 pixels holds no centre). A region concerns the scores of all
    classes. An ignored object concerns its own class alone, as in evaluation: whether it should be found is open, that
    it is nothing else is not. Everything else is Ultralytics' own, the divisor of the loss included.

    Args:
        model: As for Ultralytics' loss; so are the arguments that follow it.
        recipe: What to mix in for tiny boxes; None for nothing.
    """

    def __init__(self, model: nn.Module, *args: Any, recipe: Recipe | None = None, **keywords: Any):
        super().__init__(model, *args, **keywords)
        if recipe:
            wasserstein.adapt(self, weight=recipe.nwd, enlarge=recipe.enlarge)

    def get_assigned_targets_and_loss(self, preds: dict[str, torch.Tensor], batch: dict[str, Any], **keywords: Any):
        """Return what Ultralytics' loss returns.

        Args:
            preds: The head's outputs.
            batch: Its ``ignored`` is as :func:`pixelkeep.ultra.data.ignoring.collate` gives it.
            keywords: For Ultralytics.
        """
        ignored = batch.get("ignored")
        if ignored is None or not len(ignored):
            return super().get_assigned_targets_and_loss(preds, batch, **keywords)
        with self._leaving_out(ignored.to(self.device), preds["feats"]):
            return super().get_assigned_targets_and_loss(preds, batch, **keywords)

    @contextlib.contextmanager
    def _leaving_out(self, ignored: torch.Tensor, feats: list[torch.Tensor]) -> Iterator[None]:
        """Put a mask between the assignment of anchors, which knows the decoded boxes, and the sum of the losses."""
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
    """Return which scores of an image something ignored concerns, bool (anchors, classes).

    Args:
        rows: (n, 5), code and x1 y1 x2 y2 in pixels.
        boxes: Decoded boxes, (anchors, 4), x1 y1 x2 y2 in pixels.
        centres: Of the anchors, (anchors, 2), x y in pixels.
        strides: Of the anchors' levels, (anchors, 1), in pixels.
        classes: How many there are.
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
    """Return the loss of a model, for both branches where its head has two."""
    loss = partial(IgnoringLoss, recipe=recipe)
    if getattr(model.model[-1], "one2one_cv2", None) is not None:
        return E2ELoss(model, loss_fn=loss)
    return loss(model)


def ignoring(recipe: Recipe | None = None) -> contextlib.AbstractContextManager:
    """Let detection models that begin to train inside use :func:`criterion`."""
    return replaced(DetectionModel, "init_criterion", lambda model: criterion(model, recipe))
