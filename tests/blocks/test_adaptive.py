"""Content-adaptive stages: exact limits, independent images, training against evaluation, statistics and exports."""

from __future__ import annotations

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelkeep.blocks import ASPP, ContentAdaptiveStage, PlainStage
from pixelkeep.blocks import adaptive as module
from pixelkeep.blocks.mixed import MixedConv, MixedNorm
from pixelkeep.blocks.regions import Branches, Dense, pixels

KINDS = ("basic", "bottleneck")
SIZES = ((32, 32), (31, 27), (8, 8), (4, 4), (40, 13))


def lively(network: nn.Module) -> nn.Module:
    """Set statistics, scales and shifts to values that affect the output, and return the network in evaluation mode."""
    torch.manual_seed(1)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.3)
            for name, buffer in layer.named_buffers():
                if name.endswith("mean"):
                    buffer.normal_(0, 0.2)
                elif name.endswith("var"):
                    buffer.uniform_(0.5, 2)
    return network.eval()


def reference(stage: ContentAdaptiveStage, x: Tensor, fine: bool) -> Tensor:
    """Return the dense output of one resolution by definition: dilated by two if fine, else strided and upsampled."""

    def layer(conv: MixedConv, x: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
        norm = conv.norm
        mean, var = (norm.running_mean, norm.running_var) if fine else (norm.coarse_mean, norm.coarse_var)
        padding = dilation * (conv.conv.kernel_size[0] // 2)
        x = F.conv2d(x, conv.conv.weight, None, stride, padding, dilation)
        shape = (1, -1, 1, 1)
        x = (x - mean.view(shape)) / (var.view(shape) + norm.eps).sqrt()
        return x * norm.weight.view(shape) + norm.bias.view(shape)

    height, width = x.shape[2:]
    for block in stage.blocks:
        dilation = block.dilation * (2 if fine else 1)
        if isinstance(block, module.EntryBlock):
            y = layer(block.spatial, block.reduce(x), 1 if fine else 2).relu()
            shortcut = layer(block.shortcut, x, 1 if fine else 2)
        else:
            y = layer(block.reduce, x).relu() if block.reduce else x
            y = layer(block.spatial, y, 1, dilation).relu()
            shortcut = layer(block.shortcut, x) if block.shortcut else x
        x = (layer(block.last, y, 1, dilation) + shortcut).relu()
    return x if fine else F.interpolate(x, scale_factor=2, mode="nearest")[..., :height, :width]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("active", [0, 1])
def test_stage__limits_are_the_dense_networks(kind: str, size: tuple[int, int], dilation: int, active: int):
    stage = lively(ContentAdaptiveStage(8, 16, 3, None, kind, dilation=dilation))
    x = torch.randn(2, 8, *size)
    mask = torch.full((2, 1, -(-size[0] // 8), -(-size[1] // 8)), float(active))
    with torch.no_grad():
        expected = reference(stage, x, bool(active))
        assert torch.allclose(stage(x, mask), expected, atol=1e-5)
        traced = stage._run(x, Dense(mask, 8, *size))
        assert torch.allclose(traced, expected, atol=1e-5)
        branches = stage._run(x, Branches(mask, 8, *size))
        assert torch.allclose(branches, expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [2, 8])
def test_stage__a_batch_of_unequal_masks_equals_its_images_and_the_dense_form(
    kind: str, stride: int, side: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "BREAK_EVEN", 1.0)
    for size in SIZES:
        stage = lively(ContentAdaptiveStage(8, 16, 2, None, kind, stride, side=side))
        cells = -(-size[0] // side), -(-size[1] // side)
        mask = (torch.rand(5, 1, *cells) < torch.tensor([0.0, 0.2, 0.5, 0.8, 1.0]).view(5, 1, 1, 1)).float()
        mask[0], mask[4] = 0, 1
        x = torch.randn(5, 8, *size)
        if stride == 1:  # the input must be the output of a stage with this mask
            active = pixels(mask, side, *size)
            x = x * active + pixels(x[..., ::2, ::2], 2, *size) * (1 - active)
        with torch.no_grad():
            whole = stage(x, mask)
            assert torch.allclose(whole, torch.cat([stage(x[i : i + 1], mask[i : i + 1]) for i in range(5)]), atol=1e-5)
            assert torch.allclose(whole, stage._run(x, Dense(mask, side, *size)), atol=1e-5)
        assert stage.active_fraction == pytest.approx(mask[4].mean().item())


def test_stage__two_in_a_row_equal_one_of_all_blocks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "BREAK_EVEN", 1.0)
    both = lively(ContentAdaptiveStage(8, 16, 4, None))
    first = ContentAdaptiveStage(8, 16, 2, None)
    second = ContentAdaptiveStage(16, 16, 2, None, stride=1)
    first.blocks, second.blocks = both.blocks[:2], both.blocks[2:]
    x, mask = torch.randn(1, 8, 32, 48), (torch.rand(1, 1, 4, 6) < 0.5).float()
    with torch.no_grad():
        assert torch.allclose(second.eval()([first.eval()(x, mask), mask]), both(x, mask), atol=1e-5)


def test_stage__training_and_evaluation_differ_near_borders_of_regions_alone():
    stage = lively(ContentAdaptiveStage(4, 8, 1, None, "basic"))
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 2:6, 2:4] = 1
    x = torch.randn(1, 4, 64, 64)
    with torch.no_grad():
        differs = (stage(x, mask) - stage._run(x, Branches(mask, 8, 64, 64))).abs().amax(1)[0] > 1e-5
    # Only the second convolution reads across the border: two pixels, from fine nodes and from coarse nodes' cells.
    near = torch.zeros(64, 64, dtype=torch.bool)
    near[14:50, 14:34] = True
    near[18:46, 18:30] = False
    assert differs.any()
    assert not (differs & ~near).any()


def test_stage__statistics_in_training_are_those_of_dense_networks():
    torch.manual_seed(0)
    stage = ContentAdaptiveStage(4, 8, 1, None, "basic").train()
    x, mask = torch.randn(3, 4, 18, 14), (torch.rand(3, 1, 3, 2) < 0.5).float()
    stage(x, mask)
    norm, weight = stage.blocks[0].spatial.norm, stage.blocks[0].spatial.conv.weight
    for stride, mean, var in ((1, norm.running_mean, norm.running_var), (2, norm.coarse_mean, norm.coarse_var)):
        y = F.conv2d(x, weight, None, stride, 1)
        assert torch.allclose(mean, 0.1 * y.mean((0, 2, 3)), atol=1e-6)
        assert torch.allclose(var, 0.9 + 0.1 * y.var((0, 2, 3)), atol=1e-5)


def test_stage__weights_are_shared_and_statistics_are_not():
    stage = ContentAdaptiveStage(4, 8, 2, None)
    twin = PlainStage(4, 8, 2)
    assert {k: v.shape for k, v in stage.named_parameters()} == {k: v.shape for k, v in twin.named_parameters()}
    norm = stage.blocks[0].spatial.norm
    assert norm.running_mean.data_ptr() != norm.coarse_mean.data_ptr()
    assert len({id(p) for p in stage.parameters()}) == len(list(stage.parameters()))


def test_stage__gradients_reach_everything_in_training():
    torch.manual_seed(0)
    stage = ContentAdaptiveStage(4, 8, 2, 0.5, "basic").train()
    for layer in stage.modules():
        if isinstance(layer, MixedNorm):
            nn.init.ones_(layer.weight)
    stage(torch.randn(2, 4, 64, 64)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in stage.parameters())


def test_stage__a_mostly_active_image_becomes_active_as_a_whole_in_training_too():
    stage = lively(ContentAdaptiveStage(4, 8, 1, None))
    x = torch.randn(2, 4, 32, 32)
    mask = torch.zeros(2, 1, 4, 4)
    mask[0, :, :3] = 1  # three quarters active
    mask[1, :, :1] = 1  # one quarter active
    whole = mask.clone()
    whole[0] = 1
    with torch.no_grad():
        assert torch.equal(stage(x, mask), stage(x, whole))
        assert stage.active_fraction == pytest.approx((1 + 0.25) / 2)
    logits = mask.clone().requires_grad_()
    rounded = module.rounded_up(logits)
    assert torch.equal(rounded.detach(), whole)
    rounded.sum().backward()
    assert torch.equal(logits.grad, torch.ones_like(logits))


@pytest.mark.parametrize("kind", KINDS)
def test_stage__fusing_copying_pickling_and_tracing_change_nothing(kind: str):
    stage = lively(ContentAdaptiveStage(4, 8, 2, 0.5, kind))
    x = torch.randn(1, 4, 40, 32)
    stage.mask.threshold.fill_(stage.mask.estimator(x).quantile(0.7).item())  # makes some regions active
    with torch.no_grad():
        expected = stage(x)
        assert 0 < stage.active_fraction < 0.45
        fused = copy.deepcopy(stage)
        for layer in list(fused.modules()):
            if isinstance(layer, MixedConv):
                layer.fuse()
        assert all(layer.is_fused for layer in fused.modules() if isinstance(layer, MixedConv))
        assert torch.allclose(fused(x), expected, atol=1e-4)
        for layer in stage.modules():
            if layer.__class__.__module__.startswith("pixelkeep"):
                assert layer.__class__.__module__ == "pixelkeep.blocks"  # the module path stored in checkpoints
        file = io.BytesIO()
        torch.save(stage, file)
        file.seek(0)
        assert torch.equal(torch.load(file, weights_only=False)(x), expected)
        with pytest.warns(FutureWarning):
            traced = torch.jit.trace(stage, x)
        assert torch.allclose(traced(x), expected, atol=1e-5)
        stage.region_mask = None
        assert stage.bfloat16()(x.bfloat16()).isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stride", [1, 2])
def test_stage__gradients_in_evaluation_are_those_of_the_dense_form(kind: str, stride: int):
    """Shared buffers and in-place operations are not used where gradients are needed."""
    stage = lively(ContentAdaptiveStage(4, 8, 2, None, kind, stride))
    mask = torch.zeros(1, 1, 4, 5)
    mask[..., 1:3, 2:4] = 1
    active = pixels(mask, 8, 31, 40)
    image = torch.randn(1, 4, 31, 40)
    if stride == 1:
        image = image * active + pixels(image[..., ::2, ::2], 2, 31, 40) * (1 - active)
    weight, found = torch.randn(1, 8, 31, 40), []
    for run in (lambda x: stage(x, mask), lambda x: stage._run(x, Dense(mask, 8, 31, 40))):
        x = image.clone().requires_grad_()
        stage.zero_grad()
        (run(x) * weight).sum().backward()
        found.append([x.grad, *(p.grad.clone() for p in stage.parameters())])
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(*found, strict=True))


def test_stage__its_input_stays_as_it_was():
    stage = lively(ContentAdaptiveStage(8, 8, 2, None, "basic"))
    for mask in (torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4), torch.eye(4)[None, None]):
        for memory in (torch.contiguous_format, torch.channels_last):
            x = torch.randn(1, 8, 32, 32).contiguous(memory_format=memory)
            before = x.clone()
            with torch.no_grad():
                first = stage(x, mask)
                assert torch.equal(stage(x, mask), first)
            assert torch.equal(x, before)


@pytest.mark.parametrize("kind", KINDS)
def test_stage__autocast_is_near_full_precision(kind: str):
    """Under autocast, with a float32 input and bfloat16 between layers, the output stays near full precision."""
    stage, x = lively(ContentAdaptiveStage(8, 8, 2, None, kind)), torch.randn(1, 8, 32, 32)
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., 1:3, 2] = 1
    with torch.no_grad():
        expected = stage(x, mask)
        with torch.autocast("cpu", torch.bfloat16):
            found = stage(x, mask).float()
    assert (found - expected).norm() < 0.03 * expected.norm()


@pytest.mark.filterwarnings("ignore")
def test_stage__onnx(tmp_path):
    """The exported dense form gives the output of the tiles, for another image than the traced one."""
    onnxruntime = pytest.importorskip("onnxruntime")
    stage = lively(ContentAdaptiveStage(4, 8, 2, 0.25, "basic"))
    x = torch.randn(1, 4, 40, 24)
    with torch.no_grad():
        stage.mask.threshold.copy_(stage.mask.estimator(x).quantile(0.7))
        expected = stage(x)
    assert 0 < stage.active_fraction < 0.45
    path = str(tmp_path / "stage.onnx")
    torch.onnx.export(stage, (torch.randn(1, 4, 40, 24),), path, dynamo=False, input_names=["x"], opset_version=17)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert torch.allclose(torch.from_numpy(session.run(None, {"x": x.numpy()})[0]), expected, atol=1e-4)


def test_stage__multiply_adds_are_linear_and_those_of_the_networks_at_the_ends():
    from torch.utils.flop_counter import FlopCounterMode

    def counted(network: nn.Module) -> float:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.empty(1, 8, 64, 64, device="meta"))
        return counter.get_total_flops() / 2

    stage = ContentAdaptiveStage(8, 16, 2, 0.25).to("meta")
    dense = counted(stage) - counted(stage.mask)
    at = {p: dense - stage.saved_multiply_adds(p) for p in (0.0, 0.25, 0.5, 0.75, 1.0)}
    assert at[0.0] == counted(PlainStage(8, 16, 2, False).to("meta"))
    assert at[1.0] == counted(PlainStage(8, 16, 2, True).to("meta"))
    assert at[0.5] - at[0.25] == at[0.25] - at[0.0] == at[0.75] - at[0.5] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target_fraction": 0.0}, "between 0 and 1"),
        ({"target_fraction": 1.5}, "between 0 and 1"),
        ({"blocks": 0}, "blocks must be a positive integer"),
        ({"kind": "wide"}, "kind must be one of bottleneck, basic"),
        ({"stride": 3}, "stride must be 1 or 2"),
        ({"dilation": 0}, "dilation must be a positive integer"),
        ({"side": 6}, "side must be a power of two from 2"),
    ],
)
def test_stage__bad_arguments_are_named(arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        ContentAdaptiveStage(8, 16, **arguments)
    with pytest.raises(ValueError, match="multiple of 4"):
        ContentAdaptiveStage(8, 18)
    with pytest.raises(ValueError, match="a mask must be given"):
        ContentAdaptiveStage(8, 16, target_fraction=None)(torch.zeros(1, 8, 8, 8))


def test_aspp__parameters_and_rates():
    block = ASPP(32, 8, [2, 3])
    assert sum(p.numel() for p in block.parameters()) == (2 + 18) * 32 * 8 + 4 * 64 + 9 * 8
    assert block.eval()(torch.randn(2, 32, 9, 7)).shape == (2, 8, 9, 7)
    impulse = torch.zeros(1, 32, 15, 15)
    impulse[..., 7, 7] = 1
    with torch.no_grad():
        reached = block.branches[2].conv(impulse).abs().sum((0, 1)) > 0
    assert reached.nonzero().tolist() == [[r, c] for r in (4, 7, 10) for c in (4, 7, 10)]
    with pytest.raises(ValueError, match="rates must be positive integers"):
        ASPP(32, 8, [0])
