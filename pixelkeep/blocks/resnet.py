"""Residual stages whose downsampling is chosen by one word: strided convolution, SPD, SliceSamp or LIP.

Papers: K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385, with the stride in
the 3x3 convolution as torchvision has it; for the kinds of downsampling see spdconv.py, slicesamp.py and lip.py.

Formula: y = ReLU(main(x) + shortcut(x)). The main branch is conv_1, conv_3, conv_1 (bottleneck) or conv_3, conv_3
(basic), each with BatchNorm, all but the last with ReLU. The first block of a stage downsamples in its (first) 3x3
convolution and in its shortcut:

    conv          3x3 with stride 2; shortcut 1x1 with stride 2
    spd           3x3, SpaceToDepth, BatchNorm, ReLU, the last convolution on four times the channels; shortcut 1x1
                  with stride 2, which reads one pixel in four, as in the published code but against its paper
    spd-shortcut  as spd; shortcut SpaceToDepth and 1x1
    slicesamp     SliceSamp; shortcut SliceSamp
    lip           LIP and 1x1; shortcut LIP and 1x1; the two logit modules share their first layers

Deviations: all kinds have the same initial values (convolutions normal, fan out; the last BatchNorm of a block zero),
so that networks differ in their downsampling alone. The SliceSamp paper does not say which layers of a ResNet it
replaces; the table gives our reading. No basic block with LIP is published.
"""

from __future__ import annotations

from copy import deepcopy

import torch.nn.functional as F
from torch import Tensor, nn

from .folding import Foldable
from .initial import FanOutConv2d, ZeroBatchNorm2d
from .lip import LIPHead, LIPTrunk, bounded_lip
from .slicesamp import SliceSamp
from .space_to_depth import SpaceToDepth
from .spdconv import SPDConv

KINDS = ("bottleneck", "basic")
DOWNS = ("none", "conv", "spd", "spd-shortcut", "slicesamp", "lip")
_REARRANGE = SpaceToDepth()  # built here, since some checkpoints load where no module may be constructed


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"ResNetStage: {name} must be one of {', '.join(allowed)}, got {value!r}")
    return value


class ConvNorm(Foldable):
    """Convolution with padding k // 2, BatchNorm and, unless ``relu`` is false, ReLU.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)) for odd k.
    Parameters: k**2 * in_channels * out_channels + 2 * out_channels.
    """

    folds = (("conv", "norm"),)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        *,
        relu: bool = True,
        zero: bool = False,
    ) -> None:
        """Build the layers; with ``zero`` the scale of the BatchNorm starts at zero."""
        super().__init__()
        self.conv = FanOutConv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
        self.norm = (ZeroBatchNorm2d if zero else nn.BatchNorm2d)(out_channels)
        self.act = nn.ReLU() if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride))."""
        return self.act(self.norm(self.conv(x)))


class ConvSPDNorm(nn.Module):
    """3x3 convolution, SpaceToDepth, BatchNorm, ReLU: the published order inside a residual block.

    Shapes: (N, in_channels, H, W) -> (N, 4 * out_channels, ceil(H/2), ceil(W/2)).
    Parameters: 9 * in_channels * out_channels + 8 * out_channels.
    The BatchNorm scales each phase separately, so it cannot be folded into the convolution before it. Convolution,
    SpaceToDepth and BatchNorm together equal one 4x4 convolution with stride 2 and 4 * out_channels outputs, which
    holds the 3x3 kernel at four places. It would take 16/9 of the multiply-adds and save only one copy of the map, so
    the layers stay separate.
    Source: the code published with Sunkara & Luo 2022, arXiv:2208.03641.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = FanOutConv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.rearrange = SpaceToDepth()
        self.norm = nn.BatchNorm2d(4 * out_channels)

    def __setstate__(self, state: dict) -> None:
        """Restore a pickled state, including one pickled before the rearrangement was a module."""
        super().__setstate__(state)
        self._modules.setdefault("rearrange", deepcopy(_REARRANGE))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) -> (N, 4 * out_channels, ceil(H/2), ceil(W/2))."""
        return F.relu(self.norm(self.rearrange(self.conv(x))))


class ResidualBlock(nn.Module):
    """A basic or bottleneck block that downsamples within its own layers, or does not downsample.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, H, W); with downsampling, half the height and width, rounded up.
    Source: He et al. 2016; see the module's table.
    """

    def __init__(self, in_channels: int, out_channels: int, down: str = "none", kind: str = "bottleneck") -> None:
        """Build the layers; ``down`` is one of `DOWNS` except "lip", ``kind`` one of `KINDS`."""
        super().__init__()
        width, last = (out_channels // 4, 1) if kind == "bottleneck" else (out_channels, 3)
        reduce = [ConvNorm(in_channels, width)] if kind == "bottleneck" else []
        spatial = self._spatial(width if reduce else in_channels, width, down)
        channels = 4 * width if down.startswith("spd") else width
        self.main = nn.Sequential(*reduce, spatial, ConvNorm(channels, out_channels, last, relu=False, zero=True))
        self.shortcut = self._shortcut(in_channels, out_channels, down)

    @staticmethod
    def _spatial(in_channels: int, width: int, down: str) -> nn.Module:
        if down.startswith("spd"):
            return ConvSPDNorm(in_channels, width)
        if down == "slicesamp":
            return SliceSamp(in_channels, width)
        return ConvNorm(in_channels, width, 3, 2 if down == "conv" else 1)

    @staticmethod
    def _shortcut(in_channels: int, out_channels: int, down: str) -> nn.Module:
        if down == "none" and in_channels == out_channels:
            return nn.Identity()
        if down == "spd-shortcut":
            return SPDConv(in_channels, out_channels, 1, activation=None)
        if down == "slicesamp":
            return SliceSamp(in_channels, out_channels)
        return ConvNorm(in_channels, out_channels, 1, 1 if down == "none" else 2, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to the shape given in the class docstring."""
        return F.relu(self.main(x) + self.shortcut(x))


