"""Rewrite strided convolutions as SpaceToDepth and a convolution, and back: the same weights in other places.

SpaceToDepth moves pixel (2i + row, 2j + column) of channel c to cell (i, j) of channel (2 * column + row) * C + c. So
a convolution of the cells with kernel k, stride s and padding q equals a convolution of the pixels with kernel 2k,
stride 2s and padding 2q, whose weight is

    W[:, c, 2u + row, 2v + column] = w[:, (2 * column + row) * C + c, u, v]

Conversely, every convolution of the pixels whose kernel lies inside those 2k x 2k pixels equals a convolution of the
cells, with zeros in the places that the kernel does not reach. A 3x3 kernel with padding 1 lies in rows and columns 1
to 3 of the 6x6.

Groups: the channels of one group must be adjacent, but SpaceToDepth puts the C channels of each phase next to each
other. A grouped convolution of the cells therefore takes the channels in group-major order (`group_major`): all four
phases of the first group, then those of the second, and so on. `dense` gives the equivalent convolution without groups,
which takes the channels in the order of SpaceToDepth. Biases are the same on both sides.

Sizes: all of this holds for even heights and widths, and for odd ones once a row or column of zeros is added, as
SpaceToDepth does. Without that row, a strided convolution with kernel 2p + 1 and padding p gives the same output, and
one with kernel 2p + 2 gives one row fewer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Kernel:
    """A square convolution without its bias.

    Attributes:
        weight: Weight (out_channels, in_channels / groups, k, k).
        stride: Stride in pixels, or in cells for a convolution after SpaceToDepth.
        padding: Number of zeros added on every side, in the same unit.
        groups: Number of groups of channels.
    """

    weight: Tensor
    stride: int
    padding: int
    groups: int = 1

    @classmethod
    def of(cls, conv: nn.Conv2d) -> Kernel:
        """Return the kernel of a convolution module.

        Raises:
            ValueError: The convolution is not square, is dilated, or is padded with anything but zeros.
        """
        height, width = conv.kernel_size
        same = height == width and conv.stride[0] == conv.stride[1]
        if not same or isinstance(conv.padding, str) or conv.padding[0] != conv.padding[1]:
            raise ValueError(f"the kernel, stride and padding must be square, got {conv}")
        if conv.dilation != (1, 1) or conv.padding_mode != "zeros":
            raise ValueError(f"the kernel must not be dilated, and its padding must be zeros, got {conv}")
        return cls(conv.weight.detach(), conv.stride[0], conv.padding[0], conv.groups)

    @property
    def size(self) -> int:
        """The side of the kernel."""
        return self.weight.shape[-1]

    @property
    def keeps_shape(self) -> bool:
        """Whether an input of odd size gives the same output shape with a row of zeros added as without."""
        return (self.size - 2 * self.padding) % 2 == 1


def to_strided(cells: Kernel) -> Kernel:
    """Return the convolution of the pixels that equals SpaceToDepth followed by ``cells``.

    Args:
        cells: Convolution of the 4C channels; with groups, it takes them in group-major order.

    Raises:
        ValueError: The number of input channels is not a multiple of 4.
    """
    out_channels, channels, k, _ = cells.weight.shape
    if channels % 4:
        raise ValueError(f"the input channels of a convolution after SpaceToDepth are a multiple of 4, got {channels}")
    phases = cells.weight.reshape(out_channels, 2, 2, channels // 4, k, k)  # (O, column, row, C, u, v)
    pixels = phases.permute(0, 3, 4, 2, 5, 1)  # (O, C, u, row, v, column)
    weight = pixels.reshape(out_channels, channels // 4, 2 * k, 2 * k).contiguous()
    return Kernel(weight, 2 * cells.stride, 2 * cells.padding, cells.groups)


def to_spd(pixels: Kernel, size: int | None = None, padding: int | None = None) -> Kernel:
    """Return the convolution after SpaceToDepth that equals the strided convolution ``pixels``.

    Args:
        pixels: Convolution with an even stride.
        size: Side of the kernel after SpaceToDepth; by default, the smallest that is sufficient.
        padding: Padding after SpaceToDepth; by default, the smallest that is sufficient.

    Raises:
        ValueError: The stride is odd, or the kernel does not lie inside a kernel of that size and padding.
    """
    if pixels.stride % 2:
        raise ValueError(f"only a convolution with an even stride has a form after SpaceToDepth, got {pixels.stride}")
    padding = (pixels.padding + 1) // 2 if padding is None else padding
    before = 2 * padding - pixels.padding  # rows of zeros above the kernel
    if size is None:
        size = (pixels.size + before + 1) // 2
        size += 2 * size - pixels.size - before < before  # otherwise there is one output too many
    after = 2 * size - pixels.size - before
    if before < 0 or after - before not in (0, 1):
        raise ValueError(
            f"a {pixels.size}x{pixels.size} kernel with padding {pixels.padding} does not lie inside a {size}x{size} "
            f"kernel with padding {padding} after SpaceToDepth"
        )
    out_channels, channels = pixels.weight.shape[:2]
    wide = nn.functional.pad(pixels.weight, (before, after, before, after))  # (O, C, 2k, 2k)
    places = wide.reshape(out_channels, channels, size, 2, size, 2)  # (O, C, u, row, v, column)
    cells = places.permute(0, 5, 3, 1, 2, 4)  # (O, column, row, C, u, v)
    weight = cells.reshape(out_channels, 4 * channels, size, size).contiguous()
    return Kernel(weight, pixels.stride // 2, padding, pixels.groups)


def trimmed(pixels: Kernel) -> Kernel:
    """Return the same strided convolution without rows and columns of zeros around its kernel.

    The output keeps its shape. From a kernel of even size 2p + 2, either as many rows are removed at the top as at the
    bottom, or one fewer. The latter makes the size of the kernel odd, and odd input sizes then need no added row.
    """
    if pixels.size - 2 * pixels.padding != 2:
        return pixels
    used = pixels.weight.ne(0).any(0).any(0)  # (2k, 2k)
    rows, columns = used.any(1).nonzero(), used.any(0).nonzero()
    if not len(rows):
        return pixels
    first = min(int(rows[0]), int(columns[0]), pixels.padding)
    last = pixels.size - 1 - max(int(rows[-1]), int(columns[-1]))
    if last > first:
        top, bottom = first, first + 1
    else:
        top = bottom = last
    end = pixels.size - bottom
    weight = pixels.weight[..., top:end, top:end].contiguous()
    return Kernel(weight, pixels.stride, pixels.padding - top, pixels.groups)


def group_major(channels: int, groups: int) -> Tensor:
    """Return the indices that bring the channels of SpaceToDepth into group-major order.

    Args:
        channels: Number C of channels before SpaceToDepth.
        groups: Number of groups, a divisor of C.

    Returns:
        Channel indices (4C,): ``space_to_depth(x)[:, group_major(C, groups)]`` is in group-major order.

    Raises:
        ValueError: ``groups`` does not divide ``channels``.
    """
    if groups < 1 or channels % groups:
        raise ValueError(f"groups must divide the {channels} channels, got {groups}")
    index = torch.arange(4 * channels).reshape(4, groups, channels // groups)  # (phase, group, channel)
    return index.permute(1, 0, 2).reshape(-1)  # (4C,)


def dense(cells: Kernel) -> Kernel:
    """Return the convolution without groups that equals a grouped one after SpaceToDepth.

    Args:
        cells: Kernel as returned by `to_spd`, with weight (O, 4C / groups, k, k).

    Returns:
        A kernel with weight (O, 4C, k, k) that takes the channels in the order of SpaceToDepth.
    """
    if cells.groups == 1:
        return cells
    out_channels, width, k, _ = cells.weight.shape
    order = group_major(width * cells.groups // 4, cells.groups)
    weight = cells.weight.new_zeros(out_channels, width * cells.groups, k, k)
    each = out_channels // cells.groups
    for group in range(cells.groups):
        outputs, inputs = slice(group * each, (group + 1) * each), order[group * width : (group + 1) * width]
        weight[outputs, inputs] = cells.weight[outputs]
    return Kernel(weight, cells.stride, cells.padding)
