"""Weights files: a real checkpoint loads, and anything else is refused with its reason and never executed."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import types
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn
from ultralytics import YOLO
from ultralytics.nn import tasks
from ultralytics.nn.modules import conv
from ultralytics.utils import checks

from pixelkeep.errors import WeightsError
from pixelkeep.ultra.checkpoints import check_weights, load

ZIP, LEGACY = True, False


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint as training leaves it."""
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
    """A checkpoint of a model with our blocks loads, its path is absolute and its task known."""
    assert check_weights(checkpoint) == checkpoint.resolve()
    loaded = load(checkpoint)
    assert loaded["model"].task == "detect" and loaded["train_args"] == {"imgsz": 64}
    assert any(type(m).__module__ == "pixelkeep.blocks" for m in loaded["model"].modules())


def test_classifier__task_is_known(cwd):
    """A checkpoint that does not say its task gets it from its head, so a command can refuse it."""
    model = tasks.ClassificationModel("yolov8n-cls.yaml", nc=2, verbose=False)
    assert load(save(cwd / "cls.pt", {"model": model}))["model"].task == "classify"


@pytest.mark.parametrize("part", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_truncated__refused(checkpoint, cwd, part):
    """A file cut off anywhere is refused as damaged."""
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
    """A file that is no checkpoint is refused with what it is, and the loaders print nothing beside."""
    write, reason = NO_CHECKPOINT[kind]
    write(cwd / "file.pt")
    assert reason in refusal(cwd / "file.pt")
    assert capfd.readouterr() == ("", "")


def test_training_arguments__of_another_kind(checkpoint, cwd):
    """Training arguments that are no mapping do not get past the check."""
    content = torch.load(checkpoint, weights_only=False)
    assert "no model inside" in refusal(save(cwd / "odd.pt", {**content, "train_args": 5}))


def test_old_format__not_called_damaged(checkpoint, cwd):
    """A good model in PyTorch's format before 1.6 cannot be loaded safely, and is told what it is."""
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
    """Ways of creating the file ``mark`` while a checkpoint loads, and the name that gives each away."""
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
    """A file that carries code is refused, in both formats and beside a good model too, and the code never runs."""
    mark = cwd / "executed"
    (cwd / "evil.py").write_text(f"open({str(mark)!r}, 'w').close()")
    payload, name = payloads(mark)[kind]
    good = torch.load(checkpoint, weights_only=False) if place == "beside a model" else {}
    message = refusal(save(cwd / "evil.pt", {**good, "extra": payload}, archive=archive))
    if name != "getattr":  # allowed for methods of models alone, so the loader stops it later and by its argument
        assert "refused without executing it" in message and name in message
    assert not mark.exists()


@pytest.mark.parametrize("archive", [ZIP, LEGACY], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", ["eval", "os.system", "getattr chain"])
def test_payloads__would_execute(cwd, kind, archive):
    """The counterproof: an ordinary load does run these payloads, so the tests above could fail."""
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
    """A checkpoint that needs a package which is not there is refused by its name; nothing is installed."""
    message = refusal(save_foreign(cwd / "mine.pt", "third_party_blocks", "Block", archive=archive))
    assert "third_party_blocks.Block" in message and "pixelkeep.register it first" in message


def test_other_release__named(cwd, monkeypatch):
    """A block that this release of Ultralytics lacks is said to be of another release, not of an attacker."""
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
        ("bset.pt", "weights 'bset.pt' not found; did you mean 'best.pt'?; give a .pt file such as"),
        ("nowhere/best.pt", "weights 'nowhere/best.pt' not found"),
        ("~nobody-here/best.pt", "weights '~nobody-here/best.pt' not found"),
        ("", "not found"),
        ("best.onnx", "weights 'best.onnx': a '.onnx' file; give a PyTorch checkpoint"),
    ],
)
def test_missing__nearest_name(cwd, name, message):
    """Missing weights are answered by the nearest name there; another kind of file by what is needed."""
    (cwd / "best.pt").touch()
    (cwd / "best.onnx").write_text("graph")
    with pytest.raises(WeightsError) as error:
        check_weights(name)
    assert message in str(error.value)
