"""Proves that SpaceToDepth permutes pixels as documented and that DepthToSpace inverts it bit for bit."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pixelkeep.blocks import DepthToSpace, SpaceToDepth, depth_to_space, space_to_depth

torch.set_num_threads(1)
LAYOUTS = [torch.contiguous_format, torch.channels_last]
tracing = pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::FutureWarning")
PHASES = [(0, 0), (1, 0), (0, 1), (1, 1)]  # (row, column)


def sliced(x: Tensor) -> Tensor:
    """Return the definition: four strided slices, concatenated."""
    return torch.cat([x[..., row::2, column::2] for row, column in PHASES], 1)


def image(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def test_space_to_depth__counted_pixels():
    """For the numbers 0 to 15 the four channels are the four phases, in the order of the papers' code."""
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    expected = [[[0, 2], [8, 10]], [[4, 6], [12, 14]], [[1, 3], [9, 11]], [[5, 7], [13, 15]]]
    assert space_to_depth(x).tolist() == [expected]


def test_space_to_depth__not_pixel_unshuffle():
    """pixel_unshuffle has another order: for two channels, SpaceToDepth is its channels [0, 4, 2, 6, 1, 5, 3, 7]."""
    x = image(2, 2, 6, 4)
    unshuffled = F.pixel_unshuffle(x, 2)
    assert not torch.equal(space_to_depth(x), unshuffled)
    assert torch.equal(space_to_depth(x), unshuffled[:, [0, 4, 2, 6, 1, 5, 3, 7]])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.uint8])
@pytest.mark.parametrize("shape", [(2, 3, 8, 6), (1, 5, 2, 10), (3, 1, 4, 4), (2, 17, 2, 2)])
def test_space_to_depth__equals_definition(shape, dtype, layout):
    """Every memory format and dtype gives four strided slices, and an unambiguous memory format is kept."""
    x = image(*shape).mul(50).to(dtype).to(memory_format=layout)
    y = space_to_depth(x)
    assert y.dtype == dtype
    assert torch.equal(y, sliced(x))
    assert y.is_contiguous(memory_format=layout) or shape[1] == 1  # one channel is contiguous in both memory formats


def test_space_to_depth__strided_view():
    """A view that is contiguous in neither memory format is rearranged by its values, not by its storage."""
    base = image(2, 6, 16, 12)
    for x in (base[:, ::2], base[..., 2:10, 1:7], base.transpose(2, 3), base.expand(2, 6, 16, 12)[:, :, ::4]):
        assert torch.equal(space_to_depth(x), sliced(x))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("height", "width"), itertools.product((4, 5), (6, 7)))
def test_space_to_depth__odd_sizes(height, width, layout):
    """An odd side gains a row of zeros at the bottom or a column at the right, and nothing else changes."""
    x = image(2, 3, height, width).to(memory_format=layout)
    padded = torch.zeros(2, 3, height + height % 2, width + width % 2)
    padded[:, :, :height, :width] = x
    y = space_to_depth(x)
    assert torch.equal(y, sliced(padded))
    assert torch.equal(depth_to_space(y)[:, :, :height, :width], x)


def test_space_to_depth__one_pixel():
    """A single pixel becomes phase (0, 0); the three others are padding."""
    assert space_to_depth(torch.full((1, 1, 1, 1), 7.0)).flatten().tolist() == [7, 0, 0, 0]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_depth_to_space__inverts_bit_for_bit(dtype, layout):
    """Both compositions are the identity bit for bit, including NaN payloads, infinities and negative zero."""
    x = image(2, 8, 6, 10, dtype=dtype)
    x[0, 0, 0, :4] = torch.tensor([float("nan"), float("inf"), float("-inf"), -0.0], dtype=dtype)
    x = x.to(memory_format=layout)
    bits = torch.int32 if dtype == torch.float32 else torch.int16
    for there, back in ((SpaceToDepth(), DepthToSpace()), (DepthToSpace(), SpaceToDepth())):
        y = back(there(x))
        assert torch.equal(y.view(bits), x.view(bits))
        assert y.is_contiguous(memory_format=layout)


