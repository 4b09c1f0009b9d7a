"""Tells Ultralytics' detection loss, in every trainer, that some anchors do not exist (see heads.py).

Anchors that do not exist are assigned to no object, so objects in inactive regions are assigned to other levels. Their
logits are constant, so the loss cannot penalise them either.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import wraps
from typing import Any

from torch import Tensor, nn

from pixelkeep.ultra.network.fusing import MARK


def extend_assignment(criterion: type) -> None:
    """Extend Ultralytics' ``v8DetectionLoss``. Calling it twice changes nothing."""
    stock = criterion.get_assigned_targets_and_loss
    if hasattr(stock, MARK):
        return

    @wraps(stock)
    def assign(self: Any, preds: dict[str, Tensor], batch: dict[str, Any], **keywords: Any) -> tuple:
        active = preds.get("active")
        with contextlib.nullcontext() if active is None else existing_only(self.assigner, active):
            return stock(self, preds, batch, **keywords)

    setattr(assign, MARK, True)
    criterion.get_assigned_targets_and_loss = assign


@contextlib.contextmanager
def existing_only(assigner: nn.Module, active: Tensor) -> Iterator[None]:
    """Restrict an assigner to the anchors that exist, inside the context.

    Args:
        assigner: Ultralytics' TaskAlignedAssigner.
        active: Which anchors exist, bool (N, anchors).
    """
    stock = assigner.select_candidates_in_gts
    one_by_one = iter(active[:, None, None])  # if GPU memory runs out, Ultralytics assigns one image after the other

    def candidates(centres: Tensor, boxes: Tensor, *args: Any, **keywords: Any) -> Tensor:
        exists = active[:, None] if len(boxes) == len(active) else next(one_by_one)
        return stock(centres, boxes, *args, **keywords) & exists

    assigner.select_candidates_in_gts = candidates
    try:
        yield
    finally:
        del assigner.select_candidates_in_gts
