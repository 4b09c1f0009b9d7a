"""Class branches of detection heads, whose width follows the classes of the network that they were first trained in.

Ultralytics makes them as wide as there are classes, counted up to 100, but at least as wide as the finest level's
channels. Weights that start a training on other classes bring branches of their own width, which the definition of the
new network does not show: an 80-class nano network that is trained further on four classes keeps 80 channels, while its
definition gives 64.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from copy import deepcopy

import torch
from torch import nn
from ultralytics.nn import tasks
from ultralytics.nn.modules import Detect
from ultralytics.utils.torch_utils import initialize_weights

BRANCHES = ("cv3", "one2one_cv3")
WIDEST = 100  # largest width in channels that follows from the number of classes, however many there are


def match_widths(network: nn.Module, definition: dict, channels: int, shapes: Mapping[str, list[int]]) -> None:
    """Give a head class branches of the widths of stored tensors, in place, where a definition can give these widths.

    Args:
        network: The network, built from its definition, on any device.
        definition: This definition.
        channels: Number of input channels.
        shapes: Shapes of the stored tensors, by tensor name.
    """
    for name, branches in _branches_of(network):
        for level, branch in enumerate(branches):
            stored = shapes.get(f"model.{len(network.model) - 1}.{name}.{level}.{len(branch) - 1}.weight", [])
            if len(stored) == 4 and branch[-1].in_channels != stored[1] <= WIDEST:
                wide = _branch(definition, channels, name, level, stored[1], branch[-1].out_channels)
                place = next(branches.parameters()).device
                branches[level] = wide.to_empty(device=place).train(branch.training)


def even_widths(network: nn.Module, definition: dict, channels: int, levels: Collection[int]) -> Counter[int]:
    """Make new class branches as wide as those of the other levels, in place.

    Ultralytics takes the width from the first level alone.

    Args:
        network: The network, with weights carried over.
        definition: The network's definition.
        channels: Number of input channels.
        levels: Indices of the levels whose class branches are new.

    Returns:
        The number of parameters added, for each level that changed.
    """
    more: Counter[int] = Counter()
    for name, branches in _branches_of(network):
        width = max(branch[-1].in_channels for branch in branches)
        for level in (level for level in levels if branches[level][-1].in_channels != width):
            former = branches[level]
            wide = _branch(definition, channels, name, level, width, former[-1].out_channels, device="cpu")
            with torch.no_grad():
                wide[-1].bias.copy_(former[-1].bias)  # the initial bias of a class score, for rare objects
            branches[level] = wide.train(former.training)
            more[level] += sum(p.numel() for p in wide.parameters()) - sum(p.numel() for p in former.parameters())
    return more


def _branches_of(network: nn.Module) -> list[tuple[str, nn.ModuleList]]:
    head = network.model[-1]
    found = [(name, getattr(head, name, None)) for name in BRANCHES] if isinstance(head, Detect) else []
    return [(name, branches) for name, branches in found if branches is not None]


def _branch(
    definition: dict, channels: int, name: str, level: int, width: int, classes: int, device: str = "meta"
) -> nn.Module:
    """Return a class branch as a network of ``width`` classes has it, but with ``classes`` outputs."""
    wide = tasks.BaseModel()
    with torch.device(device):
        wide.model, _ = tasks.parse_model(deepcopy(definition) | {"nc": width}, channels, False)
        branch = getattr(wide.model[-1], name)[level]
        branch[-1] = nn.Conv2d(branch[-1].in_channels, classes, 1)
    initialize_weights(branch)  # sets the constants of BatchNorm, as in every Ultralytics network
    return branch
