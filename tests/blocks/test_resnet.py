"""Proves that the residual networks are the published ones: torchvision's outputs, official counts, each downsampling
equal to its definition, and initial values that survive a reset."""

from __future__ import annotations

import pickle

import pytest
import torch
import torch.nn.functional as F
import torchvision
from networks import copy_in_order, count, fill, resnet
from torch import Tensor, nn

from pixelkeep.blocks import (
    ConvNorm,
    ConvSPDNorm,
    LIPResidualBlock,
    LIPTrunk,
    ResidualBlock,
    ResNetStage,
    SimplifiedLIP,
    SliceSamp,
    SPDConv,
    lip,
    space_to_depth,
)

torch.set_num_threads(1)
BASIC = {"kind": "basic", "depths": (2, 2, 2, 2)}
DOWNS = ["conv", "spd", "spd-shortcut", "slicesamp", "lip"]
KINDS = ["basic", "bottleneck"]


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("model", "settings"), [("resnet18", BASIC), ("resnet50", {})])
@pytest.mark.parametrize("size", [(64, 64), (65, 47)])
def test_plain__equals_torchvision(model, settings, size):
    """With torchvision's weights copied in order, the logits equal torchvision's."""
    theirs, ours = fill(getattr(torchvision.models, model)()), resnet("conv", **settings).eval()
    copy_in_order(theirs, ours)
    x = rand(2, 3, *size).float()
    with torch.no_grad():
        expected = theirs(x)
        torch.testing.assert_close(ours(x)[1], expected)
    assert expected.std() > 0.1


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: resnet("conv", **BASIC), 11_689_512),
        (lambda: resnet("conv"), 25_557_032),
        (lambda: resnet("conv", depths=(3, 4, 23, 3)), 44_549_160),
        (lambda: resnet("lip", stem=(ConvNorm(3, 64, 7, 2), SimplifiedLIP(64))), 23_864_232),
        (lambda: resnet("lip", depths=(3, 4, 23, 3), stem=(ConvNorm(3, 64, 7, 2), SimplifiedLIP(64))), 42_856_360),
        (lambda: resnet("spd", 10, stem=(SPDConv(3, 64, 1),)), 27_654_026),
        (lambda: resnet("spd", 200, stem=(SPDConv(3, 64, 1),)), 28_043_336),
        (lambda: resnet("spd", 200, stem=(SPDConv(3, 64, 1),), **BASIC), 20_565_576),
    ],
    ids=["18", "50", "101", "50-lip", "101-lip", "50-spd at 10", "50-spd at 200", "18-spd at 200"],
)
def test_networks__published_counts(build, expected):
    """The parameter counts are those of the official networks, counted from their code."""
    with torch.device("meta"):
        assert count(build()) == expected


def test_slicesamp__count_follows_from_its_formula():
    """Each replaced layer has SliceSamp's 44 i + 4 i o + 2 o parameters instead of its own."""
    block = lambda i, o: 44 * i + 4 * i * o + 2 * o  # noqa: E731
    expected = 25_557_032 + block(64, 64)  # replaces the max-pooling, which has no parameters
    for channels in (256, 512, 1024):
        width = channels // 2
        expected += block(width, width) - (9 * width**2 + 2 * width)
        expected += block(channels, 2 * channels) - (2 * channels**2 + 4 * channels)
    with torch.device("meta"):
        stem = (ConvNorm(3, 64, 7, 2), SliceSamp(64, 64))
        assert count(resnet("slicesamp", stem=stem)) == expected


def conv_norm(layer: nn.Module, x: Tensor, *, stride: int = 1, relu: bool = True) -> Tensor:
    """Apply a layer's convolution and BatchNorm as functions, and ReLU if asked."""
    kernel = layer.conv.weight
    y = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
    y = batch_norm(layer.norm, y)
    return y.clamp(min=0) if relu else y


def batch_norm(norm: nn.Module, x: Tensor) -> Tensor:
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)


def spd_spatial(layer: nn.Module, x: Tensor) -> Tensor:
    y = F.conv2d(x, layer.conv.weight, padding=1)
    return batch_norm(layer.norm, space_to_depth(y)).clamp(min=0)


def spd_shortcut(layer: nn.Module, x: Tensor) -> Tensor:
    return batch_norm(layer.norm, F.conv2d(space_to_depth(x), layer.conv.weight))


