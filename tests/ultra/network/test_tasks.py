"""Proves that networks with our blocks train, copy, fuse, cast, export, resume and tune as Ultralytics' own do."""

from __future__ import annotations

import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import ultralytics
import yaml
from torch import nn
from ultralytics import YOLO
from ultralytics.cfg import get_cfg
from ultralytics.utils.torch_utils import ModelEMA

from pixelkeep import blocks
from pixelkeep.blocks.folding import Foldable
from pixelkeep.datasets.demo import write_demo

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[3]
MODELS = Path(ultralytics.__file__).parent / "cfg" / "models"
RESIZING = ("DepthToSpace", "LIP", "SPDConv", "SliceSamp", "SliceUpsamp", "SpaceToDepth")
BLOCKS = tuple(getattr(blocks, name) for name in RESIZING)  # blocks that change the size in a detector

# A small detector of a few rows with every way to change the size.
MIXED = """
nc: 3
scales:
  n: [0.33, 0.25, 1024]
backbone:
  - [-1, 1, SPDConv, [64, 3]] # 0-P1/2
  - [-1, 1, SliceSamp, [128, 3]] # 1-P2/4
  - [-1, 3, C3, [128]]
  - [-1, 1, Conv, [64, 3, 1]]
  - [-1, 1, SpaceToDepth, []] # 4-P3/8
  - [-1, 3, C3, [256]]
  - [-1, 1, LIP, [512, 3]] # 6-P4/16
  - [-1, 3, C3, [512]]
head:
  - [-1, 1, SliceUpsamp, [256]] # 8-P3/8
  - [[-1, 5], 1, Concat, [1]]
  - [-1, 3, C3, [256, False]]
  - [[10, 7], 1, Detect, [nc]]
"""


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def host(stem: str, folder: Path) -> YOLO:
    """Return Ultralytics' model at scale n with SPDConv, SliceSamp and LIP in turn for its strided convolutions."""
    d = yaml.safe_load(next(MODELS.rglob(f"{stem}.yaml")).read_text(encoding="utf-8"))
    strided = [row for row in d["backbone"] + d["head"] if row[2] == "Conv" and row[3][2:3] == [2]]
    for number, row in enumerate(strided):
        row[2:] = [("SPDConv", "SliceSamp", "LIP")[number % 3], row[3][:1]]
    d["nc"] = 3
    path = folder / f"{stem}-mixed-n.yaml"
    path.write_text(yaml.safe_dump(d), encoding="utf-8")
    return YOLO(path, verbose=False)


def batch(task: str) -> dict[str, torch.Tensor]:
    """Return two images of 64 x 64 pixels with two objects each, as Ultralytics' dataloader collates them."""
    images = image(2, 3, 64, 64)
    if task == "classify":
        return {"img": images, "cls": torch.tensor([0, 2])}
    if task == "semantic":
        masks = torch.zeros(2, 64, 64, dtype=torch.uint8)
        masks[:, :20], masks[:, 20:30] = 1, 255  # 255 is ignored
        return {"img": images, "semantic_mask": masks}
    boxes = torch.tensor([[0.3, 0.3, 0.4, 0.3], [0.7, 0.6, 0.3, 0.5]]).repeat(2, 1)  # (4, xywh), fractions
    found = {"img": images, "batch_idx": torch.tensor([0.0, 0, 1, 1]), "cls": torch.tensor([[0.0], [1], [2], [0]])}
    if task == "obb":
        return found | {"bboxes": torch.cat([boxes, torch.full((4, 1), 0.4)], 1)}  # (4, xywhr), radians
    found["bboxes"] = boxes
    if task == "segment":
        masks = torch.zeros(2, 16, 16)  # a quarter of the image's size; i + 1 marks the image's i-th object
        masks[:, 2:7, 2:8], masks[:, 6:14, 9:13] = 1, 2
        classes = torch.zeros(2, 16, 16, dtype=torch.long)
        classes[:, 6:14, 9:13] = torch.tensor([1, 0])[:, None, None]
        classes[1, 2:7, 2:8] = 2
        found |= {"masks": masks, "sem_masks": classes}
    if task == "pose":
        points = boxes[:, None, :2] + 0.1 * (image(4, 17, 2) - 0.5)
        found["keypoints"] = torch.cat([points, torch.full((4, 17, 1), 2.0)], 2)  # (4, 17, xy and visibility)
    return found


