"""Maps of two resolutions at once: regions of a grid that are computed finely, the others at half the resolution.

A map of H x W pixels is divided into square regions of ``side`` pixels. An active region is a tile of side x side
fine nodes; any other is a tile of side/2 x side/2 coarse nodes, each of which covers a cell of 2x2 pixels. So there
are N = p*HW + (1-p)*HW/4 nodes, p being the share of active regions. A convolution reads, at each of its points, the
node that covers the point, of whichever resolution, and zero outside the image. A fine node's points are 2*reach
pixels apart, as in a dilated network. A coarse node's are as far apart; it sits on the lower right pixel of its cell,
so from an active cell it reads that pixel (where an odd size cuts the pixel off, the nearest one inside).

A *layout* keeps such a map as a pair (fine, coarse) of batches of maps, and hands it to convolutions:

- ``enter(x, reach)``: the pair of inputs for a map's first convolution, with stride 1 for fine and 2 for coarse;
- ``surround(fine, coarse, reach)``: a pair with what lies around it, 2*reach and reach nodes wide;
- ``paint(fine, coarse)``: the map of H x W pixels that the pair stands for;
- ``pads``: whether around fine there is nothing but zeros, which convolutions are to add; so it is for coarse always.

Three layouts compute it. `Nodes` is the fast one: tiles with a halo that is fetched anew for each convolution, so no
fine node is computed twice, and nothing outside the image is ever other than zero. `Dense` holds both resolutions
everywhere, has the same output, and can be traced and exported. `Branches` is for training: two dense networks that do
not see each other until they are painted, as in the paper, so the mask can have a gradient.

Source: R. Hesse, S. Schaub-Meyer, S. Roth, "Content-Adaptive Downsampling in Convolutional Neural Networks", CVPR
Workshops 2023, arXiv:2305.09504: nodes, positions and cover. Tiles are this project's, for the sake of real time.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[Tensor, Tensor]


def pixels(cells: Tensor, side: int, height: int, width: int) -> Tensor:
    """Repeat each cell over ``side`` x ``side`` pixels: (..., h, w) -> (..., height, width)."""
    *batch, rows, columns = cells.shape
    wide = cells[..., None].expand(*batch, rows, columns, side).reshape(*batch, rows, 1, columns * side)
    tall = wide.expand(*batch, rows, side, columns * side).reshape(*batch, rows * side, columns * side)
    return tall[..., :height, :width]


def regions_of(mask: Tensor, height: int, width: int, side: int) -> Tensor:
    """Bring a mask of another cell size to regions of ``side`` pixels; a region is active if any part of it is.

    Args:
        mask: (N, 1, h, w) of 0 and 1. Its cells are the smallest power of two of pixels that gives h and w.
        height, width: Of the map, in pixels.
        side: Of a region, in pixels.

    Returns:
        (N, 1, ceil(height/side), ceil(width/side)); the gradient goes to one of the active cells.

    Raises:
        ValueError: The mask fits no such cell size.
    """
    given = tuple(mask.shape[-2:])
    sizes = (2**k for k in range(8))
    cell = next((s for s in sizes if given == (-(-height // s), -(-width // s))), None)
    if cell is None:
        raise ValueError(f"a mask of {given[0]}x{given[1]} cells fits no map of {height}x{width} pixels")
    if cell > side:
        factor = cell // side
        return pixels(mask, factor, -(-height // side), -(-width // side))
    return mask if cell == side else F.max_pool2d(mask, side // cell, ceil_mode=True)


def windows(index: Tensor, chosen: Tensor, side: int, halo: int, outside: int) -> Tensor:
    """Cut windows out of a grid of indices: the chosen tiles and ``halo`` around them.

    Args:
        index: (N, h, w), an index at each place.
        chosen: bool (N, ceil(h/side), ceil(w/side)), which tiles.
        side: Of a tile.
        halo: How far a window reaches beyond its tile.
        outside: The index of what lies outside the grid.

    Returns:
        (tiles, side + 2*halo, side + 2*halo), tiles in row-major order.
    """
    (rows, columns), (height, width) = chosen.shape[1:], index.shape[1:]
    size = side + 2 * halo
    margins = (halo, columns * side - width + halo, halo, rows * side - height + halo)
    return F.pad(index, margins, value=outside).unfold(1, size, side).unfold(2, size, side)[chosen]


def fetch(rows: Tensor, index: Tensor, out: Tensor | None = None) -> Tensor:
    """Read rows (R, C) at an index (T, h, w) -> (T, C, h, w), channels_last in memory; ``out`` is (T*h*w, C)."""
    found = torch.index_select(rows, 0, index.reshape(-1), out=out)
    return found.view(*index.shape, rows.shape[1]).permute(0, 3, 1, 2)


def as_rows(tiles: Tensor) -> Tensor:
    """Write the pixels of (T, C, s, s) one below the other: (T*s*s, C)."""
    return tiles.permute(0, 2, 3, 1).reshape(-1, tiles.shape[1])


def channels_last(x: Tensor) -> Tensor:
    """Put the channels of each pixel side by side in memory, several times faster than PyTorch's own way."""
    if x.is_contiguous(memory_format=torch.channels_last):
        return x
    n, c, h, w = x.shape
    images = [image.flatten(1).t().contiguous() for image in x]  # N of (H*W, C)
    rows = images[0][None] if n == 1 else torch.stack(images)
    return rows.view(n, h, w, c).permute(0, 3, 1, 2)


