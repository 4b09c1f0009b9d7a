"""Proves that LIP is a weighted average over the valid cells, its limits, its initial values, and that it never
overflows."""

from __future__ import annotations

import copy
import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelkeep.blocks import LIP, BottleneckLIP, InstanceNorm, LIPHead, LIPTrunk, SimplifiedLIP, lip
from pixelkeep.blocks.lip import bounded_lip

torch.set_num_threads(1)
SIZES = [(6, 8), (5, 5), (1, 7), (4, 1), (1, 1)]
KERNELS = [2, 3, 4, 5]
POOLS = {
    "simplified": lambda: SimplifiedLIP(4),
    "bottleneck": lambda: BottleneckLIP(4, width=6),
    "bottleneck 2x2": lambda: BottleneckLIP(4, 2, 6),
}
pools = pytest.mark.parametrize("build", POOLS.values(), ids=POOLS.keys())


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(x: Tensor, weight: Tensor, kernel_size: int) -> Tensor:
    """Return the weighted average, cell by cell: windows begin (k - 1) // 2 before every second cell."""
    n, c, height, width = x.shape
    y = x.new_empty(n, c, math.ceil(height / 2), math.ceil(width / 2))
    for i in range(y.shape[2]):
        for j in range(y.shape[3]):
            top, left = 2 * i - (kernel_size - 1) // 2, 2 * j - (kernel_size - 1) // 2
            rows = slice(max(top, 0), top + kernel_size)
            columns = slice(max(left, 0), left + kernel_size)
            values, weights = x[..., rows, columns], weight[..., rows, columns]
            y[..., i, j] = (values * weights).sum((2, 3)) / weights.sum((2, 3))
    return y


