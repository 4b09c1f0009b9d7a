"""Proves that SliceSamp and SliceUpsamp equal their closed form, and that any wrong detail would be noticed."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelkeep.blocks import SliceSamp, SliceUpsamp, depth_to_space, space_to_depth

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


def phases_by_hand(x: Tensor) -> Tensor:
    """Return the phases (N, 4C, H/2, W/2) of a map (N, C, H, W), one pixel at a time."""
    n, c, h, w = x.shape
    y = x.new_empty(n, 4 * c, h // 2, w // 2)
    for i in range(h):
        for j in range(w):
            k = i % 2 + 2 * (j % 2)
            y[:, k * c : (k + 1) * c, i // 2, j // 2] = x[:, :, i, j]
    return y


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / 2**0.5))


def norm(x: Tensor, layer: nn.BatchNorm2d, eps: float) -> Tensor:
    scale = layer.weight / torch.sqrt(layer.running_var + eps)
    return (x - layer.running_mean[:, None, None]) * scale[:, None, None] + layer.bias[:, None, None]


def separable(s: Tensor, block: nn.Module, *, inner=gelu, outer=gelu, eps: float = 1e-5) -> Tensor:
    """Return the closed form after slicing; the keyword settings stand for details that could be wrong."""
    kernel = block.depthwise.weight  # (channels, 1, k, k)
    k = kernel.shape[-1]
    windows = F.unfold(s, k, padding=k // 2).unflatten(1, (s.shape[1], k * k))  # (N, channels, k*k, H*W)
    z = torch.einsum("nckp,ck->ncp", windows, kernel.flatten(1)).unflatten(2, s.shape[2:])  # (N, channels, H, W)
    z = inner(norm(z, block.depthwise_norm, eps))
    z = torch.einsum("nchw,oc->nohw", z, block.pointwise.weight[:, :, 0, 0])
    return outer(norm(z, block.pointwise_norm, eps))


def test_slicesamp__closed_form():
    """In evaluation mode the output is the closed form, computed here without torch's convolution or GELU."""
    for k in (1, 3, 5):
        block, x = filled(SliceSamp(2, 3, k)), rand(2, 2, 8, 6, seed=9)
        torch.testing.assert_close(block(x), separable(phases_by_hand(x), block), rtol=0, atol=1e-11)


def test_sliceupsamp__closed_form():
    """In evaluation mode the output is the closed form of the map whose phases are the channel groups."""
    for k in (1, 3, 5):
        block, full = filled(SliceUpsamp(8, 3, k)), rand(2, 2, 8, 6, seed=9)
        torch.testing.assert_close(block(phases_by_hand(full)), separable(full, block), rtol=0, atol=1e-11)


WRONG = {
    "tanh inner GELU": {"inner": lambda x: F.gelu(x, approximate="tanh")},
    "tanh outer GELU": {"outer": lambda x: F.gelu(x, approximate="tanh")},
    "no inner GELU": {"inner": lambda x: x},
    "no outer GELU": {"outer": lambda x: x},
    "another eps": {"eps": 1e-3},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_slicesamp__wrong_detail_is_noticed(wrong):
    """The closed form with one wrong detail differs by far more than the tolerance above."""
    block, x = filled(SliceSamp(2, 3)), rand(2, 2, 8, 6, seed=9)
    assert (block(x) - separable(phases_by_hand(x), block, **wrong)).abs().max() > 1e-5


@pytest.mark.parametrize("order", [[0, 2, 1, 3], [3, 2, 1, 0]])
def test_slicesamp__wrong_slice_order_is_noticed(order):
    """Another order of the phases changes the output, so existing weights would not fit."""
    block, x = filled(SliceSamp(2, 3)), rand(2, 2, 8, 6, seed=9)
    s = phases_by_hand(x).unflatten(1, (4, 2))[:, order].flatten(1, 2)
    assert (block(x) - separable(s, block)).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("c1", "c2", "k", "count"), [(64, 128, 3, 35_840), (128, 256, 3, 137_216), (3, 64, 3, 1_028), (8, 16, 5, 1_408)]
)
def test_slicesamp__parameter_count(c1, c2, k, count):
    """The count is 4(k**2 + 2)c1 + 4 c1 c2 + 2 c2; at k = 3 it is 44 c1 + 4 c1 c2 + 2 c2."""
    assert 4 * (k**2 + 2) * c1 + 4 * c1 * c2 + 2 * c2 == count
    assert sum(p.numel() for p in SliceSamp(c1, c2, k).parameters()) == count


