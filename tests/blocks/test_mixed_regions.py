"""Maps of two resolutions, compared with a list of nodes written out one by one from the paper's definition."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pixelkeep.blocks.regions import Dense, Nodes, as_rows, corners, pixels, regions_of, windows


class NaiveNodes:
    """The paper's nodes: fine ones at their pixel, coarse ones at (1, 1) of a cell; a point reads its covering node."""

    def __init__(self, mask: Tensor) -> None:
        self.height, self.width = mask.shape
        places = [(row, column) for row in range(self.height) for column in range(self.width)]
        fine = [(row, column, True) for row, column in places if mask[row, column]]
        cells = [(row, column) for row, column in places if row % 2 == column % 2 == 0 and not mask[row, column]]
        coarse = [(min(row + 1, self.height - 1), min(column + 1, self.width - 1), False) for row, column in cells]
        self.nodes = fine + coarse
        self.cover = {node[:2]: index for index, node in enumerate(fine)}
        for index, (row, column) in enumerate(cells, len(fine)):
            self.cover |= {(row + down, column + right): index for down in range(2) for right in range(2)}

    def convolve(self, values: Tensor, weight: Tensor, reach: int) -> Tensor:
        """Return the 3x3 convolution of (nodes, C): points are 2 * reach pixels apart and zero outside the image."""
        out = torch.zeros(len(self.nodes), weight.shape[0])
        for index, (row, column, fine) in enumerate(self.nodes):
            for i in range(3):
                for j in range(3):
                    # A coarse node moves in steps of whole cells, even where its pixel (1, 1) lies outside the image.
                    base = (row, column) if fine else (row // 2 * 2 + 1, column // 2 * 2 + 1)
                    point = base[0] + (i - 1) * 2 * reach, base[1] + (j - 1) * 2 * reach
                    if not fine:
                        inside = point[0] // 2 < -(-self.height // 2) and point[1] // 2 < -(-self.width // 2)
                        point = (min(point[0], self.height - 1), min(point[1], self.width - 1)) if inside else (-1, -1)
                    if 0 <= point[0] < self.height and 0 <= point[1] < self.width:
                        out[index] += weight[:, :, i, j] @ values[self.cover[point]]
        return out

    def paint(self, values: Tensor) -> Tensor:
        """Return the map (C, H, W) of the nodes' values (nodes, C)."""
        out = torch.zeros(values.shape[1], self.height, self.width)
        for row in range(self.height):
            for column in range(self.width):
                out[:, row, column] = values[self.cover[row, column]]
        return out


HAND_MADE = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


def test_nodes__positions_cover_and_values_on_a_hand_made_mask():
    naive = NaiveNodes(HAND_MADE)
    fine_nodes = [(0, 0, True), (0, 1, True), (1, 0, True), (1, 1, True)]
    assert naive.nodes == [*fine_nodes, (1, 3, False), (3, 1, False), (3, 3, False)]
    x = torch.arange(16.0).view(1, 1, 4, 4)
    nodes = Nodes(HAND_MADE[None, ::2, ::2] > 0, 2, 4, 4)
    fine, coarse = nodes.enter(x, 0)
    coarse = coarse[..., ::2, ::2]  # irregular stride: the value at the upper left of each cell
    assert fine.flatten().tolist() == [0, 1, 4, 5]
    assert coarse.flatten().tolist() == [0, 2, 8, 10]
    painted = nodes.paint(fine, coarse)
    assert painted[0, 0].tolist() == [[0, 1, 2, 2], [4, 5, 2, 2], [8, 8, 10, 10], [8, 8, 10, 10]]
    # A coarse node beside the active cell reads pixel (1, 1), value 5; fine nodes read the coarse node that covers.
    around_fine, around_coarse = nodes.surround(fine, coarse, 1)
    assert around_coarse[0, 0].tolist() == [[5, 2], [8, 10]]
    assert around_fine[0, 0].tolist() == [
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 2, 2],
        [0, 0, 4, 5, 2, 2],
        [0, 0, 8, 8, 10, 10],
        [0, 0, 8, 8, 10, 10],
    ]


