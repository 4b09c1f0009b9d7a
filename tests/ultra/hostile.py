"""A corpus of hostile files: each would create its canary file if a command executed, built or unpacked what it holds.

A case writes its files into an empty folder beside good data and good weights, and names the commands that take them.
"""

from __future__ import annotations

import functools
import importlib
import json
import marshal
import operator
import os
import pickle
import runpy
import shutil
import subprocess
import sys
import tarfile
import time
import timeit
import types
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import yaml
from torch import nn
from ultralytics.nn import distill_model, tasks
from ultralytics.nn.modules import Conv, block

REFUSED, IGNORED = "refused", "ignored"
ROWS = """
nc: 2
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, SPDConv, [8]]
  - [-1, 1, Conv, [16, 3, 2]]
head:
  - [[2], 1, Detect, [nc]]
"""
DATA = "train: images/train\nval: images/val\nnames: [car, person]\n"
QUICK = "--imgsz 64 --set plots=false"
TRAIN = f"train --epochs 1 --batch 2 --workers 0 {QUICK}"
WEIGHTS = {  # each of these commands takes the hostile {file} as a checkpoint
    "train --model": f"{TRAIN} --data good.yaml --model {{file}}",
    "train --weights": f"{TRAIN} --data good.yaml --weights {{file}}",
    "val --weights": f"val {QUICK} --data good.yaml --weights {{file}}",
    "detect --weights": "detect --imgsz 64 --source images/val --weights {file}",
    "train --resume (last.pt)": "train --resume as-last",
    "train --resume (best.pt)": "train --resume as-best",
}
MODEL = {"train --model": f"{TRAIN} --data good.yaml --model {{file}}"}
DATASET = {
    "train --data": f"{TRAIN} --model rows.yaml --data {{file}}",
    "val --data": f"val {QUICK} --weights good.pt --data {{file}}",
}
RECIPE = {"train --config": f"{TRAIN} --data good.yaml --config {{file}}"}
RESUME = {"train --resume": "train --resume as-last"}


@dataclass(frozen=True)
class Case:
    """A hostile file and the commands that it is given to.

    Attributes:
        name: What is hostile about it.
        write: Writes the file to the first path, which the commands are given; the second path is the canary.
        commands: Command lines by name; ``{file}`` stands for the name of the file.
        file: Name of the file.
        bite: Reads the file in the unsafe way that would create the canary; None where no such way is at hand.
        outcome: Whether the commands refuse the file, or run because they never read its hostile part.
    """

    name: str
    write: Callable[[Path, Path], None]
    commands: dict[str, str]
    file: str
    bite: Callable[[Path], object] | None = None
    outcome: str = REFUSED

    def prepare(self, folder: Path, canary: Path) -> dict[str, str]:
        """Write the file and what its commands need, and return the command lines by name."""
        path = folder / self.file
        self.write(path, canary)
        for name in ("last", "best"):
            if f"as-{name}" in " ".join(self.commands.values()) and path.suffix == ".pt":
                write_run(folder / f"as-{name}", **{name: path})
        return {name: line.format(file=self.file) for name, line in self.commands.items()}


class Call:
    """Unpickles to the result of a call; the function may be another ``Call``, whose result is then called."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced

    def __call__(self):
        """Do nothing; pickle only accepts a function that is callable."""


class Build(Call):
    """Unpickles to the result of a call, on which a state is then set."""

    def __init__(self, function, arguments, state):
        self.reduced = function, arguments, state


class ByVersion(Call):
    """Returns its call from ``__reduce_ex__`` instead of ``__reduce__``."""

    def __reduce_ex__(self, protocol):
        return self.reduced


def write_workplace(folder: Path) -> None:
    """Write a good dataset, the YAML of a tiny network and good weights for it."""
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for index in range(2):
            picture = np.full((64, 64, 3), 60 * (index + 1), np.uint8)
            picture[20:40, 20:44] = 250
            cv2.imwrite(str(folder / "images" / split / f"{index}.png"), picture)
            (folder / "labels" / split / f"{index}.txt").write_text("0 .5 .47 .37 .31\n")
    (folder / "good.yaml").write_text(DATA)
    (folder / "rows.yaml").write_text(ROWS)
    save(folder / "good.pt", checkpoint())


@functools.cache
def _network() -> bytes:
    model = tasks.DetectionModel(yaml.safe_load(ROWS), nc=2, verbose=False)
    model.names, model.task = {0: "car", 1: "person"}, "detect"
    return pickle.dumps(model)


def checkpoint(**changes) -> dict:
    """Return a good checkpoint, as after the first of two epochs, with entries changed or added."""
    model = pickle.loads(_network())
    arguments = {"imgsz": 64, "epochs": 2, "batch": 2, "data": "good.yaml", "plots": False}
    return {"epoch": 0, "model": model.half(), "ema": None, "train_args": arguments, **changes}


def altered(change: Callable[[nn.Module], None]) -> dict:
    """Return a good checkpoint after applying a change to its model."""
    content = checkpoint()
    change(content["model"])
    return content


def save(path: Path, value: object, *, archive: bool = True) -> Path:
    """Save a value with ``torch.save``, and return the path."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of classes whose source it cannot find
        torch.save(value, path, _use_new_zipfile_serialization=archive)
    return path


