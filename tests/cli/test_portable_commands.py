"""The commands that train and advise treat a portable checkpoint in the same way as its .pt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ultralytics.nn.tasks import DetectionModel

from pixelkeep.cli.main import run
from pixelkeep.datasets.demo import write_demo
from pixelkeep.ultra.weights.checkpoints import load, save

NAMES = ("person", "car", "truck", "boat", "building")
BRIEF = "--epochs 1 --imgsz 64 --batch 2 --set workers=0 --set plots=false --set val=false"
ROWS = "nc: 5\nbackbone:\n  - [-1, 1, Conv, [8, 3, 2]]\n  - [-1, 1, {down}]\nhead:\n  - [[1], 1, Detect, [nc]]\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with data, a strided and an SPD network of the same function, and weights in both forms."""
    folder = tmp_path_factory.mktemp("made")
    write_demo(folder / "data", splits={"train": 4, "val": 2, "test": 1})
    (folder / "strided.yaml").write_text(ROWS.format(down="Conv, [16, 3, 2]"))
    (folder / "spd.yaml").write_text(ROWS.format(down="SPDConv, [16, 3]"))
    torch.manual_seed(0)
    model = DetectionModel(str(folder / "strided.yaml"), verbose=False)
    model.names = dict(enumerate(NAMES))
    settings = {"imgsz": 64, "model": "strided.yaml"}
    torch.save({"epoch": -1, "model": model.half(), "ema": None, "train_args": settings}, folder / "net.pt")
    save(load(folder / "net.pt"), folder / "net.safetensors")
    return folder


def done(line: str, made: Path, capsys: pytest.CaptureFixture) -> tuple[str, str]:
    """Run a command in which {} stands for ``made``, assert success, and return standard output and error."""
    with pytest.raises(SystemExit) as end:
        run(line.replace("{}", str(made)).split())
    out, err = capsys.readouterr()
    assert end.value.code == 0, err
    return out, err


def tensors(path: Path) -> list[torch.Tensor]:
    return list(load(path)["model"].state_dict().values())


def test_pretrained__converted_by_training(made, tmp_path, monkeypatch, capsys, caplog):
    """``train --pretrained`` converts either form into the SPD network, and training ends at the same bits."""
    monkeypatch.chdir(tmp_path)
    given = f"--data {{}}/data/demo.yaml {BRIEF}"
    for form in ("pt", "safetensors"):
        done(f"train --model {{}}/spd.yaml --pretrained {{}}/net.{form} --name {form} {given}", made, capsys)
        report = json.loads((tmp_path / "runs/train" / form / "conversion.json").read_text())
        assert report["exact"] and [part["how"] for part in report["parts"]].count("rewritten") == 1
    assert caplog.text.count("carried over by role: 4 parts: 3 taken, 1 rewritten; the same function") == 2
    pair = [tensors(tmp_path / "runs/train" / form / "weights/last.pt") for form in ("pt", "safetensors")]
    assert all(map(torch.equal, *pair))


def test_compare__takes_both_forms(made, tmp_path, monkeypatch, capsys):
    """An arm is named by its file without the ending, and both forms train to the same weights."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.pt").write_bytes((made / "net.pt").read_bytes())
    line = f"compare {{}}/net.safetensors other.pt --data {{}}/data/demo.yaml --seeds 1 --json {BRIEF}"
    document = json.loads(done(line, made, capsys)[0])
    assert [arm["name"] for arm in document["arms"]] == ["net", "other"]
    pair = [tensors(tmp_path / "runs/compare/exp" / arm / "seed0/weights/last.pt") for arm in ("net", "other")]
    assert all(map(torch.equal, *pair))


def test_doctor__bears_its_advice_out(made, tmp_path, monkeypatch, capsys):
    """``doctor --weights`` validates both forms with the same outcome."""
    monkeypatch.chdir(tmp_path)
    found = []
    for form in ("pt", "safetensors"):
        line = f"doctor --data {{}}/data/demo.yaml --weights {{}}/net.{form} --imgsz 64 --json"
        document = json.loads(done(line, made, capsys)[0])
        found.append({key: value for key, value in document["validation"].items() if key not in ("weights", "folder")})
    assert found[0] == found[1] and found[0]["sizes"]


def test_models__lists_names_alone(made, capsys):
    """A checkpoint given as a model name is refused with the command that evaluates checkpoints."""
    with pytest.raises(SystemExit) as end:
        run(["models", str(made / "net.safetensors")])
    assert end.value.code == 2
    assert "to evaluate a checkpoint, use 'pixelkeep val'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train --model", "compare"])
def test_export__does_not_learn(made, tmp_path, monkeypatch, capsys, command):
    """An exported file given as a model is refused with what to give instead."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.onnx").write_bytes(b"\x80graph")
    others = "yolov5-n " if command == "compare" else ""
    with pytest.raises(SystemExit) as end:
        run(f"{command} net.onnx {others}--data {made}/data/demo.yaml".split())
    err = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and len(err) == 1
    assert err[0].endswith("an export, which cannot be trained; give the checkpoint it was made from")
