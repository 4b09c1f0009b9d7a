"""Residual blocks that run in two resolutions at once, with the same weights; see regions.py for what that means.

Source: R. Hesse, S. Schaub-Meyer, S. Roth, "Content-Adaptive Downsampling in Convolutional Neural Networks", CVPR
Workshops 2023, arXiv:2305.09504; K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016,
arXiv:1512.03385, with the stride in the first 3x3 convolution.

A layout has two resolutions, or one of them: `Single` is a dense network of either, and the other part is None.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from .folding import Foldable
from .initial import FanOutConv2d
from .regions import Branches, Dense, Nodes
from .resnet import ConvNorm

Parts = tuple[Tensor | None, Tensor | None]


class Single:
    """One resolution everywhere: the dense fine stage, or the strided one, painted at the fine one's size."""

    pads = True

    def __init__(self, fine: bool, height: int, width: int) -> None:
        self.fine, self.height, self.width = fine, height, width

    def enter(self, x: Tensor, reach: int) -> Parts:
        """Return the map for one of the two."""
        return (x, None) if self.fine else (None, x)

    def surround(self, fine: Tensor | None, coarse: Tensor | None, reach: int) -> Parts:
        """Return both as they are."""
        return fine, coarse

    def paint(self, fine: Tensor | None, coarse: Tensor | None) -> Tensor:
        """Return the map: (N, C, H, W)."""
        if fine is not None:
            return fine
        return F.interpolate(coarse, scale_factor=2, mode="nearest")[..., : self.height, : self.width]


Layout = Single | Branches | Dense | Nodes


class MixedNorm(nn.BatchNorm2d):
    """A BatchNorm of two resolutions: scale and shift are shared, the statistics are not.

    In evaluation each resolution is normalised by its own statistics, so that either limit is the network that was
    trained. ``running_mean`` and ``running_var`` are the fine one's.
    Shapes: (N, C, H, W) and (N', C, H', W'), either of which may be None -> the same.
    Parameters: 2 * channels.
    """

    def __init__(self, channels: int, zero: bool = False) -> None:
        """Build the layer; with ``zero`` the scale starts at zero, and a trainer's reset keeps it so."""
        self.zero = zero
        super().__init__(channels)
        self.register_buffer("coarse_mean", torch.zeros(channels))
        self.register_buffer("coarse_var", torch.ones(channels))

    def reset_parameters(self) -> None:
        """Reset both statistics, scale and shift."""
        super().reset_parameters()
        if self.zero:
            nn.init.zeros_(self.weight)
        if "coarse_mean" in self._buffers:
            self.coarse_mean.zero_()
            self.coarse_var.fill_(1)

    def forward(self, parts: Parts) -> Parts:
        """Normalise both."""
        fine, coarse = parts
        return (
            self._normalised(fine, self.running_mean, self.running_var),
            self._normalised(coarse, self.coarse_mean, self.coarse_var),
        )

    def _normalised(self, x: Tensor | None, mean: Tensor, var: Tensor) -> Tensor | None:
        if x is None:
            return None
        return F.batch_norm(x, mean, var, self.weight, self.bias, self.training, self.momentum, self.eps)