def filled(block: nn.Module) -> nn.Module:
    """Return the block in double precision and evaluation mode, with parameters and statistics off their defaults."""
    block = block.double().eval()
    with torch.no_grad():
        for seed, (name, tensor) in enumerate(sorted(block.state_dict().items())):
            if tensor.is_floating_point():
                values = rand(*tensor.shape, seed=seed)
                tensor.copy_(values.abs() + 0.1 if name.endswith("running_var") else values)
    return block


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("k", KERNELS)
def test_lip__weighted_average(size, k):
    """Both implementations equal the sums over each window's cells inside the map; odd sides are halved rounding up."""
    x, logit = rand(2, 3, *size), 12 * torch.rand(2, 3, *size, dtype=torch.float64)
    expected = by_hand(x, logit.exp(), k)
    torch.testing.assert_close(lip(x, logit, k), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(bounded_lip(x, logit, k), expected, rtol=0, atol=1e-12)


def test_lip__constant_logits_are_average_pooling():
    """Equal logits give average pooling that excludes the padding."""
    for value in (-1e4, 0.0, 6.0, 1e4):
        x = rand(2, 3, 7, 6)
        expected = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
        torch.testing.assert_close(lip(x, torch.full_like(x, value)), expected, rtol=0, atol=1e-12)


def test_lip__large_logits_are_max_pooling():
    """Logits proportional to the values, with a large factor, give max pooling for any values."""
    x = rand(2, 3, 7, 6)
    for scale in (1e4, 1e6):
        torch.testing.assert_close(lip(x, scale * x), F.max_pool2d(x, 3, 2, 1), rtol=0, atol=1e-9)
    torch.testing.assert_close(lip(x.float(), 1e6 * x.float()), F.max_pool2d(x.float(), 3, 2, 1))


def test_lip__softmax_pooling():
    """Values used as their own logits give softmax-weighted pooling."""
    x = rand(2, 3, 8, 6)
    padded = F.pad(x, (1, 1, 1, 1), value=-math.inf)
    windows = F.unfold(padded.nan_to_num(neginf=-1e30), 3, stride=2).unflatten(1, (3, 9))  # (N, C, 9, positions)
    expected = (windows.softmax(2) * windows).sum(2).unflatten(2, (4, 3))
    torch.testing.assert_close(lip(x, x), expected, rtol=0, atol=1e-12)


def test_lip__shift_changes_nothing():
    """A number added to all logits of a channel cancels out."""
    x, logit = rand(2, 3, 7, 6), rand(2, 3, 7, 6, seed=1)
    shift = 1000 * rand(2, 3, 1, 1, seed=2)
    torch.testing.assert_close(lip(x, logit + shift), lip(x, logit), rtol=0, atol=1e-9)


def test_lip__gradient():
    """The gradients of both implementations with respect to values and logits agree with finite differences."""
    x, logit = rand(1, 2, 5, 4).requires_grad_(), (6 + rand(1, 2, 5, 4, seed=1)).requires_grad_()
    for k in (2, 3):
        assert torch.autograd.gradcheck(lambda a, b, k=k: lip(a, b, k), (x, logit))
        assert torch.autograd.gradcheck(lambda a, b, k=k: bounded_lip(a, b, k), (x, logit))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_lip__half_precision_is_finite(dtype):
    """Values of 200 with logits up to 12 would overflow float16 if weighted in it, yet the average is right."""
    x = torch.full((1, 2, 6, 6), 200.0, dtype=dtype)
    logit = (12 * torch.rand(1, 2, 6, 6)).to(dtype)
    assert dtype == torch.bfloat16 or not torch.isfinite(x * logit.exp()).all()
    for y in (lip(x, logit), bounded_lip(x, logit, 3)):
        assert y.dtype == dtype and torch.equal(y, torch.full_like(y, 200.0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("build", [lambda: LIP(4, 6), *POOLS.values()])
def test_modules__half_precision(build, dtype):
    """Converted modules and modules under autocast agree with float32 at values that overflow their dtype."""
    block = build().eval()
    with torch.no_grad():
        for p in block.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    x = 200 + 20 * rand(2, 4, 9, 8).float()
    expected = block(x)
    with torch.autocast("cpu", dtype=dtype):
        mixed = block(x)
    for y in (mixed, copy.deepcopy(block).to(dtype)(x.to(dtype))):
        assert torch.isfinite(y).all()
        torch.testing.assert_close(y.float(), expected, rtol=0.05, atol=0.05 * expected.abs().max().item())


@pools
@pytest.mark.parametrize("size", [(8, 6), (7, 5), (2, 2)])
@pytest.mark.parametrize("reset", [False, True], ids=["new", "after a trainer's reset"])
def test_modules__start_as_average_pooling(build, size, reset):
    """A new module is average pooling over valid cells, even after every reset_parameters has been called."""
    block, x = build(), rand(2, 4, *size).float()
    if reset:
        for module in block.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    expected = by_hand(x, torch.ones_like(x), block.kernel_size)
    torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-6)


@pools
def test_modules__closed_form(build):
    """With any weights the logits are 12 * sigmoid of what the layers' definition gives."""
    block, x = filled(build()), rand(2, 4, 7, 6, seed=9)

    def normalised(z: Tensor, layer: nn.Module) -> Tensor:
        z = (z - z.mean((2, 3), keepdim=True)) / torch.sqrt(z.var((2, 3), correction=0, keepdim=True) + 1e-5)
        return z * layer.weight[:, None, None] + layer.bias[:, None, None]

    if isinstance(block, SimplifiedLIP):
        z = normalised(F.conv2d(x, block.conv.weight, padding=1), block.norm)
    else:
        trunk, head = block.trunk, block.head
        z = normalised(F.conv2d(x, trunk.reduce.weight), trunk.reduce_norm).clamp(min=0)
        z = normalised(F.conv2d(z, trunk.spatial.weight, padding=1), trunk.spatial_norm).clamp(min=0)
        z = normalised(F.conv2d(z, head.conv.weight), head.norm)
    expected = by_hand(x, torch.exp(12 / (1 + torch.exp(-z))), block.kernel_size)
    torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(block.train()(x), expected, rtol=0, atol=1e-10)  # batch statistics are not used


@pools
def test_modules__gradient_reaches_the_logits(build):
    """A new module can learn its logits: the zero convolution has a gradient, and the rest after one step."""
    block, x = build(), rand(2, 4, 8, 6).float()
    last = block.conv if isinstance(block, SimplifiedLIP) else block.head.conv
    block(x).square().sum().backward()
    assert last.weight.grad.abs().max() > 1e-4
    with torch.no_grad():
        last.weight.sub_(0.01 * last.weight.grad)
    block(x).square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in block.parameters())


@pools
def test_modules__one_cell(build):
    """A map of one cell, which other instance normalisation refuses, passes unchanged, in training too."""
    for images in (1, 2):
        x = rand(images, 4, 1, 1).float().requires_grad_()
        torch.testing.assert_close(build().train()(x), x)
        build().train()(x).sum().backward()
        assert torch.isfinite(x.grad).all()


def test_instance_norm__equals_torch():
    """The layer equals torch's InstanceNorm2d of the same weights, and returns the shift for a single cell."""
    ours, theirs = filled(InstanceNorm(3)), nn.InstanceNorm2d(3, affine=True).double()
    theirs.load_state_dict(ours.state_dict())
    x = rand(2, 3, 5, 4)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(ours(x[:1, :, :1, :1])[0, :, 0, 0], ours.bias, rtol=0, atol=1e-6)


def test_lip_block__closed_form():
    """The block is its pooling, a 1x1 convolution, BatchNorm and the activation."""
    block, x = filled(LIP(4, 6, activation=nn.ReLU())), rand(2, 4, 7, 6, seed=9)
    y = torch.einsum("nchw,oc->nohw", block.pool(x), block.conv.weight[:, :, 0, 0])
    norm = block.norm
    y = (y - norm.running_mean[:, None, None]) / torch.sqrt(norm.running_var + 1e-5)[:, None, None]
    expected = (y * norm.weight[:, None, None] + norm.bias[:, None, None]).clamp(min=0)
    torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-10)


