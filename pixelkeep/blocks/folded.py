"""Folded forms of SpaceToDepth and the convolution after it, for inference: strided convolutions, no rearrangement.

Paper: R. Sunkara, T. Luo, "No More Strided Convolutions or Pooling: A New CNN Building Block for
Low-Resolution Images and Small Objects", ECML PKDD 2022, arXiv:2208.03641, for the blocks that are folded.

Formulas: conv_k(SpaceToDepth(x)) equals one convolution with kernel 2k and stride 2 (`EvenConv2d`); conv_1 of a
concatenation equals the sum of one convolution for each of its parts (`ConcatConv2d`); two convolutions of the same
input equal one convolution with the outputs of both (`JointC3`). `pixelkeep.deploy` computes the weights.

Deviations: the papers do not fold; folding changes no output. These modules are for inference alone.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EvenConv2d(nn.Conv2d):
    """A convolution that first pads an odd height or width to an even one, as SpaceToDepth does.

    Shapes: with kernel 2k, stride 2 and padding k - 1 (k odd): (N, C, H, W) -> (N, O, ceil(H/2), ceil(W/2)).
    Odd sizes: one row of zeros is added at the bottom, one column at the right.
    Parameters: as `torch.nn.Conv2d`.
    Source: the identity in `pixelkeep.blocks.spdconv`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) -> (N, O, H', W')."""
        height, width = x.shape[2:]
        if height % 2 or width % 2:
            x = F.pad(x, (0, width % 2, 0, height % 2))  # (N, C, H + H % 2, W + W % 2)
        return super().forward(x)


class ConcatConv2d(nn.Module):
    """A convolution of a concatenation, computed as the sum of one convolution for each part, without concatenating.

    Shapes: parts of (N, C_i, H_i, W_i) -> (N, O, H, W), where every convolution gives the same shape.
    Parameters: those of its convolutions.
    Source: convolution is linear. A part that would go through SpaceToDepth has a strided convolution instead.
    """

    def __init__(self, convolutions: Iterable[nn.Conv2d]) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(convolutions)

    def forward(self, parts: list[Tensor]) -> Tensor:
        """Map the list of parts, (N, C_i, H_i, W_i) each, -> (N, O, H, W)."""
        first, *others = (conv(part) for conv, part in zip(self.convolutions, parts, strict=True))
        for other in others:
            first = first + other  # (N, O, H, W)
        return first


class JointC3(nn.Module):
    """Ultralytics' C3 with its first two convolutions computed as one, which reads their input only once.

    Shapes: the input of ``first`` -> the output of ``last``, (N, out_channels, H, W).
    Parameters: those of its parts.
    Source: y = last(concat(inner(act1(a)), act2(b))), where (a, b) are the halves of first(x).
    """

    def __init__(self, first: nn.Module, acts: Iterable[nn.Module], inner: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.first, self.acts, self.inner, self.last = first, nn.ModuleList(acts), inner, last

    def forward(self, x: Tensor | list[Tensor]) -> Tensor:
        """Map (N, C, 2H, 2W), or the parts of a concatenation, -> (N, out_channels, H, W)."""
        deep, direct = self.first(x).chunk(2, 1)  # 2 of (N, hidden, H, W)
        return self.last(torch.cat((self.inner(self.acts[0](deep)), self.acts[1](direct)), 1))
