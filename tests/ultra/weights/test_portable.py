"""Portable checkpoints: the same network to the last bit, with all that is known of it, wherever a .pt is accepted."""

from __future__ import annotations

import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import hostile
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save as save_tensors
from torch import nn
from ultralytics.nn import tasks

import pixelkeep
from pixelkeep.cli.main import run
from pixelkeep.errors import OptionError, WeightsError
from pixelkeep.ultra.commands.tasks import of_model
from pixelkeep.ultra.export.exporting import Request
from pixelkeep.ultra.export.rewriting import KEPT, rewrite
from pixelkeep.ultra.network.registry import REGISTRY
from pixelkeep.ultra.weights.checkpoints import check_weights, forget, load, save
from pixelkeep.ultra.weights.confidence import Stored, store, stored_in
from pixelkeep.ultra.weights.description import DIGEST, digest
from pixelkeep.ultra.weights.manifest import sha256_of
from pixelkeep.ultra.weights.rebuilding import CLASSES, tensors_of

ROOT = Path(__file__).resolve().parents[3]
QUICK = ("yolov5-cad-n", "yolov5-select-n", "yolo26n", "yolov8n-cls", "yolo26n-sem")
SLOW = ("yolov5-spd-n", "yolov5-lip-n", "yolov5-slicesamp-up-n", "yolo11-spdconv-n", "yolov5n", "yolov8n", "yolo11n")
SLOW += ("yolo12n", "yolov10n", "resnet18-spd-cls", "resnet18-select-sem", "swin-tiny-slicesamp-cls", "yolo11n-obb")


@pytest.fixture(autouse=True)
def cwd(tmp_path, monkeypatch):
    """Run each test in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def registered():
    """Restore the registry after the test."""
    before = dict(REGISTRY)
    yield
    REGISTRY.clear()
    REGISTRY.update(before)


def rewritten(weights, output, precision=KEPT):
    form = Path(output).suffix[1:]
    return rewrite(Request(weights=str(weights), format=form, precision=precision, output=str(output)))


def there_and_back(content, folder):
    """Save a checkpoint, rewrite it without pickle and back, and load all three."""
    hostile.save(folder / "a.pt", content)
    rewritten(folder / "a.pt", folder / "b.safetensors")
    rewritten(folder / "b.safetensors", folder / "c.pt")
    return [deepcopy(load(folder / name)) for name in ("a.pt", "b.safetensors", "c.pt")]


def same(one, other):
    """Return whether two networks hold the same bits under the same names, in the same classes."""
    ours, theirs = tensors_of(one), tensors_of(other)
    bits = all(ours[name].dtype == theirs[name].dtype and torch.equal(ours[name], theirs[name]) for name in ours)
    kinds = [[(name, type(part)) for name, part in model.named_modules()] for model in (one, other)]
    return ours.keys() == theirs.keys() and bits and kinds[0] == kinds[1]


def trained(name):
    """Return a network whose BatchNorms have seen images."""
    torch.manual_seed(1)
    definition = tasks.yaml_model_load(f"{name}.yaml")
    task = tasks.guess_model_task(definition)
    model = CLASSES[task](definition, nc=3, verbose=False)
    model.train()(torch.rand(2, 3, 64, 64))
    model.names, model.task = dict(enumerate("abc")), task
    return model.eval().half()


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_there_and_back__same_bits_and_outputs(cwd, name):
    """For every task, our blocks and Ultralytics' networks, tensors and outputs are equal to the last bit."""
    if name.startswith("swin"):
        pytest.importorskip("timm")
    networks = [c["model"] for c in there_and_back({"model": trained(name), "train_args": {"imgsz": 64}}, cwd)]
    assert all(same(networks[0], other) for other in networks[1:])
    image = torch.rand(1, 3, 96, 64)
    with torch.inference_mode():
        outputs = [model.float().eval()(image) for model in networks]
    first = [out[0] if isinstance(out, (list, tuple)) else out for out in outputs]
    assert torch.equal(first[0], first[1]) and torch.equal(first[0], first[2])
    assert [model.task for model in networks] == [of_model(cwd / "b.safetensors", oriented=True).name] * 3


