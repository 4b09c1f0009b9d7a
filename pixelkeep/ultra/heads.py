"""A detection head that computes its finest level only in the active regions of a mask, and the neck block before it.

The finest level of a detector (stride 4, P2) accounts for much of its work, although the objects that need it lie in
few places. Here a mask says where. `RegionC3` and the two branches of the level run on tiles cut out of the active
regions. Each tile has a margin, of which every convolution uses up what its kernel needs, and cells outside the image
are set to zero again before each convolution. So every active anchor has the values of the dense network, and all
other anchors score 0. Training and exports run densely, which gives the same output: BatchNorm counts each cell once.

The mask decides which anchors exist, and the detection loss has no gradient for that decision: see `ObjectMask`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from ultralytics.nn.modules import C3, Detect
from ultralytics.utils.tal import make_anchors

from pixelkeep.blocks.masks import is_exporting
from pixelkeep.blocks.regions import cut, pixels, regions_of, windows
from pixelkeep.ultra.network.registry import adjust, register
from pixelkeep.ultra.network.tiles import Slots, cropped, leaves, shrinking

SIDE = 8  # side of a region, in cells of the finest level
REACH = 2  # how many cells beyond a region the level's branches read: they have two 3x3 convolutions
INACTIVE = -1e4  # logit of an anchor that does not exist: its score is 0 in every precision
BREAK_EVEN = 0.4  # share of active regions above which running the level densely is faster


@dataclass
class Pending:
    """The input of a `RegionC3`, kept until the head knows where its output is needed."""

    neck: RegionC3
    coarse: Tensor
    fine: Tensor

    @property
    def shape(self) -> torch.Size:
        """Shape of the finer input map."""
        return self.fine.shape

    def dense(self) -> Tensor:
        """Run the block on the whole map."""
        return self.neck.everywhere(self.coarse, self.fine)

    def tiles(self, active: Tensor, reach: int) -> tuple[Tensor, Tensor]:
        """Run the block on the active regions and ``reach`` cells around them.

        Args:
            active: Mask of the active regions, bool (N, rows, columns).
            reach: How many cells beyond a region the output is needed.

        Returns:
            The output (T, C, s, s) with s = SIDE + 2 * reach, and which of its cells lie inside the image (T, 1, s, s).
        """
        halo = reach + len(self.neck.m)
        n, _, height, width = self.fine.shape
        index = torch.arange(n * height * width, device=active.device).view(n, height, width)
        h, w = self.coarse.shape[2:]
        coarse = torch.arange(n * h * w, device=active.device).view(n, h, w)
        index, coarse = (windows(i, active, SIDE, halo, -1) for i in (index, pixels(coarse, 2, height, width)))
        x = torch.cat([cut(self.coarse, coarse), cut(self.fine, index)], 1)
        return self.neck.inside(x, (index >= 0)[:, None])


class RegionC3(C3):
    """C3 block on a map concatenated with a coarser map upsampled by two, run once the head knows where it is needed.

    Shapes: [(N, c, ceil(H/2), ceil(W/2)), (N, c', H, W)] -> a `Pending` (N, out_channels, H, W), for `RegionDetect`.
    Parameters: those of Ultralytics' C3 without shortcuts.

    Args:
        in_channels: Channels of the coarser map and of the finer map.
        out_channels: Channels of the output.
        repeats: Number of bottlenecks inside the block.
    """

    def __init__(self, in_channels: list[int], out_channels: int, repeats: int = 1) -> None:
        super().__init__(sum(in_channels), out_channels, repeats, False)

    def forward(self, x: list[Tensor]) -> Pending:
        """Return the inputs as a `Pending`, without computing anything yet."""
        coarse, fine = x
        return Pending(self, coarse, fine)

    def everywhere(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Run the block on the whole map."""
        upsampled = F.interpolate(coarse, scale_factor=2.0, mode="nearest")[..., : fine.shape[2], : fine.shape[3]]
        return super().forward(torch.cat([upsampled, fine], 1))

    def layers(self) -> Iterator[tuple[nn.Conv2d, int]]:
        """Yield each convolution, and how many cells beyond a region it must run for a correct output in the region."""
        margin = len(self.m)
        yield self.cv1.conv, margin
        for bottleneck in self.m:
            yield bottleneck.cv1.conv, margin
            margin -= 1
            yield bottleneck.cv2.conv, margin
        yield self.cv2.conv, 0
        yield self.cv3.conv, 0

    def inside(self, x: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Run the block on tiles; each bottleneck uses up a margin of one cell.

        Args:
            x: Tiles (T, C, s, s).
            image: Which cells lie inside the image, bool (T, 1, s, s).

        Returns:
            The output tiles, and which of their cells lie inside the image.
        """
        margin = len(self.m)
        deep = self.cv1(x)
        within = image
        for bottleneck in self.m:
            deep, within = shrinking(bottleneck.cv2, bottleneck.cv1(deep), within)
        return self.cv3(torch.cat([deep, self.cv2(cropped(x, margin))], 1)), within


class RegionDetect(Detect):
    """Ultralytics' Detect whose first level exists only in the active regions of a mask.

    Inputs: the finest level as a `Pending`, the feature maps of the other levels, and a mask (N, 1, h, w) of 0 and 1.
    Outputs: the same as those of Detect. In evaluation without export, inactive anchors of the first level are left
    out of the decoded predictions. In the raw predictions, and in exports, they have the logit `INACTIVE`. The raw
    predictions also hold ``active``, bool (N, anchors), which the loss needs.

    Attributes:
        active_fraction: Share of active regions in the last forward pass; None before the first one.
        region_mask: Active regions of the last forward pass, bool (N, rows, columns), for drawing.
    """

    region_mask: Tensor | None = None
    size = (0, 0)  # height and width of the first level's last map, in cells
    work: tuple[tuple[nn.Conv2d, int], ...] = ()  # its convolutions, and how many cells beyond a region each runs

    @classmethod
    def of(cls, detect: Detect) -> RegionDetect:
        """Turn Ultralytics' Detect head into a `RegionDetect`, in place.

        Raises:
            ValueError: The head has an end-to-end branch.
        """
        if getattr(detect, "one2one_cv2", None) is not None:
            raise ValueError("RegionDetect has no end-to-end form; remove 'end2end: True'")
        detect.__class__ = cls
        return detect

    @property
    def active_fraction(self) -> float | None:
        """Share of active regions in the last forward pass."""
        return None if self.region_mask is None else self.region_mask.float().mean().item()

    def saved_multiply_adds(self, fraction: float) -> float:
        """Return the multiply-adds per image that the sparse level saves at a share of active regions.

        The saving is relative to running the level densely, at the map size of the last forward pass. It is linear in
        ``fraction`` up to `BREAK_EVEN`; above that the level runs densely and nothing is saved.
        """
        if fraction > BREAK_EVEN:
            return 0.0
        height, width = self.size
        regions = -(-height // SIDE) * -(-width // SIDE)
        return sum(
            layer.weight.numel() * (height * width - fraction * regions * (SIDE + 2 * margin) ** 2)
            for layer, margin in self.work
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the last forward pass's mask and layers, for copies and checkpoints."""
        return {**self.__dict__, "region_mask": None, "work": ()}

    def forward(self, x: list[Any]) -> Any:
        """Run the head; the class docstring describes inputs and outputs."""
        finest, *others, mask = x
        height, width = self.size = tuple(finest.shape[2:])
        self.work = tuple(self._work(finest.neck))
        mask = regions_of(mask, height, width, SIDE)[:, 0] > 0  # (N, rows, columns)
        dense = self.training or self.export or is_exporting() or mask.is_meta
        self.region_mask = None if is_exporting() or mask.is_meta else mask.detach()
        if not dense and self.active_fraction <= BREAK_EVEN:
            return self._sparse(finest, others, mask)
        preds = self.forward_head([finest.dense(), *others], **self.one2many)
        existing = pixels(mask, SIDE, height, width).flatten(1)  # (N, H*W)
        rest = existing.new_ones(len(existing), preds["scores"].shape[2] - existing.shape[1])
        preds["active"] = torch.cat([existing, rest], 1)
        preds["scores"] = preds["scores"].masked_fill(~preds["active"][:, None], INACTIVE)
        if self.training:
            return preds
        y = self._inference(preds)
        return y if self.export else (y, preds)

    def _sparse(self, finest: Pending, others: list[Tensor], active: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Run the first level on tiles and the other levels densely."""
        n, _, height, width = finest.shape
        boxes, scores = self._levels(others)
        feats = [others[0].new_empty(1).expand(n, 1, height, width), *others]  # only the shape of the first is read
        cells = torch.arange(1, 1 + height * width, device=active.device).view(1, height, width)
        cells = windows(cells.expand(n, -1, -1), active, SIDE, 0, 0)  # (T, SIDE, SIDE), 0 outside the image
        slots = Slots(active)
        found = self._branches(*finest.tiles(active, REACH)) if len(cells) else None
        ids = slots.fill(cells[:, None])[:, 0]  # (N, K)
        fine_boxes, fine_scores = (
            slots.fill(found[index]) if found else rest.new_zeros(n, rest.shape[1], 0)
            for index, rest in enumerate((boxes, scores))
        )
        fine_scores = fine_scores.masked_fill(ids[:, None] == 0, INACTIVE)
        y = self._decoded(feats, ids, torch.cat([fine_boxes, boxes], 2), torch.cat([fine_scores, scores], 2))
        return y, LazyPreds(feats, ids, (fine_boxes, boxes), (fine_scores, scores))

    def _work(self, neck: RegionC3) -> Iterator[tuple[nn.Conv2d, int]]:
        yield from ((conv, margin + REACH) for conv, margin in neck.layers())
        for branch in (self.cv2[0], self.cv3[0]):
            margin = REACH
            for layer in leaves(branch):
                conv = layer if isinstance(layer, nn.Conv2d) else layer.conv
                margin -= conv.kernel_size[0] // 2
                yield conv, margin

    def _levels(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return box logits (N, 4*reg_max, A) and score logits (N, nc, A) of all levels but the first."""
        heads = zip(self.cv2[1:], self.cv3[1:], maps, strict=True)
        pairs = [(box(x).flatten(2), score(x).flatten(2)) for box, score, x in heads]
        boxes, scores = (torch.cat(parts, 2) for parts in zip(*pairs, strict=True))
        return boxes, scores

    def _branches(self, tiles: Tensor, within: Tensor) -> list[Tensor]:
        """Run the first level's two branches on tiles that have a margin of `REACH` cells.

        Returns:
            Box logits (T, 4*reg_max, SIDE, SIDE) and score logits (T, nc, SIDE, SIDE).
        """
        outputs = []
        for branch in (self.cv2[0], self.cv3[0]):
            x, image = tiles, within
            for layer in leaves(branch):
                x, image = shrinking(layer, x, image)
            outputs.append(x)
        return outputs

    def _decoded(self, feats: list[Tensor], ids: Tensor, boxes: Tensor, scores: Tensor) -> Tensor:
        """Decode the first level's anchors at ``ids`` and all anchors of the other levels into (N, 4 + nc, K + A)."""
        shape = feats[0].shape
        if self.dynamic or self.shape != shape:
            self.anchors, self.strides = (a.transpose(0, 1) for a in make_anchors(feats, self.stride, 0.5))
            self.shape = shape
        cells = shape[2] * shape[3]
        others = torch.arange(cells, self.anchors.shape[1], device=ids.device).expand(len(ids), -1)
        chosen = torch.cat([(ids - 1).clamp(min=0), others], 1)  # (N, K + A)
        anchors, strides = self.anchors[:, chosen].transpose(0, 1), self.strides[:, chosen].transpose(0, 1)
        decoded = self.decode_bboxes(self.dfl(boxes), anchors) * strides
        return torch.cat([decoded, scores.sigmoid()], 1)


class LazyPreds(dict):
    """Raw predictions of all anchors, assembled only when they are read, as the loss does in validation."""

    def __init__(self, feats: list[Tensor], ids: Tensor, boxes: tuple[Tensor, ...], scores: tuple[Tensor, ...]) -> None:
        super().__init__(feats=feats)
        self.ids, self.parts = ids, {"boxes": (*boxes, 0.0), "scores": (*scores, INACTIVE)}

    def get(self, key: str, default: Any = None) -> Any:
        """Return the entry for ``key``, assembled if need be as by indexing, or ``default``."""
        return self[key] if key in (*self, *self.parts, "active") else default

    def __missing__(self, key: str) -> Tensor:
        height, width = self["feats"][0].shape[2:]
        if key == "active":
            rest = self.parts["scores"][1].shape[2]
            known = torch.ones_like(self.ids, dtype=torch.bool)
            existing = known.new_zeros(len(known), 1 + height * width).scatter_(1, self.ids, known)[:, 1:]
            self[key] = torch.cat([existing, known.new_ones(len(known), rest)], 1)
        else:
            values, others, otherwise = self.parts[key]
            full = values.new_full((*values.shape[:2], 1 + height * width), otherwise)
            full.scatter_(2, self.ids[:, None].expand_as(values), values)
            self[key] = torch.cat([full[..., 1:], others], 2)
        return self[key]


def register_heads() -> None:
    """Make `RegionC3` and `RegionDetect` usable in model YAMLs. Calling it twice changes nothing."""
    register(RegionC3)
    adjust("RegionC3", sources="all", repeats_inside=True)
    register(RegionDetect, scaled=False)
    adjust("RegionDetect", sources="all", head=True)
