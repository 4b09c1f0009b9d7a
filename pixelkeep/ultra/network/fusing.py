"""Lets Ultralytics' ``model.fuse()`` fold pixelkeep's blocks as well: their BatchNorms first, then SpaceToDepth.

Prediction, validation and export all call ``model.fuse()``. Checkpoints are written unfused, so they stay trainable.
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
MARK = "by_pixelkeep"  # attribute of functions already extended; functools.wraps copies it to any further wrapper


def extend_fusing(model: type[nn.Module]) -> None:
    """Extend ``fuse`` and ``is_fused`` of Ultralytics' ``BaseModel``. Calling it twice changes nothing.

    ``fuse(fold=False)`` folds only the BatchNorms.
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
            from pixelkeep.ultra.network import folding  # its imports in turn import what is extended here

            folding.fold(fused, current())
        return fused

    @wraps(stock_is_fused)
    def is_fused(self: nn.Module, *args: Any, **kwargs: Any) -> bool:
        return stock_is_fused(self, *args, **kwargs) and not _unfused(self)

    setattr(fuse, MARK, True)
    model.fuse, model.is_fused = fuse, is_fused


def was_fused(model: nn.Module) -> bool:
    """Return whether a network's BatchNorms were folded: it can then neither be trained nor built from its YAML."""
    from ultralytics.nn.modules import Conv

    return model.is_fused() and any(isinstance(module, (Conv, Foldable)) for module in model.modules())


def _unfused(model: nn.Module) -> list[Foldable]:
    """Return the blocks whose BatchNorm can still be folded.

    A block whose convolution is trained for int8 keeps its BatchNorm, since the quantizer holds the range of the
    weights as they are.
    """
    blocks = [m for m in model.modules() if isinstance(m, Foldable) and not m.is_fused]
    return [m for m in blocks if not any(hasattr(child, "weight_quantizer") for child in m.children())]
