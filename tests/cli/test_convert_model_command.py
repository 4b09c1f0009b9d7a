"""pixelkeep convert-model prints a table or one document, and one line for what cannot be converted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from ultralytics.nn.tasks import DetectionModel

from pixelkeep.cli.main import run


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A checkpoint of yolov5n with two classes, as Ultralytics writes it."""
    model = DetectionModel("yolov5n.yaml", nc=2, verbose=False)
    model.names = {0: "cat", 1: "dog"}
    path = tmp_path_factory.mktemp("weights") / "source.pt"
    torch.save({"epoch": -1, "model": model.half(), "ema": None, "train_args": {"imgsz": 64}}, path)
    return path


def call(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        run(["convert-model", *map(str, words)])
    return ended.value.code


def test_convert_model__table_and_document(source, tmp_path, capsys):
    """The table fits 80 columns, --json prints one document, and both write the checkpoint."""
    output = tmp_path / "to.pt"
    assert call(source, "--to", "yolov5-spdconv-n", "--output", output) == 0
    lines = capsys.readouterr().out.splitlines()
    table = lines[: lines.index("")]
    assert len(table) == 2 + 18 + 6 and max(map(len, table)) <= 80
    assert lines[-1] == f"weights   {output}" and output.stat().st_size > 1e6
    output.unlink()
    assert call(source, "--to", "yolov5-spdconv-n", "--output", output, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["exact"] and document["share"] == 1 and document["checked"] < 1e-9 and output.is_file()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--to", "yolov5-spdconv-s"), "yolov5-spdconv-n matches them"),
        (("--to", "yolov5-spdconv"), "which size?"),
        (("--to", "resnet18-cls"), "task 'classify'"),
        (("--to", "yolov5-spdconv-n", "--fit", "nowhere"), "nowhere"),
        (("--to", "yolov5-spdconv-n", "--noise", "-1"), "noise"),
        (("--to", "yolov5-slicesamp-n", "--noise", "0.1"), "the source leaves no weight of 'yolov5-slicesamp-n' zero"),
    ],
)
def test_convert_model__one_line(source, tmp_path, capsys, words, told):
    """What cannot be converted is refused in one line, with exit status 2, and nothing is written."""
    output = tmp_path / "to.pt"
    assert call(source, *words, "--output", output) == 2
    captured = capsys.readouterr()
    assert told in captured.err.splitlines()[-1] and captured.out == "" and not output.exists()
    assert "Traceback" not in captured.err


def test_convert_model__nothing_to_fit(source, tmp_path, capsys):
    """If every part has an exact conversion, --fit is refused rather than silently ignored."""
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    assert call(source, "--to", "yolov5-spdconv-n", "--fit", tmp_path / "a.png", "--output", tmp_path / "to.pt") == 2
    assert "--fit: no part that starts fresh" in capsys.readouterr().err and not (tmp_path / "to.pt").exists()


def test_convert_model__below_a_file(source, tmp_path, capsys):
    """An output whose folder is a file, or cannot be written to, is refused in one line with the folder's name."""
    (tmp_path / "file").write_text("text")
    assert call(source, "--to", "yolov5-spdconv-n", "--output", tmp_path / "file" / "to.pt") == 2
    told = capsys.readouterr().err.splitlines()
    assert told == [f"pixelkeep: {tmp_path / 'file'}: Not a directory; choose another name"]
    if Path("/proc").is_dir():
        assert call(source, "--to", "yolov5-spdconv-n", "--output", "/proc/to.pt") == 2
        told = capsys.readouterr().err.splitlines()
        assert told == ["pixelkeep: /proc: No such file or directory; choose another name"]


def test_convert_model__portable(source, tmp_path, capsys):
    """The ending of the output decides in which form it is written, and either form can be a source."""
    there, back = tmp_path / "there.safetensors", tmp_path / "back.pt"
    assert call(source, "--to", "yolov5-spd-n", "--output", there) == 0
    assert call(there, "--to", "yolov5-spd-n", "--output", back, "--json") == 0
    out = capsys.readouterr().out
    document = json.loads(out[out.index("\n{") :])
    assert document["exact"] and {part["how"] for part in document["parts"]} == {"taken"} and back.is_file()
