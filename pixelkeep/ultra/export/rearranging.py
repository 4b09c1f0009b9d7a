"""SpaceToDepth as a convolution, for a format that does not support slices with a step."""

from __future__ import annotations

import torch
from torch import nn

from pixelkeep.blocks import SpaceToDepth

PHASES = ((0, 0), (1, 0), (0, 1), (1, 1))  # row and column offsets, in the order of SpaceToDepth's output


def as_convolutions(network: nn.Module, sides: list[int]) -> None:
    """Replace every SpaceToDepth of a network, in place, by a convolution that computes the same, bit for bit.

    Args:
        network: Network in evaluation mode.
        sides: Height and width of its images, for which the input of no SpaceToDepth has an odd side.
    """
    channels = _channels(network, sides)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if child in channels:
                made = convolution(channels[child])
                for key in ("i", "f", "type", "np"):  # attributes that Ultralytics sets on a row of the model
                    if hasattr(child, key):
                        setattr(made, key, getattr(child, key))
                setattr(parent, name, made)


def convolution(channels: int) -> nn.Conv2d:
    """Return a 2x2 convolution with stride 2, (N, C, H, W) -> (N, 4C, H/2, W/2), whose weights are 0 and 1."""
    made = nn.Conv2d(channels, 4 * channels, 2, 2, bias=False).requires_grad_(False)
    made.weight.zero_()
    for phase, (row, column) in enumerate(PHASES):
        made.weight[phase * channels : (phase + 1) * channels, :, row, column] = torch.eye(channels)
    return made


def _channels(network: nn.Module, sides: list[int]) -> dict[nn.Module, int]:
    """Return the number of input channels of each SpaceToDepth."""
    given: dict[nn.Module, int] = {}

    def note(layer: nn.Module, inputs: tuple) -> None:
        given[layer] = inputs[0].shape[1]

    hooks = [m.register_forward_pre_hook(note) for m in network.modules() if isinstance(m, SpaceToDepth)]
    if hooks:
        weight = next(network.parameters())
        shape = (1, network.yaml.get("channels", 3), *sides)
        with torch.no_grad():
            network(torch.zeros(shape, device=weight.device, dtype=weight.dtype))
    for hook in hooks:
        hook.remove()
    return given