@pytest.mark.parametrize("size", [(4, 4), (8, 8), (7, 9), (5, 4), (1, 1), (3, 16)])
@pytest.mark.parametrize("side", [2, 4])
@pytest.mark.parametrize("reach", [1, 2])
def test_layouts__three_convolutions_equal_the_list_of_nodes(size: tuple[int, int], side: int, reach: int):
    torch.manual_seed(0)
    height, width = size
    rows, columns = -(-height // side), -(-width // side)
    for trial in range(4):
        active = torch.rand(1, rows, columns) < (0.5, 0.2, 0.8, 0.5)[trial]
        if trial == 3:
            active[:] = False
            active[0, -1, -1] = True  # at the border, where the map may cut the region off
        mask = pixels(active, side, height, width)[0]
        weights = torch.randn(3, 4, 4, 3, 3) * 0.2
        x = torch.randn(1, 4, height, width)

        naive = NaiveNodes(mask)
        values = torch.stack([x[0, :, r, c] if fine else x[0, :, r // 2 * 2, c // 2 * 2] for r, c, fine in naive.nodes])
        for weight in weights:
            values = naive.convolve(values, weight, reach).relu() + 0.1  # values outside must stay zero nonetheless
        expected = naive.paint(values)

        for layout in (Nodes(active, side, *size), Dense(active[:, None].float(), side, *size)):
            fine, coarse = layout.enter(x, 0)
            coarse = coarse[..., ::2, ::2]
            for weight in weights:
                fine, coarse = layout.surround(fine, coarse, reach)
                fine = F.conv2d(fine, weight, padding=2 * reach * layout.pads, dilation=2 * reach).relu() + 0.1
                coarse = F.conv2d(coarse, weight, padding=reach, dilation=reach).relu() + 0.1
            assert torch.allclose(layout.paint(fine, coarse)[0], expected, atol=1e-5)


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 1.0])
def test_nodes__number_is_linear_in_the_fraction(fraction: float):
    active = torch.zeros(1, 64, dtype=torch.bool)
    active[:, : int(64 * fraction)] = True
    height = width = 64
    nodes = Nodes(active.view(1, 8, 8), 8, height, width)
    distinct = nodes.cover.unique()
    assert len(distinct) == fraction * height * width + (1 - fraction) * height * width / 4
    assert (distinct > 0).all()  # row 0 stands for points outside the image


def test_windows__halo_is_the_neighbour_inside_and_the_outside_beyond():
    index = torch.arange(1, 31).view(1, 5, 6)
    chosen = torch.tensor([[[True, False, False], [False, False, False], [False, False, True]]])
    cut = windows(index, chosen, 2, 1, 0)
    assert cut[0].tolist() == [[0, 0, 0, 0], [0, 1, 2, 3], [0, 7, 8, 9], [0, 13, 14, 15]]
    assert cut[1].tolist() == [[22, 23, 24, 0], [28, 29, 30, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    map_ = torch.randn(1, 3, 5, 6)
    tiles = F.pad(map_, (1, 1, 1, 2))[..., 0:4, 0:4]
    assert torch.equal(as_rows(tiles).view(4, 4, 3).permute(2, 0, 1), tiles[0])


def test_corners__the_lower_right_pixel_inside():
    x = torch.arange(15.0).view(1, 1, 3, 5)
    assert corners(x)[0, 0].tolist() == [[6, 8, 9], [11, 13, 14]]


def test_regions_of__finer_masks_are_pooled_and_coarser_ones_repeated():
    fine = torch.zeros(1, 1, 5, 5)
    fine[..., 2, 3] = 1
    assert regions_of(fine, 10, 9, 4)[0, 0].tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    coarse = torch.tensor([[[[0.0, 1.0]]]])
    assert regions_of(coarse, 8, 16, 4)[0, 0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1]]
    assert regions_of(coarse, 8, 15, 8) is coarse
    with pytest.raises(ValueError, match="a mask of 3x3 cells fits no map of 16x16 pixels"):
        regions_of(torch.zeros(1, 1, 3, 3), 16, 16, 8)
