"""LIP: local importance-based pooling, an average whose weights the network learns.

Paper: Z. Gao, L. Wang, G. Wu, "LIP: Local Importance-based Pooling", ICCV 2019, arXiv:1908.04156.

Formula: y = sum(x * exp(l)) / sum(exp(l)) over each window, with a logit l for every value of x. Cells outside the
map take no part. Constant logits give average pooling; logits that grow with x approach max pooling as they are
scaled up. The modules bound their logits, l = 12 * sigmoid(z), and the convolution before z starts at zero, so a new
module is average pooling.

Deviations: the weights are computed in float32 at least, since exp(12) is beyond float16; a map of one cell, whose
variance is zero, is normalised to zero instead of being refused; odd sizes are rounded up for even kernels as well.
`LIP`, the block for detectors, narrows the logit module where there are few channels (the paper's 128 channels suit a
ResNet, and would cost more than the whole of a small detector), and adds the 1x1 convolution that follows a LIP in
the paper's networks.

How it is computed: the modules pool two maps, weights times values and weights. Concatenating the two maps and pooling
once takes longer, because of the copy. `lip`, whose logits are not bounded, subtracts the highest logit of each window
first, which takes several times as long. Instance normalisation runs as group normalisation with one channel per
group: this is the same function, faster, and it keeps channels_last. `benchmarks/pooling.py` measures the speed.
"""

from __future__ import annotations

from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .folding import Foldable
from .initial import FanOutConv2d, ZeroConv2d

GATE = 12.0  # the highest logit of the modules: one weight is at most exp(12) times another
WIDTH = 128  # channels inside the paper's bottleneck logit module


def _window(kernel_size: int) -> int:
    """Return ``kernel_size``; raise ValueError unless it is an integer of at least 2."""
    if not isinstance(kernel_size, int) or kernel_size < 2:
        raise ValueError(f"LIP: kernel_size must be an integer of at least 2, got {kernel_size!r}")
    return kernel_size


def lip(x: Tensor, logit: Tensor, kernel_size: int = 3) -> Tensor:
    """Pool by importance, stride 2: (N, C, H, W) and logits of that shape -> (N, C, ceil(H/2), ceil(W/2)).

    The logits may have any finite values: only their differences within a window count. The windows are those of
    padding (kernel_size - 1) // 2, with one more row and column at the bottom and right where an even kernel needs it.
    Raises ValueError for a kernel size below 2.
    """
    before = (_window(kernel_size) - 1) // 2
    height, width = x.shape[2:]
    rows, columns = (height + 1) // 2, (width + 1) // 2
    dtype = torch.promote_types(x.dtype, torch.float32)
    # The last window ends at 2 * (n - 1) - before + kernel_size.
    after = [2 * (n - 1) + kernel_size - before - size for n, size in ((columns, width), (rows, height))]
    padding = (before, after[0], before, after[1])
    values = F.pad(x.to(dtype), padding)
    logits = F.pad(logit.to(dtype), padding, value=-torch.inf)
    offsets = [(i, j) for i in range(kernel_size) for j in range(kernel_size)]

    def cells(padded: Tensor, i: int, j: int) -> Tensor:
        return padded[:, :, i : i + 2 * rows - 1 : 2, j : j + 2 * columns - 1 : 2]  # (N, C, rows, columns)

    highest = F.max_pool2d(logits.detach(), kernel_size, 2)  # (N, C, rows, columns); cancels out, so needs no gradient
    total, norm = torch.zeros_like(highest), torch.zeros_like(highest)
    for i, j in offsets:
        weight = torch.exp(cells(logits, i, j) - highest)
        total, norm = total + weight * cells(values, i, j), norm + weight
    return (total / norm).to(x.dtype)


