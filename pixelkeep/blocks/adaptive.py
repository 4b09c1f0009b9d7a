"""Content-adaptive downsampling: a residual stage that keeps the resolution of its input in the regions that matter.

Paper: R. Hesse, S. Schaub-Meyer, S. Roth, "Content-Adaptive Downsampling in Convolutional Neural Networks",
CVPR Workshops 2023, arXiv:2305.09504.

Formula: y = painted(stage(x; mask)), where the stage consists of residual blocks with stride 2 and the nodes of active
regions skip the stride; regions.py explains nodes and what they read. With all regions active, this is the unstrided
stage with its convolutions dilated by two; with none, it is the strided stage, each of whose values covers 2x2 pixels.

In training, a fine and a coarse dense stage run and the mask blends their outputs, so that the mask has a gradient; in
evaluation, the nodes are computed. The two functions differ near the borders of regions, as in the paper: in training,
a convolution reads neighbours of its own resolution; in evaluation, it reads the neighbouring nodes that exist.
`docs/blocks/content-adaptive.md` gives the measured difference.

Deviations: the paper normalises all nodes by the BatchNorm statistics of its coarse network; here each resolution has
its own statistics, which makes both limits exact. Regions are squares of 8 pixels by default (2 or 4 in the paper),
since tiles of that size are fast. An image of which more than `BREAK_EVEN` is active becomes active as a whole, in
training too, because the dense stage is the faster one from there on.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .masks import LearnedMask, RegionMask, is_exporting
from .mixed import EntryBlock, Layout, MixedBlock, MixedConv, Single
from .regions import Branches, Dense, Nodes, channels_last, regions_of

BREAK_EVEN = 0.45  # share of active regions above which the dense stage is faster; benchmarks/adaptive.py measures it
KINDS = ("bottleneck", "basic")


class ContentAdaptiveStage(nn.Module):
    """A stage of residual blocks in two resolutions, of which one is chosen for each region.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, H, W).
    Map sizes that are not a multiple of the region or cell size: the last regions and cells are smaller, and
    everything outside the map is zero.
    Parameters: those of the residual stage (the resolutions share them) and of the mask.
    Errors: ValueError for a target fraction outside (0, 1), no blocks, an unknown kind, a number of output channels
    that the kind does not allow, a stride other than 1 and 2, a dilation below 1, a side that is not a power of two
    from 2, or a mask of the wrong size.

    Attributes:
        active_fraction: Share of active regions in the last forward pass, including those of images that became active
            as a whole; None before the first pass.
        region_mask: Mask of the last forward pass, bool (N, rows, columns), for drawing; None before the first pass
            and after a traced one.

    Args:
        in_channels: Channels of the input map.
        out_channels: Channels of the output map.
        blocks: Number of residual blocks.
        target_fraction: Share of active regions that the stage's own mask is trained for; None for a stage without a
            mask of its own.
        kind: Kind of the residual blocks: bottleneck (a quarter of the output channels inside) or basic.
        stride: 2 for a stage that begins with the stride; 1 for one that follows such a stage, with the same mask.
        dilation: Dilation of the strided stage's convolutions after the stride.
        side: Side of a region in pixels of the map.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        blocks: int = 1,
        target_fraction: float | None = 0.25,
        kind: str = "bottleneck",
        stride: int = 2,
        dilation: int = 1,
        side: int = 8,
    ) -> None:
        super().__init__()
        _check(out_channels, blocks, kind, stride, dilation, side)
        self.side = side
        self.mask: RegionMask | None = None
        if target_fraction is not None:
            self.mask = LearnedMask(in_channels, target_fraction, side)
        self.blocks = residual_blocks(in_channels, out_channels, blocks, kind, stride, dilation)
        self.region_mask: Tensor | None = None
        self.size = (0, 0)  # height and width of the last map

    @property
    def active_fraction(self) -> float | None:
        """The share of active regions in the last forward pass."""
        return None if self.region_mask is None else self.region_mask.float().mean().item()

    def forward(self, x: Tensor | list[Tensor], mask: Tensor | None = None) -> Tensor:
        """Map (N, in_channels, H, W) -> (N, out_channels, H, W).

        Args:
            x: The map, or a list of the map and the mask.
            mask: Mask to use in place of the stage's own, (N, 1, h, w) of 0 and 1. The side of its cells, in pixels of
                the map, is a power of two.
        """
        if isinstance(x, (list, tuple)):
            x, mask = x
        if mask is None:
            if self.mask is None:
                raise ValueError("ContentAdaptiveStage: without a target fraction a mask must be given with the map")
            mask = self.mask(x)
        height, width = self.size = tuple(x.shape[2:])
        mask = rounded_up(regions_of(mask, height, width, self.side).to(x.dtype))  # (N, 1, rows, columns)
        exporting = is_exporting()
        self.region_mask = None if exporting or x.is_meta else mask.detach()[:, 0] > 0
        if self.training or x.is_meta:
            return self._run(x, Branches(mask, self.side, height, width))
        if exporting:
            return self._run(x, Dense(mask, self.side, height, width))
        return self._sparse(x, self.region_mask)

    def saved_multiply_adds(self, fraction: float) -> float:
        """Return by how many multiply-adds per image a dense count of the training network overstates evaluation.

        The training network computes fine values everywhere; evaluation computes them only in a fraction of the
        regions. Both compute coarse values everywhere, except that evaluation computes none for an image that is fine
        as a whole. Below 1 the result is linear in the fraction.

        Args:
            fraction: Share of active regions, from 0 to 1.
        """
        height, width = self.size
        cost = sum(m.conv.weight.numel() for m in self.modules() if isinstance(m, MixedConv))
        coarse = -(-height // 2) * -(-width // 2)
        return cost * (coarse if fraction == 1 else (1 - fraction) * height * width)

    def _sparse(self, x: Tensor, active: Tensor) -> Tensor:
        """Run images that are entirely fine or entirely coarse as dense stages, and the others on nodes."""
        size = x.shape[2:]
        full, empty = active.all(2).all(1).tolist(), (~active).all(2).all(1).tolist()
        kinds = [(f, e) for f, e in zip(full, empty, strict=True)]  # (whole image fine, whole image coarse)
        layouts = {(True, False): Single(True, *size), (False, True): Single(False, *size)}
        outputs: dict[int, Tensor] = {}
        for kind in dict.fromkeys(kinds):
            images = [index for index, own in enumerate(kinds) if own == kind]
            part = x if len(images) == len(x) else x[images]
            layout = layouts.get(kind) or Nodes(active[images], self.side, *size)
            outputs.update(zip(images, self._run(part, layout, rows=kind != (True, False)).split(1), strict=True))
        return outputs[0] if len(x) == 1 else torch.cat([outputs[index] for index in range(len(x))])

    def _run(self, x: Tensor, layout: Layout, rows: bool = False) -> Tensor:
        """Run the blocks; with ``rows`` in channels_last, where pixels are rows and convolutions are faster."""
        parts: Tensor | tuple = channels_last(x) if rows else x
        if not isinstance(self.blocks[0], EntryBlock):
            fine, coarse = layout.enter(parts, 0)
            # The first block needs its input until its end, but the tiles are valid only until the layout's next call.
            fine = fine.clone() if rows and fine is not None else fine
            # The stage before has painted this map, so the upper left pixel of each cell also holds its coarse value.
            parts = fine, None if coarse is None else coarse[..., ::2, ::2]
        for block in self.blocks:
            parts = block(parts, layout)
        return layout.paint(*parts)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the last mask out of copies and checkpoints."""
        return {**self.__dict__, "region_mask": None}


class PlainStage(nn.Module):
    """The same stage in one resolution everywhere, for comparison with a `ContentAdaptiveStage`.

    Shapes: with ``fine``, (N, in_channels, H, W) -> (N, out_channels, H, W), the convolutions being dilated by two;
    otherwise (N, out_channels, ceil(H/2), ceil(W/2)), or with stride 1 the height and width of the input.
    Parameters: those of the `ContentAdaptiveStage` without its mask.
    Errors: as for `ContentAdaptiveStage`.

    Args:
        in_channels: Channels of the input map.
        out_channels: Channels of the output map.
        blocks: Number of residual blocks.
        fine: True keeps the resolution, as if every region were active; False does not, as if none were.
        kind, stride, dilation: As for `ContentAdaptiveStage`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        blocks: int = 1,
        fine: bool = False,
        kind: str = "bottleneck",
        stride: int = 2,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        _check(out_channels, blocks, kind, stride, dilation, 2)
        self.fine = bool(fine)
        self.blocks = residual_blocks(in_channels, out_channels, blocks, kind, stride, dilation)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to the shape given in the class docstring."""
        layout = Single(self.fine, *x.shape[2:])
        parts = x if isinstance(self.blocks[0], EntryBlock) else layout.enter(x, 0)
        for block in self.blocks:
            parts = block(parts, layout)
        return parts[0] if self.fine else parts[1]


def residual_blocks(
    in_channels: int, out_channels: int, blocks: int, kind: str, stride: int, dilation: int
) -> nn.ModuleList:
    """Build the blocks of a stage; with stride 2, the first block has the stride."""
    built: list[nn.Module] = []
    for index in range(blocks):
        if index == 0 and stride == 2:
            built.append(EntryBlock(in_channels, out_channels, kind, dilation))
        else:
            built.append(MixedBlock(out_channels if index else in_channels, out_channels, kind, dilation))
    return nn.ModuleList(built)


def rounded_up(mask: Tensor) -> Tensor:
    """Activate the whole mask of every image of which more than `BREAK_EVEN` is active: (N, 1, h, w) -> the same shape.

    The gradient of the mask is kept.
    """
    full = mask.detach().mean((1, 2, 3), keepdim=True) > BREAK_EVEN
    return torch.where(full, mask + (1 - mask).detach(), mask)


def _check(out_channels: int, blocks: int, kind: str, stride: int, dilation: int, side: int) -> None:
    if kind not in KINDS:
        raise ValueError(f"ContentAdaptiveStage: kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if kind == "bottleneck" and out_channels % 4:
        raise ValueError(f"ContentAdaptiveStage: a bottleneck needs a multiple of 4 channels, got {out_channels}")
    for name, value in (("blocks", blocks), ("dilation", dilation)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"ContentAdaptiveStage: {name} must be a positive integer, got {value!r}")
    if stride not in (1, 2):
        raise ValueError(f"ContentAdaptiveStage: stride must be 1 or 2, got {stride!r}")
    if not isinstance(side, int) or side < 2 or side & (side - 1):
        raise ValueError(f"ContentAdaptiveStage: side must be a power of two from 2 (2, 4, 8, ...), got {side!r}")
