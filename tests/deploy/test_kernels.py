"""Proves that a strided convolution equals SpaceToDepth with a suitable convolution, and how the kernels correspond."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelkeep.blocks import space_to_depth
from pixelkeep.deploy import Kernel, dense, group_major, to_spd, to_strided, trimmed

torch.set_num_threads(1)
SIZES = [(8, 8), (12, 8), (9, 11), (7, 8), (12, 13)]
# Kernel and padding of strided convolutions whose output has half the size: 2p + 1 or 2p + 2.
HALVING = [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (6, 2), (7, 3), (8, 3)]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def apply(kernel: Kernel, x: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.conv2d(x, kernel.weight, bias, kernel.stride, kernel.padding, groups=kernel.groups)


def even(x: Tensor) -> Tensor:
    return F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("side", "padding"), HALVING)
def test_to_spd__same_function(side, padding, size):
    """After SpaceToDepth the converted kernel gives the strided output, with odd sizes padded by a row of zeros."""
    pixels, x, bias = Kernel(normal(5, 3, side, side), 2, padding), normal(2, 3, *size, seed=1), normal(5, seed=2)
    cells = to_spd(pixels)
    assert cells.size == 2 * cells.padding + 1  # the form of an SPDConv
    y = apply(cells, space_to_depth(x), bias)
    assert y.shape[2:] == ((size[0] + 1) // 2, (size[1] + 1) // 2)
    torch.testing.assert_close(y, apply(pixels, even(x), bias), rtol=0, atol=1e-9)
    if pixels.keeps_shape:
        torch.testing.assert_close(y, apply(pixels, x, bias), rtol=0, atol=1e-9)


@pytest.mark.parametrize("stride", [2, 4, 6])
@pytest.mark.parametrize("side", range(1, 9))
@pytest.mark.parametrize("padding", range(4))
def test_to_spd__any_even_stride_and_padding(side, padding, stride):
    """For any kernel, padding and even stride, shape and values are the same on even sizes."""
    pixels, x = Kernel(normal(4, 2, side, side), stride, padding), normal(1, 2, 24, 20, seed=1)
    y = apply(to_spd(pixels), space_to_depth(x))
    torch.testing.assert_close(y, apply(pixels, x), rtol=0, atol=1e-9)


def test_to_spd__smallest_kernel():
    """3x3 and 6x6 kernels become the 3x3 kernel of the models, and 2x2 becomes 1x1."""
    found = {(k, p): to_spd(Kernel(normal(1, 1, k, k), 2, p)).weight.shape[1:] for k, p in HALVING}
    assert {key: (c, side) for key, (c, side, _) in found.items()} == {
        (1, 0): (4, 1),
        (2, 0): (4, 1),
        (3, 1): (4, 3),
        (4, 1): (4, 3),
        (5, 2): (4, 3),
        (6, 2): (4, 3),
        (7, 3): (4, 5),
        (8, 3): (4, 5),
    }


def test_to_spd__places_of_a_3x3():
    """By hand: row and column -1 are phase 1 of the previous cell, 0 and 1 are the phases of the cell itself."""
    weight = torch.arange(1.0, 10).reshape(1, 1, 3, 3)
    cells = to_spd(Kernel(weight, 2, 1)).weight[0]  # (phase, u, v), phases (0,0), (1,0), (0,1), (1,1)
    expected = torch.zeros(4, 3, 3)
    expected[0, 1, 1] = 5
    expected[1, 0, 1], expected[1, 1, 1] = 2, 8
    expected[2, 1, 0], expected[2, 1, 1] = 4, 6
    expected[3, 0, 0], expected[3, 0, 1], expected[3, 1, 0], expected[3, 1, 1] = 1, 3, 7, 9
    assert torch.equal(cells, expected)


@pytest.mark.parametrize(("side", "padding", "size"), [(3, 1, 5), (6, 2, 5), (2, 0, 3), (1, 0, 3)])
def test_to_spd__in_a_larger_kernel(side, padding, size):
    """A kernel can also be embedded in a larger one than it needs."""
    pixels, x = Kernel(normal(4, 2, side, side), 2, padding), normal(1, 2, 10, 8, seed=1)
    cells = to_spd(pixels, size, size // 2)
    assert cells.size == size
    torch.testing.assert_close(apply(cells, space_to_depth(x)), apply(pixels, x), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("kernel", "size", "words"),
    [
        (Kernel(normal(1, 1, 3, 3), 1, 1), None, "even stride"),
        (Kernel(normal(1, 1, 3, 3), 3, 1), None, "even stride"),
        (Kernel(normal(1, 1, 6, 6), 2, 2), 1, "does not lie inside a 1x1"),
        (Kernel(normal(1, 1, 3, 3), 2, 0), 3, "padding 0 does not lie inside a 3x3"),
        (Kernel(normal(1, 1, 9, 9), 2, 4), 3, "does not lie inside"),
    ],
)
def test_to_spd__refuses(kernel, size, words):
    """Odd strides, and kernels that reach too far or give another output shape, are refused."""
    with pytest.raises(ValueError, match=words):
        to_spd(kernel, size, None if size is None else size // 2)


@pytest.mark.parametrize("size", [(8, 6), (7, 9)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("side", "padding"), [(1, 0), (2, 0), (3, 0), (3, 1), (5, 2), (4, 1)])
def test_to_strided__same_function(side, padding, stride, size):
    """A convolution of the cells is one of the pixels: 3x3 becomes 6x6 with stride 2, and 1x1 becomes 2x2."""
    cells, x, bias = Kernel(normal(5, 12, side, side), stride, padding), normal(2, 3, *size, seed=1), normal(5, seed=2)
    if (size[0] + 1) // 2 + 2 * padding < side:
        pytest.skip("the map is smaller than the kernel")
    pixels = to_strided(cells)
    assert (pixels.size, pixels.stride, pixels.padding) == (2 * side, 2 * stride, 2 * padding)
    expected = apply(cells, space_to_depth(x), bias)
    torch.testing.assert_close(apply(pixels, even(x), bias), expected, rtol=0, atol=1e-9)


def test_to_strided__refuses_other_channels():
    """Input channels that are not a multiple of four cannot come from SpaceToDepth and are refused."""
    with pytest.raises(ValueError, match=r"multiple of 4, got 6"):
        to_strided(Kernel(normal(1, 6, 3, 3), 1, 1))


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(("side", "padding"), HALVING)
def test_round_trip__returns_the_start(side, padding, groups):
    """Converting to SpaceToDepth, folding back and trimming restores kernel, stride and padding bit for bit."""
    start = Kernel(normal(8, 4 // groups, side, side), 2, padding, groups)
    end = trimmed(to_strided(to_spd(start)))
    assert torch.equal(end.weight, start.weight)
    assert (end.stride, end.padding, end.groups) == (2, padding, groups)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
@pytest.mark.parametrize(("side", "padding"), [(3, 1), (6, 2), (2, 0)])
def test_groups__group_major_slices(side, padding, groups):
    """A grouped kernel takes group-major slices; without groups it takes the slices in SpaceToDepth's order."""
    pixels, x = Kernel(normal(12, 6 // groups, side, side), 2, padding, groups), normal(2, 6, 9, 8, seed=1)
    cells, expected = to_spd(pixels), apply(pixels, even(x))
    slices = space_to_depth(x)
    y = apply(cells, slices[:, group_major(6, groups)])
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(apply(dense(cells), slices), expected, rtol=0, atol=1e-9)
    if groups > 1:  # the original order of the slices would mix the groups
        assert (apply(cells, slices) - expected).abs().max() > 0.1


def test_group_major__by_hand():
    """With four channels in two groups, channels 0 and 1 of each phase come first, then channels 2 and 3."""
    order = [0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15]
    assert group_major(4, 2).tolist() == order
    with pytest.raises(ValueError, match="divide the 4 channels, got 3"):
        group_major(4, 3)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("zeros", [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (0, 3)])
def test_trimmed__same_function(zeros, size):
    """Trimming zeros around the kernel changes neither values nor shape, on odd sizes either."""
    weight = normal(3, 2, 6, 6)
    weight[..., : zeros[0], :] = 0
    weight[..., :, : zeros[0]] = 0
    weight[..., 6 - zeros[1] :, :] = 0
    weight[..., :, 6 - zeros[1] :] = 0
    whole, x = Kernel(weight, 2, 2), normal(2, 2, *size, seed=1)
    small = trimmed(whole)
    assert small.size <= whole.size
    expected = apply(whole, even(x))
    torch.testing.assert_close(apply(small, even(x)), expected, rtol=0, atol=1e-9)
    if small.keeps_shape:
        torch.testing.assert_close(apply(small, x), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("conv", "words"),
    [
        (nn.Conv2d(2, 2, (3, 1), 2), "square"),
        (nn.Conv2d(2, 2, 3, (2, 1)), "square"),
        (nn.Conv2d(2, 2, 3, 1, "same"), "square"),
        (nn.Conv2d(2, 2, 3, 2, 1, dilation=2), "dilated"),
        (nn.Conv2d(2, 2, 3, 2, 1, padding_mode="reflect"), "zeros"),
    ],
)
def test_kernel__refuses_other_forms(conv, words):
    """Dilated, rectangular and non-zero-padded convolutions are refused instead of being converted wrongly."""
    with pytest.raises(ValueError, match=words):
        Kernel.of(conv)
