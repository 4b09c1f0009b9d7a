"""The hosts of selective downsampling: they build, train, are averaged, folded, exported, saved and resumed."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from ultralytics import YOLO
from ultralytics.cfg import get_cfg
from ultralytics.nn import tasks
from ultralytics.utils.torch_utils import ModelEMA

from pixelkeep.blocks import SelectiveStage
from pixelkeep.datasets.definitions.spec import load_spec
from pixelkeep.datasets.demo import write_demo
from pixelkeep.ultra.data.resolving import write_resolved
from pixelkeep.ultra.network import names
from pixelkeep.ultra.network.auxiliary import auxiliary_losses
from pixelkeep.ultra.trainers.boxes import Trainer

torch.set_num_threads(1)
HOSTS = {"yolov5-select-n": tasks.DetectionModel, "resnet18-select-sem": tasks.SemanticSegmentationModel}


def built(name: str, nc: int = 3) -> torch.nn.Module:
    torch.manual_seed(0)
    model = HOSTS[name](f"{name}.yaml", nc=nc, verbose=False)
    model.args = get_cfg()
    return model


def stages(model: torch.nn.Module) -> list[SelectiveStage]:
    return [m for m in model.modules() if isinstance(m, SelectiveStage)]


def picture(height: int, width: int, images: int = 2) -> torch.Tensor:
    """Return noise over a ramp, so that some places differ from others."""
    generator = torch.Generator().manual_seed(1)
    return torch.rand(images, 3, height, width, generator=generator) * torch.linspace(0, 1, width)


def batch(height: int = 64, width: int = 96) -> dict[str, torch.Tensor]:
    return {
        "img": picture(height, width),
        "cls": torch.zeros(1, 1),
        "bboxes": torch.tensor([[0.5, 0.5, 0.2, 0.2]]),
        "batch_idx": torch.zeros(1),
        "semantic_mask": torch.arange(2 * height * width).view(2, height, width) % 3,
    }


def settled(model: torch.nn.Module, x: torch.Tensor) -> torch.nn.Module:
    """Settle BatchNorm's statistics on pictures, open the gates for a few cells of ``x``, and switch to evaluation."""
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.momentum = 0.5
    model.train()
    with torch.no_grad():
        for _ in range(8):
            model(picture(64, 96))
    model.eval()
    for gate in (stage.gate for stage in stages(model)):
        logits = []
        hook = gate.estimator.register_forward_hook(lambda m, inputs, y, logits=logits: logits.append(y))
        with torch.no_grad():
            model(x)
            values, counts = gate.grown(logits[0]).unique(return_counts=True)
            share = counts.flip(0).cumsum(0).flip(0) / counts.sum()  # share of cells with this value or more
            first = min(int((share > 0.25).sum()), len(values) - 1)
            gate.threshold.copy_(values[first - 1 : first + 1].mean())  # halfway: rounding changes no mask
        hook.remove()
    return model


def decoded(output) -> torch.Tensor:
    return output[0] if isinstance(output, (tuple, list)) else output


@pytest.mark.parametrize("scale", "nsmlx")
def test_detector__every_scale_has_its_strides_and_channels(scale):
    """Selective stages keep strides 4 and 8, and the head's levels have the channels of yolov5 at that scale."""
    networks = {}
    for family in ("yolov5", "yolov5-select"):
        networks[family] = tasks.BaseModel()
        with torch.device("meta"):
            definition = names.parse(f"{family}-{scale}").definition()
            networks[family].model, networks[family].save = tasks.parse_model(copy.deepcopy(definition), 3, False)
    levels = {}
    for family, network in networks.items():
        head = network.train().model[-1]
        head.register_forward_pre_hook(lambda m, inputs, f=family: levels.update({f: [x.shape for x in inputs[0]]}))
        with torch.no_grad():
            network(torch.empty(2, 3, 128, 192, device="meta"))
    assert levels["yolov5-select"] == levels["yolov5"]
    assert [s.high.units[0].first.conv.stride for s in stages(networks["yolov5-select"])] == [(1, 1)] * 2
    assert [s.low.units[0].first.conv.stride for s in stages(networks["yolov5-select"])] == [(2, 2)] * 2


@pytest.mark.parametrize("name", HOSTS)
def test_host__strides(name):
    assert built(name).stride.tolist() == ([8, 16, 32] if "yolo" in name else [8])


@pytest.mark.parametrize("name", HOSTS)
def test_training__gate_and_paths_learn_from_one_step(name):
    """One step gives every parameter a gradient; gate targets, boxes and teachers' errors are all part of the loss."""
    model = built(name).train()
    data = batch()
    loss, _ = model(data)
    auxiliary = list(auxiliary_losses(model, data))
    assert len(auxiliary) == 3 * len(stages(model)) == 6
    loss.sum().backward()
    for parameter, value in model.named_parameters():
        if value.requires_grad and ".dfl." not in parameter:
            assert value.grad is not None and value.grad.isfinite().all(), parameter
    for stage in stages(model):
        assert stage.gate.estimator[-1].bias.grad.abs() > 0
        assert all(p.grad.abs().sum() > 0 for p in stage.low.units[0].parameters())


@pytest.mark.parametrize("name", HOSTS)
def test_training__bfloat16(name):
    model = built(name).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = model(batch())
    loss.sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", HOSTS)