def write_run(folder: Path, last: Path | None = None, best: Path | None = None, **changes) -> None:
    """Write the folder of an unfinished run; a good checkpoint takes the place of each that is not given."""
    (folder / "weights").mkdir(parents=True)
    settings = {"model": "rows.yaml", "data": "good.yaml", "epochs": 1 if best else 2, "imgsz": 64, "plots": False}
    (folder / "settings.yaml").write_text(yaml.safe_dump({**settings, **changes}))
    for name, path in (("last", last), ("best", best)):
        shutil.copyfile(path or folder.parent / "good.pt", folder / "weights" / f"{name}.pt")


def unsafe(path: Path) -> object:
    """Load a checkpoint without restrictions, as was torch's default for years."""
    return torch.load(path, weights_only=False)


def code(canary: Path) -> str:
    """Return the source of a Python expression that creates the canary."""
    return f"__import__('os').mkdir({str(canary)!r})"


def beside(canary: Path, name: str, value: object) -> str:
    """Save a second file, which the hostile file makes its reader load or run, and return its path."""
    path = canary.parent / name
    if path.suffix == ".npy":
        np.save(path, np.array([value], dtype=object), allow_pickle=True)
    elif isinstance(value, str):
        path.write_text(value)
    else:
        save(path, value)
    return str(path)


def make(canary: Path) -> Call:
    """Return an object that creates the canary when it is unpickled."""
    return Call(os.mkdir, str(canary))


def _marshalled(canary: Path) -> bytes:
    return marshal.dumps(compile(code(canary), "<hostile>", "eval"))


# What each hostile pickle holds, by the way in which it creates the canary c.
CALLS: dict[str, Callable[[Path], object]] = {
    "os.system": lambda c: Call(os.system, f"touch {c}"),
    "eval": lambda c: Call(eval, code(c)),
    "exec": lambda c: Call(exec, code(c)),
    "subprocess.Popen": lambda c: Call(subprocess.call, ["touch", str(c)]),
    "getattr of __import__": lambda c: Call(Call(getattr, Call(__import__, "os"), "mkdir"), str(c)),
    "operator.attrgetter": lambda c: Call(Call(Call(operator.attrgetter, "mkdir"), Call(__import__, "os")), str(c)),
    "operator.methodcaller": lambda c: Call(Call(operator.methodcaller, "mkdir", str(c)), Call(__import__, "os")),
    "functools.partial": lambda c: Call(Call(functools.partial, os.mkdir, str(c))),
    "importlib.import_module": lambda c: Call(Call(getattr, Call(importlib.import_module, "os"), "mkdir"), str(c)),
    "torch.hub": lambda c: Call(
        torch.hub._load_local, Path(beside(c, "hubconf.py", f"go = lambda: {code(c)}")).parent, "go"
    ),
    "torch.load nested": lambda c: Call(
        Build(functools.partial, (print,), (torch.load, (beside(c, "a.bin", make(c)),), {"weights_only": False}, {}))
    ),
    "numpy.load nested": lambda c: Call(np.load, beside(c, "a.npy", make(c)), None, True),
    "numpy object array": lambda c: np.array([make(c)], dtype=object),
    "pathlib": lambda c: Call(Path.touch, c),
    "open": lambda c: Call(open, str(c), "w"),
    "runpy": lambda c: Call(runpy.run_path, beside(c, "evil.py", code(c))),
    "timeit": lambda c: Call(timeit.timeit, code(c), "pass", time.perf_counter, 1),
    "marshalled code": lambda c: Call(eval, Call(marshal.loads, _marshalled(c))),
    "__setstate__": lambda c: Call(Build(functools.partial, (print,), (os.mkdir, (str(c),), {}, {}))),
    "__reduce_ex__": lambda c: ByVersion(os.mkdir, str(c)),
}


