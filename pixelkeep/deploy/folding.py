"""Fold modules for inference: SpaceToDepth and the convolution after it become one strided convolution.

Every function returns a new module that computes the same without gradient, and leaves its arguments unchanged. A
BatchNorm between convolution and activation is no obstacle: it stays, or has been folded into the convolution before.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pixelkeep.blocks import SpaceToDepth, SPDConv
from pixelkeep.blocks.folded import ConcatConv2d, EvenConv2d

from .kernels import Kernel, to_strided, trimmed


def fold_sliced(conv: nn.Conv2d) -> nn.Conv2d:
    """Return the strided convolution that equals SpaceToDepth followed by ``conv``, for every input size.

    Raises:
        ValueError: ``conv`` has groups, is dilated, or is not square.
    """
    if conv.groups != 1:
        raise ValueError(f"a convolution with groups takes SpaceToDepth's channels in another order, got {conv}")
    return _module(trimmed(to_strided(Kernel.of(conv))), conv.bias)


def fold_concat(conv: nn.Conv2d, widths: Sequence[int], sliced: Sequence[bool]) -> ConcatConv2d:
    """Return a module that equals ``conv`` of a concatenation, some parts of which go through SpaceToDepth first.

    Args:
        conv: Convolution of the concatenated channels.
        widths: Number of channels of each part, after SpaceToDepth.
        sliced: Whether each part goes through SpaceToDepth.

    Returns:
        A module that takes the list of the parts as they are before SpaceToDepth.

    Raises:
        ValueError: The widths do not add up to the input channels, or ``conv`` cannot be folded.
    """
    if sum(widths) != conv.in_channels or conv.groups != 1:
        raise ValueError(f"parts of {list(widths)} channels are not the input of {conv}")
    kernel, convolutions = Kernel.of(conv), []
    for index, (weight, slices) in enumerate(zip(kernel.weight.split(list(widths), 1), sliced, strict=True)):
        part = Kernel(weight.contiguous(), kernel.stride, kernel.padding)
        bias = conv.bias if index == 0 else None  # the outputs are summed, so only one part has the bias
        convolutions.append(_module(trimmed(to_strided(part)) if slices else part, bias, even=slices))
    return ConcatConv2d(convolutions)


def joined(first: nn.Conv2d, second: nn.Conv2d) -> nn.Conv2d:
    """Return one convolution with the outputs of two that read the same input, those of ``first`` coming first.

    Raises:
        ValueError: The two convolutions differ in more than their weights and output channels, or have groups.
    """
    a, b = Kernel.of(first), Kernel.of(second)
    same = (a.weight.shape[1:], a.stride, a.padding, 1) == (b.weight.shape[1:], b.stride, b.padding, a.groups)
    if not same or (first.bias is None) != (second.bias is None) or b.groups != 1:
        raise ValueError(f"only convolutions of the same form become one, got {first} and {second}")
    bias = None if first.bias is None else torch.cat((first.bias, second.bias))
    return _module(Kernel(torch.cat((a.weight, b.weight)), a.stride, a.padding), bias, even=False)


def fold_spdconv(block: SPDConv) -> None:
    """Fold an SPDConv in place: its convolution becomes strided, and its SpaceToDepth is removed."""
    if isinstance(block.rearrange, SpaceToDepth):
        block.conv = fold_sliced(block.conv)
        block.rearrange = nn.Identity()


def _module(kernel: Kernel, bias: Tensor | None, even: bool = True) -> nn.Conv2d:
    """Return a module with this kernel; ``even`` says that it replaces SpaceToDepth, which pads odd sizes."""
    out_channels, channels = kernel.weight.shape[:2]
    kind = EvenConv2d if even and not kernel.keeps_shape else nn.Conv2d
    conv = kind(
        channels, out_channels, kernel.size, kernel.stride, kernel.padding, bias=bias is not None, device="meta"
    )
    conv.weight = nn.Parameter(kernel.weight, requires_grad=False)
    if bias is not None:
        conv.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return conv
