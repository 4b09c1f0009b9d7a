"""Submanifold convolution against its definition m * conv(m * x) for random masks; gradients, statistics and limits."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from pixelkeep.blocks.submanifold import ActiveCells, SubmanifoldConv, submanifold_conv2d

torch.set_num_threads(1)


def random_mask(number: int, height: int, width: int, fraction: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(number, 1, height, width, generator=generator) < fraction).double()


def layer(in_channels: int = 3, out_channels: int = 4, kernel_size: int = 3, **options) -> SubmanifoldConv:
    """Return a double-precision layer whose BatchNorm is not the identity."""
    torch.manual_seed(1)
    made = SubmanifoldConv(in_channels, out_channels, kernel_size, **options).double()
    with torch.no_grad():
        for values in (made.norm.weight, made.norm.running_var):
            values.uniform_(0.5, 2)
        for values in (made.norm.bias, made.norm.running_mean):
            values.normal_()
    return made


@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("fraction", [0.0, 0.02, 0.3, 0.8, 1.0])
def test_convolution__is_the_masked_dense_one(fraction, kernel_size, dilation):
    """The result is m * conv(m * x) for unequal masks in a batch, odd sizes and sizes below the dilated kernel's."""
    torch.manual_seed(0)
    weight = torch.randn(4, 3, kernel_size, kernel_size, dtype=torch.double)
    bias = torch.randn(4, dtype=torch.double)
    for seed, (height, width) in enumerate([(7, 10), (1, 5), (8, 3), (1, 1)]):
        m = random_mask(3, height, width, fraction, seed)
        for memory in (torch.contiguous_format, torch.channels_last):
            x = torch.randn(3, 3, height, width, dtype=torch.double).contiguous(memory_format=memory)
            cells = ActiveCells(m)
            rows = submanifold_conv2d(cells.gather(x), weight, cells, bias=bias, dilation=dilation)
            dense = F.conv2d(m * x, weight, bias, padding=kernel_size // 2 * dilation, dilation=dilation)
            assert rows.shape == (int(m.sum()), 4)
            torch.testing.assert_close(cells.scatter(rows), m * dense)


def test_convolution__active_set_does_not_grow():
    """Three layers give non-zero values at the active cells and at no others."""
    m = random_mask(2, 9, 9, 0.2)
    cells = ActiveCells(m)
    rows = cells.gather(torch.ones(2, 4, 9, 9, dtype=torch.double))
    for _ in range(3):
        rows = submanifold_conv2d(rows, torch.ones(4, 4, 3, 3, dtype=torch.double), cells)
    assert torch.equal(cells.scatter(rows).ne(0).all(1, keepdim=True), m.bool())


def test_convolution__images_do_not_read_each_other():
    """Neither the next image nor the next row is read across a border, although they are neighbours in memory."""
    m = torch.ones(2, 1, 3, 3)
    x = torch.zeros(2, 1, 3, 3)
    x[0, 0, 2], x[0, 0, 0, 2] = 1, 1
    cells = ActiveCells(m)
    got = cells.scatter(submanifold_conv2d(cells.gather(x), torch.ones(1, 1, 3, 3), cells))
    assert not got[1].any()
    assert got[0, 0, 1, 0] == 2 and got[0, 0, 0, 0] == 0


def test_convolution__costs_its_pairs():
    """Three active cells in a row have 3 + 2 * 2 pairs, and torch's counter agrees with the formula."""
    m = torch.zeros(1, 1, 5, 5)
    m[0, 0, 2, 1:4] = 1
    cells = ActiveCells(m)
    weight = torch.randn(6, 4, 3, 3)
    assert cells.multiply_adds(weight) == 7 * 4 * 6
    assert cells.multiply_adds(weight, dilation=2) == 5 * 4 * 6
    with FlopCounterMode(display=False) as counter:
        submanifold_conv2d(cells.gather(torch.randn(1, 4, 5, 5)), weight, cells)
    assert counter.get_total_flops() == 2 * 7 * 4 * 6


@pytest.mark.parametrize("dilation", [1, 2])
def test_convolution__gradients(dilation):
    torch.manual_seed(0)
    cells = ActiveCells(random_mask(2, 5, 4, 0.5))
    x = torch.randn(2, 2, 5, 4, dtype=torch.double, requires_grad=True)
    weight = torch.randn(3, 2, 3, 3, dtype=torch.double, requires_grad=True)
    bias = torch.randn(3, dtype=torch.double, requires_grad=True)

    def function(x, weight, bias):
        rows = submanifold_conv2d(cells.gather(x), weight, cells, bias=bias, dilation=dilation)
        return cells.scatter(rows), cells.put_(x.repeat(1, 2, 1, 1)[:, :3].contiguous(), rows, add=True)

    assert torch.autograd.gradcheck(function, (x, weight, bias))


def test_layer__gradients_through_statistics():
    torch.manual_seed(0)
    cells = ActiveCells(random_mask(2, 5, 4, 0.5))
    made = layer(2, 3).train()
    x = torch.randn(2, 2, 5, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: made.active(cells.gather(x), cells), x)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_layer__masked_form_is_the_active_one(fraction, fused):
    made = layer(dilation=2).eval()
    m = random_mask(2, 7, 6, fraction)
    x = torch.randn(2, 3, 7, 6, dtype=torch.double)
    cells = ActiveCells(m)
    before = cells.scatter(made.active(cells.gather(x), cells))
    if fused:
        made.fuse()
        assert made.is_fused and made.conv.bias is not None
    torch.testing.assert_close(cells.scatter(made.active(cells.gather(x), cells)), before)
    torch.testing.assert_close(made.masked(x, m), before)
    if fraction == 1:
        torch.testing.assert_close(made(x), before)


def test_layer__statistics_are_of_active_cells():
    """Normalised values have mean 0 and variance 1 over the active cells, whatever the other cells hold."""
    made = SubmanifoldConv(3, 4).double().train()
    m = random_mask(2, 8, 8, 0.4)
    cells = ActiveCells(m)
    x = torch.randn(2, 3, 8, 8, dtype=torch.double)
    rows = made.active(cells.gather(x), cells)
    torch.testing.assert_close(rows.mean(0), torch.zeros(4, dtype=torch.double))
    torch.testing.assert_close(rows.var(0, correction=0), torch.ones(4, dtype=torch.double), rtol=1e-3, atol=1e-3)
    mean = submanifold_conv2d(cells.gather(x), made.conv.weight, cells).mean(0)
    torch.testing.assert_close(made.norm.running_mean, 0.1 * mean)
    assert torch.equal(made.active(cells.gather(x + 100 * (1 - m)), cells), rows)


@pytest.mark.parametrize("number", [0, 1])
def test_layer__fewer_than_two_active_cells_in_training(number):
    """Fewer than two active cells are normalised as in evaluation and leave the running statistics unchanged."""
    made = layer().train()
    m = torch.zeros(2, 1, 4, 4, dtype=torch.double)
    m[1, 0, 2, 3] = number
    cells = ActiveCells(m)
    x = torch.randn(2, 3, 4, 4, dtype=torch.double, requires_grad=True)
    kept = made.norm.running_mean.clone(), made.norm.running_var.clone()
    rows = made.active(cells.gather(x), cells)
    rows.sum().backward()
    assert rows.shape == (number, 4) and made.conv.weight.grad.isfinite().all()
    assert torch.equal(made.norm.running_mean, kept[0]) and torch.equal(made.norm.running_var, kept[1])
    assert torch.equal(rows, made.eval().active(cells.gather(x), cells))


def test_layer__beside_is_normalized_as_the_active_cells():
    """`beside` uses the active cells' statistics, equals the ordinary layer if all are active, and updates nothing."""
    made = layer().train()
    x = torch.randn(2, 3, 5, 5, dtype=torch.double)
    everywhere = ActiveCells(torch.ones(2, 1, 5, 5))
    few = ActiveCells(random_mask(2, 5, 5, 0.4))
    kept = made.norm.running_mean.clone()
    beside, some = made.beside(x, everywhere), made.beside(x, few)
    assert torch.equal(made.norm.running_mean, kept)
    expected = (few.gather(some) - made.norm.bias) / made.norm.weight
    torch.testing.assert_close(expected.mean(0), torch.zeros(4, dtype=torch.double))
    torch.testing.assert_close(beside, made(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_layer__half_precision(dtype):
    """Half precision, pure and under autocast, gives the full-precision result within its tolerance."""
    made = layer().float().eval()
    cells = ActiveCells(random_mask(2, 6, 6, 0.5))
    x = torch.randn(2, 3, 6, 6)
    expected = made.active(cells.gather(x), cells)
    with torch.autocast("cpu", dtype):
        mixed = made.active(cells.gather(x), cells)
    pure = copy.deepcopy(made).to(dtype).active(cells.gather(x.to(dtype)), cells)
    assert pure.dtype == dtype
    for got in (mixed, pure):
        torch.testing.assert_close(got.float(), expected, rtol=0.05, atol=0.05)


def test_layer__weights_lie_as_matrices():
    """Copying, pickling and folding keep the memory format that avoids copying weights at run time."""
    made = layer()
    for conv in (made.conv, copy.deepcopy(made).conv, pickle.loads(pickle.dumps(made)).conv, made.fuse().conv):
        assert conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_cells__refuse_what_does_not_fit():
    with pytest.raises(ValueError, match=r"\(N, 1, H, W\), got \(1, 2, 4, 4\)"):
        ActiveCells(torch.ones(1, 2, 4, 4))
    with pytest.raises(ValueError, match=r"map \(1, 3, 4, 5\) does not fit the mask \(1, 1, 4, 4\)"):
        ActiveCells(torch.ones(1, 1, 4, 4)).gather(torch.ones(1, 3, 4, 5))
    with pytest.raises(ValueError, match="positive odd"):
        SubmanifoldConv(3, 4, 2)
