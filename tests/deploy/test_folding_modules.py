"""Proves that folded modules equal SpaceToDepth, concatenation and convolution applied one after the other."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from pixelkeep.blocks import SPDConv, space_to_depth
from pixelkeep.blocks.folded import EvenConv2d, JointC3
from pixelkeep.deploy import fold_concat, fold_sliced, fold_spdconv, joined

torch.set_num_threads(1)
SIZES = [(8, 6), (7, 6), (8, 5), (9, 11)]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def conv(*args, seed: int = 0, **keywords) -> nn.Conv2d:
    torch.manual_seed(seed)
    return nn.Conv2d(*args, **keywords).double()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("side", [1, 3, 5])
def test_fold_sliced__same_output(side, bias, size):
    """One strided convolution gives the output of SpaceToDepth and convolution, on even and odd sizes."""
    after, x = conv(12, 5, side, padding=side // 2, bias=bias), normal(2, 3, *size)
    folded = fold_sliced(after)
    assert (folded.kernel_size, folded.stride) == ((2 * side, 2 * side), (2, 2))
    torch.testing.assert_close(folded(x), after(space_to_depth(x)), rtol=0, atol=1e-9)
    assert not any(p.requires_grad for p in folded.parameters()) and after.weight.requires_grad


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("order", [(True, False), (False, True), (True, True, False)])
def test_fold_concat__sum_of_parts(order, size):
    """A 1x1 convolution of a concatenation is a sum of convolutions, strided where SpaceToDepth preceded that part."""
    half = ((size[0] + 1) // 2, (size[1] + 1) // 2)
    parts = [normal(2, 3, *(size if s else half), seed=i) for i, s in enumerate(order)]
    widths = [12 if s else 3 for s in order]
    whole = conv(sum(widths), 7, 1)
    expected = whole(torch.cat([space_to_depth(p) if s else p for p, s in zip(parts, order, strict=True)], 1))
    torch.testing.assert_close(fold_concat(whole, widths, order)(parts), expected, rtol=0, atol=1e-9)


def test_fold_concat__refuses_other_widths():
    """Part widths that do not add up to the input channels are refused."""
    with pytest.raises(ValueError, match=r"\[12, 4\] channels are not the input"):
        fold_concat(conv(15, 2, 1), [12, 4], [True, False])


@pytest.mark.parametrize("size", SIZES)
def test_fold_spdconv__same_output(size):
    """The folded block keeps normalisation and activation, loses SpaceToDepth, and folding it again changes nothing."""
    torch.manual_seed(0)
    block = SPDConv(3, 5).double().eval()
    block.norm.running_mean.uniform_(-1, 1), block.norm.running_var.uniform_(0.5, 2)
    folded, x = copy.deepcopy(block), normal(2, 3, *size)
    fold_spdconv(folded)
    assert isinstance(folded.rearrange, nn.Identity)
    torch.testing.assert_close(folded(x), block(x), rtol=0, atol=1e-9)
    weight = folded.conv.weight
    fold_spdconv(folded)
    assert folded.conv.weight is weight
    torch.testing.assert_close(folded.fuse()(x), block(x), rtol=0, atol=1e-9)


@pytest.mark.parametrize("bias", [False, True])
def test_joined__both_outputs(bias):
    """The joint convolution gives the outputs of both convolutions, in order."""
    a, b, x = conv(4, 3, 2, 2, bias=bias), conv(4, 5, 2, 2, bias=bias, seed=1), normal(2, 4, 6, 6)
    torch.testing.assert_close(joined(a, b)(x), torch.cat((a(x), b(x)), 1), rtol=0, atol=1e-9)
    for other in (conv(4, 5, 2, 1), conv(4, 5, 2, 2, bias=not bias), conv(4, 4, 2, 2, groups=2, bias=bias)):
        with pytest.raises(ValueError, match="same form"):
            joined(a, other)


def test_joint_c3__is_the_two_branches():
    """One branch passes through the inner blocks, the other bypasses them, each with its own activation."""
    first, inner, last, x = conv(4, 6, 1), conv(3, 3, 1), conv(6, 2, 1), normal(2, 4, 5, 5)
    block = JointC3(first, (nn.ReLU(), nn.Tanh()), inner, last)
    y = first(x)
    expected = last(torch.cat((inner(y[:, :3].relu()), y[:, 3:].tanh()), 1))
    torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-12)


def test_folded__survives_copying():
    """A folded module survives deepcopy and pickling, and its classes have module paths of the blocks or of torch."""
    block = nn.ModuleList([fold_sliced(conv(12, 5, 3, padding=1)), fold_concat(conv(16, 2, 1), [12, 4], [True, False])])
    pickled = pickle.dumps(block)
    assert b"pixelkeep.deploy" not in pickled and b"pixelkeep.blocks.folded" in pickled
    x, parts = normal(1, 3, 7, 6), [normal(1, 3, 7, 6), normal(1, 4, 4, 3)]
    for twin in (pickle.loads(pickled), copy.deepcopy(block)):
        assert torch.equal(twin[0](x), block[0](x)) and torch.equal(twin[1](parts), block[1](parts))
    assert isinstance(block[0], EvenConv2d)
