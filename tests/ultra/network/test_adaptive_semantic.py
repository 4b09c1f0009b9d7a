"""The semantic hosts with content-adaptive stages: a training step, the limits, the reported costs, and export."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from ultralytics import YOLO
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import SemanticSegmentationModel

from pixelkeep.ultra.costs.measure import Watch, count_gflops

HOST = "resnet18"


def build(form: str) -> SemanticSegmentationModel:
    torch.manual_seed(0)
    model = SemanticSegmentationModel(f"{HOST}-{form}-sem.yaml", nc=3, verbose=False)
    model.args = get_cfg()
    return model


class Whole(nn.Module):
    """A mask that is active everywhere, or nowhere."""

    def __init__(self, row: nn.Module, active: bool) -> None:
        super().__init__()
        self.active = active
        self.i, self.f, self.type, self.np = row.i, row.f, row.type, row.np

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.new_full((len(x), 1, -(-x.shape[2] // 8), -(-x.shape[3] // 8)), float(self.active))


@pytest.mark.parametrize("active", [True, False])
def test_semantic_host__limits_are_the_plain_hosts(active: bool):
    """With every region active the features before ASPP are those of output stride 8, with none those of 16."""
    adaptive, plain = build("cad"), build("os8" if active else "os16")
    for row, other in ((0, 0), (2, 2), (3, 3), (5, 4), (6, 5)):  # the mask is an additional row
        plain.model[other].load_state_dict(adaptive.model[row].state_dict(), strict=False)
    adaptive.model[4] = Whole(adaptive.model[4], active)
    adaptive.eval(), plain.eval()
    x = torch.rand(2, 3, 128, 192)
    with torch.no_grad():
        for layer in list(adaptive.model)[:4]:
            x = layer(x)
        mask, y = adaptive.model[4](x), x
        for row in (5, 6):
            y = adaptive.model[row]([y, mask])
        z = plain.model[5](plain.model[4](x))
    if not active:
        assert z.shape[2:] == (8, 12)
        z = z.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.allclose(y, z, atol=1e-4 * z.abs().max().item())


def test_semantic_host__a_training_step_reaches_every_weight_and_the_mask():
    model = build("cad").train()
    batch = {"img": torch.rand(2, 3, 128, 128), "semantic_mask": torch.randint(0, 3, (2, 128, 128))}
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)  # each block's last norm starts at zero and would hide what is before it
    loss, items = model.loss(batch)
    loss.sum().backward()
    assert all(value.isfinite().all() for value in items.values())
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_semantic_host__gflops_are_linear_and_between_the_limits():
    model = build("cad")
    at = [count_gflops(model, 256, fractions=[p, p]) for p in (0.0, 0.25, 0.5, 0.75)]
    steps = [b - a for a, b in itertools.pairwise(at)]
    assert steps == pytest.approx([steps[0]] * 3)
    assert steps[0] > 0
    assert count_gflops(model, 256) == pytest.approx(at[1])  # the target fraction
    watch = Watch(model.eval())
    with torch.no_grad():
        model(torch.rand(2, 3, 128, 128))
    assert watch.fractions() == [model.model[5].active_fraction, model.model[6].active_fraction]
    watch.stop()


def settled(model: nn.Module, x: torch.Tensor) -> nn.Module:
    """Settle BatchNorm's statistics on pictures, open the mask for a quarter of the cells, and switch to evaluation."""
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.momentum = 0.5
        nn.init.ones_(norm.weight)  # each block's last norm starts at zero and would hide what is before it
    with torch.no_grad():
        for _ in range(8):
            model.train()(torch.cat([x, x.flip(3)]))
        mask, logits = model.eval().model[4], []
        hook = mask.estimator.register_forward_hook(lambda m, inputs, y: logits.append(y))
        model(x)
        hook.remove()
        values = logits[0].flatten().sort(descending=True).values
        mask.threshold.copy_(values[len(values) // 4 - 1 :][:2].mean())  # halfway: rounding changes no mask
    return model


@pytest.mark.parametrize("form", ["torchscript", "onnx"])
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_semantic_host__export_has_the_same_output(form: str, tmp_path):
    """The exported dense form agrees on a picture that was not traced, with a quarter of the regions active."""
    yolo = YOLO(f"{HOST}-cad-sem.yaml", task="semantic")
    x = torch.rand(1, 3, 256, 384, generator=torch.Generator().manual_seed(1)) * torch.linspace(0, 1, 384)
    yolo.model = settled(build("cad"), x)
    yolo.model.names = dict(enumerate("abc"))
    file = tmp_path / "cad.pt"
    yolo.save(file)
    saved = YOLO(file)
    with torch.no_grad():
        expected = saved.model.float().eval()(x)
    assert saved.model.model[5].active_fraction == saved.model.model[6].active_fraction == 0.25
    expected = nn.functional.interpolate(expected, scale_factor=8, mode="bilinear")
    path = saved.export(format=form, imgsz=(256, 384), verbose=False)
    if form == "torchscript":
        torch.testing.assert_close(torch.jit.load(path)(x), expected, rtol=1e-3, atol=1e-2)
        return
    session = pytest.importorskip("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    classes = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])
    assert len(classes.unique()) > 1
    assert (classes == expected.argmax(1)).float().mean() > 0.999
