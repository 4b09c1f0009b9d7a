"""Dense blocks and the transitions between them, which downsample by average pooling or by LIP.

Papers: G. Huang et al., "Densely Connected Convolutional Networks", CVPR 2017, arXiv:1608.06993; for LIP see lip.py.

Formula: a layer computes conv_3(ReLU(BN(conv_1(ReLU(BN(x)))))) of the concatenation x of everything before it, and
its output is appended to the concatenation. A transition is pool(conv_1(ReLU(BN(x)))).

Deviations: an odd size is rounded up, whereas the published transition drops the last row or column. The convolution
that decides LIP's logits starts at zero, as in the LIP paper and its ResNet code; its DenseNet code does not do so.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .folding import Foldable
from .initial import FanOutConv2d
from .lip import BottleneckLIP

POOLS = ("average", "lip")
BOTTLENECK = 4  # channels between a layer's convolutions, in units of its growth


class DenseLayer(Foldable):
    """A dense layer, which appends ``growth`` new channels to its input.

    Shapes: (N, in_channels, H, W) -> (N, in_channels + growth, H, W).
    Parameters: with i input channels and growth g: 2*i + 4*i*g + 8*g + 36*g**2.
    Source: Huang et al. 2017 (DenseNet-B).
    """

    folds = (("reduce", "spatial_norm"),)  # not the other BatchNorm: it precedes its convolution, with a ReLU between

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.reduce_norm = nn.BatchNorm2d(in_channels)
        self.reduce = FanOutConv2d(in_channels, BOTTLENECK * growth, 1, bias=False)
        self.spatial_norm = nn.BatchNorm2d(BOTTLENECK * growth)
        self.spatial = FanOutConv2d(BOTTLENECK * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) -> (N, in_channels + growth, H, W)."""
        new = self.reduce(F.relu(self.reduce_norm(x)))
        new = self.spatial(F.relu(self.spatial_norm(new)))
        return torch.cat((x, new), 1)


class DenseBlock(nn.Sequential):
    """Dense layers that each add the same number of channels and together turn ``in_channels`` into ``out_channels``.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, H, W).
    Errors: ValueError where the number of channels to add is not a positive multiple of the number of layers.
    Source: Huang et al. 2017.
    """

    def __init__(self, in_channels: int, out_channels: int, layers: int) -> None:
        added = out_channels - in_channels
        if not isinstance(layers, int) or layers < 1 or added <= 0 or added % layers:
            raise ValueError(f"DenseBlock: {layers!r} layers cannot add {added} channels in equal parts")
        growth = added // layers
        super().__init__(*(DenseLayer(in_channels + growth * k, growth) for k in range(layers)))


class DenseTransition(nn.Module):
    """BatchNorm, ReLU, 1x1 convolution and pooling by two: average pooling, or LIP over windows of 2x2.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, ceil(H/2), ceil(W/2)).
    Parameters: 2 * in_channels + in_channels * out_channels, and those of the pooling.
    Errors: ValueError for an unknown pooling.
    Source: Huang et al. 2017; with LIP, Gao et al. 2019 and its published code.
    """

    def __init__(self, in_channels: int, out_channels: int, pool: str = "average") -> None:
        """Build the layers; ``pool`` is one of `POOLS`."""
        super().__init__()
        if pool not in POOLS:
            raise ValueError(f"DenseTransition: pool must be one of {', '.join(POOLS)}, got {pool!r}")
        self.norm = nn.BatchNorm2d(in_channels)
        self.conv = FanOutConv2d(in_channels, out_channels, 1, bias=False)
        average = nn.AvgPool2d(2, ceil_mode=True)
        self.pool = average if pool == "average" else BottleneckLIP(out_channels, kernel_size=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) -> (N, out_channels, ceil(H/2), ceil(W/2))."""
        return self.pool(self.conv(F.relu(self.norm(x))))
