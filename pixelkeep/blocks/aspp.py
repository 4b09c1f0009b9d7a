"""Atrous spatial pyramid pooling: convolutions of one map at several dilations, and its mean over the whole map.

Paper: L.-C. Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017, arXiv:1706.05587.

Formula: y = conv_1(concat(conv_1(x), conv_3 at each rate, up(conv_1(mean(x))))), with BatchNorm and ReLU after each.

Deviations: no BatchNorm on the mean, since one value per image gives no statistics in a small batch; no dropout.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .folding import Foldable
from .initial import FanOutConv2d


class DilatedConvNorm(Foldable):
    """Dilated convolution, BatchNorm and ReLU that keep height and width.

    Parameters: k**2 * in_channels * out_channels + 2 * out_channels.
    """

    folds = (("conv", "norm"),)

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, dilation: int = 1) -> None:
        super().__init__()
        padding = dilation * (kernel_size // 2)
        self.conv = FanOutConv2d(in_channels, out_channels, kernel_size, 1, padding, dilation, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) -> (N, out_channels, H, W)."""
        return F.relu(self.norm(self.conv(x)))


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, H, W).
    Parameters: with r rates, (2 + 9 * r) * in_channels * out_channels + (r + 2) * out_channels**2
    + (2 * r + 5) * out_channels.
    Errors: ValueError without rates, and for rates that are not positive integers.
    Source: Chen et al. 2017; rates 12, 24, 36 for maps of stride 8 and 6, 12, 18 for stride 16.
    """

    def __init__(self, in_channels: int, out_channels: int, rates: Sequence[int] = (12, 24, 36)) -> None:
        super().__init__()
        if not rates or not all(isinstance(rate, int) and rate > 0 for rate in rates):
            raise ValueError(f"ASPP: rates must be positive integers such as [12, 24, 36], got {rates!r}")
        branches = [DilatedConvNorm(in_channels, out_channels, 1)]
        branches += [DilatedConvNorm(in_channels, out_channels, 3, rate) for rate in rates]
        self.branches = nn.ModuleList(branches)
        self.whole = FanOutConv2d(in_channels, out_channels, 1)
        self.project = DilatedConvNorm((len(rates) + 2) * out_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) -> (N, out_channels, H, W)."""
        whole = F.relu(self.whole(x.mean((2, 3), keepdim=True))).expand(-1, -1, *x.shape[2:])
        return self.project(torch.cat([*(branch(x) for branch in self.branches), whole], 1))