@pytest.mark.parametrize("name", ["yolov5-spd-n", "yolov5-cad-n", "yolo26n"])
def test_there_and_back__class_branches_of_another_width(cwd, name):
    """Class branches that are 80 wide stay so in weights for three classes, although no definition gives that width."""
    definition, model = tasks.yaml_model_load(f"{name}.yaml"), trained(name).float()
    model.load(tasks.DetectionModel(definition, nc=80, verbose=False), verbose=False)
    head = model.model[-1]
    assert head.cv3[0][-1].in_channels == 80 and head.nc == 3
    networks = [c["model"] for c in there_and_back({"model": model.eval().half(), "train_args": {"imgsz": 64}}, cwd)]
    ours, *theirs = (tensors_of(network) for network in networks)
    assert all(torch.equal(ours[key], other[key]) for other in theirs for key in ours | other)
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        first, *others = (network.float().eval()(image)[0] for network in networks)
    for other in others:
        torch.testing.assert_close(other, first, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_precision__kept(cwd, dtype):
    """Floating-point tensors keep their type, and counts stay integers."""
    content = hostile.checkpoint()
    content["model"].to(dtype)
    first, *others = there_and_back(content, cwd)
    assert all(same(first["model"], other["model"]) for other in others)
    types = {value.dtype for value in others[0]["model"].state_dict().values()}
    assert types == {dtype, torch.int64}


def test_mixed_precision__kept(cwd):
    """In a network of mixed precision each tensor keeps its own type."""
    content = hostile.checkpoint()
    content["model"].float().model[0].conv.to(torch.bfloat16)
    first, *others = there_and_back(content, cwd)
    assert all(same(first["model"], other["model"]) for other in others)


def test_what_is_known__comes_along(cwd):
    """Settings, metrics, names, deep images' stretch, confidences and conversion come along; NaN becomes null."""
    point = {"schema": 1, "objective": "f1", "confidence": [0.5, 0.25], "imgsz": 64, "split": "val", "gt_sha256": "0"}
    own = {"operating_point": point, "converted": {"schema": 1, "from": "x.pt"}, "date": "2026-01-01", "version": "8.4"}
    metrics = {"train_metrics": {"AP": 0.25, "AP_S": float("nan")}, "train_results": {"epoch": [1, 2]}}
    content = hostile.checkpoint(git={"root": "/home/somebody"}, **own, **metrics)
    content["model"].yaml.update(stretch=(1, 99), tile=64)
    _, portable, back = there_and_back(content, cwd)
    for found in (portable, back):
        assert {key: found[key] for key in own} == own
        assert found["train_args"] == content["train_args"]
        assert found["train_metrics"] == {"AP": 0.25, "AP_S": None} and found["train_results"] == {"epoch": [1, 2]}
        assert found["model"].names == {0: "car", 1: "person"} and found["model"].nc == 2
        assert found["model"].yaml["stretch"] == [1, 99] and found["model"].yaml["tile"] == 64
        assert found["model"].stride.tolist() == content["model"].stride.tolist()
        assert "git" not in found
    assert portable["provenance"]["parent"] == {"file": "a.pt", "sha256": sha256_of(cwd / "a.pt")}
    assert back["provenance"]["parent"] == {"file": "b.safetensors", "sha256": sha256_of(cwd / "b.safetensors")}
    assert portable["provenance"]["data"] == "good" and portable["provenance"]["pixelkeep"] == pixelkeep.__version__


def test_metadata__plain_json(cwd):
    """Other programs can read the metadata: JSON texts, with the version of each of our blocks."""
    hostile.save(cwd / "a.pt", hostile.checkpoint())
    rewritten("a.pt", "a.safetensors")
    with safe_open(cwd / "a.safetensors", framework="pt") as file:
        said = file.metadata()
        assert torch.equal(file.get_tensor("model.0.conv.weight"), load(cwd / "a.pt")["model"].model[0].conv.weight)
    assert said["format"] == "pt" and said["pixelkeep_format"] == "1"
    assert json.loads(said["blocks"]) == {"SPDConv": 1} and json.loads(said["names"]) == {"0": "car", "1": "person"}
    assert json.loads(said["task"]) == "detect" and json.loads(said["channels"]) == 3
    assert json.loads(said["model"])["backbone"] == yaml.safe_load(hostile.ROWS)["backbone"]


def test_unfinished_training__moving_average_alone(cwd, caplog):
    """Of an unfinished training only the moving average is kept, and one line says what is left out."""
    content = hostile.checkpoint(optimizer={"state": {0: torch.zeros(3)}}, epoch=4)
    content["ema"] = deepcopy(content["model"])
    for value in content["ema"].parameters():
        value.data += 1
    hostile.save(cwd / "last.pt", content)
    assert status("export --weights last.pt --format safetensors") == 0
    lines = [line for line in caplog.messages if line.startswith("Left out")]
    assert len(lines) == 1 and "the optimizer's state, the model beside its moving average" in lines[0]
    found = load(cwd / "last.safetensors")
    assert same(found["model"], content["ema"]) and not same(found["model"], content["model"])
    assert found["epoch"] == -1 and found["optimizer"] is None
    save(content, cwd / "direct.safetensors")
    assert same(load(cwd / "direct.safetensors")["model"], content["ema"])


class Tied(nn.Module):
    """Holds one parameter under two names, and a buffer that state dicts leave out."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.first = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.second = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("table", torch.zeros(4), persistent=False)

    def forward(self, x):
        """Add the outputs of both convolutions and the sum of the buffer."""
        return self.first(x) + self.second(x) + self.table.sum()


def test_shared_tensors_and_hidden_buffers__kept(cwd, registered):
    """A parameter with two names is stored once and shared again; a buffer outside the state dict keeps its values."""
    pixelkeep.register(Tied)
    definition = yaml.safe_load(hostile.ROWS.replace("[-1, 1, SPDConv, [8]]", "[-1, 1, Tied, [8]]"))
    model = tasks.DetectionModel(definition, nc=2, verbose=False)
    model.names, model.task = {0: "car", 1: "person"}, "detect"
    model.model[1].table += torch.tensor([0.1, 0.2, 0.3, 0.4])
    first, *others = there_and_back({"model": model, "train_args": {}}, cwd)
    for other in others:
        assert same(first["model"], other["model"])
        tied = other["model"].model[1]
        assert tied.second.weight is tied.first.weight
        assert tied.table.tolist() == model.model[1].table.tolist()
    with safe_open(cwd / "b.safetensors", framework="pt") as file:
        assert len([name for name in file.keys() if name.startswith("model.1.")]) == 2


def test_views_and_layouts__stored_whole(cwd):
    """A parameter that is part of a larger tensor is stored alone, and one of another memory layout gets it back."""
    content = hostile.checkpoint()
    conv = content["model"].model[0].conv
    large = torch.rand(20, 3, 3, 3).half()
    conv.weight = nn.Parameter(large[4:12])
    content["model"].model[2].conv.to(memory_format=torch.channels_last)
    save(content, cwd / "a.safetensors")
    found = load(cwd / "a.safetensors")["model"]
    assert torch.equal(found.model[0].conv.weight, large[4:12])
    there, here = content["model"].model[2].conv.weight, found.model[2].conv.weight
    assert torch.equal(there, here) and there.stride() == here.stride() and not here.is_contiguous()
    assert (cwd / "a.safetensors").stat().st_size < 200_000


def test_half__of_a_network_in_single_precision(cwd):
    """fp16 gives the same network as PyTorch's half(), and values that are too large for it are refused."""
    content = hostile.checkpoint()
    content["model"].float()
    hostile.save(cwd / "a.pt", content)
    report = rewritten("a.pt", "a.safetensors", "fp16")
    assert report.precision == "fp16" and same(load(cwd / "a.safetensors")["model"], deepcopy(content["model"]).half())
    content["model"].model[0].conv.weight.data[0] = 1e6
    hostile.save(cwd / "b.pt", content)
    with pytest.raises(WeightsError, match=r"tensor model.0.conv.weight has values too large for fp16"):
        rewritten("b.pt", "b.safetensors", "fp16")
    assert not (cwd / "b.safetensors").exists()


def fused(model):
    model.float().fuse(verbose=False)


def other_epsilon(model):
    model.model[2].bn.eps = 0.5


def diverged(model):
    model.model[2].conv.weight.data[0, 0] = float("nan")


UNFIT = {
    fused: "a.pt': fused for inference; give the checkpoint that training wrote",
    other_epsilon: "its network is not what its YAML describes: what it computes differs",
    diverged: "a.pt': NaN in tensor model.2.conv.weight: the training diverged",
    lambda m: setattr(m, "task", "pose"): "a DetectionModel for task 'pose'; only models for detect, classify",
    lambda m: m.yaml.update(nc=5): "it has 2 class names, but its model has 5 classes",
}


@pytest.mark.parametrize("change", UNFIT)
def test_what_yaml_does_not_give__refused(cwd, change):
    """A network that was changed after it was built is refused in one line, and no file is left."""
    hostile.save(cwd / "a.pt", hostile.altered(change))
    with pytest.raises(WeightsError) as error:
        rewritten("a.pt", "a.safetensors")
    assert UNFIT[change] in str(error.value) and len(str(error.value).splitlines()) == 1
    assert [path.name for path in cwd.iterdir()] == ["a.pt"]


def test_older__without_what_has_a_default(cwd):
    """A field that an older file lacks gets its default; a field without a default must be there."""
    save(hostile.checkpoint(), cwd / "a.safetensors")
    with safe_open(cwd / "a.safetensors", framework="pt") as file:
        texts, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    for field, told in (("layouts", None), ("metrics", None), ("stride", "its metadata cannot be read")):
        held = {key: text for key, text in texts.items() if key not in (field, DIGEST)}
        (cwd / "b.safetensors").write_bytes(save_tensors(tensors, {**held, DIGEST: digest(held, tensors)}))
        forget()
        if told is None:
            assert same(load(cwd / "b.safetensors")["model"], load(cwd / "a.safetensors")["model"])
            continue
        with pytest.raises(WeightsError, match=told):
            load(cwd / "b.safetensors")


def test_confidences__stored_in_a_portable_file(cwd):
    """The operating point is stored in the file as in a .pt, and nothing else changes."""
    save(hostile.checkpoint(), cwd / "a.safetensors")
    before = deepcopy(load(cwd / "a.safetensors"))
    store(cwd / "a.safetensors", Stored(objective="f1", confidence=[0.5, 0.25], imgsz=64, split="val", gt_sha256="0"))
    after = load(cwd / "a.safetensors")
    assert stored_in(after, cwd / "a.safetensors", 2).confidence == [0.5, 0.25]
    assert same(before["model"], after["model"]) and before["provenance"] == after["provenance"]


def test_reading__draws_no_random_numbers(cwd):
    """Rebuilding a network leaves the random generator alone, so a training begins the same from either form."""
    save(hostile.checkpoint(), cwd / "a.safetensors")
    forget()
    state = torch.get_rng_state()
    load(cwd / "a.safetensors")
    assert torch.equal(state, torch.get_rng_state())


def status(line):
    with pytest.raises(SystemExit) as end:
        run(line.split())
    return end.value.code


COMMANDS = [name for name in hostile.WEIGHTS if "resume" not in name]


def test_commands__take_it_as_a_checkpoint(cwd):
    """train, val and detect accept the portable form, and detections are the same to the last digit."""
    hostile.write_workplace(cwd)
    save(load(cwd / "good.pt"), cwd / "good.safetensors")
    for name in COMMANDS:
        assert status(hostile.WEIGHTS[name].format(file="good.safetensors")) == 0, name
    for form in ("pt", "safetensors"):
        line = f"detect --imgsz 64 --source images/val --conf 0 --save-json --name {form} --weights good.{form}"
        assert status(line) == 0
    first, other = (
        json.loads((cwd / "runs/detect" / form / "predictions.json").read_text()) for form in ("pt", "safetensors")
    )
    assert first == other and len(first) > 10
    teacher = "--model rows.yaml --set distill_model=good.safetensors"
    assert status(f"{hostile.TRAIN} --data good.yaml {teacher}") == 0


def test_first_epoch__the_same_from_either_form(cwd):
    """A training from the .pt and one from the portable form end with the same bits."""
    hostile.write_workplace(cwd)
    save(load(cwd / "good.pt"), cwd / "good.safetensors")
    for form in ("pt", "safetensors"):
        assert status(f"{hostile.TRAIN} --data good.yaml --name {form} --model good.{form}") == 0
    one, other = (
        deepcopy(load(cwd / "runs/train" / form / "weights/last.pt")["model"]) for form in ("pt", "safetensors")
    )
    assert same(one, other)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--format safetensors --imgsz 64", "--imgsz has no effect with --format safetensors"),
        ("--format pt --data good.yaml", "--data has no effect with --format pt"),
        ("--format safetensors --precision int8", "--precision int8: safetensors takes kept, fp32, fp16, bf16"),
        ("--format pt --precision fp16", "--precision fp16: pt takes kept"),
        ("--format pt", "good.pt exists already; give --output"),
        ("--format pt --output good.safetensors", "give an existing folder, or a name that ends in .pt"),
        ("--format safetensors --output good.safetensors", "is the weights themselves; name another file"),
        ("--format safetensor", "did you mean 'safetensors'?"),
    ],
)
def test_options__refused(cwd, capfd, line, told):
    """Options without effect, and places that would overwrite what training wrote, are refused."""
    save(hostile.checkpoint(), cwd / "good.safetensors")
    save(hostile.checkpoint(), cwd / "good.pt")
    assert status(f"export --weights good.safetensors {line}") == 2
    assert told in capfd.readouterr().err
    with pytest.raises(OptionError):
        pixelkeep.convert_model("good.safetensors", "yolov5-spdconv-n", "out.onnx")


