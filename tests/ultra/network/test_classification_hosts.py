"""Proves that the classification networks are the published ones by name, and live the whole life of Ultralytics' own:
training from scratch, resuming, validating, fusing, exporting, other classes, restricted loading."""

from __future__ import annotations

import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from ultralytics import YOLO
from ultralytics.models.yolo.classify import ClassificationTrainer
from ultralytics.nn import tasks

from pixelkeep import blocks
from pixelkeep.report.tables import models_table
from pixelkeep.ultra.costs import catalogue
from pixelkeep.ultra.costs.measure import count_gflops, count_parameters
from pixelkeep.ultra.network import names

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[3]

# A small classifier of a few rows with every way to change the size.
SMALL = """
nc: 10
backbone:
  - [-1, 1, ConvNorm, [16, 3, 2]] # 0-P1/2
  - [-1, 1, SimplifiedLIP, []] # 1-P2/4
  - [-1, 1, ResNetStage, [32, 2, none, bottleneck]] # 2
  - [-1, 1, ResNetStage, [64, 2, lip, bottleneck]] # 3-P3/8
  - [-1, 1, ResNetStage, [64, 1, spd, basic]] # 4-P4/16
  - [-1, 1, DenseBlock, [96, 2]] # 5
  - [-1, 1, DenseTransition, [48, lip]] # 6-P5/32
  - [-1, 1, ResNetStage, [64, 1, slicesamp, bottleneck]] # 7-P6/64
head:
  - [-1, 1, Classifier, [nc]] # 8
"""


def network(name: str, classes: int | None = None, device: str = "meta") -> tasks.BaseModel:
    """Return a network by name with so many classes, by default without initial values on torch's meta device."""
    definition = names.parse(name).definition()
    definition["nc"] = classes or definition["nc"]
    model = tasks.BaseModel()
    with torch.device(device):
        model.model, model.save = tasks.parse_model(definition, 3, False)
    return model


@pytest.mark.parametrize(
    ("name", "classes", "expected"),
    [
        ("resnet18-cls", 1000, 11_689_512),
        ("resnet50-cls", 1000, 25_557_032),
        ("resnet101-cls", 1000, 44_549_160),
        ("densenet121-cls", 1000, 7_978_856),
        ("resnet18-spd-cls", 200, 20_565_576),
        ("resnet50-spd-cls", 10, 27_654_026),
        ("resnet50-lip-cls", 1000, 23_864_232),
        ("resnet101-lip-cls", 1000, 42_856_360),
        ("densenet121-lip-cls", 1000, 8_690_920),
        ("swin-tiny-cls", 1000, 28_288_354),
    ],
)
def test_definitions__published_counts(name, classes, expected):
    """Each name gives a network with the parameters of the official one."""
    if name.startswith("swin"):
        pytest.importorskip("timm")
    assert count_parameters(network(name, classes)) == expected


@pytest.mark.parametrize(
    ("name", "size", "giga"),
    [
        ("resnet50-cls", 224, 4.089),
        ("resnet101-cls", 224, 7.801),
        ("densenet121-cls", 224, 2.834),
        ("resnet50-lip-cls", 224, 5.300),
        ("resnet101-lip-cls", 224, 9.012),
        ("densenet121-lip-cls", 224, 4.083),
        ("resnet18-spd-cls", 64, 1.064),
        ("resnet50-spd-cls", 32, 0.447),
    ],
)
def test_definitions__published_multiply_adds(name, size, giga):
    """At the papers' image sizes convolutions and linear layers have the official networks' multiply-adds."""
    classes = {64: 200, 32: 10}.get(size)
    assert count_gflops(network(name, classes), size) / 2 == pytest.approx(giga, abs=0.0006)


def test_plain_ultralytics__builds_by_name_from_any_folder(tmp_path, monkeypatch):
    """``YOLO("resnet18-spd-cls.yaml")`` builds a classifier from any folder."""
    monkeypatch.chdir(tmp_path)
    yolo = YOLO("resnet18-spd-cls.yaml", verbose=False)
    assert yolo.task == "classify" and isinstance(yolo.model, tasks.ClassificationModel)


def test_catalogue__counts_classifiers_at_224():
    """The GFLOPs of classifiers are those at 224 pixels, as the entry says; detection stays at 640."""
    entries = {e.name: e for e in catalogue.entries(["resnet18-cls", "yolov5-n"])}
    assert (entries["resnet18-cls"].imgsz, entries["yolov5-n"].imgsz) == (224, 640)
    assert entries["resnet18-cls"].gflops == pytest.approx(count_gflops(network("resnet18-cls"), 224))