@pytest.mark.parametrize(
    ("stem", "task"),
    [
        ("yolov5", "detect"),
        ("yolov8", "detect"),
        ("yolo12", "detect"),
        ("yolo26", "detect"),
        ("yolov8-seg", "segment"),
        ("yolo26-seg", "segment"),
        ("yolo11-cls", "classify"),
        ("yolo11-pose", "pose"),
        ("yolo26-pose", "pose"),
        ("yolov8-obb", "obb"),
        ("yolo26-obb", "obb"),
        ("yolo26-sem", "semantic"),
    ],
)
def test_train__steps_of_the_task(stem, task, tmp_path):
    """The task's own loss gives finite, non-zero gradients to each parameter of the blocks, and a step moves them.

    This holds from the second step on: layers before LIP's zero convolution get no gradient until it has moved.
    """
    torch.manual_seed(0)
    yolo = host(stem, tmp_path)
    model = yolo.model
    assert yolo.task == task
    model.args = get_cfg(overrides={"task": task})
    parameters = {
        f"{name}.{key}": p
        for name, m in model.named_modules()
        if isinstance(m, BLOCKS)
        for key, p in m.named_parameters()
    }
    assert len({name.split(".")[1] for name in parameters}) >= 5  # blocks
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    before = {name: p.detach().clone() for name, p in parameters.items()}
    for _ in range(2):
        optimizer.zero_grad()
        loss, items = model(batch(task))
        assert all(torch.isfinite(value).all() for value in items.values())
        loss.sum().backward()
        optimizer.step()
    for name, p in parameters.items():
        assert torch.isfinite(p.grad).all() and p.grad.abs().sum() > 0, name
        assert not torch.equal(p, before[name]), name


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    """Return the YAML file of the small detector."""
    path = tmp_path_factory.mktemp("models") / "yolov5-mixed-n.yaml"
    path.write_text(MIXED, encoding="utf-8")
    return path


@pytest.fixture
def yolo(mixed) -> YOLO:
    """Return the small detector as after a training, to evaluate: BatchNorms off their defaults, scores spread."""
    torch.manual_seed(0)
    yolo = YOLO(mixed, verbose=False)
    model = yolo.model
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.normal_(m.bias, std=0.2)
            m.momentum = 1.0
    for branch in model.model[-1].cv3:
        nn.init.normal_(branch[-1].weight, std=0.2)
        nn.init.zeros_(branch[-1].bias)
    with torch.no_grad():
        model.train()(image(4, 3, 64, 96, seed=1))  # statistics of real activations
    model.eval()
    return yolo


