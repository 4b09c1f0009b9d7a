"""Residual blocks that run in two resolutions at once, with the same weights; regions.py explains the resolutions.

Source: R. Hesse, S. Schaub-Meyer, S. Roth, "Content-Adaptive Downsampling in Convolutional Neural Networks", CVPR
Workshops 2023, arXiv:2305.09504; K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016,
arXiv:1512.03385, with the stride in the first 3x3 convolution.

A layout has both resolutions or only one of them: `Single` is a dense network in either resolution, and the part for
the other resolution is None. `Parts` is the pair (fine, coarse).
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
    """A layout with one resolution everywhere: the dense fine stage, or the strided stage painted at the fine size."""

    pads = True

    def __init__(self, fine: bool, height: int, width: int) -> None:
        self.fine, self.height, self.width = fine, height, width

    def enter(self, x: Tensor, reach: int) -> Parts:
        """Return the map as the part of this layout's resolution, and None as the other part."""
        return (x, None) if self.fine else (None, x)

    def surround(self, fine: Tensor | None, coarse: Tensor | None, reach: int) -> Parts:
        """Return both parts as they are."""
        return fine, coarse

    def paint(self, fine: Tensor | None, coarse: Tensor | None) -> Tensor:
        """Return the map at the fine size: (N, C, H, W)."""
        if fine is not None:
            return fine
        return F.interpolate(coarse, scale_factor=2, mode="nearest")[..., : self.height, : self.width]


Layout = Single | Branches | Dense | Nodes


class MixedNorm(nn.BatchNorm2d):
    """A BatchNorm for two resolutions, which share scale and shift but not the statistics.

    In evaluation each resolution is normalised by its own statistics, so that with all regions fine, or all coarse, the
    stage is the network that was trained. ``running_mean`` and ``running_var`` belong to the fine resolution.
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
        """Reset the statistics of both resolutions, the scale and the shift."""
        super().reset_parameters()
        if self.zero:
            nn.init.zeros_(self.weight)
        if "coarse_mean" in self._buffers:
            self.coarse_mean.zero_()
            self.coarse_var.fill_(1)

    def forward(self, parts: Parts) -> Parts:
        """Normalise each part by its own statistics."""
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
    """A convolution that has the same weights for two resolutions, and BatchNorm.

    Shapes: (N, in_channels, H, W) and (N', in_channels, H', W'), either of which may be None -> out_channels.
    Parameters: k**2 * in_channels * out_channels + 2 * out_channels.
    """

    folds = (("conv", "norm"),)

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1, *, zero: bool = False) -> None:
        """Build the layers; with ``zero`` the scale of the BatchNorm starts at zero."""
        super().__init__()
        self.conv = FanOutConv2d(in_channels, out_channels, kernel_size, bias=False)
        self.coarse_conv: nn.Module = nn.Identity()  # the coarse part's own convolution, once the BatchNorm is folded
        self.norm = MixedNorm(out_channels, zero)

    def forward(self, parts: Parts, *, pads: bool = False, strided: bool = False, dilation: int = 1) -> Parts:
        """Convolve both parts.

        Args:
            parts: The fine and the coarse part. Unless ``pads``, the fine part includes the nodes around it.
            pads: Whether to pad the fine part with zeros.
            strided: Whether a map enters, so that both parts are convolved from the same pixels, at stride 1 and 2.
                Otherwise the points that the convolution reads are twice as many nodes apart in the fine part as in
                the coarse one, which is the same distance in pixels.
            dilation: Distance, in nodes, between the points that the convolution reads in the coarse part.
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
        """Fold the BatchNorm in place, into one convolution for each resolution, and return the block itself."""
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
    """Apply ReLU to both parts, in place because fresh memory for a large map takes longer than the arithmetic."""
    fine, coarse = (None if part is None else F.relu_(part) for part in parts)
    return fine, coarse


def add(parts: Parts, others: Parts) -> Parts:
    """Add ``others`` to ``parts``, resolution by resolution, in place."""
    fine, coarse = (None if a is None else a.add_(b) for a, b in zip(parts, others, strict=True))
    return fine, coarse


class MixedBlock(nn.Module):
    """A basic or bottleneck residual block in two resolutions.

    Shapes: a pair with in_channels -> a pair with out_channels and the same sizes.
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
        """Map parts with in_channels to parts with out_channels."""
        y = relu(self.reduce(x)) if self.reduce else x
        y = relu(spread(self.spatial, y, layout, self.dilation))
        y = spread(self.last, y, layout, self.dilation)
        return relu(add(y, self.shortcut(x) if self.shortcut else x))


class EntryBlock(nn.Module):
    """The residual block with the stride, which turns a map into its two resolutions.

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
        """Map (N, in_channels, H, W) to parts with out_channels."""
        shortcut = self.shortcut(layout.enter(x, 0), strided=True)
        y = layout.enter(self.reduce(x), 1)
        y = relu(self.spatial(y, pads=layout.pads, strided=True))
        return relu(add(spread(self.last, y, layout, self.dilation), shortcut))


def spread(layer: MixedConv, parts: Parts, layout: Layout, dilation: int) -> Parts:
    """Apply a layer to parts; a kernel larger than 1x1 also reads the nodes that lie around them."""
    if layer.conv.kernel_size[0] == 1:
        return layer(parts)
    return layer(layout.surround(*parts, dilation), pads=layout.pads, dilation=dilation)
