"""Maps of two resolutions at once: some regions of a grid are computed finely, the others at half the resolution.

A map of H x W pixels is divided into square regions of ``side`` pixels. An active region is a tile of side x side
fine nodes; any other region is a tile of side/2 x side/2 coarse nodes, each of which covers a cell of 2x2 pixels. So
there are N = p*HW + (1-p)*HW/4 nodes, p being the share of active regions. At each of its points, a convolution reads
the node of either resolution that covers the point, or zero outside the image. The points around a fine node are
2*reach pixels apart, as in a dilated network, and those around a coarse node are the same distance apart. A coarse node
sits on the lower right pixel of its cell, so in an active cell it reads that pixel (or the nearest pixel inside the
map, where an odd size cuts that one off).

A *layout* keeps such a map as a pair (fine, coarse) of batches of maps, and prepares it for convolutions:

- ``enter(x, reach)``: the pair of inputs for the first convolution of a map, with stride 1 for fine and 2 for coarse;
- ``surround(fine, coarse, reach)``: the pair with the nodes around it, 2*reach nodes for fine and reach for coarse;
- ``paint(fine, coarse)``: the map of H x W pixels that the pair stands for;
- ``pads``: whether only zeros lie around fine, to be added as padding by the convolution; around coarse this is always
  so.

Three layouts compute such a map. `Nodes` is the fast one: it has tiles whose halo is fetched anew for each convolution,
so no fine node is computed twice, and everything outside the image stays zero. `Dense` holds both resolutions
everywhere, has the same output, and can be traced and exported. `Branches` is for training: it runs two dense networks
that do not see each other until they are painted, as in the paper, so the mask can have a gradient.

Source: R. Hesse, S. Schaub-Meyer, S. Roth, "Content-Adaptive Downsampling in Convolutional Neural Networks", CVPR
Workshops 2023, arXiv:2305.09504: nodes, positions and cover. The tiles are this project's, to reach real time.
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
    """Convert a mask of any cell size to regions of ``side`` pixels; a region is active if any part of it is.

    Args:
        mask: Mask (N, 1, h, w) of 0 and 1. The side of its cells is taken to be the smallest power of two, in pixels,
            that gives h and w.
        height, width: Size of the map in pixels.
        side: Side of a region in pixels.

    Returns:
        The mask in regions, (N, 1, ceil(height/side), ceil(width/side)). Its gradient goes to one of the active cells
        of each region.

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
    """Cut windows out of a grid of indices: the chosen tiles and a halo around each.

    Args:
        index: Grid (N, h, w) with an index at each place.
        chosen: Whether each tile is chosen, bool (N, ceil(h/side), ceil(w/side)).
        side: Side of a tile, in places.
        halo: Number of places by which a window extends beyond its tile on every side.
        outside: Index to use for places outside the grid.

    Returns:
        The windows, (tiles, side + 2*halo, side + 2*halo), tiles in row-major order.
    """
    (rows, columns), (height, width) = chosen.shape[1:], index.shape[1:]
    size = side + 2 * halo
    margins = (halo, columns * side - width + halo, halo, rows * side - height + halo)
    return F.pad(index, margins, value=outside).unfold(1, size, side).unfold(2, size, side)[chosen]


def fetch(rows: Tensor, index: Tensor, out: Tensor | None = None) -> Tensor:
    """Gather rows (R, C) at an index (T, h, w) -> (T, C, h, w), channels_last in memory; ``out`` is (T*h*w, C)."""
    found = torch.index_select(rows, 0, index.reshape(-1), out=out)
    return found.view(*index.shape, rows.shape[1]).permute(0, 3, 1, 2)


def as_rows(tiles: Tensor) -> Tensor:
    """Return the pixels of (T, C, s, s) as rows, one below the other: (T*s*s, C)."""
    return tiles.permute(0, 2, 3, 1).reshape(-1, tiles.shape[1])


def channels_last(x: Tensor) -> Tensor:
    """Convert to the channels_last memory format, several times faster than PyTorch's own conversion."""
    if x.is_contiguous(memory_format=torch.channels_last):
        return x
    n, c, h, w = x.shape
    images = [image.flatten(1).t().contiguous() for image in x]  # N of (H*W, C)
    rows = images[0][None] if n == 1 else torch.stack(images)
    return rows.view(n, h, w, c).permute(0, 3, 1, 2)


def cut(x: Tensor, index: Tensor, out: Tensor | None = None) -> Tensor:
    """Gather windows (T, s, s) of pixel indices, -1 outside, from a map (N, C, H, W) -> (T, C, s, s)."""
    tiles = fetch(as_rows(channels_last(x)), index.clamp(min=0), out)
    outside = (index < 0).flatten().nonzero()[:, 0]
    as_rows(tiles).index_fill_(0, outside, 0)  # in place, since few pixels lie outside
    return tiles


def corners(x: Tensor) -> Tensor:
    """Return each cell's lower right pixel inside the map: (..., H, W) -> (..., ceil(H/2), ceil(W/2))."""
    height, width = x.shape[-2:]
    down, right = (torch.arange(1, size + 1, 2, device=x.device).clamp(max=size - 1) for size in (height, width))
    return x.index_select(-2, down).index_select(-1, right)