def weights(name: str, content: Callable[[Path], object], bite=None, outcome: str = REFUSED, **forms) -> Case:
    """Return the case of a checkpoint; ``content`` makes what it holds from the path of the canary."""
    return Case(name, lambda path, c: save(path, content(c), **forms), WEIGHTS, "evil.pt", bite, outcome)


def pickled() -> Iterator[Case]:
    """Yield calls in every file format that is read as a checkpoint."""
    for kind, call in CALLS.items():
        yield weights(f"{kind}, zip", lambda c, call=call: checkpoint(extra=call(c)), unsafe)
    for kind in ("os.system", "eval", "getattr of __import__"):
        yield weights(f"{kind}, legacy", lambda c, call=CALLS[kind]: call(c), unsafe, archive=False)
        yield Case(f"{kind}, pickle", _bare(CALLS[kind]), WEIGHTS, "evil.pt", lambda p: pickle.loads(p.read_bytes()))


def _bare(call: Callable[[Path], object]) -> Callable[[Path, Path], None]:
    return lambda path, canary: path.write_bytes(pickle.dumps(call(canary), protocol=4))


def nested() -> Iterator[Case]:
    """Yield checkpoints with a call in each place where something else belongs."""
    for key in ("ema", "optimizer", "train_results", "train_args", "stopper", "modelopt", "date", "epoch"):
        yield weights(f"in {key}", lambda c, key=key: checkpoint(**{key: {"a": [make(c)]}}), unsafe)
    for name in ("names", "yaml", "args", "criterion", "stride", "forward"):
        yield weights(
            f"in model.{name}", lambda c, name=name: altered(lambda m: vars(m).update({name: make(c)})), unsafe
        )
    yield weights("in place of a layer", lambda c: altered(lambda m: m.model._modules.update({"0": make(c)})), unsafe)
    yield weights("in a hook", lambda c: altered(lambda m: m._forward_hooks.update({0: make(c)})), unsafe)


def _text_model(canary: Path) -> object:
    """Return a method that, when a network calls it as a hook, loads or installs a text encoder."""
    return Call(getattr, tasks.YOLOEModel, "get_text_pe")


def allowed() -> Iterator[Case]:
    """Yield misuses of known classes and their methods, which torch's restricted loader accepts."""
    constructed = {
        "TorchVision": lambda c: Call(block.TorchVision, "resnet18", "DEFAULT"),
        "Conv with act given as text": lambda c: Call(Conv, 3, 8, 1, 1, None, 1, 1, code(c)),
        "Linear of 400 TB": lambda c: Call(nn.Linear, 10**7, 10**7),
        "DetectionModel of a YAML": lambda c: Call(tasks.DetectionModel, beside(c, "m.yaml", f"activation: {code(c)}")),
        "DistillationModel of a file": lambda c: Call(distill_model.DistillationModel, beside(c, "a.pt", make(c)), 0),
    }
    for name, call in constructed.items():
        yield weights(f"constructed: {name}", lambda c, call=call: checkpoint(extra=call(c)))
    planted = {
        "method as hook": lambda m, c: m._forward_pre_hooks.update({0: _text_model(c)}),
        "method as hook of a layer": lambda m, c: m.model[1]._forward_hooks.update({0: _text_model(c)}),
        "method as float": lambda m, c: vars(m).update({"float": _text_model(c)}),
        "class as forward": lambda m, c: vars(m.model[0]).update({"forward": block.TorchVision}),
        "class as activation": lambda m, c: vars(m.model[0]).update({"act": block.TorchVision}),
        "text as layer": lambda m, c: m.model._modules.update({"0": "os.system"}),
    }
    for name, change in planted.items():
        yield weights(name, lambda c, change=change: altered(lambda m: change(m, c)))
    yield weights(
        "method called by the rebuilding of a tensor",
        lambda c: checkpoint(
            extra=Call(torch._tensor._rebuild_from_type_v2, _text_model(c), torch.Tensor, (0, ["a"]), {})
        ),
    )
    yield weights("activation in model.yaml", lambda c: altered(lambda m: m.yaml.update(activation=code(c))))
    yield weights("damaged names", lambda c: altered(lambda m: vars(m).update(names=["car", 5])))
    yield weights("image size without end", lambda c: checkpoint(train_args={"imgsz": 10**9}))
    yield weights("state that a missing package restores", lambda c: checkpoint(modelopt={"modelopt": 1, "ranges": {}}))


