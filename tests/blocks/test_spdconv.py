"""Proves that SPDConv is one strided convolution of twice the kernel, with BatchNorm and the chosen activation."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelkeep.blocks import SPDConv

torch.set_num_threads(1)


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def filled(block: nn.Module) -> nn.Module:
    """Return the block in double precision and evaluation mode, with parameters and statistics off their defaults."""
    block = block.double().eval()
    with torch.no_grad():
        for seed, (name, tensor) in enumerate(sorted(block.state_dict().items())):
            if tensor.is_floating_point():
                values = rand(*tensor.shape, seed=seed)
                tensor.copy_(values.abs() + 0.1 if name.endswith("running_var") else values)
    return block


def scattered(weight: Tensor) -> Tensor:
    """Return the strided kernel (O, C, 2k, 2k) that equals kernel (O, 4C, k, k) after SpaceToDepth."""
    out_channels, channels, kernel = weight.shape[0], weight.shape[1] // 4, weight.shape[2]
    full = weight.new_zeros(out_channels, channels, 2 * kernel, 2 * kernel)
    for k, (row, column) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
        full[:, :, row::2, column::2] = weight[:, k * channels : (k + 1) * channels]
    return full


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_spdconv__equals_strided_convolution(kernel):
    """SpaceToDepth and a k x k convolution equal one with kernel 2k, stride 2 and padding 2*(k // 2)."""
    block = filled(SPDConv(3, 5, kernel))
    block.norm, block.act = nn.Identity(), nn.Identity()
    x = rand(2, 3, 12, 16, seed=9)
    strided = F.conv2d(x, scattered(block.conv.weight), stride=2, padding=kernel // 2 * 2)
    torch.testing.assert_close(block(x), strided, rtol=0, atol=1e-12)


def test_spdconv__contains_strided_convolution():
    """A 3 x 3 convolution with stride 2 and padding 1 is the case of 27 zeros in 36 weights, on odd sizes too."""
    block, kernel = filled(SPDConv(3, 5)), rand(5, 3, 3, 3, seed=7)
    block.norm, block.act = nn.Identity(), nn.Identity()
    full = F.pad(kernel, (1, 2, 1, 2))  # (5, 3, 6, 6): the middle covers offsets -1, 0, 1 of each output
    phases = [full[:, :, row::2, column::2] for row, column in [(0, 0), (1, 0), (0, 1), (1, 1)]]
    with torch.no_grad():
        block.conv.weight.copy_(torch.cat(phases, 1))
    for x in (rand(2, 3, 12, 16, seed=9), rand(2, 3, 11, 7, seed=9)):
        torch.testing.assert_close(block(x), F.conv2d(x, kernel, stride=2, padding=1), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("activation", "function"),
    [(nn.SiLU(), F.silu), (nn.ReLU(), F.relu), (None, lambda x: x), (nn.PReLU(init=0.1), None)],
)
def test_spdconv__closed_form(activation, function):
    """In evaluation mode the output is act(gamma * (z - mean) / sqrt(var + 1e-5) + beta), z the convolution."""
    block = filled(SPDConv(2, 4, activation=activation))
    function = function or (lambda x: F.prelu(x, block.act.weight))
    x = rand(2, 2, 8, 6, seed=9)
    z = F.conv2d(x, scattered(block.conv.weight), stride=2, padding=2)
    mean, var, gamma, beta = (
        t[:, None, None] for t in (block.norm.running_mean, block.norm.running_var, block.norm.weight, block.norm.bias)
    )
    expected = function(gamma * (z - mean) / torch.sqrt(var + 1e-5) + beta)
    torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-11)
    block.norm.eps = 1e-3
    assert (block(x) - expected).abs().max() > 1e-5


def test_spdconv__default_activation():
    """The default activation is SiLU, and another one changes the result."""
    x = rand(1, 2, 4, 4, seed=9)
    default, silu, none = (
        filled(b)(x) for b in (SPDConv(2, 3), SPDConv(2, 3, activation=nn.SiLU()), SPDConv(2, 3, activation=None))
    )
    assert torch.equal(default, silu)
    assert not torch.equal(default, none)


@pytest.mark.parametrize(("c1", "c2", "k"), [(3, 16, 3), (64, 128, 3), (64, 128, 1), (8, 4, 5)])
def test_spdconv__parameter_count(c1, c2, k):
    """The count is 4 * k**2 * c1 * c2 + 2 * c2: four times the weights of the strided k x k convolution."""
    strided = sum(p.numel() for p in nn.Conv2d(c1, c2, k, 2, bias=False).parameters())
    assert sum(p.numel() for p in SPDConv(c1, c2, k).parameters()) == 4 * strided + 2 * c2


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 6)])
def test_spdconv__output_size(size, k):
    """Any kernel gives ceil(H/2) x ceil(W/2), as the 3 x 3 convolution with stride 2 and padding 1 does."""
    x = torch.zeros(1, 3, *size)
    assert SPDConv(3, 4, k).eval()(x).shape == nn.Conv2d(3, 4, 3, 2, 1)(x).shape


def test_spdconv__odd_size_padding():
    """An odd-sized input gives the same output as the input zero-padded at the bottom and right."""
    block, x = filled(SPDConv(2, 3)), rand(1, 2, 5, 7, seed=9)
    assert torch.equal(block(x), block(F.pad(x, (0, 1, 0, 1))))


@pytest.mark.parametrize("k", [0, 2, 4, -1, 3.0, (3, 3)])
def test_spdconv__kernel_size_refused(k):
    """A kernel size that is not a positive odd integer is refused with its value in the message."""
    with pytest.raises(ValueError, match=r"SPDConv: kernel_size must be a positive odd integer") as error:
        SPDConv(3, 4, k)
    assert repr(k) in str(error.value)


def test_spdconv__activation_not_shared():
    """Two blocks built with one PReLU learn separate slopes, and the caller's module stays unchanged."""
    prelu = nn.PReLU(init=0.3)
    first, second = SPDConv(2, 3, activation=prelu), SPDConv(2, 3, activation=prelu)
    with torch.no_grad():
        first.act.weight.fill_(0.9)
    assert second.act.weight.item() == prelu.weight.item() == pytest.approx(0.3)
    assert SPDConv(2, 3).act is not SPDConv(2, 3).act


def test_spdconv__gradient():
    """The gradients of input and weights agree with finite differences in double precision."""
    block = SPDConv(1, 2).double()
    x = rand(2, 1, 4, 3, seed=9).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, w: F.silu(block.norm(F.conv2d(block.rearrange(x), w, padding=1))), (x, block.conv.weight)
    )


def test_spdconv__state_dict_keys():
    """The state_dict keys stay the same, because checkpoints contain them."""
    norm = ["norm.weight", "norm.bias", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked"]
    assert list(SPDConv(3, 4).state_dict()) == ["conv.weight", *norm]