class Branches:
    """The layout for training: separate dense fine and coarse networks, which ``paint`` blends by the mask.

    Args:
        mask: Mask (N, 1, rows, columns) of 0 and 1; it carries a gradient if it is learned.
        side: Side of a region in pixels.
        height, width: Size of the map in pixels.
    """

    pads = True

    def __init__(self, mask: Tensor, side: int, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.mask = pixels(mask, side, height, width)  # (N, 1, H, W)

    def enter(self, x: Tensor, reach: int) -> Pair:
        """Return the map as both parts."""
        return x, x

    def surround(self, fine: Tensor, coarse: Tensor, reach: int) -> Pair:
        """Return both parts as they are."""
        return fine, coarse

    def paint(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Blend (N, C, H, W) and (N, C, ceil(H/2), ceil(W/2)) -> (N, C, H, W)."""
        return fine * self.mask + pixels(coarse, 2, self.height, self.width) * (1 - self.mask)


class Dense(Branches):
    """The layout for export, with the same output as `Nodes`: both resolutions are computed everywhere, without lists.

    Before each convolution the two resolutions exchange their values.
    """

    def surround(self, fine: Tensor, coarse: Tensor, reach: int) -> Pair:
        """Fill in each resolution from the other one wherever it has no nodes."""
        active = self.mask > 0
        cover = torch.where(active, fine, pixels(coarse, 2, self.height, self.width))
        return cover, torch.where(corners(active), corners(fine), coarse)

    def paint(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return the fine part where the mask is active and the coarse one elsewhere: (N, C, H, W)."""
        return torch.where(self.mask > 0, fine, pixels(coarse, 2, self.height, self.width))


class Nodes:
    """The layout for evaluation: fine nodes in tiles of the active regions only, and the whole coarse map.

    The tiles are (T, C, side, side), in row-major order. Coarse values are computed under active regions as well, and
    not used: a list of coarse tiles would save p*HW/4 nodes, but spend as much time on fetching the nodes around them.

    Args:
        active: Whether each region is fine, bool (N, rows, columns).
        side: Side of a region in pixels, even.
        height, width: Size of the map in pixels.
    """

    pads = False

    def __init__(self, active: Tensor, side: int, height: int, width: int) -> None:
        self.active, self.side, self.height, self.width = active, side, height, width
        self.cover = self._cover()  # (N, H, W), row of the node that covers each pixel; row 0 is outside the image
        fine_corner = corners(self.cover)  # (N, h, w)
        # The coarse cells in active regions, and the rows of the fine nodes whose values replace theirs.
        self._replaced = (fine_corner <= active.sum() * side**2).flatten().nonzero()[:, 0]
        self._stand_ins = fine_corner.flatten()[self._replaced]
        self._around: dict[int, Tensor] = {}
        self._memory: dict[str, Tensor] = {}

    def _cover(self) -> Tensor:
        side, device = self.side, self.active.device
        n, rows, columns = self.active.shape
        flat = self.active.flatten()
        first = 1 + (flat.cumsum(0) - 1).view_as(self.active) * side**2  # first row of the region's tile, if fine
        place = torch.arange(side, device=device)
        fine = first[..., None, None] + place[:, None] * side + place  # (N, rows, columns, side, side)
        fine = fine.transpose(2, 3).reshape(n, rows * side, columns * side)[:, : self.height, : self.width]
        h, w = -(-self.height // 2), -(-self.width // 2)
        coarse = torch.arange(n * h * w, device=device).view(n, h, w) + 1 + flat.sum() * side**2
        return torch.where(
            pixels(self.active, side, self.height, self.width), fine, pixels(coarse, 2, self.height, self.width)
        )

    def enter(self, x: Tensor, reach: int) -> Pair:
        """Cut the tiles out of x, (N, C, H, W), with ``reach`` pixels around them; the coarse part is x itself.

        The tiles, like those of ``surround``, are valid only until the next call of either method.
        """
        n, _, height, width = x.shape
        index = torch.arange(n * height * width, device=x.device).view(n, height, width)
        index = windows(index, self.active, self.side, reach, -1)
        return cut(x, index, self._reused("around", index.numel(), x)), x

    def surround(self, fine: Tensor, coarse: Tensor, reach: int) -> Pair:
        """Fetch the nodes around each tile, and write fine values into the coarse map where regions are active."""
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
        """Return the map with each node's value at all pixels that the node covers: (N, C, H, W)."""
        rows = self._rows(fine, coarse)
        n, height, width = self.cover.shape
        return rows.index_select(0, self.cover.reshape(-1)).view(n, height, width, -1).permute(0, 3, 1, 2)

    def _rows(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return a row of zeros followed by all nodes, one row each: (1 + nodes, C)."""
        parts = [fine.new_zeros(1, fine.shape[1]), as_rows(fine), as_rows(coarse)]
        return torch.cat(parts, out=self._reused("rows", sum(map(len, parts)), fine))

    def _reused(self, purpose: str, rows: int, like: Tensor) -> Tensor | None:
        """Return a buffer (rows, C) that every layer reuses, or None where gradients need the values of all layers.

        The operating system takes longer to hand out pages of fresh memory than it takes to fill them.
        """
        if torch.is_grad_enabled():
            return None
        size = rows * like.shape[1]
        memory = self._memory.get(purpose)
        if memory is None or memory.dtype != like.dtype or len(memory) < size:
            memory = self._memory[purpose] = like.new_empty(size)
        return memory[:size].view(rows, like.shape[1])