def foreign(path: Path, module: str) -> None:
    """Save an object of a class whose package no longer exists when the file is read."""
    sys.modules[module] = types.ModuleType(module)
    cls = sys.modules[module].Block = type("Block", (nn.Module,), {"__module__": module})
    try:
        save(path, checkpoint(model=cls()))
    finally:
        del sys.modules[module]


def archive(path: Path, **parts: bytes) -> None:
    """Write a zip archive with torch's layout and the given parts."""
    with zipfile.ZipFile(path, "w") as file:
        for name, content in {"version": b"3\n", "byteorder": b"little", **parts}.items():
            file.writestr(f"archive/{name}", content)


def _bomb(path: Path, _: Path) -> None:
    save(path, checkpoint())
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file, file.open(f"{path.stem}/data/bomb", "w") as part:
        for _ in range(256):
            part.write(bytes(2**20))


def _traversal(path: Path, canary: Path) -> None:
    save(path, checkpoint())
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(f"{path.stem}/../{canary.name}", "x")


def _tar(path: Path, canary: Path) -> None:
    evil = Path(beside(canary, "pickle", ""))
    evil.write_bytes(pickle.dumps(make(canary), 2))
    with tarfile.open(path, "w") as file:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            file.add(evil, name)


def _script(path: Path, _: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.ReLU()), str(path))


def _damaged(path: Path, _: Path) -> None:
    save(path, checkpoint())
    with zipfile.ZipFile(path) as file:
        part = max(file.infolist(), key=lambda info: info.file_size)
    content = bytearray(path.read_bytes())
    content[part.header_offset + 512] ^= 0xFF
    path.write_bytes(content)


def files() -> Iterator[Case]:
    """Yield files that are named like checkpoints but hold something else."""
    build = b"\x80\x02ctorch.nn.modules.conv\nConv2d\n}X\x07\x00\x00\x00forwardcbuiltins\neval\nsb."
    by_stack = [
        ("BUILD on a class", lambda p, c: archive(p, **{"data.pkl": build}), None),
        ("protocol 4 in a zip", lambda p, c: archive(p, **{"data.pkl": pickle.dumps(make(c), 4)}), unsafe),
        ("class of a missing package", lambda p, c: foreign(p, "third_party_blocks"), None),
        ("class of a missing part of Ultralytics", lambda p, c: foreign(p, "ultralytics.nn.modules.evil"), None),
        ("TorchScript", _script, None),
        ("zip bomb", _bomb, None),
        ("tar", _tar, None),
        ("Python file", lambda p, c: p.write_text(code(c)), lambda p: exec(p.read_text())),
        ("damaged tensor in a whole zip", _damaged, None),
    ]
    for name, write, bite in by_stack:
        yield Case(name, write, WEIGHTS, "evil.pt", bite)
    yield Case("zip with names that leave the folder", _traversal, WEIGHTS, "evil.pt", _extract, IGNORED)
    crops = {"detect --save-crop": "detect --imgsz 64 --source images/val --weights evil.pt --conf 0 --save-crop"}
    yield Case("class names that leave the folder", _climbing_names, crops, "evil.pt", outcome=IGNORED)


def _extract(path: Path) -> None:
    """Unpack the archive as a careless program would, taking names as they are."""
    (path.parent / path.stem).mkdir()
    with zipfile.ZipFile(path) as file:
        for name in file.namelist():
            if ".." in name:
                (path.parent / name).write_bytes(file.read(name))


def _climbing_names(path: Path, canary: Path) -> None:
    save(path, altered(lambda m: vars(m).update(names={0: str(canary), 1: str(canary)})))


def definition(name: str, text: Callable[[Path], str], bite=None) -> Case:
    """Return the case of a model YAML; ``text`` makes its text from the path of the canary."""
    return Case(name, lambda path, c: path.write_text(text(c)), MODEL, "evil.yaml", bite)


