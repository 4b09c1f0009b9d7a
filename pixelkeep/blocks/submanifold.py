"""Submanifold sparse convolution: a convolution that is computed only at given cells of a map, and reads only those.

Paper: B. Graham, L. van der Maaten, "Submanifold Sparse Convolutional Networks", arXiv:1706.01307.

Formula: y = m * conv(m * x) with the mask m of the active cells, stride 1 and padding k // 2 (times the dilation). The
output is active where the input is, so the active set does not grow from layer to layer.

How it is computed: the values at the active cells are the rows of a matrix. For each offset of the kernel, the
*rulebook* lists the pairs of cells in which one cell reads the other at this offset. A layer gathers the rows that are
read, multiplies them by the weight of the offset and adds them to the rows that read. Its multiply-adds are the number
of pairs times input channels times output channels, and nothing is computed elsewhere. The rulebook belongs to the
mask: all layers of a stage share it.

BatchNorm and activation see the active values alone; statistics are over the active cells of the whole batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .arguments import odd_kernel
from .folding import Foldable

Pairs = tuple[Tensor, Tensor]  # indices of the rows that read and of the rows that are read, both (P,)


class ActiveCells:
    """The active cells of a batch of maps, one row for each, in the order image, row, column.

    Args:
        mask: Mask (N, 1, H, W), active where it is above one half. The masks of a batch may differ, and may be empty.

    Attributes:
        mask: Whether each cell is active, bool (N, 1, H, W).
        image, row, column: Position of each active cell in the batch and its map, (A,).
    """

    def __init__(self, mask: Tensor) -> None:
        if mask.ndim != 4 or mask.shape[1] != 1:
            raise ValueError(f"ActiveCells: the mask must be (N, 1, H, W), got {tuple(mask.shape)}")
        self.mask = mask.detach() > 0.5
        area = mask.shape[2] * mask.shape[3]
        self._flat = self.mask.flatten().nonzero().flatten()  # (A,), index in all maps one after the other
        self.image, cell = self._flat // area, self._flat % area
        self.row, self.column = cell // mask.shape[3], cell % mask.shape[3]
        self._rulebooks: dict[tuple[int, int], list[Pairs]] = {}

    def __len__(self) -> int:
        return len(self._flat)

    def gather(self, x: Tensor) -> Tensor:
        """Return the values at the active cells: (N, C, H, W) -> (A, C)."""
        if x.shape[2:] != self.mask.shape[2:] or len(x) != len(self.mask):
            raise ValueError(f"ActiveCells: the map {tuple(x.shape)} does not fit the mask {tuple(self.mask.shape)}")
        last = x.permute(0, 2, 3, 1)  # (N, H, W, C)
        if last.is_contiguous():  # channels_last: the values of a cell are adjacent in memory
            return last.flatten(0, 2).index_select(0, self._flat)
        return x[self.image, :, self.row, self.column]

    def scatter(self, rows: Tensor) -> Tensor:
        """Return the map that holds the rows at the active cells and zero elsewhere: (A, C) -> (N, C, H, W)."""
        number, _, height, width = self.mask.shape
        return self.put_(rows.new_zeros(number, rows.shape[1], height, width), rows)

    def put_(self, x: Tensor, rows: Tensor, *, add: bool = False) -> Tensor:
        """Write the rows into a map (N, C, H, W) in place, or add them to it, and return it."""
        last = x.permute(0, 2, 3, 1)  # (N, H, W, C)
        if last.is_contiguous():
            flat = last.flatten(0, 2)  # (N * H * W, C)
            flat.index_add_(0, self._flat, rows) if add else flat.index_copy_(0, self._flat, rows)
        else:
            channels = torch.arange(x.shape[1], device=x.device)
            place = (self.image[:, None], channels[None], self.row[:, None], self.column[:, None])  # broadcast: (A, C)
            x.index_put_(place, rows, accumulate=add)
        return x

    def rulebook(self, kernel_size: int, dilation: int = 1) -> list[Pairs]:
        """Return the pairs of every kernel offset before the centre, in row-major order.

        The offset at the same distance after the centre has the same pairs with their two sides swapped; the centre
        pairs every cell with itself.
        """
        key = (kernel_size, dilation)
        if key not in self._rulebooks:
            self._rulebooks[key] = self._find_pairs(kernel_size, dilation)
        return self._rulebooks[key]

    def _find_pairs(self, kernel_size: int, dilation: int) -> list[Pairs]:
        number, _, height, width = self.mask.shape
        reach = kernel_size // 2 * dilation
        padded = width + 2 * reach
        rows = torch.arange(len(self), device=self._flat.device)
        lookup = torch.full((number * (height + 2 * reach) * padded,), -1, device=rows.device)
        place = (self.image * (height + 2 * reach) + self.row + reach) * padded + self.column + reach  # (A,), padded
        lookup[place] = rows
        pairs = []
        for offset in range(kernel_size**2 // 2):
            down, right = offset // kernel_size - kernel_size // 2, offset % kernel_size - kernel_size // 2
            read = lookup[place + dilation * (down * padded + right)]  # (A,), -1 where the cell read is inactive
            reading = (read >= 0).nonzero().flatten()
            pairs.append((reading, read[reading]))
        return pairs

    def multiply_adds(self, weight: Tensor, dilation: int = 1) -> int:
        """Return the multiply-adds of :func:`submanifold_conv2d` with this weight."""
        out_channels, in_channels, kernel_size, _ = weight.shape
        pairs = len(self) + 2 * sum(len(reading) for reading, _ in self.rulebook(kernel_size, dilation))
        return pairs * in_channels * out_channels


def submanifold_conv2d(
    rows: Tensor, weight: Tensor, cells: ActiveCells, *, bias: Tensor | None = None, dilation: int = 1
) -> Tensor:
    """Convolve the values at the active cells, reading active cells only: (A, C1) -> (A, C2).

    Args:
        rows: Values at the active cells, (A, C1).
        weight: Weight of an ordinary convolution, (C2, C1, k, k), k odd.
        cells: The active cells.
        bias: Bias (C2,) added at the active cells, or None.
        dilation: Dilation of the kernel, in cells.
    """
    kernel_size = weight.shape[2]
    taps = weight.flatten(2)  # (C2, C1, k * k); no copy where the weight is channels_last
    last = kernel_size**2 - 1
    centre = taps[:, :, last // 2].t()
    out = rows @ centre if bias is None else torch.addmm(bias, rows, centre)
    for offset, (reading, read) in enumerate(cells.rulebook(kernel_size, dilation)):
        for tap, target, source in ((offset, reading, read), (last - offset, read, reading)):
            out = out.index_add_(0, target, rows.index_select(0, source) @ taps[:, :, tap].t())
    return out


class SubmanifoldConv(Foldable):
    """Convolution and BatchNorm that run on a whole map, or at active cells only.

    ``forward`` is the ordinary convolution, with any stride. ``active`` is the submanifold sparse convolution, for
    stride 1, and ``masked`` is the same function in dense arithmetic, for tracing and export.

    Parameters: k**2 * in_channels * out_channels + 2 * out_channels.
    Errors: ValueError for a kernel size that is not a positive odd integer.
    """

    folds = (("conv", "norm"),)

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, *, dilation: int = 1
    ) -> None:
        super().__init__()
        padding = odd_kernel("SubmanifoldConv", kernel_size) // 2 * dilation
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, bias=False)
        # In this memory format, the weights of one kernel offset form a matrix without a copy.
        self.conv.weight.data = self.conv.weight.data.contiguous(memory_format=torch.channels_last)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Compute everywhere: (N, C1, H, W) -> (N, C2, ceil(H / stride), ceil(W / stride))."""
        return self.norm(self.conv(x))

    def active(self, rows: Tensor, cells: ActiveCells) -> Tensor:
        """Compute at the active cells, from the active cells: (A, C1) -> (A, C2)."""
        conv = self.conv
        y = submanifold_conv2d(rows, conv.weight, cells, bias=conv.bias, dilation=conv.dilation[0])
        return _normalize(self.norm, y[:, :, None, None]).flatten(1)

    def masked(self, x: Tensor, mask: Tensor) -> Tensor:
        """Compute what ``active`` does in evaluation, as a map with zeros elsewhere: (N, C1, H, W) -> (N, C2, H, W)."""
        return mask * self.norm(self.conv(mask * x))

    @torch.no_grad()
    def beside(self, x: Tensor, cells: ActiveCells) -> Tensor:
        """Compute everywhere, normalised by the statistics of the active cells: (N, C1, H, W) -> (N, C2, H, W).

        This records no gradient and changes no running statistics.
        """
        y = self.conv(x)
        if not self.norm.training or len(cells) < 2:
            return _evaluate(self.norm, y)
        variance, mean = torch.var_mean(cells.gather(y).to(self.norm.running_mean.dtype), 0, correction=0)
        return F.batch_norm(y, mean, variance, self.norm.weight, self.norm.bias, eps=self.norm.eps)


def _normalize(norm: nn.Module, x: Tensor) -> Tensor:
    """Apply a BatchNorm to (N, C, H, W).

    In training, fewer than two values per channel have no variance. They are normalised by the running statistics,
    which they do not change.
    """
    return _evaluate(norm, x) if norm.training and x.numel() < 2 * x.shape[1] else norm(x)


def _evaluate(norm: nn.Module, x: Tensor) -> Tensor:
    """Apply a BatchNorm as in evaluation mode."""
    if isinstance(norm, nn.Identity):  # the BatchNorm has been folded
        return x
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