def test_catalogue__without_timm(monkeypatch):
    """Without timm the models that need it are listed, with its name in place of figures."""
    monkeypatch.setattr(catalogue, "find_spec", lambda name: None)
    entries = list(catalogue.entries(["swin-tiny-slicesamp-cls", "resnet18-cls"]))
    assert [(e.needs, e.params is None, e.gflops is None) for e in entries] == [
        ("timm", True, True),
        (None, False, False),
    ]
    lines = models_table(entries).splitlines()
    assert lines[2].split() == ["swin-tiny-slicesamp-cls", "pixelkeep", "needs", "timm"]


@pytest.mark.slow
def test_swin__trains_loads_and_predicts(data, tmp_path):
    """Swin with SliceSamp, built by its name, trains in Ultralytics; its checkpoint loads without executing code."""
    pytest.importorskip("timm")
    yolo = YOLO("swin-tiny-slicesamp-cls.yaml", verbose=False)
    options = {"imgsz": 64, "batch": 12, "plots": False, "workers": 0, "device": "cpu", "amp": False, "val": False}
    yolo.train(data=str(data), epochs=1, project=str(tmp_path), name="exp", **options)
    checkpoint, _ = tasks.torch_safe_load(tmp_path / "exp" / "weights" / "last.pt", safe_only=True)
    merging = [m for m in checkpoint["model"].modules() if isinstance(m, blocks.SliceSampMerging)]
    assert len(merging) == 3 and all(m.down.depthwise_norm.running_mean.any() for m in merging)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """Return the YAML file of the small classifier."""
    path = tmp_path_factory.mktemp("models") / "small-cls.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Write three classes of noise of different brightness, with four training images and two others each."""
    root, rng = tmp_path_factory.mktemp("tiny"), np.random.default_rng(0)
    for split, images in (("train", 4), ("val", 2)):
        for k, name in enumerate(("dark", "middle", "light")):
            (root / split / name).mkdir(parents=True)
            for i in range(images):
                noise = rng.integers(80 * k, 80 * k + 60, (70, 90, 3), dtype=np.uint8)
                cv2.imwrite(str(root / split / name / f"{i}.png"), noise)
    return root


def set_up(definition: str | Path, *, pretrained: bool, dropout: float = 0.0) -> nn.Module:
    """Return the network as Ultralytics' classification trainer sets it up."""
    trainer = SimpleNamespace(
        data={"nc": 3, "channels": 3}, args=SimpleNamespace(pretrained=pretrained, dropout=dropout), resume=False
    )
    return ClassificationTrainer.get_model(trainer, str(definition), None, False)