class MixedConv(Foldable):
    """A convolution of two resolutions with the same weights, and BatchNorm.

    Shapes: (N, in_channels, H, W) and (N', in_channels, H', W'), either of which may be None -> out_channels.
    Parameters: k**2 * in_channels * out_channels + 2 * out_channels.
    """

    folds = (("conv", "norm"),)

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1, *, zero: bool = False) -> None:
        """Build the layers; with ``zero`` the scale of the BatchNorm starts at zero."""
        super().__init__()
        self.conv = FanOutConv2d(in_channels, out_channels, kernel_size, bias=False)
        self.coarse_conv: nn.Module = nn.Identity()  # the coarse one's own, once the BatchNorm is folded
        self.norm = MixedNorm(out_channels, zero)

    def forward(self, parts: Parts, *, pads: bool = False, strided: bool = False, dilation: int = 1) -> Parts:
        """Convolve both.

        Args:
            parts: The fine one with what lies around it, unless ``pads``.
            pads: Whether to pad the fine one with zeros.
            strided: Whether a map enters: the same pixels, at stride 1 and 2. Else the fine one's points are twice as
                many nodes apart as the coarse one's, which is as many pixels.
            dilation: Nodes between the coarse one's points.
        """
        fine, coarse = parts
        padding = dilation * (self.conv.kernel_size[0] // 2)
        if fine is not None:
            apart = 1 if strided else 2
            fine = F.conv2d(fine, self.conv.weight, self.conv.bias, 1, apart * padding * pads, apart * dilation)
        if coarse is not None:
            conv = self.coarse_conv if self.is_fused else self.conv
            coarse = F.conv2d(coarse, conv.weight, conv.bias, 2 if strided else 1, padding, dilation)
        return self.norm((fine, coarse))

    def fuse(self) -> MixedConv:
        """Fold in place, into one convolution for each resolution."""
        if self.is_fused:
            return self
        norm, affine = self.norm, (self.norm.eps, self.norm.weight, self.norm.bias)
        fine = fuse_conv_bn_weights(self.conv.weight, None, norm.running_mean, norm.running_var, *affine)
        coarse = fuse_conv_bn_weights(self.conv.weight, None, norm.coarse_mean, norm.coarse_var, *affine)
        self.coarse_conv = nn.Conv2d(self.conv.in_channels, self.conv.out_channels, self.conv.kernel_size)
        self.conv.weight, self.conv.bias = fine
        self.coarse_conv.weight, self.coarse_conv.bias = coarse
        self.norm = nn.Identity()
        self.requires_grad_(False)
        return self


def relu(parts: Parts) -> Parts:
    """Apply ReLU to both in place: for a large map, fresh memory takes longer than the arithmetic."""
    fine, coarse = (None if part is None else F.relu_(part) for part in parts)
    return fine, coarse


def add(parts: Parts, others: Parts) -> Parts:
    """Add the others to both, in place."""
    fine, coarse = (None if a is None else a.add_(b) for a, b in zip(parts, others, strict=True))
    return fine, coarse


class MixedBlock(nn.Module):
    """A basic or bottleneck residual block in two resolutions.

    Shapes: a pair with in_channels -> a pair with out_channels, of the same sizes.
    """

    def __init__(self, in_channels: int, out_channels: int, kind: str, dilation: int) -> None:
        """Build the layers; ``dilation`` is that of the 3x3 convolutions, in coarse nodes."""
        super().__init__()
        width = out_channels // 4 if kind == "bottleneck" else out_channels
        self.dilation = dilation
        self.reduce = MixedConv(in_channels, width) if kind == "bottleneck" else None
        self.spatial = MixedConv(width if self.reduce else in_channels, width, 3)
        self.last = MixedConv(width, out_channels, 1 if self.reduce else 3, zero=True)
        self.shortcut = MixedConv(in_channels, out_channels) if in_channels != out_channels else None

    def forward(self, x: Parts, layout: Layout) -> Parts:
        """Map parts to parts."""
        y = relu(self.reduce(x)) if self.reduce else x
        y = relu(spread(self.spatial, y, layout, self.dilation))
        y = spread(self.last, y, layout, self.dilation)
        return relu(add(y, self.shortcut(x) if self.shortcut else x))


class EntryBlock(nn.Module):
    """The residual block with the stride, where a map enters the two resolutions.

    Before the stride everything is fine, so a bottleneck's first convolution runs once, everywhere.
    Shapes: (N, in_channels, H, W) -> a pair with out_channels.
    """

    def __init__(self, in_channels: int, out_channels: int, kind: str, dilation: int) -> None:
        """Build the layers; ``dilation`` is that of the 3x3 convolutions after the stride, in coarse nodes."""
        super().__init__()
        width = out_channels // 4 if kind == "bottleneck" else out_channels
        self.dilation = dilation
        self.reduce = ConvNorm(in_channels, width) if kind == "bottleneck" else nn.Identity()
        self.spatial = MixedConv(width if kind == "bottleneck" else in_channels, width, 3)
        self.last = MixedConv(width, out_channels, 1 if kind == "bottleneck" else 3, zero=True)
        self.shortcut = MixedConv(in_channels, out_channels)

    def forward(self, x: Tensor, layout: Layout) -> Parts:
        """Map a map to parts."""
        shortcut = self.shortcut(layout.enter(x, 0), strided=True)
        y = layout.enter(self.reduce(x), 1)
        y = relu(self.spatial(y, pads=layout.pads, strided=True))
        return relu(add(spread(self.last, y, layout, self.dilation), shortcut))


def spread(layer: MixedConv, parts: Parts, layout: Layout, dilation: int) -> Parts:
    """Convolve parts together with what lies around them."""
    if layer.conv.kernel_size[0] == 1:
        return layer(parts)
    return layer(layout.surround(*parts, dilation), pads=layout.pads, dilation=dilation)