def definitions() -> Iterator[Case]:
    """Yield model YAMLs with hostile activations, rows and tags."""
    activations = {
        "call": code,
        "condition": lambda c: f"nn.SiLU() if {code(c)} is None else nn.SiLU()",
        "lambda": lambda c: f"(lambda: {code(c)})()",
        "argument": lambda c: f"nn.LeakyReLU({code(c)})",
        "keyword": lambda c: f"nn.LeakyReLU(negative_slope={code(c)})",
        "tuple": lambda c: f"(nn.SiLU(), {code(c)})[0]",
        "attribute": lambda c: f"torch.os.mkdir({str(c)!r})",
        "globals": lambda c: f"nn.SiLU.__init__.__globals__['__builtins__']['__import__']('os').mkdir({str(c)!r})",
        "torch.hub": lambda c: (
            f"torch.hub._load_local({str(Path(beside(c, 'hubconf.py', f'go = lambda: {code(c)}')).parent)!r}, 'go')"
        ),
    }
    for name, text in activations.items():
        for rows, kind in ((ROWS, "our block"), (ROWS.replace("SPDConv, [8]", "Conv, [8, 3, 2]"), "stock rows")):
            yield definition(
                f"activation: {name}, {kind}",
                lambda c, text=text, rows=rows: f"activation: {json.dumps(text(c))}\n{rows}",
                lambda p: eval(yaml.safe_load(p.read_text())["activation"], {"torch": torch, "nn": nn}),
            )
    modules = (
        "os.system",
        "os.mkdir",
        "nn.Module",
        "nn.init.zeros_",
        "nn.modules.conv.Conv2d",
        "torch.nn.modules.Linear",
    )
    modules += (
        "torchvision.ops.misc",
        "torchvision.ops.nms",
        "torch_safe_load",
        "load_checkpoint",
        "subprocess",
        "eval",
    )
    for module in modules:
        row = f"[-1, 1, {module}, [CANARY]]"
        yield definition(
            f"module {module}", lambda c, row=row: ROWS.replace("[-1, 1, SPDConv, [8]]", row.replace("CANARY", str(c)))
        )
    for row in (
        "Conv, [CODE, 3, 2]",
        "SPDConv, [CODE]",
        "nn.Upsample, [CODE, 2]",
        "TorchVision, [8, resnet18, DEFAULT]",
    ):
        yield definition(
            f"row {row}", lambda c, row=row: ROWS.replace("SPDConv, [8]", row.replace("CODE", json.dumps(code(c))))
        )
    for name, text in TAGS.items():
        yield definition(f"model with tag {name}", lambda c, text=text: f"{ROWS}\nx: {text(c)}\n", unsafe_yaml)
    bomb = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))
    yield definition("references without end", lambda c: bomb + ROWS.replace("[8, 3, 2]", "*a29"))
    yield definition("brackets without end", lambda c: f"{ROWS}\nx: {'[' * 9000}")


TAGS: dict[str, Callable[[Path], str]] = {
    "apply": lambda c: f"!!python/object/apply:os.mkdir ['{c}']",
    "new": lambda c: f"!!python/object/new:os.mkdir ['{c}']",
    "eval": lambda c: f'!!python/object/apply:eval ["{code(c)}"]',
}


def unsafe_yaml(path: Path) -> object:
    """Read a YAML file with a loader that executes every tag."""
    return yaml.unsafe_load(path.read_text())


def _dataset(
    name: str, text: Callable[[Path], str], bite=None, outcome: str = REFUSED, file: str = "evil.yaml"
) -> Case:
    return Case(name, lambda path, c: path.write_text(text(c)), DATASET, file, bite, outcome)


def _download(canary: Path, kind: str) -> str:
    script = beside(canary, "evil.sh", f"mkdir {canary}")
    return {
        "python": f"import os; os.mkdir({str(canary)!r})",
        "bash": f"bash {script}",
        "url": "https://example.invalid/a.zip",
    }[kind]


