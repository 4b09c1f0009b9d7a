"""Adds the auxiliary losses of layers to Ultralytics' training loss: target fractions of masks, a teacher's error.

A layer has an auxiliary loss if it has a method ``auxiliary_loss()``, which returns a scalar for its last forward pass
in training, or None; or a method ``loss_from_boxes(boxes, image, size)``, which also receives the boxes of the batch.
Ultralytics computes the loss of every task and every trainer in ``BaseModel.loss``; the auxiliary losses of all layers
are added there. They are multiplied by the number of images wherever Ultralytics multiplies its own loss by it, which
is everywhere but in classification. The loss components that are printed remain Ultralytics' own. A network that is
compiled for training has no auxiliary losses, since its layers keep nothing of the forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import wraps
from typing import Any

from torch import Tensor, nn

MARK = "by_pixelkeep"  # the same attribute as in fusing.py


def extend_loss(model: type[nn.Module], per_image: tuple[type[nn.Module], ...]) -> None:
    """Extend ``loss`` of Ultralytics' ``BaseModel``. Calling it twice changes nothing.

    Args:
        model: The class ``BaseModel``.
        per_image: Model classes whose own loss is not multiplied by the number of images.
    """
    if hasattr(model.loss, MARK):
        return
    stock_loss = model.loss

    @wraps(stock_loss)
    def loss(self: nn.Module, batch: dict[str, Any], preds: Any = None) -> tuple[Tensor, Any]:
        total, items = stock_loss(self, batch, preds)
        if self.training and (auxiliary := list(auxiliary_losses(self, batch))):
            images = 1 if isinstance(self, per_image) else len(batch["img"])
            total = total.sum() + images * sum(auxiliary)
        return total, items

    setattr(loss, MARK, True)
    model.loss = loss


def auxiliary_losses(model: nn.Module, batch: dict[str, Any]) -> Iterator[Tensor]:
    """Yield the auxiliary losses of a model's layers for its last forward pass, which was run on ``batch``."""
    for module in model.modules():
        if callable(loss := getattr(module, "auxiliary_loss", None)) and (value := loss()) is not None:
            yield value
        learn = getattr(module, "loss_from_boxes", None)
        if callable(learn) and "bboxes" in batch:
            value = learn(batch["bboxes"], batch["batch_idx"], tuple(batch["img"].shape[2:]))
            if value is not None:
                yield value
