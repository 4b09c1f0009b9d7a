"""Proves what every block guarantees: a stable module path, working copies, tracing, bf16 and channels_last."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from pixelkeep import blocks

torch.set_num_threads(1)
BUILDERS = {
    "ASPP": lambda: blocks.ASPP(8, 6, [1, 2]),
    "BottleneckLIP": lambda: blocks.BottleneckLIP(8, width=5),
    "Classifier": lambda: blocks.Classifier(8, 3),
    "ConvNorm": lambda: blocks.ConvNorm(8, 6, 3, 2),
    "ConvSPDNorm": lambda: blocks.ConvSPDNorm(8, 6),
    "DenseBlock": lambda: blocks.DenseBlock(8, 14, 2),
    "DenseLayer": lambda: blocks.DenseLayer(8, 3),
    "DenseTransition": lambda: blocks.DenseTransition(8, 4),
    "DenseTransition with LIP": lambda: blocks.DenseTransition(8, 4, "lip"),
    "DilatedConvNorm": lambda: blocks.DilatedConvNorm(8, 6, 3, 2),
    "DepthToSpace": lambda: blocks.DepthToSpace(),
    "FanOutConv2d": lambda: blocks.FanOutConv2d(8, 6, 3),
    "InstanceNorm": lambda: blocks.InstanceNorm(8),
    "LIP": lambda: blocks.LIP(8, 6),
    "LIPHead": lambda: blocks.LIPHead(8, 6),
    "LIPResidualBlock": lambda: blocks.LIPResidualBlock(8, 12),
    "LIPTrunk": lambda: blocks.LIPTrunk(8, 6),
    "PlainStage": lambda: blocks.PlainStage(8, 12, 2),
    "PlainStage that keeps the resolution": lambda: blocks.PlainStage(8, 12, 2, True, "basic"),
    "ResNetStage": lambda: blocks.ResNetStage(8, 12, 2, "slicesamp"),
    "ResidualBlock": lambda: blocks.ResidualBlock(8, 12, "conv", "basic"),
    "ResidualBlock with SPD": lambda: blocks.ResidualBlock(8, 12, "spd-shortcut"),
    "SPDConv": lambda: blocks.SPDConv(8, 6),
    "SPDConv with PReLU": lambda: blocks.SPDConv(8, 6, 5, activation=nn.PReLU()),
    "SliceSamp": lambda: blocks.SliceSamp(8, 6),
    "SliceUpsamp": lambda: blocks.SliceUpsamp(8, 6),
    "SimplifiedLIP": lambda: blocks.SimplifiedLIP(8),
    "SpaceToDepth": lambda: blocks.SpaceToDepth(),
    "ZeroBatchNorm2d": lambda: blocks.ZeroBatchNorm2d(8),
    "ZeroConv2d": lambda: blocks.ZeroConv2d(8, 6, 3),
}
everywhere = pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS.keys())


def first(output: torch.Tensor | tuple) -> torch.Tensor:
    """Return a block's output as a trace has it: the output itself, or the first of a pair."""
    return output[0] if isinstance(output, tuple) else output


def image(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@everywhere
def test_blocks__module_path(build):
    """Each class is found by name in `pixelkeep.blocks`, the module path stored in checkpoints."""
    cls = type(build())
    assert cls.__module__ == "pixelkeep.blocks"
    assert getattr(blocks, cls.__name__) is cls
    assert b"pixelkeep.blocks" in pickle.dumps(build()) and b"pixelkeep.blocks." not in pickle.dumps(build())


@everywhere
def test_blocks__pickle_and_deepcopy(build):
    """Pickled, deep-copied and reloaded blocks give the same output and share no memory."""
    block, x = build().eval(), image(2, 8, 6, 4)
    reloaded = build().eval()
    reloaded.load_state_dict(block.state_dict())
    expected = first(block(x))
    for twin in (pickle.loads(pickle.dumps(block)), copy.deepcopy(block), reloaded):
        assert torch.equal(first(twin(x)), expected)
        assert not {p.data_ptr() for p in twin.parameters()} & {p.data_ptr() for p in block.parameters()}


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::FutureWarning")
@everywhere
def test_blocks__trace(build):
    """A trace gives the block's output, also for another size of the same parity."""
    block = build().eval()
    with torch.no_grad():
        traced = torch.jit.trace(block, image(1, 8, 6, 4))
        for x in (image(1, 8, 6, 4), image(2, 8, 10, 8)):
            assert torch.equal(traced(x), first(block(x)))


@everywhere
def test_blocks__channels_last(build):
    """channels_last changes values by rounding only, and the output keeps that memory format."""
    block, x = build().eval(), image(2, 8, 6, 4)
    y = first(block.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last)))
    torch.testing.assert_close(y, first(block(x)))
    assert y.ndim == 2 or y.is_contiguous(memory_format=torch.channels_last)


@everywhere
def test_blocks__bfloat16(build):
    """Autocast and bfloat16 weights give the float32 output within bfloat16's precision, and finite gradients."""
    block, x = build().eval(), image(2, 8, 6, 4)
    expected = first(block(x))
    half = copy.deepcopy(block).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = first(block(x))
    for y in (mixed, first(half(x.bfloat16()))):
        torch.testing.assert_close(y.float(), expected, rtol=0.05, atol=0.05)
    x.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        block.train()(x).float().square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in [x, *block.parameters()])


def test_blocks__all_is_complete():
    """Every public class of the package is in `__all__` and is tested, here or in a file named below."""
    classes = [name for name, value in vars(blocks).items() if isinstance(value, type) and not name.startswith("_")]
    assert sorted(classes) == sorted(name for name in blocks.__all__ if isinstance(getattr(blocks, name), type))
    elsewhere = {"Swin", "SliceSampMerging"}  # channels last, and an optional package: test_swin.py
    elsewhere |= {"EdgeMask", "LearnedMask", "ObjectMask"}  # test_masks.py
    elsewhere |= {"ContentAdaptiveStage", "EntryBlock", "MixedBlock", "MixedConv", "MixedNorm"}  # test_adaptive.py
    # test_selective.py and test_submanifold.py:
    elsewhere |= {"HaloMask", "SelectivePath", "SelectiveStage", "SelectiveUnit", "SubmanifoldConv"}
    assert set(classes) - elsewhere <= {name.split()[0] for name in BUILDERS}