def datasets() -> Iterator[Case]:
    """Yield dataset YAMLs, and hostile files that lie beside labels and images."""
    for name, text in TAGS.items():
        yield _dataset(f"data with tag {name}", lambda c, text=text: f"{DATA}x: {text(c)}\n", unsafe_yaml)
    for kind in ("python", "bash", "url"):
        for data, state, outcome in ((DATA, "there", IGNORED), (DATA.replace("images/", "gone/"), "missing", REFUSED)):
            yield _dataset(
                f"download: {kind}, images {state}",
                lambda c, kind=kind, data=data: f"{data}download: {json.dumps(_download(c, kind))}\n",
                _run_download if kind != "url" else None,
                outcome,
            )
    yield _dataset(
        "data as NDJSON",
        lambda c: json.dumps({"type": "dataset", "task": "detect", "url": f"file://{c}"}),
        file="a.ndjson",
    )
    yield _dataset("split as NDJSON", lambda c: DATA.replace("images/train", "https://example.invalid/a.ndjson"))
    for name in ("labels/train.cache", "labels/val.cache", "labels.cache", "labels/val/0.cache"):
        yield Case(f"{name} beside the labels", _beside_data(name), DATASET, "evil.yaml", _read_cache, IGNORED)
    yield Case("0.npy beside its image", _beside_data("images/val/0.npy"), DATASET, "evil.yaml", _read_cache, IGNORED)


def _beside_data(name: str) -> Callable[[Path, Path], None]:
    def write(path: Path, canary: Path) -> None:
        path.write_text(DATA)
        with (path.parent / name).open("wb") as file:
            np.save(file, np.array([make(canary)], dtype=object), allow_pickle=True)

    return write


def _read_cache(path: Path) -> None:
    for file in [*path.parent.rglob("*.cache"), *path.parent.rglob("images/**/*.npy")]:
        np.load(file, allow_pickle=True)


def _run_download(path: Path) -> None:
    text = yaml.safe_load(path.read_text())["download"]
    subprocess.run(text.split(), check=True) if text.startswith("bash") else exec(text)


def recipes() -> Iterator[Case]:
    """Yield recipes with tags, and with settings that name another hostile file."""
    for name, text in TAGS.items():
        yield Case(
            f"recipe with tag {name}", lambda p, c, t=text: p.write_text(f"x: {t(c)}\n"), RECIPE, "r.yaml", unsafe_yaml
        )
    for key in ("model", "pretrained", "distill_model"):

        def write(path: Path, canary: Path, key: str = key) -> None:
            path.write_text(f"{key}: {beside(canary, 'inner.pt', checkpoint(extra=make(canary)))}\n")

        yield Case(f"recipe whose {key} carries code", write, RECIPE, "r.yaml", lambda p: unsafe(p.parent / "inner.pt"))
    for key, value in {"cfg": "r.yaml", "resume": "evil.pt", "mode": "export", "x": "[" * 9000}.items():
        yield Case(f"recipe with {key}", lambda p, c, k=key, v=value: p.write_text(f"{k}: {v}\n"), RECIPE, "r.yaml")


def runs() -> Iterator[Case]:
    """Yield folders of runs to resume, whose settings or data are not what training wrote."""
    for name, text in TAGS.items():

        def tagged(path: Path, canary: Path, text=text) -> None:
            write_run(path)
            (path / "settings.yaml").write_text(f"data: good.yaml\nx: {text(canary)}\n")

        yield Case(f"settings with tag {name}", tagged, RESUME, "as-last", lambda p: unsafe_yaml(p / "settings.yaml"))

    def downloading(path: Path, canary: Path) -> None:
        beside(
            canary, "d.yaml", f"{DATA.replace('images/', 'gone/')}download: {json.dumps(_download(canary, 'python'))}\n"
        )
        write_run(path, data="d.yaml")

    yield Case(
        "settings whose data has a script", downloading, RESUME, "as-last", lambda p: _run_download(p.parent / "d.yaml")
    )

    def without_data(path: Path, canary: Path) -> None:
        downloading(path.with_name("unused"), canary)
        (path.parent / "own.pt").write_bytes(b"")
        save(path.parent / "own.pt", checkpoint(train_args={"imgsz": 64, "epochs": 2, "data": "d.yaml"}))
        write_run(path, last=path.parent / "own.pt", data=None)

    yield Case("training arguments whose data has a script", without_data, RESUME, "as-last")

    def arguments(path: Path, canary: Path) -> None:
        save(path.parent / "own.pt", checkpoint(train_args={"imgsz": 64, "epochs": [], "device": {"a": 1}}))
        write_run(path, last=path.parent / "own.pt")

    yield Case("damaged training arguments", arguments, RESUME, "as-last")


def corpus() -> list[Case]:
    """Return every case."""
    groups = (pickled, nested, allowed, files, definitions, datasets, recipes, runs)
    return [case for group in groups for case in group()]