@pytest.mark.parametrize(("c1", "c2", "k", "count"), [(256, 128, 3, 9_152), (16, 5, 1, 42)])
def test_sliceupsamp__parameter_count(c1, c2, k, count):
    """The count is (k**2 + 2) c + c c2 + 2 c2 with c = c1 / 4."""
    assert (k**2 + 2) * c1 // 4 + c1 // 4 * c2 + 2 * c2 == count
    assert sum(p.numel() for p in SliceUpsamp(c1, c2, k).parameters()) == count


def test_sliceupsamp__undoes_slicing():
    """If all that follows is the identity, SliceUpsamp restores the map that SpaceToDepth took apart."""
    block, x = SliceUpsamp(12, 3), rand(2, 3, 6, 8)
    block.depthwise = block.depthwise_norm = block.pointwise = block.pointwise_norm = block.act = nn.Identity()
    assert torch.equal(block(space_to_depth(x)), x)


@pytest.mark.parametrize("block", [SliceSamp(4, 6), SliceUpsamp(4, 6)])
@pytest.mark.parametrize("size", [(5, 8), (4, 7), (3, 1)])
def test_slice_blocks__odd_sizes(block, size):
    """SliceSamp pads an odd side at the bottom or right; SliceUpsamp doubles any size."""
    block, x = filled(block), rand(1, 4, *size, seed=9)
    if isinstance(block, SliceSamp):
        assert torch.equal(block(x), block(F.pad(x, (0, size[1] % 2, 0, size[0] % 2))))
    else:
        torch.testing.assert_close(block(x), separable(depth_to_space(x), block), rtol=0, atol=1e-11)


@pytest.mark.parametrize(("channels", "nearest"), [(6, "4 or 8"), (2, "4"), (0, "4"), (-4, "4")])
def test_sliceupsamp__channels_refused(channels, nearest):
    """Input channels that are not a positive multiple of 4 are refused when the block is built."""
    with pytest.raises(ValueError, match=rf"SliceUpsamp: .*multiple of 4, got {channels} \(nearest: {nearest}\)"):
        SliceUpsamp(channels, 8)


@pytest.mark.parametrize("block", [SliceSamp, SliceUpsamp])
@pytest.mark.parametrize("k", [0, 2, -3, "3"])
def test_slice_blocks__kernel_size_refused(block, k):
    """A kernel size that is not a positive odd integer is refused with the block and the value named."""
    with pytest.raises(ValueError, match=rf"{block.__name__}: kernel_size must be .* got {k!r}"):
        block(4, 8, k)


@pytest.mark.parametrize("block", [SliceSamp, SliceUpsamp])
def test_slice_blocks__gradient(block):
    """In training mode, including batch statistics, the gradient agrees with finite differences."""
    layer = filled(block(4, 2)).train()
    assert torch.autograd.gradcheck(layer, (rand(2, 4, 2, 3, seed=9).requires_grad_(),))


@pytest.mark.parametrize("block", [SliceSamp, SliceUpsamp])
def test_slice_blocks__state_dict_keys(block):
    """The state_dict keys stay the same, because checkpoints contain them."""
    suffixes = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    keys = [
        f"{part}{key}" for part in ("depthwise", "pointwise") for key in (".weight", *(f"_norm.{s}" for s in suffixes))
    ]
    assert list(block(4, 8).state_dict()) == keys
