"""The selective stage against its limits and its definition; its three switches, gradients and edge cases."""

from __future__ import annotations

import copy
import pickle
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from pixelkeep.blocks import selective
from pixelkeep.blocks.selective import SelectiveStage
from pixelkeep.blocks.submanifold import SubmanifoldConv

torch.set_num_threads(1)


def stage(**options) -> SelectiveStage:
    """Return a double-precision stage whose BatchNorms are not the identity."""
    torch.manual_seed(1)
    made = SelectiveStage(3, 4, **{"blocks": 2, **options}).double()
    with torch.no_grad():
        for norm in (m for m in made.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            for values in (norm.weight, norm.running_var):
                values.uniform_(0.5, 2)
            for values in (norm.bias, norm.running_mean):
                values.normal_()
    return made


def image(number: int = 2, height: int = 8, width: int = 12) -> torch.Tensor:
    return torch.randn(number, 3, height, width, dtype=torch.double, generator=torch.Generator().manual_seed(2))


def some_mask(number: int = 2, height: int = 4, width: int = 6, fraction: float = 0.3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return (torch.rand(number, 1, height, width, generator=generator) < fraction).double()


def repeated(coarse: torch.Tensor) -> torch.Tensor:
    return coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)


def masked_network(path, x: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
    """Return the unstrided path's output from the definition m * conv(m * x), using only torch's functions."""

    def layer(made: SubmanifoldConv, x: torch.Tensor) -> torch.Tensor:
        conv, norm = made.conv, made.norm
        y = F.conv2d(m * x, conv.weight, padding=conv.padding)
        return m * F.batch_norm(y, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)

    for unit in path.units:
        shortcut = x if unit.shortcut is None else layer(unit.shortcut, x)
        x = F.silu(layer(unit.second, F.silu(layer(unit.first, x))) + shortcut)
    return x


@pytest.mark.parametrize("fusion", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_stage__full_mask_is_the_dense_unstrided_stage(training, fusion):
    made = stage(fusion=fusion, teacher=False).train(training)
    x = image()
    expected = copy.deepcopy(made).high(x)
    if fusion:
        expected = expected + repeated(copy.deepcopy(made).low(x))
    torch.testing.assert_close(made(x, torch.ones(2, 1, 4, 6)), expected)


@pytest.mark.parametrize("fusion", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_stage__empty_mask_is_the_strided_stage(training, fusion):
    made = stage(fusion=fusion).train(training)
    x = image()
    expected = repeated(copy.deepcopy(made).low(x))
    torch.testing.assert_close(made(x, torch.zeros(2, 1, 4, 6)), expected)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("fusion", [True, False])
def test_stage__is_its_definition(fusion, memory):
    """The stage equals its definition for unequal masks in a batch, one of them empty, and for each image alone."""
    made = stage(fusion=fusion).eval()
    x, mask = image(3).contiguous(memory_format=memory), some_mask(3, fraction=0.2)
    mask[1] = 0
    m = repeated(mask)
    low, high = repeated(made.low(x)), masked_network(made.high, x, m)
    expected = low + m * high if fusion else torch.where(m > 0, high, low)
    got = made(x, mask)
    torch.testing.assert_close(got, expected)
    for index in range(3):
        torch.testing.assert_close(made(x[index : index + 1], mask[index : index + 1]), got[index : index + 1])


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.9])
@pytest.mark.parametrize("size", [(8, 12), (7, 11), (1, 1), (2, 3)])
def test_stage__dense_form_is_the_sparse_one(size, fraction, fused, monkeypatch):
    """The dense form of exports, and of evaluation above the break-even fraction, equals the sparse one."""
    made = stage().eval()
    x = image(2, *size)
    mask = some_mask(2, -(-size[0] // 2), -(-size[1] // 2), fraction)
    if fused:
        for layer in (m for m in made.modules() if isinstance(m, SubmanifoldConv)):
            layer.fuse()
    monkeypatch.setattr(selective, "DENSE_ABOVE", 2.0)
    sparse = made(x, mask)
    assert sparse.shape == (2, 4, *size)
    monkeypatch.setattr(selective, "DENSE_ABOVE", -1.0)
    torch.testing.assert_close(made(x, mask), sparse)
    monkeypatch.setattr(selective, "is_exporting", lambda: True)
    torch.testing.assert_close(made(x, mask), sparse)


def test_stage__odd_sizes_are_cropped_from_the_rounded_up_strided_map():
    made = stage().eval()
    x = image(1, 7, 11)
    got = made(x, torch.zeros(1, 1, 4, 6))
    torch.testing.assert_close(got, repeated(made.low(x))[:, :, :7, :11])


def test_stage__runs_densely_above_break_even_only():
    """At half of the cells dense computation takes less time, and the multiply-adds show that it is used."""
    made = stage().float().eval()
    x = image().float()

    def flops(mask: torch.Tensor) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            made(x, mask)
        return counter.get_total_flops()

    few, half, full = torch.zeros(2, 1, 4, 6), torch.zeros(2, 1, 4, 6), torch.ones(2, 1, 4, 6)
    few[:, :, :2, :2], half[:, :, :2] = 1, 1
    assert flops(torch.zeros(2, 1, 4, 6)) < flops(few) < flops(half) == flops(full)


def test_stage__sparse_part_costs_its_pairs():
    """One active mask cell is 2x2 cells of the map that all read each other: 16 pairs, or 4 in a 1x1 shortcut."""
    made = stage().float().eval()
    x = image(1).float()
    one = torch.zeros(1, 1, 4, 6)
    one[0, 0, 1, 2] = 1

    def flops(mask: torch.Tensor) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            made(x, mask)
        return counter.get_total_flops()

    layers = 16 * (3 * 4 + 4 * 4 + 4 * 4 + 4 * 4) + 4 * 3 * 4
    assert flops(one) - flops(torch.zeros(1, 1, 4, 6)) == 2 * layers


def test_stage__default_fraction_costs_less_than_a_tenth():
    """Active squares of the default target fraction, halo included, cost under a tenth of the dense path at 64x64."""
    made = SelectiveStage(8, 16).eval()
    x, mask = torch.randn(1, 8, 64, 64), torch.zeros(1, 1, 32, 32)
    mask[0, 0, 3:8, 3:8], mask[0, 0, 20:25, 11:16] = 1, 1
    assert abs(mask.mean() - made.gate.target_fraction) < 0.002

    def flops(function, *args) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            function(*args)
        return counter.get_total_flops()

    sparse = flops(made, x, mask) - flops(made, x, torch.zeros_like(mask))
    assert 0 < sparse < 0.1 * flops(made.high, x)


@pytest.mark.parametrize("side", [0, 2, 4])
def test_stage__multiply_adds_are_linear_and_at_most_the_borders_too_many(side):
    """For a square of active cells the count exceeds what runs by the pairs across the square's border only."""
    made, x, mask = stage().float().eval(), image(1, 24, 24).float(), torch.zeros(1, 1, 12, 12)
    mask[:, :, 3 : 3 + side, 3 : 3 + side] = 1

    def flops(layer, *given) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            layer(*given)
        return counter.get_total_flops()

    ran = flops(made, x, mask)
    dense = flops(made.high, x) + flops(made.low, x)
    share = mask.mean().item()
    weights = sum(m.conv.weight.numel() for m in made.high.modules() if isinstance(m, SubmanifoldConv))
    cells = (2 * side) ** 2  # cells of the map, each with nine pairs unless at the border
    inside = (3 * 2 * side - 2) ** 2 if side else 0  # pairs inside the square
    border = (9 * cells - inside) * (3 * 4 + 3 * 4 * 4)  # four 3x3 layers; the 1x1 shortcut has no border
    assert weights == 9 * (3 * 4 + 3 * 4 * 4) + 3 * 4
    assert dense - 2 * made.saved_multiply_adds(share) - 2 * border == pytest.approx(ran)
    assert made.saved_multiply_adds(0.31) == made.saved_multiply_adds(1.0) == 0


def test_fusion__adds_the_strided_stage_at_active_cells_only():
    x, mask = image(), some_mask()
    fused, replaced = stage().eval()(x, mask), stage(fusion=False).eval()(x, mask)
    m = repeated(mask)
    torch.testing.assert_close(fused - replaced, m * repeated(stage().eval().low(x)))


def test_teacher__loss_is_what_is_lost_at_the_border_of_the_active_set():
    """The loss is 0 for a full mask, positive for others, and the relative error of a network written out."""
    made = stage().train()
    x, mask = image(), some_mask()
    made(x, torch.ones(2, 1, 4, 6))
    assert made.auxiliary_loss().item() == pytest.approx(0, abs=1e-12)
    made(x, torch.zeros(2, 1, 4, 6))
    assert made.auxiliary_loss().item() == 0
    made(x, mask)
    cells = selective.ActiveCells(repeated(mask))
    rows = copy.deepcopy(made)._rows(x, cells)
    teacher = made.high(x, partial(SubmanifoldConv.beside, cells=cells))
    expected = ((rows - cells.gather(teacher)) ** 2).sum() / (cells.gather(teacher) ** 2).sum()
    assert expected > 0.01
    assert made.auxiliary_loss().item() == pytest.approx(expected.item(), rel=1e-5)


def test_teacher__loss_reaches_the_unstrided_path_only():
    made = stage().train()
    made(image(), some_mask())
    made.auxiliary_loss().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in made.high.parameters())
    assert all(p.grad is None for p in made.low.parameters())


@pytest.mark.parametrize("fusion", [True, False])
def test_teacher__gives_the_gate_a_gradient_where_nothing_is_active(fusion):
    """An inactive cell's gradient is that of activating it with the teacher's values, or with 0 without a teacher."""
    x = image()
    for teacher in (True, False):
        made = stage(fusion=fusion, teacher=teacher).train()
        mask = some_mask().requires_grad_()
        made(x, mask).sum().backward()
        low = repeated(copy.deepcopy(made).low(x))
        cells = selective.ActiveCells(repeated(mask))
        dense = copy.deepcopy(made).high(x, partial(SubmanifoldConv.beside, cells=cells))
        gain = dense * teacher - (0 if fusion else low)
        expected = F.avg_pool2d(gain.sum(1, keepdim=True), 2) * 4
        inactive = mask == 0
        torch.testing.assert_close(mask.grad[inactive], expected[inactive])
        assert mask.grad[~inactive].abs().sum() > 0


def test_teacher__changes_no_output_and_no_statistics():
    x, mask = image(), some_mask()
    outputs, statistics = [], []
    for teacher in (True, False):
        made = stage(teacher=teacher).train()
        outputs.append(made(x, mask))
        statistics.append({k: v for k, v in made.state_dict().items() if "running" in k or "tracked" in k})
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*statistics)


def test_teacher__is_of_training_alone():
    made = stage()
    assert made.auxiliary_loss() is None
    made.train()(image(), some_mask())
    assert made.auxiliary_loss() is not None
    made.eval()(image(), some_mask())
    assert made.auxiliary_loss() is None and made.gate.auxiliary_loss() is None
    made.train()
    with torch.no_grad():
        made(image(), some_mask())
    assert made.auxiliary_loss() is None
    off = stage(teacher=False).train()
    off(image(), some_mask())
    assert off.auxiliary_loss() is None


@pytest.mark.parametrize("channels_last", [False, True])
def test_stage__gradients_reach_everything(channels_last):
    """Every parameter gets a gradient, and the gate gets its own through the stage's output."""
    torch.manual_seed(0)
    made = SelectiveStage(3, 4, 2, 0.3).train()
    x = torch.randn(2, 3, 16, 16)
    made(x.contiguous(memory_format=torch.channels_last) if channels_last else x).square().sum().backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_stage__gradients_of_training_are_right():
    """With a given mask and no teacher the gradients agree with finite differences; the mask enters as a factor."""
    made = stage(blocks=1, teacher=False).train()
    x, mask = image(1, 4, 4).requires_grad_(), some_mask(1, 2, 2, 0.6)
    assert torch.autograd.gradcheck(lambda x: made(x, mask), x)
    made.eval()
    assert torch.autograd.gradcheck(lambda x: made(x, mask), x)


@pytest.mark.parametrize("count", [0, 1])
def test_stage__almost_empty_masks_train(count):
    made = stage().train()
    mask = torch.zeros(2, 1, 4, 6)
    mask[0, 0, 0, 0] = count
    made(image(), mask).sum().backward()
    assert all(p.grad.isfinite().all() for n, p in made.named_parameters() if not n.startswith("gate"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("training", [True, False])
def test_stage__half_precision(dtype, training):
    made = SelectiveStage(3, 4, 2, 0.2).train(training)
    x = torch.randn(2, 3, 16, 16)
    with torch.autocast("cpu", dtype):
        assert made(x).isfinite().all()
    if not training:
        got = copy.deepcopy(made).to(dtype)(x.to(dtype), some_mask(2, 8, 8))
        torch.testing.assert_close(got.float(), made(x, some_mask(2, 8, 8)), rtol=0.05, atol=0.05)


def test_stage__copies_and_pickles_after_training():
    """After training, copies and pickles leave out the losses with their graph and give the same output."""
    made = SelectiveStage(3, 4).train()
    made(torch.randn(2, 3, 8, 8)).sum().backward()
    for copied in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert copied.auxiliary_loss() is None and copied.gate.auxiliary_loss() is None
        x = torch.randn(1, 3, 8, 8)
        assert torch.equal(copied.eval()(x), made.eval()(x))
    assert made.teacher and made.fusion


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_fraction": 0.0}, "target_fraction must lie between 0 and 1"),
        ({"target_fraction": 1}, "target_fraction must lie between 0 and 1"),
        ({"halo": -1}, "halo must be an integer of at least 0"),
        ({"halo": 0.5}, "halo must be an integer of at least 0"),
        ({"blocks": 0}, "blocks must be a positive integer, got 0"),
    ],
)
def test_stage__refuses(options, message):
    with pytest.raises(ValueError, match=message):
        SelectiveStage(3, 4, **options)


def test_stage__hands_out_its_mask():
    """The last pass's mask is kept for drawing, but not in copies and not while a network is traced."""
    made, mask = stage(), some_mask()
    assert made.active_fraction is None
    made(image(), mask)
    assert torch.equal(made.region_mask, mask[:, 0] > 0)
    assert made.active_fraction == pytest.approx(mask.mean().item())
    assert copy.deepcopy(made).region_mask is None
    copy.deepcopy(made).to("meta")(image().to("meta"))
    torch.jit.trace(made.eval(), image(), check_trace=False)
    assert made.region_mask is None and made.active_fraction is None


def test_stage__onnx(tmp_path):
    """The exported dense form gives the output of the sparse one, for another image than the traced one."""
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    made, x = SelectiveStage(3, 4, 2, halo=0).eval(), torch.randn(1, 3, 9, 12)
    with torch.no_grad():
        made.gate.threshold.copy_(made.gate.estimator(x).quantile(0.8))
        expected = made(x)
        share = made.active_fraction
    path = tmp_path / "stage.onnx"
    torch.onnx.export(made, (torch.randn(1, 3, 9, 12),), str(path), dynamo=False, input_names=["x"])
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert 0 < share < 0.3
    torch.testing.assert_close(torch.from_numpy(session.run(None, {"x": x.numpy()})[0]), expected, rtol=1e-4, atol=1e-5)
