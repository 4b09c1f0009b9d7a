"""Lets Ultralytics' ``model.fuse()`` fold our blocks as well: their BatchNorms, then SpaceToDepth.

Predicting, validating and exporting all go through it. A checkpoint is written before, and stays trainable.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import torch
from torch import nn

from pixelkeep.blocks import folded
from pixelkeep.blocks.folding import Foldable
from pixelkeep.ultra.network.choosing import current

FUSED = "fused for inference; give the checkpoint that training wrote"  # why weights cannot be used
MARK = "by_pixelkeep"  # on what is extended already; functools.wraps hands it on to whoever wraps it again


def extend_fusing(model: type[nn.Module]) -> None:
    """Extend ``fuse`` and ``is_fused`` of Ultralytics' ``BaseModel``. Calling it twice changes nothing.

    ``fuse(fold=False)`` folds the BatchNorms alone.
    """
    if hasattr(model.fuse, MARK):
        return
    stock_fuse, stock_is_fused = model.fuse, model.is_fused
    torch.serialization.add_safe_globals([folded.EvenConv2d, folded.ConcatConv2d, folded.JointC3])

    @wraps(stock_fuse)
    def fuse(self: nn.Module, *args: Any, fold: bool = True, **kwargs: Any) -> nn.Module:
        for block in _unfused(self):
            block.fuse()
        fused = stock_fuse(self, *args, **kwargs)
        if fold:
            from pixelkeep.ultra.network import folding  # which imports the modules that import what is extended here

            folding.fold(fused, current())
        return fused

    @wraps(stock_is_fused)
    def is_fused(self: nn.Module, *args: Any, **kwargs: Any) -> bool:
        return stock_is_fused(self, *args, **kwargs) and not _unfused(self)

    setattr(fuse, MARK, True)
    model.fuse, model.is_fused = fuse, is_fused


def was_fused(model: nn.Module) -> bool:
    """Whether a network had BatchNorms that are folded now: it cannot be trained, nor built from its definition."""
    from ultralytics.nn.modules import Conv

    return model.is_fused() and any(isinstance(module, (Conv, Foldable)) for module in model.modules())


def _unfused(model: nn.Module) -> list[Foldable]:
    """Return the blocks that still can be folded.

    Where a convolution is trained for int8, its quantizer holds the range of the weights as they are: its block
    keeps its BatchNorm.
    """
    blocks = [m for m in model.modules() if isinstance(m, Foldable) and not m.is_fused]
    return [m for m in blocks if not any(hasattr(child, "weight_quantizer") for child in m.children())]