def test_average__has_the_stages_and_their_statistics(name):
    """Ultralytics' moving average copies a model that has just trained, and evaluates as the model does."""
    model = built(name).train()
    model(batch())[0].sum().backward()
    average = ModelEMA(model, decay=0.0)
    average.update(model)
    x = picture(64, 96)
    with torch.no_grad():
        torch.testing.assert_close(decoded(average.ema.eval()(x)), decoded(model.eval()(x)))


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("size", [(64, 96), (96, 32)])
def test_fuse__changes_no_output(name, size):
    model = settled(built(name), picture(64, 96))
    x = picture(*size)
    with torch.no_grad():
        expected = decoded(model(x))
        fractions = [stage.active_fraction for stage in stages(model)]
        fused = copy.deepcopy(model).fuse(verbose=False)
        torch.testing.assert_close(decoded(fused(x)), expected, rtol=1e-3, atol=1e-3)
    assert any(fractions), fractions
    assert not [n for n, m in fused.named_modules() if isinstance(m, torch.nn.BatchNorm2d)]


@pytest.mark.parametrize("name", HOSTS)
def test_odd_size__is_padded_by_the_stages(name):
    """The stages pad maps of odd size, and a semantic host takes pictures of any size."""
    model = settled(built(name), picture(64, 96))
    for stage in stages(model):
        channels = stage.high.units[0].first.conv.in_channels
        with torch.no_grad():
            assert stage(torch.randn(1, channels, 5, 7)).shape[2:] == (5, 7)
    if "sem" in name:
        with torch.no_grad():
            assert model(picture(70, 90)).shape[2:] == (9, 12)


@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_mask__empty_and_full(fill):
    """A gate that selects nothing, or everything, stops neither training nor evaluation."""
    model = built("yolov5-select-n").train()
    for stage in stages(model):
        torch.nn.init.constant_(stage.gate.estimator[-1].bias, 100 if fill else -100)
    loss, _ = model(batch())
    loss.sum().backward()
    assert loss.isfinite().all() and [s.active_fraction for s in stages(model)] == [fill, fill]
    for stage in stages(model):
        stage.gate.threshold.zero_()
    with torch.no_grad():
        assert decoded(model.eval()(picture(64, 96))).isfinite().all()
    assert [s.active_fraction for s in stages(model)] == [fill, fill]


@pytest.mark.parametrize("name", HOSTS)
def test_compute__follows_the_active_fraction_of_the_picture(name):
    """FLOPs counted while a picture runs fall with its active fraction: what a gate leaves out costs nothing."""
    model = settled(built(name), picture(64, 96))

    def measured(threshold: float | None) -> tuple[float, int]:
        for stage in stages(model) if threshold else ():
            stage.gate.threshold.fill_(threshold)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(picture(64, 96))
        return sum(s.active_fraction for s in stages(model)), counter.get_total_flops()

    opened = measured(None)
    closed = measured(1000.0)
    assert closed[0] == 0 < opened[0] and closed[1] < opened[1]


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("form", ["torchscript", "onnx"])
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_export__dense_form_has_the_same_output(name, form, tmp_path):
    """The exported dense form has the same output, on another picture than the one that was traced."""
    yolo = YOLO(f"{name}.yaml", task="semantic" if "sem" in name else "detect")
    x = picture(128, 192, images=1)
    yolo.model = settled(built(name), x)
    yolo.model.names = dict(enumerate("abc"))
    file = tmp_path / f"{name}.pt"
    yolo.save(file)
    saved = YOLO(file)
    with torch.no_grad():
        expected = decoded(saved.model.float().eval()(x))
    fractions = [stage.active_fraction for stage in stages(saved.model)]
    assert any(0 < fraction < 0.3 for fraction in fractions), fractions  # the sparse form has run
    path = saved.export(format=form, imgsz=(128, 192), verbose=False)
    if form == "onnx":
        onnxruntime = pytest.importorskip("onnxruntime")
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        got = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])
    else:
        got = decoded(torch.jit.load(path)(x))
    if "sem" in name:
        expected = torch.nn.functional.interpolate(expected, scale_factor=8, mode="bilinear")
    if "sem" in name and form == "onnx":
        assert (got == expected.argmax(1)).float().mean() > 0.999
    else:
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-2)


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("own", [True, False], ids=["our trainer", "plain Ultralytics"])
def test_training__breaks_off_and_goes_on(own, tmp_path):
    """A training interrupted after the first of two epochs resumes with the gates' state from its checkpoint."""
    data = write_demo(tmp_path / "tiny", splits={"train": 4, "val": 2, "test": 1})
    options = {"imgsz": 64, "batch": 2, "plots": False, "workers": 0, "device": "cpu", "project": str(tmp_path)}
    data = str(write_resolved(load_spec(data))) if own else str(data)
    trainer = {"trainer": Trainer} if own else {}

    def stop(trainer):
        if trainer.epoch == 1:
            raise Interrupted

    yolo = YOLO("yolov5-select-n.yaml", verbose=False)
    yolo.add_callback("on_train_epoch_start", stop)
    with pytest.raises(Interrupted):
        yolo.train(data=data, epochs=2, name="run", **options, **trainer)
    last = Path(tmp_path) / "run" / "weights" / "last.pt"
    kept = tasks.torch_safe_load(last, safe_only=True)[0]["ema"]  # executes no code of the file
    fresh = built("yolov5-select-n")
    assert len(stages(kept)) == 2
    assert all(a.gate.threshold != b.gate.threshold for a, b in zip(stages(kept), stages(fresh), strict=True))
    resumed = YOLO(last)
    resumed.train(resume=True, **trainer)
    assert resumed.trainer.epoch == 1 and len(stages(resumed.model)) == 2