def cut(x: Tensor, index: Tensor, out: Tensor | None = None) -> Tensor:
    """Read windows (T, s, s) of numbers of pixels, -1 outside, from a map (N, C, H, W) -> (T, C, s, s)."""
    tiles = fetch(as_rows(channels_last(x)), index.clamp(min=0), out)
    outside = (index < 0).flatten().nonzero()[:, 0]
    as_rows(tiles).index_fill_(0, outside, 0)  # few, in place
    return tiles


def corners(x: Tensor) -> Tensor:
    """Take the lower right pixel inside the map of each cell: (..., H, W) -> (..., ceil(H/2), ceil(W/2))."""
    height, width = x.shape[-2:]
    down, right = (torch.arange(1, size + 1, 2, device=x.device).clamp(max=size - 1) for size in (height, width))
    return x.index_select(-2, down).index_select(-1, right)


class Branches:
    """Training: a fine and a coarse network, each dense and by itself; ``paint`` blends them by the mask.

    Args:
        mask: (N, 1, rows, columns) of 0 and 1, a gradient in it where it is learned.
        side: Of a region, in pixels.
        height, width: Of the map.
    """

    pads = True

    def __init__(self, mask: Tensor, side: int, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.mask = pixels(mask, side, height, width)  # (N, 1, H, W)

    def enter(self, x: Tensor, reach: int) -> Pair:
        """Return the map for both."""
        return x, x

    def surround(self, fine: Tensor, coarse: Tensor, reach: int) -> Pair:
        """Return both as they are."""
        return fine, coarse

    def paint(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Blend (N, C, H, W) and (N, C, ceil(H/2), ceil(W/2)) -> (N, C, H, W)."""
        return fine * self.mask + pixels(coarse, 2, self.height, self.width) * (1 - self.mask)


class Dense(Branches):
    """Both resolutions everywhere, exchanged before each convolution: what `Nodes` computes, without lists."""

    def surround(self, fine: Tensor, coarse: Tensor, reach: int) -> Pair:
        """Put each resolution in place where the other has no nodes."""
        active = self.mask > 0
        cover = torch.where(active, fine, pixels(coarse, 2, self.height, self.width))
        return cover, torch.where(corners(active), corners(fine), coarse)

    def paint(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Choose by the mask: (N, C, H, W)."""
        return torch.where(self.mask > 0, fine, pixels(coarse, 2, self.height, self.width))


class Nodes:
    """Fine nodes in tiles of active regions alone, (T, C, side, side) in row-major order, and the coarse map.

    Coarse values are computed under active regions as well, and not used: a list of coarse tiles would save p*HW/4
    nodes, and spend as much time on fetching what lies around them.

    Args:
        active: bool (N, rows, columns), which regions are fine.
        side: Of a region, in pixels, even.
        height, width: Of the map.
    """

    pads = False

    def __init__(self, active: Tensor, side: int, height: int, width: int) -> None:
        self.active, self.side, self.height, self.width = active, side, height, width
        self.cover = self._cover()  # (N, H, W): the row of the node at each pixel; row 0 is outside
        fine_corner = corners(self.cover)  # (N, h, w)
        # Coarse cells in active regions, and the rows of the fine nodes that stand for them.
        self._replaced = (fine_corner <= active.sum() * side**2).flatten().nonzero()[:, 0]
        self._stand_ins = fine_corner.flatten()[self._replaced]
        self._around: dict[int, Tensor] = {}
        self._memory: dict[str, Tensor] = {}

    def _cover(self) -> Tensor:
        side, device = self.side, self.active.device
        n, rows, columns = self.active.shape
        flat = self.active.flatten()
        first = 1 + (flat.cumsum(0) - 1).view_as(self.active) * side**2  # of each region's tile, were it fine
        place = torch.arange(side, device=device)
        fine = first[..., None, None] + place[:, None] * side + place  # (N, rows, columns, side, side)
        fine = fine.transpose(2, 3).reshape(n, rows * side, columns * side)[:, : self.height, : self.width]
        h, w = -(-self.height // 2), -(-self.width // 2)
        coarse = torch.arange(n * h * w, device=device).view(n, h, w) + 1 + flat.sum() * side**2
        return torch.where(
            pixels(self.active, side, self.height, self.width), fine, pixels(coarse, 2, self.height, self.width)
        )

    def enter(self, x: Tensor, reach: int) -> Pair:
        """Cut the tiles out of (N, C, H, W), with ``reach`` pixels around them; the coarse part is x itself.

        The tiles are valid until the next call, as those of ``surround`` are.
        """
        n, _, height, width = x.shape
        index = torch.arange(n * height * width, device=x.device).view(n, height, width)
        index = windows(index, self.active, self.side, reach, -1)
        return cut(x, index, self._reused("around", index.numel(), x)), x

    def surround(self, fine: Tensor, coarse: Tensor, reach: int) -> Pair:
        """Fetch what lies around each tile, and put fine values into the coarse map."""
        if reach not in self._around:
            self._around[reach] = windows(self.cover, self.active, self.side, 2 * reach, 0)
        index = self._around[reach]
        rows = self._rows(fine, coarse)
        around = fetch(rows, index, self._reused("around", index.numel(), rows))
        n, c, h, w = coarse.shape
        coarse_rows = rows[len(rows) - n * h * w :]
        coarse_rows.index_copy_(0, self._replaced, rows.index_select(0, self._stand_ins))
        return around, coarse_rows.view(n, h, w, c).permute(0, 3, 1, 2)

    def paint(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Write each node on the pixels that it covers: (N, C, H, W)."""
        rows = self._rows(fine, coarse)
        n, height, width = self.cover.shape
        return rows.index_select(0, self.cover.reshape(-1)).view(n, height, width, -1).permute(0, 3, 1, 2)

    def _rows(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return all nodes, one row each, behind the row of zeros: (1 + nodes, C)."""
        parts = [fine.new_zeros(1, fine.shape[1]), as_rows(fine), as_rows(coarse)]
        return torch.cat(parts, out=self._reused("rows", sum(map(len, parts)), fine))

    def _reused(self, purpose: str, rows: int, like: Tensor) -> Tensor | None:
        """Return the same memory for every layer, (rows, C), or None where a gradient needs the values of all.

        Pages of fresh memory take the system longer to hand out than it takes to fill them.
        """
        if torch.is_grad_enabled():
            return None
        size = rows * like.shape[1]
        memory = self._memory.get(purpose)
        if memory is None or memory.dtype != like.dtype or len(memory) < size:
            memory = self._memory[purpose] = like.new_empty(size)
        return memory[:size].view(rows, like.shape[1])
