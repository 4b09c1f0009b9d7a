"""Training on a CPU: channels-last layout changes no result, and bf16 changes results only as much as it must."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from ultralytics import YOLO
from ultralytics.nn.tasks import BaseModel

from pixelkeep.cli.main import run
from pixelkeep.datasets.definitions.spec import load_spec
from pixelkeep.datasets.demo import write_demo
from pixelkeep.ultra.data.resolving import write_resolved
from pixelkeep.ultra.trainers import cpu
from pixelkeep.ultra.trainers.boxes import Trainer

torch.set_num_threads(1)
BLOCKS = ("", "-spd", "-spdconv", "-slicesamp-up", "-lip", "-cad", "-select", "-keep")
MODELS = (*(f"yolov5{block}-n" for block in BLOCKS), "yolo26-spd-n", "resnet18-cad-sem", "resnet18-select-sem")


def network(name: str) -> BaseModel:
    torch.manual_seed(0)
    model = YOLO(f"{name}.yaml").model.train()
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return model


def tensors(found) -> list[torch.Tensor]:
    if isinstance(found, torch.Tensor):
        return [found] if found.is_floating_point() else []
    return [tensor for part in (found.values() if isinstance(found, dict) else found) for tensor in tensors(part)]


def learnt(model: BaseModel, images: torch.Tensor, forward=BaseModel.predict) -> tuple[list, list]:
    """Return a network's outputs and the gradients of their mean squares."""
    torch.manual_seed(1)
    found = tensors(forward(model, images))
    sum((tensor**2).mean() for tensor in found if tensor.requires_grad).backward()
    return found, [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("name", MODELS)
def test_innermost__same_function_and_gradients(name):
    """Every block computes the same forwards and backwards in channels-last layout, which Ultralytics uses on CUDA."""
    model, images = network(name).double(), torch.rand(2, 3, 96, 96, dtype=torch.float64)
    laid_out = cpu.with_channels_innermost(copy.deepcopy(model))
    for former, latter in zip(learnt(model, images), learnt(laid_out, images), strict=True):
        largest = max(float(tensor.detach().abs().max()) for tensor in former)
        torch.testing.assert_close(latter, former, rtol=1e-6, atol=1e-9 * largest)


@pytest.mark.parametrize("name", MODELS)
def test_bf16__every_block_learns(name):
    """Convolutions run in bf16, while outputs and gradients are fp32 and finite."""
    model, images = network(name), torch.rand(4, 3, 96, 96)
    exact = tensors(copy.deepcopy(model)(images))
    found, gradients = learnt(model, images, cpu.in_bf16(BaseModel.predict))
    assert {tensor.dtype for tensor in (*found, *gradients)} == {torch.float32}
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert any(not torch.equal(a, b) for a, b in zip(exact, found, strict=True))


def test_bf16__validation_stays_in_fp32():
    """A network in evaluation mode computes in fp32 as always."""
    model, images = network("yolov5-spd-n").eval(), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(cpu.in_bf16(BaseModel.predict)(model, images)[0], model(images)[0])


@pytest.mark.parametrize(
    ("given", "machine", "system", "expected"),
    [
        (None, "x86_64", "Linux", True),
        (None, "x86_64", "Windows", False),
        (None, "arm64", "Darwin", False),
        (True, "arm64", "Darwin", True),
        (False, "x86_64", "Linux", False),
    ],
)
def test_innermost__by_machine_unless_given(monkeypatch, given, machine, system, expected):
    """Channels-last is the default where it was measured to pay, and channels_last overrides it."""
    monkeypatch.setattr(cpu.platform, "machine", lambda: machine)
    monkeypatch.setattr(cpu.platform, "system", lambda: system)
    assert cpu.innermost(SimpleNamespace(channels_last=given)) is expected


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("demo")
    return str(write_resolved(load_spec(write_demo(folder, splits={"train": 4, "val": 2, "test": 1}))))


def trained(data: str, folder, **settings) -> Trainer:
    overrides = dict(model="yolov5-spd-n.yaml", data=data, epochs=1, batch=2, imgsz=64, workers=0, device="cpu")
    trainer = Trainer(overrides=overrides | dict(project=str(folder), name="x", plots=False, val=False) | settings)
    trainer.train()
    return trainer


def test_train__innermost_and_saved_as_always(data, tmp_path, monkeypatch):
    """The network trains in channels-last layout, but its checkpoint is laid out like Ultralytics'."""
    monkeypatch.setattr(cpu, "innermost", lambda args: True)
    trainer = trained(data, tmp_path, channels_last=True)
    layouts = {p.is_contiguous(memory_format=torch.channels_last) for p in trainer.model.parameters() if p.ndim == 4}
    saved = torch.load(trainer.last, weights_only=False)
    assert layouts == {True} and all(p.is_contiguous() for p in saved["model"].parameters())
    assert saved["train_args"]["channels_last"] is True


def test_train__bf16(data, tmp_path, monkeypatch):
    """amp=bf16 trains in bf16 on a CPU and is kept in the checkpoint, and no patch outlives the training."""
    plain, seen = BaseModel.predict, []
    monkeypatch.setattr(cpu, "_in_float", lambda found, own=cpu._in_float: seen.append(found) or own(found))
    trainer = trained(data, tmp_path, amp="bf16")
    assert {tensor.dtype for found in seen for tensor in tensors(found)} >= {torch.bfloat16}
    assert torch.load(trainer.last, weights_only=False)["train_args"]["amp"] == "bf16"
    assert BaseModel.predict is plain


def test_bf16__where_the_cpu_has_none(data, tmp_path, monkeypatch, capsys):
    """amp=bf16 on a CPU without bf16 fails in one line before any output; a GPU, or another amp, needs no bf16 CPU."""
    monkeypatch.setattr(cpu, "has_bf16", lambda: False)
    monkeypatch.chdir(tmp_path)
    line = ["train", "--model", "yolov5-spd-n", "--data", data, "--device", "cpu", "--set", "amp=bf16"]
    with pytest.raises(SystemExit) as end:
        run(line)
    assert end.value.code == 2
    assert "amp=bf16: this CPU does not multiply in bf16" in capsys.readouterr().err and not list(tmp_path.iterdir())
    cpu.check_precision({"amp": True, "device": "cpu"})
    cpu.check_precision({"amp": "bf16", "device": "0"})


@pytest.mark.parametrize(("amp", "able", "told"), [(True, True, 1), (True, False, 0), (False, True, 0)])
def test_bf16__told_where_it_would_help(monkeypatch, amp, able, told):
    """One line suggests bf16 on CPUs that have it, unless it is already on or was declined."""
    lines = []
    monkeypatch.setattr(cpu, "has_bf16", lambda: able)
    monkeypatch.setattr("pixelkeep.ultra.trainers.base.LOGGER", SimpleNamespace(info=lines.append))
    Trainer._tell_of_bf16(SimpleNamespace(args=SimpleNamespace(amp=amp)))
    assert len(lines) == told and all("--set amp=bf16" in line for line in lines)
