"""Proves that folding a block's BatchNorms changes no output, whatever their statistics, and which state it leaves."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pixelkeep import blocks

torch.set_num_threads(1)
BUILDERS = {
    "ConvNorm": lambda: blocks.ConvNorm(8, 6, 3, 2),
    "DenseLayer": lambda: blocks.DenseLayer(8, 3),
    "DilatedConvNorm": lambda: blocks.DilatedConvNorm(8, 6, 3, 2),
    "LIP": lambda: blocks.LIP(8, 6),
    "SPDConv": lambda: blocks.SPDConv(8, 6),
    "SPDConv with PReLU": lambda: blocks.SPDConv(8, 6, 5, activation=nn.PReLU()),
    "SliceSamp": lambda: blocks.SliceSamp(8, 6),
    "SliceUpsamp": lambda: blocks.SliceUpsamp(8, 6, 5),
    "SubmanifoldConv": lambda: blocks.SubmanifoldConv(8, 6, 3, 2),
}
STAYS = {"DenseLayer": {"reduce_norm"}}  # BatchNorms without a preceding convolution
foldable = pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS.keys())


def norms(block: nn.Module) -> set[str]:
    return {name for name, m in block.named_modules() if isinstance(m, nn.BatchNorm2d)}


def filled(block: nn.Module) -> nn.Module:
    """Return the block in double precision and evaluation mode, with random weights and statistics as if trained."""
    generator = torch.Generator().manual_seed(0)
    block = block.double().eval()
    with torch.no_grad():
        for name, tensor in block.state_dict().items():
            if tensor.is_floating_point():
                values = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
                tensor.copy_(values.abs() + 0.1 if name.endswith("running_var") else values)
    return block


def image(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@foldable
@pytest.mark.parametrize("size", [(6, 4), (7, 5)])
def test_fuse__changes_no_output(build, size):
    """The folded block equals the block within 1e-9 in double precision, at borders and for odd sizes too."""
    block, x = filled(build()), image(2, 8, *size)
    expected = block(x)
    assert block.fuse() is block
    torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-9)


@foldable
def test_fuse__own_epsilon_is_used(build):
    """Each BatchNorm is folded with its own epsilon: Ultralytics sets 1e-3 where torch has 1e-5."""
    block, x = filled(build()), image(2, 8, 6, 4)
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eps = 0.5
    expected = block(x)
    torch.testing.assert_close(block.fuse()(x), expected, rtol=0, atol=1e-9)


@foldable
def test_fuse__state(build):
    """No foldable BatchNorm remains, and the convolutions have a bias and need no gradient."""
    block = build()
    assert not block.is_fused
    block.fuse()
    assert block.is_fused
    assert norms(block) == STAYS.get(type(block).__name__, set())
    convs = [getattr(block, conv) for conv, _ in block.folds]
    assert all(c.bias is not None and not c.weight.requires_grad and not c.bias.requires_grad for c in convs)


@foldable
def test_fuse__twice_is_once(build):
    """Fusing again changes no bit of the state, and training mode changes no output unless a BatchNorm remains."""
    block, x = filled(build()), image(2, 8, 6, 4)
    before = {name: tensor.clone() for name, tensor in block.fuse().state_dict().items()}
    expected = block(x)
    after = block.fuse().state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(block.train()(x), expected) == (type(block).__name__ not in STAYS)


def test_folds__name_every_batchnorm():
    """Every public block that has BatchNorms folds all of them and is tested above."""
    tested = {type(build()) for build in BUILDERS.values()}
    for build in BUILDERS.values():
        block = build()
        assert norms(block) == {norm for _, norm in block.folds} | STAYS.get(type(block).__name__, set())
    elsewhere = {blocks.MixedConv}  # takes a pair of maps, so it is tested in test_adaptive.py
    found = {cls for cls in vars(blocks).values() if isinstance(cls, type) and hasattr(cls, "fuse")}
    assert found == tested | elsewhere