@torch.no_grad()
def decoded(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return the boxes in pixels and the class scores, (N, 4 + classes, anchors)."""
    return model(x)[0]


def assert_boxes_close(actual: torch.Tensor, expected: torch.Tensor, *, pixels: float, score: float) -> None:
    torch.testing.assert_close(actual[:, :4], expected[:, :4], rtol=0, atol=pixels)
    torch.testing.assert_close(actual[:, 4:], expected[:, 4:], rtol=0, atol=score)


X = image(2, 3, 64, 96)


def test_mixed__holds_every_way(yolo):
    """The detector of these tests has strides 8 and 16, different scores, and every block that changes the size."""
    assert yolo.model.stride.tolist() == [8, 16]
    scores = decoded(yolo.model, X)[:, 4:]
    assert scores.min() < 0.1 and scores.max() > 0.9
    found = {type(m).__name__ for m in yolo.model.model} & {cls.__name__ for cls in BLOCKS}
    assert found == {"LIP", "SPDConv", "SliceSamp", "SpaceToDepth", "SliceUpsamp"}


def test_deepcopy__is_independent(yolo):
    """A copy predicts the same, bit for bit, and changing it leaves the original alone."""
    expected = decoded(yolo.model, X)
    copy = deepcopy(yolo.model)
    assert torch.equal(decoded(copy, X), expected)
    with torch.no_grad():
        for p in copy.parameters():
            p.zero_()
    assert torch.equal(decoded(yolo.model, X), expected)


def test_ema__is_the_weighted_mean(yolo):
    """Each floating-point value of the moving average is decay * old + (1 - decay) * new, in the blocks too."""
    ema = ModelEMA(yolo.model, decay=0.5, tau=1e-9)
    old = {name: value.clone() for name, value in yolo.model.state_dict().items()}
    with torch.no_grad():
        for p in yolo.model.parameters():
            p.add_(1)
    ema.update(yolo.model)
    averaged, new = ema.ema.state_dict(), yolo.model.state_dict()
    assert averaged.keys() == new.keys()
    for name, value in averaged.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.5 * old[name] + 0.5 * new[name], msg=name)


def test_info__counts_what_is_there(yolo):
    """``info`` counts every parameter and gradient, and each layer inside the blocks."""
    layers, parameters, gradients, _ = yolo.info(verbose=True, imgsz=64)
    assert parameters == sum(p.numel() for p in yolo.model.parameters())
    assert gradients == sum(p.numel() for p in yolo.model.parameters() if p.requires_grad)
    assert layers == sum(not list(m.children()) for m in yolo.model.modules())


def test_fuse__folds_every_batchnorm(yolo):
    """``model.fuse()`` leaves no BatchNorm anywhere; boxes change by at most 1e-3 pixels, scores by 1e-4."""
    expected = decoded(yolo.model, X)
    assert not yolo.model.is_fused()
    fused = deepcopy(yolo.model).fuse(verbose=False)
    assert fused.is_fused() and not yolo.model.is_fused()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
    y = decoded(fused, X)
    assert_boxes_close(y, expected, pixels=1e-3, score=1e-4)
    assert torch.equal(decoded(fused.fuse(verbose=False), X), y)


def test_fuse__exact_in_double_precision(yolo):
    """In double precision fusing changes no box by more than 1e-9 pixels and no score by more than 1e-9."""
    model = yolo.model.double()
    expected = decoded(model, X.double())
    torch.testing.assert_close(decoded(model.fuse(verbose=False), X.double()), expected, rtol=0, atol=1e-9)


def test_is_fused__asks_the_blocks(yolo):
    """A model whose own convolutions are fused does not count as fused while a block is not."""
    fused = deepcopy(yolo.model).fuse(verbose=False)
    place, block = next((i, m) for i, m in enumerate(yolo.model.model) if isinstance(m, Foldable))
    fused.model[place] = deepcopy(block)
    assert not fused.is_fused()
    assert fused.fuse(verbose=False).is_fused() and fused.model[place].is_fused


def test_fuse__quantized_convolution_keeps_its_batchnorm(yolo):
    """A block in training for int8 keeps its BatchNorm, since its quantizer holds the range of the unfused weights."""
    place, block = next((i, m) for i, m in enumerate(yolo.model.model) if isinstance(m, Foldable))
    block.conv.weight_quantizer = nn.Identity()
    fused = yolo.model.fuse(verbose=False)
    assert not fused.model[place].is_fused and fused.is_fused()


@pytest.mark.parametrize("fuse", [False, True])
@pytest.mark.parametrize(("dtype", "error"), [(torch.bfloat16, 0.15), (torch.float16, 0.03)])
def test_half__close_to_single_precision(yolo, dtype, error, fuse):
    """In 16 bits, by autocast (bf16) and by converting the model, fused or not, scores stay near those in 32."""
    expected = decoded(yolo.model, X)[:, 4:]
    model = yolo.model.fuse(verbose=False) if fuse else yolo.model
    outputs = []
    if dtype is torch.bfloat16:
        with torch.autocast("cpu", dtype=dtype):
            outputs.append(decoded(model, X))
    outputs.append(decoded(deepcopy(model).to(dtype), X.to(dtype)))
    for y in outputs:
        assert torch.isfinite(y).all()
        torch.testing.assert_close(y[:, 4:].float(), expected, rtol=0, atol=error)


def test_autocast__finite_gradients(yolo):
    """A training step under bf16 autocast gives every parameter of the blocks a finite gradient in float32."""
    model = yolo.model.train()
    model.args = get_cfg(overrides={"task": "detect"})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = model(batch("detect"))
    loss.sum().backward()
    gradients = [p.grad for m in model.model if isinstance(m, BLOCKS) for p in m.parameters()]
    assert gradients and all(g.dtype == torch.float32 and torch.isfinite(g).all() for g in gradients)


def test_channels_last__same_output(yolo):
    """In channels_last the network gives the same output, and the blocks keep the format."""
    expected = decoded(yolo.model, X)
    model = deepcopy(yolo.model).to(memory_format=torch.channels_last)
    kept = []
    for m in model.model:
        if isinstance(m, BLOCKS):
            m.register_forward_hook(lambda *a: kept.append(a[2].is_contiguous(memory_format=torch.channels_last)))
    y = decoded(model, X.to(memory_format=torch.channels_last))
    assert_boxes_close(y, expected, pixels=1e-3, score=1e-4)
    assert len(kept) == 5 and all(kept)


BUILDERS = {name: getattr(blocks, name) for name in ("DepthToSpace", "SpaceToDepth")}
BUILDERS |= {name: lambda name=name: getattr(blocks, name)(8, 6) for name in RESIZING if name not in BUILDERS}
BUILDERS |= {
    "DenseTransition": lambda: blocks.DenseTransition(8, 6, "lip"),
    "ResNetStage with LIP": lambda: blocks.ResNetStage(8, 12, 2, "lip"),
    "ResNetStage with SPD": lambda: blocks.ResNetStage(8, 12, 2, "spd"),
    "SimplifiedLIP": lambda: blocks.SimplifiedLIP(8),
}


@pytest.mark.parametrize("shape", [(2, 8, 6, 4), (2, 8, 7, 5)])
@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS.keys())
def test_compile__without_a_graph_break(build, shape):
    """torch.compile captures each block, forward and backward, as one graph, with the same outputs and gradients."""
    torch.manual_seed(0)
    torch.compiler.reset()
    module = build()
    x, y = image(*shape).requires_grad_(), image(*shape).requires_grad_()
    expected = module.eval()(x)
    compiled = torch.compile(module, fullgraph=True, dynamic=False, backend="aot_eager")(y)
    torch.testing.assert_close(compiled, expected)
    expected.square().sum().backward(), compiled.square().sum().backward()
    torch.testing.assert_close(y.grad, x.grad)


@pytest.fixture
def weights(yolo, tmp_path) -> Path:
    """Return a checkpoint of the small detector."""
    path = tmp_path / "mixed.pt"
    yolo.save(path)
    return path


@pytest.mark.parametrize("form", ["torchscript", "onnx"])
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_export__same_output(yolo, weights, form):
    """The exported network gives the boxes within 1e-3 pixels and the scores within 1e-4, and predicts the same."""
    yolo = YOLO(weights)
    expected = decoded(yolo.model.float().eval(), X[:1])
    path = yolo.export(format=form, imgsz=(64, 96), verbose=False)
    if form == "torchscript":
        y = torch.jit.load(path)(X[:1])
        y = y[0] if isinstance(y, (tuple, list)) else y
    else:
        onnxruntime = pytest.importorskip("onnxruntime")
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        y = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: X[:1].numpy()})[0])
    assert_boxes_close(y, expected, pixels=1e-3, score=1e-4)
    picture = (255 * X[0].permute(1, 2, 0)).byte().numpy()
    options = {"imgsz": (64, 96), "conf": 0.0, "iou": 1.0, "max_det": 300, "verbose": False}  # every box is kept
    exported, plain = (YOLO(file).predict(picture, **options)[0].boxes.data for file in (path, weights))
    assert len(exported) == len(plain) == expected.shape[2]
    distances = (exported[:, None] - plain).abs().amax(2)  # boxes of equal score come in any order
    assert distances.amin(1).max() < 0.01 and distances.amin(0).max() < 0.01


FRESH = """
import sys
from ultralytics import YOLO
assert "pixelkeep" not in sys.modules
last, best, data = sys.argv[1:]
YOLO(last).train(resume=True)
options = dict(imgsz=64, batch=4, plots=False, val=False, workers=0, device="cpu", project=sys.argv[1] + "-tuned")
model = YOLO(best)
model.train(data=data, epochs=1, **options)
names = [type(m).__name__ for m in model.model.model]
ours = {"LIP", "SPDConv", "SliceSamp", "SpaceToDepth", "SliceUpsamp"}
print(sum(n in ours for n in names), type(model.model).__module__)
"""


class Interrupted(Exception):
    pass


def test_fresh_process__resumes_and_fine_tunes(mixed, tmp_path):
    """Plain Ultralytics, without importing pixelkeep, resumes an interrupted training and fine-tunes its best.pt."""
    data = write_demo(tmp_path / "tiny", splits={"train": 4, "val": 2, "test": 1})

    def stop(trainer):
        if trainer.epoch == 1:
            raise Interrupted

    yolo = YOLO(mixed, verbose=False)
    yolo.add_callback("on_train_epoch_start", stop)
    options = {
        "imgsz": 64,
        "batch": 4,
        "plots": False,
        "workers": 0,
        "device": "cpu",
        "project": str(tmp_path / "runs"),
    }
    with pytest.raises(Interrupted):
        yolo.train(data=str(data), epochs=2, name="exp", **options)
    folder = tmp_path / "runs" / "exp"
    kept = torch.load(folder / "weights" / "last.pt", weights_only=False)
    assert kept["epoch"] == 0 and kept["optimizer"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ULTRALYTICS_SAFE_LOAD": "false"}  # Ultralytics' default
    line = [sys.executable, "-c", FRESH, *(str(folder / "weights" / f"{n}.pt") for n in ("last", "best")), str(data)]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "5 ultralytics.nn.tasks"
    assert len((folder / "results.csv").read_text().splitlines()) == 3  # the header and both epochs
