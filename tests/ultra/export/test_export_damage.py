"""Damaged, foreign and incomplete exported files end in one line each, in every runtime, and nothing is executed."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pixelkeep.errors import PixelkeepError, WeightsError
from pixelkeep.ultra.export.parity import opened
from pixelkeep.ultra.weights.checkpoints import check_weights

SAYS = {"task": "detect", "imgsz": [64, 64], "names": {"0": "a"}, "stride": 32, "batch": 1}
FOREIGN = "truncated, or not an export of pixelkeep or Ultralytics: it does not say what it is"
YAML = "task: detect\nimgsz: [64, 64]\nnames: {0: a}\nstride: 32\nbatch: 1\n"


def engine(length: int, content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(struct.pack("<i", length) + content)


def folder(text: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.mkdir()
        (path / "metadata.yaml").write_text(text)

    return make


def no_output(path: Path) -> None:
    """Write an ncnn network whose convolution exceeds its images: it has no output, and ncnn no memory for one."""
    folder(YAML)(path)
    layers = "Input in0 0 1 in0\nConvolution conv 1 1 in0 out0 0=4 1=65 6=50700\n"
    (path / "model.ncnn.param").write_text(f"7767517\n2 2\n{layers}")
    (path / "model.ncnn.bin").write_bytes(bytes(4 * (1 + 50700)))


WHOLE = json.dumps(SAYS).encode()
DAMAGED = {
    "net.onnx": (lambda path: path.write_bytes(b"\x80garbage"), FOREIGN),
    "empty.torchscript": (lambda path: path.touch(), "the file is empty"),
    "net.torchscript": (lambda path: path.write_bytes(b"PK\x03\x04garbage"), "damaged, truncated or not TorchScript"),
    "net.engine": (lambda path: path.write_bytes(b"garbage" * 9), FOREIGN),
    "long.engine": (engine(2**31 - 1, b"x" * 99), FOREIGN),
    "whole.engine": (engine(len(WHOLE), WHOLE + b"x"), "engine needs tensorrt: pip install tensorrt 'pixelkeep[onnx]'"),
    "code_openvino_model": (folder("names: !!python/object/apply:os.mkdir [canary]\n"), FOREIGN),
    "code_ncnn_model": (folder("names: !!python/object/apply:os.mkdir [canary]\n"), FOREIGN),
    "bare_openvino_model": (folder(YAML), "openvino cannot load it (a file in the folder is missing)"),
    "bare_ncnn_model": (folder(YAML), "ncnn cannot load it (a file in the folder is missing)"),
    "bare_of_output_ncnn_model": (no_output, "ncnn cannot load it (computing out0 ends with code -100)"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged__one_line(name, tmp_path, monkeypatch):
    """A file's description is checked, then its runtime opens it; any failure is reported in one line."""
    from pixelkeep.ultra.weights import formats

    monkeypatch.setattr(formats, "find_spec", lambda package: None if package == "tensorrt" else True)
    if "bare" in name:
        pytest.importorskip("openvino" if "openvino" in name else "ncnn")
    monkeypatch.chdir(tmp_path)
    write, told = DAMAGED[name]
    write(tmp_path / name)
    with pytest.raises(PixelkeepError) as error:
        opened(check_weights(name, exported=True), torch.device("cpu"))
    assert told in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", ["net_openvino_model/net.xml", "net_ncnn_model/metadata.yaml"])
def test_part_of_a_folder__gives_the_folder(name, tmp_path, monkeypatch):
    """For a file inside an exported folder, the error names the folder, but only where exports are accepted."""
    monkeypatch.chdir(tmp_path)
    Path(name).parent.mkdir()
    Path(name).touch()
    with pytest.raises(WeightsError, match=f"part of an exported model; give '{Path(name).parent}'"):
        check_weights(name, exported=True)
    with pytest.raises(WeightsError, match="give a PyTorch checkpoint"):
        check_weights(name)