def bounded_lip(x: Tensor, logit: Tensor, kernel_size: int) -> Tensor:
    """Compute what `lip` returns, faster, for logits from 0 to `GATE`."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    weight = torch.exp(logit.to(dtype))  # (N, C, H, W)
    maps = x.to(dtype) * weight, weight
    height, width = x.shape[2:]
    if kernel_size % 2 == 0 and (height % 2 or width % 2):
        maps = [F.pad(m, (0, width % 2, 0, height % 2)) for m in maps]  # weight 0: takes no part
    # Both averages divide by the full window area, zeros outside the map included, so the area cancels.
    total, norm = (F.avg_pool2d(m, kernel_size, 2, (kernel_size - 1) // 2) for m in maps)
    return (total / norm).to(x.dtype)  # (N, C, ceil(H/2), ceil(W/2))


def gate(z: Tensor) -> Tensor:
    """Bound any ``z`` to logits from 0 to `GATE` of the same shape, in float32 at least."""
    return GATE * torch.sigmoid(z.to(torch.promote_types(z.dtype, torch.float32)))


class InstanceNorm(nn.GroupNorm):
    """Normalise each channel of each image to mean 0 and variance 1, then scale and shift it.

    Shapes: (N, C, H, W) -> (N, C, H, W), for any H and W; a map of one cell becomes the shift, up to rounding.
    Parameters: 2 * channels; none with ``affine=False``, which leaves out scale and shift.
    Source: D. Ulyanov et al., 2016, arXiv:1607.08022.
    """

    def __init__(self, channels: int, affine: bool = True) -> None:
        super().__init__(channels, channels, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        # torch.nn.functional.group_norm refuses to normalise a single value.
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class LIPTrunk(nn.Module):
    """The first layers of a bottleneck logit module, which the branches of a residual block share.

    Formula: ReLU(IN(conv_3(ReLU(IN(conv_1(x)))))).
    Shapes: (N, in_channels, H, W) -> (N, width, H, W).
    Parameters: in_channels * width + 9 * width**2 + 4 * width.
    Source: Gao et al. 2019, the published code.
    """

    def __init__(self, in_channels: int, width: int = WIDTH) -> None:
        super().__init__()
        self.width = width
        self.reduce = FanOutConv2d(in_channels, width, 1, bias=False)
        self.reduce_norm = InstanceNorm(width)
        self.spatial = FanOutConv2d(width, width, 3, padding=1, bias=False)
        self.spatial_norm = InstanceNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) -> (N, width, H, W)."""
        x = F.relu(self.reduce_norm(self.reduce(x)))
        return F.relu(self.spatial_norm(self.spatial(x)))


class LIPHead(nn.Module):
    """The last layers of a bottleneck logit module, which map the features of a trunk to logits.

    Formula: 12 * sigmoid(IN(conv_1(features))), where the convolution starts at zero.
    Shapes: (N, width, H, W) -> (N, channels, H, W), in float32 at least.
    Parameters: width * channels + 2 * channels.
    Source: Gao et al. 2019, the published code.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.conv = ZeroConv2d(width, channels, 1, bias=False)
        self.norm = InstanceNorm(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, width, H, W) -> (N, channels, H, W)."""
        return gate(self.norm(self.conv(features)))


class SimplifiedLIP(nn.Module):
    """Pool by importance, stride 2, with logits from one 3x3 convolution.

    Shapes: (N, channels, H, W) -> (N, channels, ceil(H/2), ceil(W/2)).
    Parameters: 9 * channels**2 + 2 * channels.
    Errors: ValueError for a kernel size below 2.
    Source: Gao et al. 2019 (called "simplified", and once "projection" in its code).
    """

    def __init__(self, channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.kernel_size = _window(kernel_size)
        self.conv = ZeroConv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = InstanceNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) -> (N, channels, ceil(H/2), ceil(W/2))."""
        return bounded_lip(x, gate(self.norm(self.conv(x))), self.kernel_size)


class BottleneckLIP(nn.Module):
    """Pool by importance, stride 2, with logits from a bottleneck of three convolutions.

    Shapes: (N, channels, H, W) -> (N, channels, ceil(H/2), ceil(W/2)).
    Parameters: 2 * channels * width + 9 * width**2 + 4 * width + 2 * channels.
    Errors: ValueError for a kernel size below 2.
    Source: Gao et al. 2019; 128 is the published width.
    """

    def __init__(self, channels: int, kernel_size: int = 3, width: int = WIDTH) -> None:
        super().__init__()
        self.kernel_size = _window(kernel_size)
        self.trunk = LIPTrunk(channels, width)
        self.head = LIPHead(width, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) -> (N, channels, ceil(H/2), ceil(W/2))."""
        return bounded_lip(x, self.head(self.trunk(x)), self.kernel_size)


class LIP(Foldable):
    """Downsample by two: bottleneck LIP, 1x1 convolution, BatchNorm, activation.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, ceil(H/2), ceil(W/2)).
    Parameters: with i input, o output channels and width w: 2*i*w + 9*w**2 + 4*w + 2*i + i*o + 2*o, besides those
    of the activation.
    Errors: ValueError for a kernel size below 2.
    Source: Gao et al. 2019: the replacement for a strided 3x3 convolution in its ResNets. The width is ours.
    """

    folds = (("conv", "norm"),)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        width: int | None = None,
        *,
        activation: nn.Module | None = nn.SiLU(),
    ) -> None:
        """Build the layers.

        ``width`` is that of the logit module; by default, half of the input channels and at most 128. ``activation``
        is copied, so that blocks share no state; None leaves it out.
        """
        super().__init__()
        width = min(WIDTH, max(1, in_channels // 2)) if width is None else width
        self.pool = BottleneckLIP(in_channels, kernel_size, width)
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.act = nn.Identity() if activation is None else deepcopy(activation)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) -> (N, out_channels, ceil(H/2), ceil(W/2))."""
        return self.act(self.norm(self.conv(self.pool(x))))