class LIPResidualBlock(nn.Module):
    """A basic or bottleneck block that pools by importance, in the main branch and in the shortcut.

    The trunk of the logit modules is computed once, from the block's input; each branch has its own head.
    Shapes: (N, in_channels, H, W) -> (N, out_channels, ceil(H/2), ceil(W/2)).
    Source: Gao et al. 2019 and its published code; the basic block is ours.
    """

    def __init__(self, in_channels: int, out_channels: int, kind: str = "bottleneck") -> None:
        """Build the layers; ``kind`` is one of `KINDS`."""
        super().__init__()
        width, last = (out_channels // 4, 1) if kind == "bottleneck" else (out_channels, 3)
        self.reduce = ConvNorm(in_channels, width) if kind == "bottleneck" else nn.Identity()
        channels = width if kind == "bottleneck" else in_channels
        self.trunk = LIPTrunk(in_channels)
        self.main_head = LIPHead(self.trunk.width, channels)
        self.main = nn.Sequential(ConvNorm(channels, width), ConvNorm(width, out_channels, last, relu=False, zero=True))
        self.shortcut_head = LIPHead(self.trunk.width, in_channels)
        self.shortcut = ConvNorm(in_channels, out_channels, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) -> (N, out_channels, ceil(H/2), ceil(W/2))."""
        features = self.trunk(x)  # (N, width, H, W)
        main = self.main(bounded_lip(self.reduce(x), self.main_head(features), 3))
        return F.relu(main + self.shortcut(bounded_lip(x, self.shortcut_head(features), 3)))


class ResNetStage(nn.Sequential):
    """Residual blocks, the first of which downsamples unless ``down`` is "none".

    Shapes: (N, in_channels, H, W) -> (N, out_channels, H, W); with downsampling, half the height and width, rounded up.
    Errors: ValueError for no blocks, an unknown ``down`` or ``kind``, or a bottleneck whose output channels are not a
    multiple of 4.
    Source: He et al. 2016; see the module's table.
    """

    def __init__(
        self, in_channels: int, out_channels: int, blocks: int = 1, down: str = "none", kind: str = "bottleneck"
    ) -> None:
        """Build ``blocks`` blocks; ``down`` and ``kind`` are words of the module's table."""
        _one_of("down", down, DOWNS)
        if _one_of("kind", kind, KINDS) == "bottleneck" and out_channels % 4:
            raise ValueError(f"ResNetStage: a bottleneck needs a multiple of 4 output channels, got {out_channels}")
        if not isinstance(blocks, int) or blocks < 1:
            raise ValueError(f"ResNetStage: blocks must be a positive integer, got {blocks!r}")
        if down == "lip":
            first: nn.Module = LIPResidualBlock(in_channels, out_channels, kind)
        else:
            first = ResidualBlock(in_channels, out_channels, down, kind)
        super().__init__(first, *(ResidualBlock(out_channels, out_channels, kind=kind) for _ in range(blocks - 1)))