PREDICT = """
import json, sys
from ultralytics import YOLO
assert "pixelkeep" not in sys.modules
result = YOLO(sys.argv[1]).predict(sys.argv[2], imgsz=64, conf=0.0, iou=1.0, verbose=False)[0]
print(json.dumps(result.boxes.data.tolist()))
"""


def test_plain_ultralytics__loads_what_comes_back(cwd):
    """A stock network that went to the portable form and back predicts in plain Ultralytics as the original does."""
    hostile.write_workplace(cwd)
    hostile.save(cwd / "stock.pt", {"model": trained("yolov8n"), "train_args": {"imgsz": 64}})
    rewritten("stock.pt", "stock.safetensors")
    rewritten("stock.safetensors", "back.pt")
    environment = {
        "PATH": "",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "YOLO_CONFIG_DIR": str(cwd),
        "HOME": str(cwd),
    }
    found = []
    for name in ("stock.pt", "back.pt"):
        line = [sys.executable, "-c", PREDICT, name, "images/val/0.png"]
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        found.append(json.loads(done.stdout.splitlines()[-1]))
    assert found[0] == found[1] and len(found[0]) > 10


def test_file_named_like_a_download__is_read_itself(cwd):
    """A given yolov5n.pt is read itself, although Ultralytics would look online for yolov5nu.pt in its place."""
    path = Path("/tmp") / cwd.name.replace("u", "o") / "yolov5n.pt"  # the renaming depends on the path having no u
    path.parent.mkdir()
    try:
        assert "u" not in str(path)
        hostile.save(path, hostile.checkpoint())
        assert check_weights(path) == path.resolve()
    finally:
        path.unlink()
        path.parent.rmdir()
