"""Class branches of detection heads, whose width follows the classes of the network that they were first trained in.

Ultralytics makes them as wide as there are classes, from the finest level's channels to 100. Weights that begin a
training on other classes bring branches of their own width, which the definition of the new network does not tell: an
80-class nano network that goes on with four classes keeps 80 channels where its definition says 64.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import nn
from ultralytics.nn import tasks
from ultralytics.nn.modules import Detect
from ultralytics.utils.torch_utils import initialize_weights

BRANCHES = ("cv3", "one2one_cv3")


def match_widths(network: nn.Module, definition: dict, channels: int, shapes: Mapping[str, list[int]]) -> None:
    """Give a head class branches of the width that stored tensors have, in place, where a definition can have it.

    Args:
        network: As its definition says, on any device.
        definition: The same.
        channels: Input channels.
        shapes: Of the stored tensors, by name.
    """
    head = network.model[-1]
    if not isinstance(head, Detect):
        return
    for name in (name for name in BRANCHES if getattr(head, name, None) is not None):
        branches = getattr(head, name)
        stored = shapes.get(f"model.{len(network.model) - 1}.{name}.0.{len(branches[0]) - 1}.weight", [])
        own = branches[0][-1].in_channels
        if len(stored) == 4 and stored[1] != own and own <= stored[1] <= 100:
            wide = _branches(definition, channels, name, stored[1], head.nc)
            initialize_weights(wide)  # constants of BatchNorm, as in every network of Ultralytics
            setattr(head, name, wide.to_empty(device=next(branches.parameters()).device).train(head.training))


def _branches(definition: dict, channels: int, name: str, width: int, classes: int) -> nn.ModuleList:
    """Return the branches of a network of as many classes as they are to be wide, but for the classes put out."""
    wide = tasks.BaseModel()
    with torch.device("meta"):
        wide.model, _ = tasks.parse_model(deepcopy(definition) | {"nc": width}, channels, False)
        branches = getattr(wide.model[-1], name)
        for branch in branches:
            branch[-1] = nn.Conv2d(branch[-1].in_channels, classes, 1)
    return branches
