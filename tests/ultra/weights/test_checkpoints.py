"""Weights files: a real checkpoint loads, and anything else is refused with its reason and never executed."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import types
import warnings
import zipfile
from pathlib import Path

import hostile
import pytest
import torch
from torch import nn
from ultralytics import YOLO
from ultralytics.nn import tasks
from ultralytics.nn.modules import conv
from ultralytics.utils import checks

from pixelkeep.cli.main import run
from pixelkeep.errors import WeightsError
from pixelkeep.ultra.weights import checkpoints
from pixelkeep.ultra.weights.checkpoints import check_weights, forget, load, model_of

ZIP, LEGACY = True, False
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Return the file of a checkpoint as training leaves it."""
    path = tmp_path_factory.mktemp("weights") / "best.pt"
    model = YOLO("yolov5-spd-n.yaml").model
    torch.save({"model": model.half(), "ema": None, "train_args": {"imgsz": 64}}, path)
    return path


@pytest.fixture(autouse=True)
def cwd(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def no_installs(monkeypatch):
    """Fail a test that would install a package or start a process."""

    def refuse(*args, **_):
        raise AssertionError(f"an installation: {args}")

    monkeypatch.setattr(checks, "check_requirements", refuse)
    monkeypatch.setattr(tasks, "check_requirements", refuse)


def save(path, value, *, archive=ZIP):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes whose source is not at hand
        torch.save(value, path, _use_new_zipfile_serialization=archive)
    return path


def save_foreign(path, module, name, *, archive):
    """Save an object of a class whose module is gone when the file is read."""
    parts = module.split(".")
    created = [".".join(parts[: i + 1]) for i in range(len(parts))]
    for full in created:
        sys.modules[full] = types.ModuleType(full)
    cls = type(name, (nn.Module,), {"__module__": module})
    setattr(sys.modules[module], name, cls)
    try:
        return save(path, {"model": cls()}, archive=archive)
    finally:
        for full in created:
            del sys.modules[full]


def refusal(path):
    """Return the one line with which a file is refused."""
    with pytest.raises(WeightsError) as error:
        check_weights(path)
    message = str(error.value)
    assert message.startswith(f"weights '{path}': ") and "\n" not in message
    return message


def test_trained__loads(checkpoint):
    """A checkpoint of a model with our blocks loads; its path becomes absolute, and its task is known."""
    assert check_weights(checkpoint) == checkpoint.resolve()
    loaded = load(checkpoint)
    assert loaded["model"].task == "detect" and loaded["train_args"] == {"imgsz": 64}
    assert any(type(m).__module__ == "pixelkeep.blocks" for m in loaded["model"].modules())


def test_classifier__task_is_known(cwd):
    """A checkpoint without a task gets it from its head, so that a command can refuse it."""
    model = tasks.ClassificationModel("yolov8n-cls.yaml", nc=2, verbose=False)
    assert load(save(cwd / "cls.pt", {"model": model}))["model"].task == "classify"


@pytest.mark.parametrize("part", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_truncated__refused(checkpoint, cwd, part):
    """A file that is cut off, wherever it may be, is refused as damaged."""
    content = checkpoint.read_bytes()
    (cwd / "cut.pt").write_bytes(content[: int(len(content) * part)])
    assert "damaged, truncated or not a PyTorch checkpoint" in refusal(cwd / "cut.pt")


def zip_of_text(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no checkpoint")


def torchscript(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.ReLU()), str(path))


NO_CHECKPOINT = {
    "empty": (lambda p: p.touch(), "the file is empty"),
    "random bytes": (lambda p: p.write_bytes(bytes(range(7, 256)) * 9), "damaged, truncated or not"),
    "text": (lambda p: p.write_text("epoch,loss\n1,2\n"), "damaged, truncated or not"),
    "zip": (zip_of_text, "damaged, truncated or not"),
    "pickle": (lambda p: p.write_bytes(pickle.dumps({"a": 1})), "damaged, truncated or not"),
    "dictionary": (lambda p: save(p, {"epoch": 1}), "no model inside"),
    "list": (lambda p: save(p, [1, 2]), "no model inside"),
    "tensor": (lambda p: save(p, torch.zeros(2)), "no model inside"),
    "tensor as model": (lambda p: save(p, {"model": torch.zeros(2)}), "no model inside"),
    "tensor as ema": (lambda p: save(p, {"ema": torch.zeros(2)}), "no model inside"),
    "state dict": (lambda p: save(p, nn.Linear(2, 2).state_dict()), "no model inside"),
    "plain module": (lambda p: save(p, {"model": nn.Linear(2, 2)}), "no model inside"),
    "torchscript": (torchscript, "an exported TorchScript model; give the checkpoint that it was exported from"),
}


@pytest.mark.parametrize("kind", NO_CHECKPOINT)
def test_no_checkpoint__refused(cwd, kind, capfd):
    """A file that is no checkpoint is refused with what it is, and the loaders print nothing."""
    write, reason = NO_CHECKPOINT[kind]
    write(cwd / "file.pt")
    assert reason in refusal(cwd / "file.pt")
    assert capfd.readouterr() == ("", "")


def test_training_arguments__of_another_kind(checkpoint, cwd):
    """Training arguments that are not a mapping are refused."""
    content = torch.load(checkpoint, weights_only=False)
    assert "no model inside" in refusal(save(cwd / "odd.pt", {**content, "train_args": 5}))


def test_old_format__not_called_damaged(checkpoint, cwd):
    """A good model in PyTorch's format before 1.6 cannot be loaded safely, and the refusal says so."""
    content = torch.load(checkpoint, weights_only=False)
    assert "in PyTorch's format before 1.6" in refusal(save(cwd / "old.pt", content, archive=LEGACY))


class Payload:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call

    def __call__(self):
        """Be callable, so that what it unpickles to can be called in turn."""


def payloads(mark):
    """Return ways to create the file ``mark`` while a checkpoint loads, each with the name that gives it away."""
    code = f"open({str(mark)!r}, 'w').close()"
    chained = Payload(Payload(getattr, Payload(__import__, "os"), "mkdir"), str(mark))
    return {
        "os.system": (Payload(os.system, f"touch {mark}"), f"{os.name}.system"),
        "eval": (Payload(eval, code), "eval"),
        "exec": (Payload(exec, code), "exec"),
        "subprocess": (Payload(subprocess.Popen, ["touch", str(mark)]), "Popen"),
        "getattr chain": (chained, "__import__"),
        "open": (Payload(open, str(mark), "w"), "open"),
        "runpy": (Payload(__import__("runpy").run_path, "evil.py"), "runpy"),
        "pathlib": (Payload(Path.touch, mark), "getattr"),
    }


@pytest.mark.parametrize("archive", [ZIP, LEGACY], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", payloads(Path("x")))
@pytest.mark.parametrize("place", ["alone", "beside a model"])
def test_code__refused_without_executing(checkpoint, cwd, kind, archive, place):
    """A file that carries code is refused in both formats, even beside a good model, and the code never runs."""
    mark = cwd / "executed"
    (cwd / "evil.py").write_text(f"open({str(mark)!r}, 'w').close()")
    payload, name = payloads(mark)[kind]
    good = torch.load(checkpoint, weights_only=False) if place == "beside a model" else {}
    message = refusal(save(cwd / "evil.pt", {**good, "extra": payload}, archive=archive))
    if name != "getattr":  # allowed for methods of models alone, so the loader stops it later, by its argument
        assert "refused without executing it" in message and name in message
    assert not mark.exists()


@pytest.mark.parametrize("archive", [ZIP, LEGACY], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", ["eval", "os.system", "getattr chain"])
def test_payloads__would_execute(cwd, kind, archive):
    """The counterproof: an ordinary load runs these payloads, so the tests above could fail."""
    mark = cwd / "executed"
    path = save(cwd / "evil.pt", {"extra": payloads(mark)[kind][0]}, archive=archive)
    torch.load(path, weights_only=False)
    assert mark.exists()


@pytest.mark.parametrize("archive", [ZIP, LEGACY], ids=["zip", "legacy"])
@pytest.mark.parametrize(("module", "name"), [("models.yolo", "Model"), ("models.yolo", "DetectionModel")])
def test_original_yolov5__named(cwd, module, name, archive):
    """A checkpoint of the original YOLOv5 repository is recognised, and the line says what to use instead."""
    message = refusal(save_foreign(cwd / "yolov5s.pt", module, name, archive=archive))
    assert "made by the original YOLOv5 repository" in message and "yolov5su.pt" in message


@pytest.mark.parametrize("archive", [ZIP, LEGACY], ids=["zip", "legacy"])
def test_third_party_package__never_installed(cwd, archive):
    """A checkpoint that needs a missing package is refused by the package's name, and nothing is installed."""
    message = refusal(save_foreign(cwd / "mine.pt", "third_party_blocks", "Block", archive=archive))
    assert "third_party_blocks.Block" in message and "pixelkeep.register it first" in message


def test_other_release__named(cwd, monkeypatch):
    """A block that this release of Ultralytics lacks is said to be of another release, and not an attack."""
    with monkeypatch.context() as patch:
        patch.setattr(conv, "Newer", type("Newer", (nn.Module,), {"__module__": conv.__name__}), raising=False)
        save(cwd / "newer.pt", {"model": conv.Newer()})
    assert "made with another release of Ultralytics" in refusal(cwd / "newer.pt")


def test_old_ultralytics__refuses_to_load(checkpoint, monkeypatch):
    """Where Ultralytics cannot load without executing code, no weights are loaded at all."""
    monkeypatch.delattr(tasks, "_SafeLoad")
    with pytest.raises(WeightsError, match="cannot load weights without executing what they carry; update it"):
        check_weights(checkpoint)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bset.pt", "weights 'bset.pt' not found; did you mean 'best.pt'?"),
        ("other.pt", "weights 'other.pt' not found; give a .pt file such as runs/train/exp/weights/best.pt"),
        ("nowhere/best.pt", "weights 'nowhere/best.pt' not found"),
        ("~nobody-here/best.pt", "weights '~nobody-here/best.pt' not found"),
        ("", "not found"),
        ("yolov5s.pt", "get yolov5su.pt, as Ultralytics calls it, from https://github.com/ultralytics/assets/releases"),
        ("weights/yolov5su.pt", "not found; nothing is downloaded automatically: get yolov5su.pt from https://"),
        ("yolov5-spd-n-mine.pt", "not found; give a .pt file such as"),
        ("best.onnx", "weights 'best.onnx': a '.onnx' file; give a PyTorch checkpoint"),
    ],
)
def test_missing__nearest_name(cwd, name, message):
    """For missing weights the nearest name there is suggested; for another kind of file, what is needed."""
    (cwd / "best.pt").touch()
    (cwd / "best.onnx").write_text("graph")
    with pytest.raises(WeightsError) as error:
        check_weights(name)
    assert message in str(error.value)


def largest_part(path):
    with zipfile.ZipFile(path) as archive:
        return max(archive.infolist(), key=lambda part: part.file_size)


def test_one_wrong_byte__refused(checkpoint, cwd):
    """A damaged tensor in a whole archive is found by its checksum, although torch itself would load it."""
    content = bytearray(checkpoint.read_bytes())
    content[largest_part(checkpoint).header_offset + 1000] ^= 1
    (cwd / "bit.pt").write_bytes(content)
    torch.load(cwd / "bit.pt", weights_only=False)
    assert "damaged: Bad CRC-32 for file" in refusal(cwd / "bit.pt")


def test_without_checksums__loads(checkpoint, cwd):
    """A file that torch was told to write without checksums is accepted as it is."""
    content = torch.load(checkpoint, weights_only=False)
    torch.serialization.set_crc32_options(False)
    try:
        save(cwd / "fast.pt", content)
    finally:
        torch.serialization.set_crc32_options(True)
    assert largest_part(cwd / "fast.pt").CRC == 0
    assert check_weights(cwd / "fast.pt")


def test_method_called_while_loading__refused(cwd):
    """A file that has torch call a method of a model while it rebuilds a tensor is refused."""
    method = hostile.Call(getattr, tasks.BaseModel, "info")
    called = hostile.Call(torch._tensor._rebuild_from_type_v2, method, torch.Tensor, (), {})
    assert "calls a method while it loads" in refusal(save(cwd / "evil.pt", hostile.checkpoint(extra=called)))


def test_own_forward__loads(cwd):
    """Fused layers, which name their own forward, load: this is no foreign code."""
    model = YOLO("yolov5n.yaml", verbose=False).model.fuse(verbose=False)
    assert any("forward" in vars(m) for m in model.modules())
    assert check_weights(save(cwd / "fused.pt", {"model": model}))


@pytest.mark.parametrize(("ema", "used"), [(None, "model"), (0, "ema")])
def test_model_of__moving_average_first(ema, used):
    """The moving average is taken where there is one."""
    content = {"model": nn.Identity(), "ema": ema if ema is None else nn.Sequential()}
    assert model_of(content) is content[used]


def test_changed_file__loads_again(cwd):
    """A cached checkpoint is returned only while its file is unchanged."""
    for epoch in (1, 2):
        save(cwd / "a.pt", hostile.checkpoint(epoch=epoch, note="x" * epoch))
        first = load(cwd / "a.pt")
        assert first["epoch"] == epoch and load(cwd / "a.pt") is first
    forget()
    assert load(cwd / "a.pt") is not first


COMMANDS = {name: hostile.WEIGHTS[name] for name in ("train --model", "train --weights", "val --weights")}
COMMANDS |= {"detect": hostile.WEIGHTS["detect --weights"], "val without data": "val --imgsz 64 --weights {file}"}


@pytest.mark.parametrize("command", COMMANDS)
def test_command__one_load_of_a_file(cwd, monkeypatch, command):
    """A command loads a checkpoint once, however many of its steps look into it."""
    hostile.write_workplace(cwd)
    forget()
    read, loaded = checkpoints._read, []
    monkeypatch.setattr(checkpoints, "_read", lambda path: loaded.append(path.name) or read(path))
    with pytest.raises(SystemExit) as end:
        run(COMMANDS[command].format(file="good.pt").split())
    assert end.value.code == 0
    assert loaded.count("good.pt") == 1 and len(loaded) == len(set(loaded))


PLAIN = """
import sys
from pathlib import Path
from ultralytics import YOLO
data, trained, *names = sys.argv[1:]
options = dict(epochs=1, imgsz=64, batch=2, plots=False, val=False, workers=0, device="cpu", project=str(Path.cwd()))
for name in names:
    model = YOLO(f"{name}.yaml")
    if name in trained.split(","):
        model.train(data=data, name="run", exist_ok=True, **options)
        Path("run/weights/best.pt").rename(f"{name}.pt")
    else:
        model.save(f"{name}.pt")
assert "pixelkeep" not in sys.modules
"""
STOCK = ("yolov5n", "yolov8n", "yolo11n", "yolo26n")


def plain_ultralytics(code, *arguments, cwd):
    """Run a program in a process of its own with Ultralytics' defaults, where pixelkeep can be imported but is not."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ULTRALYTICS_SAFE_LOAD": "false", "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("trained", [("yolo26n",), pytest.param(STOCK, marks=pytest.mark.slow)], ids=["one", "all"])
def test_plain_ultralytics_to_ours(cwd, trained):
    """Stock networks that plain Ultralytics trained, or saved untrained, work in our val, detect and train."""
    hostile.write_workplace(cwd)
    plain_ultralytics(PLAIN, cwd / "good.yaml", ",".join(trained), *STOCK, cwd=cwd)
    for name in STOCK:
        classes = {"car", "person"} if name in trained else None
        assert classes is None or set(model_of(load(cwd / f"{name}.pt")).names.values()) == classes
        lines = [hostile.WEIGHTS["detect --weights"]]
        lines += [hostile.WEIGHTS[f"{command} --weights"] for command in ("val", "train")] if name in trained else []
        for line in lines:
            with pytest.raises(SystemExit) as end:
                run(line.format(file=f"{name}.pt").split())
            assert end.value.code == 0, f"{name}: {line}"


PREDICT = """
import json, sys
from ultralytics import YOLO
assert "pixelkeep" not in sys.modules
result = YOLO(sys.argv[1]).predict(sys.argv[2], **json.loads(sys.argv[3]))[0]
print(json.dumps(result.boxes.data.tolist()))
"""


def test_ours_to_plain_ultralytics(checkpoint, cwd):
    """Plain Ultralytics, without importing pixelkeep, predicts from our checkpoint the same boxes as here."""
    hostile.write_workplace(cwd)
    picture = cwd / "images" / "val" / "0.png"
    options = {"imgsz": 64, "conf": 0.0, "iou": 1.0, "verbose": False}  # every box is kept
    printed = plain_ultralytics(PREDICT, checkpoint, picture, json.dumps(options), cwd=cwd).splitlines()[-1]
    there, here = torch.tensor(json.loads(printed)), YOLO(checkpoint).predict(picture, **options)[0].boxes.data
    assert len(there) == len(here) == sum((64 // stride) ** 2 for stride in (8, 16, 32))
    distances = (there[:, None, :5] - here[:, :5]).abs().amax(2)  # boxes of equal score come in any order
    assert distances.amin(1).max() < 0.01 and distances.amin(0).max() < 0.01
