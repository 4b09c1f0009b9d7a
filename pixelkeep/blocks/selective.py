"""Selective downsampling: a strided stage on the whole map, and the same stage unstrided at the cells that matter.

The source is a letter in the Journal of the Korean Institute of Communications and Information Sciences, on selective
downsampling by masks for light networks. Published are these points: a mask chooses where a stage keeps its
resolution; the network beside it is an ordinary strided one; submanifold sparse convolution (see submanifold.py) does
the work at the chosen cells; several methods mitigate the loss of accuracy. On Cityscapes the letter reports the mIoU
of content-adaptive downsampling, 0.77, at 140M against 690M, without saying what these numbers count. Its text is not
public in full.

Our reading, where the letter says no more:

    m    = halo(gate(x))            the mask, learned, constant on 2x2 cells
    low  = stage with stride 2, everywhere
    high = stage with stride 1 and weights of its own, submanifold sparse, where m = 1
    y    = up(low) + m * high       (fusion)   or   (1 - m) * up(low) + m * high

where `up` repeats each cell. A submanifold convolution reads zeros beyond the border of the active set, and separate
active regions exchange no information. Three means reduce what this costs, and each can be left out:

- fusion: at active cells, the output of the strided stage, which also covers the surroundings, is added instead of
  being replaced;
- halo: the mask grows by this many cells of the strided map, so that the neighbourhoods of the cells that matter are
  complete;
- teacher: in training, the unstrided stage also runs densely, without gradient. A loss draws the values at the active
  cells towards what they would be with all their neighbours (the squared difference, relative to the teacher's
  square), and the gate learns from the teacher's values what the inactive cells would have contributed.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .halo_mask import HaloMask
from .masks import is_exporting
from .submanifold import ActiveCells, SubmanifoldConv

DENSE_ABOVE = 0.3  # active fraction above which dense arithmetic with zeros is faster in evaluation than sparse
Layer = Callable[[SubmanifoldConv, Tensor], Tensor]  # runs one convolution: densely, sparsely or masked


class SelectiveUnit(nn.Module):
    """Two 3x3 convolutions with a shortcut, as in ResNet-18, each of which can run densely or sparsely.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, activation: nn.Module) -> None:
        super().__init__()
        self.first = SubmanifoldConv(in_channels, out_channels, 3, stride)
        self.second = SubmanifoldConv(out_channels, out_channels, 3)
        same = in_channels == out_channels and stride == 1
        self.shortcut = None if same else SubmanifoldConv(in_channels, out_channels, 1, stride)
        self.act = deepcopy(activation)

    def forward(self, x: Tensor, layer: Layer) -> Tensor:
        """Run the unit, applying each convolution through ``layer``; x is a map, or rows if ``layer`` takes rows."""
        y = layer(self.second, self.act(layer(self.first, x)))
        return self.act(y + (x if self.shortcut is None else layer(self.shortcut, x)))


class SelectivePath(nn.Module):
    """A sequence of residual units, the first of which has the stride.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).
    """

    def __init__(self, in_channels: int, out_channels: int, blocks: int, stride: int, activation: nn.Module) -> None:
        super().__init__()
        first = SelectiveUnit(in_channels, out_channels, stride, activation)
        rest = (SelectiveUnit(out_channels, out_channels, 1, activation) for _ in range(blocks - 1))
        self.units = nn.ModuleList([first, *rest])

    def forward(self, x: Tensor, layer: Layer = SubmanifoldConv.__call__) -> Tensor:
        """Run the units, applying each convolution through ``layer``; by default, on the whole map."""
        for unit in self.units:
            x = unit(x, layer)
        return x