def test_depth_to_space__channel_groups():
    """Channel groups k = 0, 1, 2, 3 become phases (0,0), (1,0), (0,1), (1,1)."""
    x = torch.arange(4.0).reshape(1, 4, 1, 1)
    assert depth_to_space(x).tolist() == [[[[0, 2], [1, 3]]]]


@pytest.mark.parametrize(("channels", "nearest"), [(6, "4 or 8"), (3, "4"), (9, "8 or 12")])
def test_depth_to_space__channels_not_divisible(channels, nearest):
    """A channel count not divisible by 4 is refused with the count and the nearest valid counts."""
    with pytest.raises(ValueError, match=rf"multiple of 4, got {channels} \(nearest: {nearest}\)"):
        DepthToSpace()(torch.zeros(1, channels, 2, 2))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(6, 8), (5, 7)])
def test_space_to_depth__gradient_of_definition(size, layout):
    """The gradient equals that of the strided slices exactly: a permutation that drops the padding."""
    x = image(2, 3, *size).to(memory_format=layout).requires_grad_()
    reference = x.detach().clone().requires_grad_()
    y = space_to_depth(x)
    weight = image(*y.shape, seed=1)
    (y * weight).sum().backward()
    (sliced(F.pad(reference, (0, size[1] % 2, 0, size[0] % 2))) * weight).sum().backward()
    assert torch.equal(x.grad, reference.grad)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("function", [space_to_depth, depth_to_space])
def test_rearrangement__gradcheck(function, layout):
    """First and second derivatives agree with finite differences in double precision."""
    x = image(2, 4, 3, 2, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    assert torch.autograd.gradcheck(function, (x,))
    assert torch.autograd.gradgradcheck(function, (x,))


@tracing
@pytest.mark.parametrize("size", [(6, 8), (5, 7)])
@pytest.mark.parametrize("block", [SpaceToDepth(), DepthToSpace()])
def test_rearrangement__trace(block, size):
    """A trace gives the same bits, also for another batch size and another size of the same parity."""
    traced = torch.jit.trace(block, image(1, 8, *size))
    for x in (image(1, 8, *size), image(3, 8, size[0] + 4, size[1] + 2)):
        assert torch.equal(traced(x), block(x))


@tracing
@pytest.mark.parametrize("block", [SpaceToDepth(), DepthToSpace()])
def test_rearrangement__trace_rank(block):
    """A trace has no tensor of more than five dimensions, because some deployment runtimes support none."""
    graph = torch.jit.trace(block, image(1, 8, 4, 4)).inlined_graph
    outputs = [out.type() for node in graph.nodes() for out in node.outputs()]
    ranks = [t.dim() for t in outputs if t.kind() == "TensorType" and t.dim() is not None]
    assert 4 <= max(ranks) <= 5


@pytest.mark.parametrize("function", [space_to_depth, depth_to_space])
def test_rearrangement__whole_graph(function):
    """torch.compile captures each function without a graph break, in both memory formats and for an odd size."""
    compiled = torch.compile(function, fullgraph=True, backend="eager")
    x = image(2, 8, 6, 4)
    for y in (x, x.to(memory_format=torch.channels_last), image(2, 8, 5, 3)):
        assert torch.equal(compiled(y), function(y))


def test_rearrangement__meta():
    """Shapes are inferred on the meta device without memory for values."""
    x = torch.empty(2, 8, 1001, 640, device="meta")
    assert space_to_depth(x).shape == (2, 32, 501, 320)
    assert depth_to_space(x).shape == (2, 2, 2002, 1280)


def test_rearrangement__no_state():
    """Neither module holds a parameter or buffer, so neither adds a key to a checkpoint."""
    assert not SpaceToDepth().state_dict() and not DepthToSpace().state_dict()