DEFINITIONS = {  # (first 3x3, shortcut) as functions of (layer, input)
    "conv": (lambda m, x: conv_norm(m, x, stride=2), lambda m, x: conv_norm(m, x, stride=2, relu=False)),
    "spd": (spd_spatial, lambda m, x: conv_norm(m, x, stride=2, relu=False)),
    "spd-shortcut": (spd_spatial, spd_shortcut),
    "slicesamp": (lambda m, x: m(x), lambda m, x: m(x)),  # tested in test_slicesamp.py
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("down", DEFINITIONS)
@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
def test_block__closed_form(kind, down, size):
    """The block is ReLU(main + shortcut), with each branch as defined in its module's table."""
    block, x = fill(ResidualBlock(8, 16, down, kind).double()), rand(2, 8, *size)
    spatial, shortcut = DEFINITIONS[down]
    *reduce, middle, expand = block.main
    assert len(reduce) == (kind == "bottleneck")
    y = conv_norm(reduce[0], x) if reduce else x
    y = conv_norm(expand, spatial(middle, y), relu=False)
    expected = (y + shortcut(block.shortcut, x)).clamp(min=0)
    assert expected.shape[2:] == (size[0] // 2 + size[0] % 2, size[1] // 2 + size[1] % 2)
    torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_lip_block__closed_form(kind):
    """Both branches are LIP followed by a 1x1 convolution, and their logits share one trunk."""
    block, x = fill(LIPResidualBlock(8, 16, kind).double()), rand(2, 8, 7, 6)
    features = block.trunk(x)
    y = conv_norm(block.reduce, x) if kind == "bottleneck" else x
    y = conv_norm(block.main[0], lip(y, block.main_head(features)))
    y = conv_norm(block.main[1], y, relu=False)
    shortcut = conv_norm(block.shortcut, lip(x, block.shortcut_head(features)), relu=False)
    torch.testing.assert_close(block(x), (y + shortcut).clamp(min=0), rtol=0, atol=1e-10)
    assert block.main[0].conv.kernel_size == (1, 1)


def test_lip_block__trunk_is_computed_once():
    """A block has one trunk and runs it once, and the trunk gets gradient from both branches."""
    block, x = fill(LIPResidualBlock(8, 16)), rand(2, 8, 6, 6).float()
    assert sum(isinstance(m, LIPTrunk) for m in block.modules()) == 1
    runs = []
    block.trunk.register_forward_hook(lambda *_: runs.append(1))
    for silenced in (block.main_head, block.shortcut_head):
        kept = silenced.conv.weight.detach().clone()
        with torch.no_grad():
            silenced.conv.weight.zero_()
        block.zero_grad()
        block(x).square().sum().backward()
        assert block.trunk.reduce.weight.grad.abs().max() > 0
        with torch.no_grad():
            silenced.conv.weight.copy_(kept)
    assert len(runs) == 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("down", ["none", *DOWNS])
def test_stage__shape_and_first_values(kind, down):
    """A stage halves its input once, rounding up, and after a reset each block still starts as its shortcut."""
    stage, x = ResNetStage(8, 16, 3, down, kind), rand(2, 8, 7, 6).float()
    for module in stage.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    first = stage[0]
    pooled = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False) if down == "lip" else x
    expected = first.shortcut.eval()(pooled).clamp(min=0)
    assert expected.shape == (2, 16, *((7, 6) if down == "none" else (4, 3)))
    torch.testing.assert_close(stage.eval()(x), expected)


def test_stage__only_the_first_block_downsamples():
    """The blocks after the first keep size and channels and have no layer in the shortcut."""
    stage = ResNetStage(8, 16, 3, "spd")
    assert len(stage) == 3 and all(isinstance(block.shortcut, nn.Identity) for block in list(stage)[1:])
    assert isinstance(ResNetStage(16, 16, 2, "none", "basic")[0].shortcut, nn.Identity)
    assert isinstance(ResNetStage(16, 16, 2, "conv", "basic")[0].shortcut, ConvNorm)


def test_spd_shortcut__reads_every_pixel():
    """The published shortcut reads one pixel in four, the option without a stride reads all of them."""
    seen = {}
    for down in ("spd", "spd-shortcut"):
        block, x = fill(ResidualBlock(4, 8, down).double()), rand(1, 4, 6, 6).requires_grad_()
        block.shortcut(x).sum().backward()
        seen[down] = (x.grad.abs().sum((0, 1)) > 0).double().mean().item()
    assert seen == {"spd": 0.25, "spd-shortcut": 1.0}


def test_convolutions__start_with_fan_out_variance():
    """Convolutions start with variance 2 / (output channels * kernel area), after a reset too."""
    conv = ConvNorm(64, 256, 3).conv
    conv.reset_parameters()
    assert conv.weight.var().item() == pytest.approx(2 / (256 * 9), rel=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((8, 16, 0), "blocks must be a positive integer, got 0"),
        ((8, 16, 2.5), "blocks must be a positive integer, got 2.5"),
        ((8, 16, 2, "pool"), "down must be one of none, conv, spd, spd-shortcut, slicesamp, lip, got 'pool'"),
        ((8, 16, 2, "conv", "deep"), "kind must be one of bottleneck, basic, got 'deep'"),
        ((8, 14, 2), "a bottleneck needs a multiple of 4 output channels, got 14"),
    ],
)
def test_stage__bad_arguments_are_refused(arguments, message):
    """Each wrong argument is refused with its value and what would be right."""
    with pytest.raises(ValueError, match=f"ResNetStage: {message}"):
        ResNetStage(*arguments)


def test_published_order__pickled_before_it_had_a_module(monkeypatch):
    """Checkpoints whose rearrangement was a function load without constructing a module and give the same output."""
    block, x = ConvSPDNorm(3, 4).eval(), torch.rand(2, 3, 7, 8)
    nn.init.uniform_(block.norm.weight), nn.init.uniform_(block.norm.bias)
    expected = block(x)
    assert torch.equal(expected, F.relu(block.norm(space_to_depth(block.conv(x)))))
    del block._modules["rearrange"]
    monkeypatch.setattr(nn.Module, "__init__", None)
    found = pickle.loads(pickle.dumps(block))
    monkeypatch.undo()
    assert torch.equal(found(x), expected) and list(found.state_dict()) == list(block.state_dict())
