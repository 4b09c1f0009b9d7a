"""Class branches of detection heads, whose width follows the classes of the network that they were first trained in.

Ultralytics makes them as wide as there are classes, from the finest level's channels to 100. Weights that begin a
training on other classes bring branches of their own width, which the definition of the new network does not tell: an
80-class nano network that goes on with four classes keeps 80 channels where its definition says 64.
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
WIDEST = 100  # however many classes there are


def match_widths(network: nn.Module, definition: dict, channels: int, shapes: Mapping[str, list[int]]) -> None:
    """Give a head class branches of the widths that stored tensors have, in place, where a definition can have them.

    Args:
        network: As its definition says, on any device.
        definition: The same.
        channels: Input channels.
        shapes: Of the stored tensors, by name.
    """
    for name, branches in _branches_of(network):
        for level, branch in enumerate(branches):
            stored = shapes.get(f"model.{len(network.model) - 1}.{name}.{level}.{len(branch) - 1}.weight", [])
            if len(stored) == 4 and branch[-1].in_channels != stored[1] <= WIDEST:
                wide = _branch(definition, channels, name, level, stored[1], branch[-1].out_channels)
                place = next(branches.parameters()).device
                branches[level] = wide.to_empty(device=place).train(branch.training)


def even_widths(network: nn.Module, definition: dict, channels: int, levels: Collection[int]) -> Counter[int]:
    """Make new class branches as wide as those of the other levels, in place: Ultralytics looks at the first alone.

    Args:
        network: With weights carried over.
        definition: Its definition.
        channels: Input channels.
        levels: Those whose class branches are new.

    Returns:
        For each level that changed how many parameters it has more.
    """
    more: Counter[int] = Counter()
    for name, branches in _branches_of(network):
        width = max(branch[-1].in_channels for branch in branches)
        for level in (level for level in levels if branches[level][-1].in_channels != width):
            former = branches[level]
            wide = _branch(definition, channels, name, level, width, former[-1].out_channels, device="cpu")
            with torch.no_grad():
                wide[-1].bias.copy_(former[-1].bias)  # that of a rare object
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
    """Return the branch of a network of as many classes as it is to be wide, but for the classes put out."""
    wide = tasks.BaseModel()
    with torch.device(device):
        wide.model, _ = tasks.parse_model(deepcopy(definition) | {"nc": width}, channels, False)
        branch = getattr(wide.model[-1], name)[level]
        branch[-1] = nn.Conv2d(branch[-1].in_channels, classes, 1)
    initialize_weights(branch)  # constants of BatchNorm, as in every network of Ultralytics
    return branch