def test_lip_block__arguments_have_an_effect():
    """Window, width and activation take effect; the default width is half the input's channels, at most 128."""
    assert LIP(8, 6, 2).pool.kernel_size == 2 and LIP(8, 6).pool.kernel_size == 3
    widths = [LIP(channels, 8).pool.trunk.width for channels in (1, 3, 16, 256, 1024)]
    assert widths == [1, 1, 8, 128, 128] and LIP(16, 8, 3, 5).pool.trunk.width == 5
    assert isinstance(LIP(8, 6).act, nn.SiLU) and isinstance(LIP(8, 6, activation=None).act, nn.Identity)
    shared = nn.PReLU()
    assert LIP(8, 6, activation=shared).act is not shared


def count(block: nn.Module) -> int:
    return sum(p.numel() for p in block.parameters())


def test_parameters__follow_the_formulas():
    """The counts follow the docstrings' formulas and equal the differences between the published networks."""
    assert count(SimplifiedLIP(64)) == 9 * 64**2 + 2 * 64 == 36_992
    assert count(LIPTrunk(256)) == 256 * 128 + 9 * 128**2 + 4 * 128
    assert count(LIPHead(128, 512)) == 128 * 512 + 2 * 512
    transitions = sum(count(BottleneckLIP(c, 2)) for c in (128, 256, 512))
    assert transitions + count(SimplifiedLIP(64)) == 8_690_920 - 7_978_856  # LIP-DenseNet-121 less DenseNet-121
    i, o, w = 64, 48, 32
    assert count(LIP(i, o)) == 2 * i * w + 9 * w**2 + 4 * w + 2 * i + i * o + 2 * o


@pytest.mark.parametrize("build", [lip, SimplifiedLIP, BottleneckLIP, lambda c, k: LIP(c, 8, k)])
@pytest.mark.parametrize("k", [1, 0, -3, 2.0, "3"])
def test_kernel_size__refused(build, k):
    """A window that is not an integer of at least 2 is refused with its value."""
    x = rand(1, 1, 4, 4)
    with pytest.raises(ValueError, match=f"LIP: kernel_size must be an integer of at least 2, got {k!r}"):
        build(x, x, k) if build is lip else build(8, k)


@pytest.mark.parametrize("build", [lambda: LIP(4, 6), *POOLS.values()])
def test_modules__onnx(build, tmp_path):
    """The exported graph gives the module's output, also for another size of the same parity."""
    import onnxruntime

    block, path = filled(build()).float(), tmp_path / "lip.onnx"
    axes = {"x": {0: "n", 2: "h", 3: "w"}, "y": {0: "n", 2: "h", 3: "w"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = rand(1, 4, 8, 6).float()
        torch.onnx.export(block, x, path, input_names=["x"], output_names=["y"], dynamic_axes=axes, dynamo=False)
    session = onnxruntime.InferenceSession(path)
    for size in ((8, 6), (10, 12)):
        x = rand(2, 4, *size).float()
        y = torch.from_numpy(session.run(None, {"x": x.numpy()})[0])
        torch.testing.assert_close(y, block(x), rtol=1e-4, atol=1e-4)