@pytest.mark.parametrize("pretrained", [True, False])
def test_trainer__new_lip_is_average_pooling(small, pretrained):
    """After the trainer's reset, each LIP is average pooling again and each residual branch starts at zero."""
    model = set_up(small, pretrained=pretrained).eval()
    pools = [m for m in model.modules() if isinstance(m, blocks.SimplifiedLIP | blocks.BottleneckLIP)]
    assert len(pools) == 2
    for pool in pools:
        channels = (pool.conv if isinstance(pool, blocks.SimplifiedLIP) else pool.head.conv).out_channels
        x, k = torch.randn(2, channels, 6, 8), pool.kernel_size
        expected = nn.functional.avg_pool2d(x, k, 2, (k - 1) // 2, count_include_pad=False)
        torch.testing.assert_close(pool(x), expected, rtol=0, atol=1e-6)
    heads = [m for m in model.modules() if isinstance(m, blocks.LIPHead)]
    assert len(heads) == 3 and not any(head.conv.weight.any() for head in heads)
    last = [m for m in model.modules() if isinstance(m, blocks.ZeroBatchNorm2d)]
    assert len(last) == 6 and not any(norm.weight.any() for norm in last)
    assert model.model[-1].linear.out_features == 3


def test_trainer__dropout_reaches_the_head(small):
    """The head gets the dropout of the trainer."""
    assert set_up(small, pretrained=True, dropout=0.25).model[-1].drop.p == 0.25


def test_reshape__other_classes(small):
    """Ultralytics' reshape_outputs replaces the head's linear layer for other classes, and keeps one that fits."""
    model = YOLO(small, verbose=False).model
    linear = model.model[-1].linear
    tasks.ClassificationModel.reshape_outputs(model, 10)
    assert model.model[-1].linear is linear
    tasks.ClassificationModel.reshape_outputs(model, 4)
    assert model.eval()(torch.rand(2, 3, 64, 64))[1].shape == (2, 4)


def filled(model: nn.Module) -> nn.Module:
    """Return the network in evaluation mode, with parameters and statistics as after a training."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            values = torch.randn(tensor.shape, generator=generator)
            if tensor.ndim > 1:
                tensor.copy_(values * (2 / tensor[0].numel()) ** 0.5)
            elif tensor.is_floating_point():
                tensor.copy_(0.1 * values + name.endswith(("running_var", "weight")))
    return model.eval()


def test_fuse__folds_what_follows_a_convolution(small):
    """In double precision fusing changes no probability; BatchNorms that follow no convolution stay."""
    model, x = filled(YOLO(small, verbose=False).model).double(), torch.rand(2, 3, 128, 64).double()
    expected = model(x)[0]
    fused = deepcopy(model).fuse(verbose=False)
    torch.testing.assert_close(fused(x)[0], expected, rtol=0, atol=1e-9)
    assert fused.is_fused() and not model.is_fused() and expected.std() > 0.01
    norms = [name for name, m in fused.named_modules() if isinstance(m, nn.BatchNorm2d)]
    # SPD's BatchNorm scales each phase by itself; those of dense layers and transitions precede their convolution.
    assert norms == ["model.4.0.main.0.norm", "model.5.0.reduce_norm", "model.5.1.reduce_norm", "model.6.norm"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half__finite_and_close(small, dtype):
    """In 16 bits the network gives probabilities near those in 32."""
    model, x = filled(YOLO(small, verbose=False).model), torch.rand(2, 3, 128, 64)
    expected = model(x)[0]
    with torch.autocast("cpu", dtype=dtype):
        mixed = model(x)[0]
    for y in (mixed, deepcopy(model).to(dtype)(x.to(dtype))[0]):
        torch.testing.assert_close(y.float(), expected, rtol=0, atol=0.05)


FRESH = """
import sys
from ultralytics import YOLO
assert "pixelkeep" not in sys.modules
last, best, picture = sys.argv[1:]
YOLO(last).train(resume=True)
probabilities = YOLO(best)(picture, imgsz=64, verbose=False)[0].probs.data
print(*(f"{p:.6f}" for p in probabilities))
"""


class Interrupted(Exception):
    pass


def run_fresh(*args: object) -> str:
    """Run ``FRESH`` in a process of its own with Ultralytics' default loading, and return the last line it printed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ULTRALYTICS_SAFE_LOAD": "false"}
    line = [sys.executable, "-c", FRESH, *map(str, args)]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()[-1]


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_life__train_break_resume_load_validate_export(small, data, tmp_path):
    """Plain Ultralytics resumes an interrupted training from scratch, and its best.pt validates and exports."""

    def stop(trainer):
        if trainer.epoch == 1:
            raise Interrupted

    yolo = YOLO(small, verbose=False)
    yolo.add_callback("on_train_epoch_start", stop)
    options = {"imgsz": 64, "batch": 4, "plots": False, "workers": 0, "device": "cpu", "amp": False}
    with pytest.raises(Interrupted):
        yolo.train(data=str(data), epochs=2, pretrained=False, project=str(tmp_path), name="exp", **options)
    weights = tmp_path / "exp" / "weights"
    picture = data / "val" / "dark" / "0.png"
    printed = run_fresh(weights / "last.pt", weights / "best.pt", picture)
    assert len((tmp_path / "exp" / "results.csv").read_text().splitlines()) == 3  # the header and both epochs
    checkpoint, _ = tasks.torch_safe_load(weights / "best.pt", safe_only=True)  # executes no code of the file
    assert isinstance(checkpoint["model"].model[3][0], blocks.LIPResidualBlock)

    best = YOLO(weights / "best.pt")
    expected = best(picture, imgsz=64, verbose=False)[0].probs.data
    assert [float(p) for p in printed.split()] == pytest.approx(expected.tolist(), abs=2e-6)
    result = best.val(data=str(data), imgsz=64, batch=4, plots=False, project=str(tmp_path), name="val")
    assert 0 <= result.top1 <= result.top5 == 1
    for form in ("onnx", "torchscript"):
        path = best.export(format=form, imgsz=64, verbose=False)
        exported = YOLO(path, task="classify")(picture, imgsz=64, verbose=False)[0].probs.data
        torch.testing.assert_close(exported, expected, rtol=0, atol=1e-5)
    import onnx

    assert len(onnx.load(weights / "best.onnx").graph.output) == 1