class SelectiveStage(nn.Module):
    """A stage that keeps the resolution of its input at the cells that matter, and is strided elsewhere.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, H, W). A cell of the mask stands for 2x2 cells of the map.
    Odd sizes: the strided stage rounds up; its repeated output is cropped at the bottom and the right.
    Parameters: those of two residual stages (stride 2 and 1) and of the gate.
    Errors: ValueError for a target fraction outside (0, 1), no block, or a halo that is not an integer of at least 0.

    In evaluation the output is the same whether it is computed sparsely (up to ``DENSE_ABOVE`` of the cells), with
    dense arithmetic and zeros (above that, and in traces, exports and compilation), or in a batch with other images.
    Sparse and dense arithmetic differ in training, where BatchNorm's statistics are those of the active cells.

    Attributes:
        active_fraction: Share of active cells in the last forward pass; None before the first and after a traced one.
        region_mask: Mask of the last forward pass, bool (N, ceil(H/2), ceil(W/2)), for drawing; None before the first
            pass and after a traced one.

    Args:
        in_channels: Channels of the input map.
        out_channels: Channels of the output map.
        blocks: Number of residual units in each of the two paths.
        target_fraction: Share of active cells to train for, the halo included.
        fusion: True adds the strided stage's output at active cells; False replaces it there.
        halo: Number of cells of the strided map by which the mask grows.
        teacher: Whether to also run the unstrided stage densely in training, for the auxiliary loss and the gate's
            gradient.
        activation: Activation module; each unit gets a copy.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        blocks: int = 1,
        target_fraction: float = 0.05,
        fusion: bool = True,
        halo: int = 1,
        teacher: bool = True,
        *,
        activation: nn.Module = nn.SiLU(),
    ) -> None:
        super().__init__()
        if isinstance(blocks, bool) or not isinstance(blocks, int) or blocks < 1:
            raise ValueError(f"SelectiveStage: blocks must be a positive integer, got {blocks!r}")
        self.gate = HaloMask(in_channels, target_fraction, halo)
        self.low = SelectivePath(in_channels, out_channels, blocks, 2, activation)
        self.high = SelectivePath(in_channels, out_channels, blocks, 1, activation)
        self.fusion, self.teacher = bool(fusion), bool(teacher)
        self.region_mask: Tensor | None = None
        self.size = (0, 0)  # height and width of the last map
        self._loss: Tensor | None = None

    @property
    def active_fraction(self) -> float | None:
        """The share of active cells in the last forward pass."""
        return None if self.region_mask is None else self.region_mask.float().mean().item()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (N, in_channels, H, W) -> (N, out_channels, H, W).

        Args:
            x: The input map.
            mask: Mask to use in place of the gate's own, (N, 1, ceil(H/2), ceil(W/2)) of 0 and 1.
        """
        mask = self.gate(x) if mask is None else mask.to(x.dtype)
        self.size = tuple(x.shape[2:])
        dense = is_exporting() or x.is_meta
        self._loss, self.region_mask = None, None if dense else mask.detach()[:, 0] > 0.5
        low = _repeat(self.low(x), x)  # (N, out_channels, H, W)
        mask = _repeat(mask, x)  # (N, 1, H, W)
        if dense:
            return self._merge(low, mask, self._masked(x, mask))
        cells = ActiveCells(mask)
        if self.training:
            return self._merge(low, mask, self._learning(x, cells))
        if len(cells) > DENSE_ABOVE * mask.numel():
            return self._merge(low, mask, self._masked(x, mask))
        return cells.put_(low, self._rows(x, cells), add=self.fusion)

    def saved_multiply_adds(self, fraction: float) -> float:
        """Return how many multiply-adds per image are saved against running the unstrided stage everywhere.

        Each active cell is counted as if all its neighbours were active, so the sparse part is overstated by the
        neighbours missing at the borders of the active set. The result is linear in the fraction up to `DENSE_ABOVE`.

        Args:
            fraction: Share of active cells, from 0 to 1.
        """
        if fraction > DENSE_ABOVE:
            return 0.0
        height, width = self.size
        cost = sum(m.conv.weight.numel() for m in self.high.modules() if isinstance(m, SubmanifoldConv))
        return (1 - fraction) * cost * height * width

    def auxiliary_loss(self) -> Tensor | None:
        """Return what the teacher adds to the training loss for the last forward pass, or None."""
        return self._loss

    def _merge(self, low: Tensor, mask: Tensor, high: Tensor) -> Tensor:
        return (low if self.fusion else (1 - mask) * low) + mask * high

    def _masked(self, x: Tensor, mask: Tensor) -> Tensor:
        """Compute the unstrided stage with dense arithmetic and zeros: -> (N, out_channels, H, W)."""
        return self.high(x, partial(SubmanifoldConv.masked, mask=mask))

    def _rows(self, x: Tensor, cells: ActiveCells) -> Tensor:
        """Compute the unstrided stage at the active cells: -> (A, out_channels)."""
        return self.high(cells.gather(x), partial(SubmanifoldConv.active, cells=cells))

    def _learning(self, x: Tensor, cells: ActiveCells) -> Tensor:
        """Compute the unstrided stage in training, including the teacher's part: -> (N, out_channels, H, W)."""
        rows = self._rows(x, cells)
        high = cells.scatter(rows)
        if not self.teacher or not torch.is_grad_enabled():
            return high
        with torch.no_grad():
            dense = self.high(x, partial(SubmanifoldConv.beside, cells=cells))  # (N, out_channels, H, W)
        self._loss = _relative_error(rows, cells.gather(dense))
        return torch.where(cells.mask, high, dense.to(high.dtype))  # inactive cells affect only the mask's gradient

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the last mask, and the loss, whose graph can neither be copied nor saved."""
        return {**self.__dict__, "_loss": None, "region_mask": None}


def _repeat(coarse: Tensor, x: Tensor) -> Tensor:
    """Repeat each cell of a map with half the resolution of x, and crop the result to the size of x."""
    return F.interpolate(coarse, scale_factor=2, mode="nearest")[:, :, : x.shape[2], : x.shape[3]]


def _relative_error(rows: Tensor, teacher: Tensor) -> Tensor:
    """Return the squared difference, relative to the teacher's square; zero where there is no active cell."""
    rows, teacher = rows.float(), teacher.float()
    return (rows - teacher).square().sum() / teacher.square().sum().clamp(min=1e-6)
