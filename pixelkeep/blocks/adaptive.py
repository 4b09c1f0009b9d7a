"""Content-adaptive downsampling: a residual stage that keeps the resolution of its input in the regions that matter.

Paper: R. Hesse, S. Schaub-Meyer, S. Roth, "Content-Adaptive Downsampling in Convolutional Neural Networks",
CVPR Workshops 2023, arXiv:2305.09504.

Formula: y = painted(stage(x; mask)), a stage of residual blocks with stride 2 in which the nodes of active regions skip
the stride; see regions.py for nodes and what they read. With all regions active that is the unstrided stage with its
convolutions dilated by two; with none it is the strided stage, each value on 2x2 pixels.

In training two dense stages run, fine and coarse, and the mask blends them, so that it has a gradient; in evaluation
the nodes run. The two functions differ near the borders of regions, as in the paper: in training a convolution reads
neighbours of its own resolution, in evaluation those that exist. `docs/blocks/content-adaptive.md` gives the measured
difference.

Deviations: BatchNorm. The paper normalises all nodes by the statistics of its coarse network; here each resolution has
its own, which makes both limits exact. Regions are squares of 8 pixels by default (the paper has 2 or 4), since tiles
of that size are fast. In an image of which more than `BREAK_EVEN` is active the whole image becomes active, in
training too: from there on the dense stage is the faster one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .masks import LearnedMask, RegionMask, is_exporting
from .mixed import EntryBlock, Layout, MixedBlock, MixedConv, Single
from .regions import Branches, Dense, Nodes, channels_last, regions_of

BREAK_EVEN = 0.45  # share of active regions; benchmarks/adaptive.py measures it
KINDS = ("bottleneck", "basic")


class ContentAdaptiveStage(nn.Module):
    """A stage of residual blocks in two resolutions, chosen region by region.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, H, W).
    Sizes that regions or cells do not divide: the last ones are smaller; what lies outside the map is zero.
    Parameters: those of the residual stage (the resolutions share them) and of the mask.
    Errors: ValueError for a target fraction outside (0, 1), no blocks, an unknown kind, output channels that do not
    suit it, a dilation below 1, a side that is no power of two from 2, or a mask of the wrong size.

    Attributes:
        active_fraction: Share of active regions in the last forward pass, whole images included; None before.
        region_mask: What it was, bool (N, rows, columns), for drawing; None before, and where a trace ran it.

    Args:
        in_channels: Of the map.
        out_channels: Of the result.
        blocks: How many residual blocks.
        target_fraction: Share of active regions that the stage's own mask is trained for; None for no mask of its own.
        kind: bottleneck (a quarter of the output channels inside) or basic.
        stride: 2 for a stage that begins with the stride; 1 for one that follows such a stage, with the same mask.
        dilation: Of the strided stage's convolutions after the stride.
        side: Of a region, in pixels of the map.
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
        self.size = (0, 0)  # of the last map

    @property
    def active_fraction(self) -> float | None:
        """The share of active regions in the last forward pass."""
        return None if self.region_mask is None else self.region_mask.float().mean().item()

    def forward(self, x: Tensor | list[Tensor], mask: Tensor | None = None) -> Tensor:
        """Map (N, in_channels, H, W) -> (N, out_channels, H, W).

        Args:
            x: The map, or a list of the map and the mask.
            mask: (N, 1, h, w) of 0 and 1 in place of the stage's own, in cells of a power of two of pixels.
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
        """Return the multiply-adds an image that a dense count of the training network has too many.

        That network computes fine values everywhere; here they are in a fraction of the regions. Coarse values are
        everywhere in both, unless the whole image is fine. It is linear in the fraction.

        Args:
            fraction: Share of active regions, from 0 to 1.
        """
        height, width = self.size
        cost = sum(m.conv.weight.numel() for m in self.modules() if isinstance(m, MixedConv))
        coarse = -(-height // 2) * -(-width // 2)
        return cost * (coarse if fraction == 1 else (1 - fraction) * height * width)

    def _sparse(self, x: Tensor, active: Tensor) -> Tensor:
        """Run images that are fine or coarse as a whole as such, and the others on nodes."""
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
        """Run the blocks; with ``rows`` on channels_last, where pixels are rows and convolutions are faster."""
        parts: Tensor | tuple = channels_last(x) if rows else x
        if not isinstance(self.blocks[0], EntryBlock):
            fine, coarse = layout.enter(parts, 0)
            fine = fine.clone() if rows and fine is not None else fine  # the first block needs it to its end
            # The map has been painted before: each cell has its coarse value at the upper left, too.
            parts = fine, None if coarse is None else coarse[..., ::2, ::2]
        for block in self.blocks:
            parts = block(parts, layout)
        return layout.paint(*parts)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the last mask out of copies and checkpoints."""
        return {**self.__dict__, "region_mask": None}


class PlainStage(nn.Module):
    """The same stage in one resolution everywhere: what a `ContentAdaptiveStage` is compared with.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, H, W) where fine, the convolutions dilated by two; else
    (N, out_channels, ceil(H/2), ceil(W/2)), or the size of the input with stride 1.
    Parameters: those of the `ContentAdaptiveStage` but its mask.
    Errors: as there.

    Args:
        in_channels: Of the map.
        out_channels: Of the result.
        blocks: How many residual blocks.
        fine: Whether to keep the resolution, as with every region active, or not, as with none.
        kind, stride, dilation: As of the `ContentAdaptiveStage`.
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
        """Map (N, in_channels, H, W) to the shape that the class names."""
        layout = Single(self.fine, *x.shape[2:])
        parts = x if isinstance(self.blocks[0], EntryBlock) else layout.enter(x, 0)
        for block in self.blocks:
            parts = block(parts, layout)
        return parts[0] if self.fine else parts[1]


def residual_blocks(
    in_channels: int, out_channels: int, blocks: int, kind: str, stride: int, dilation: int
) -> nn.ModuleList:
    """Build a stage's blocks; the first has the stride, if there is one."""
    built: list[nn.Module] = []
    for index in range(blocks):
        if index == 0 and stride == 2:
            built.append(EntryBlock(in_channels, out_channels, kind, dilation))
        else:
            built.append(MixedBlock(out_channels if index else in_channels, out_channels, kind, dilation))
    return nn.ModuleList(built)


def rounded_up(mask: Tensor) -> Tensor:
    """Make images of which more than `BREAK_EVEN` is active active as a whole: (N, 1, h, w), the gradient kept."""
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
