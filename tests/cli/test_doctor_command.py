"""``pixelkeep doctor`` prints one document or one text on standard output, and one line for bad input."""

from __future__ import annotations

import json

import pytest

from pixelkeep.cli.main import run
from pixelkeep.datasets.demo import write_demo

FAST = ["--imgsz", "64", "--model", "yolov5-n", "--batch", "1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return str(write_demo(tmp_path_factory.mktemp("demo") / "tiny", splits={"train": 3, "val": 2, "test": 1}))


def ended(args: list[str], capsys: pytest.CaptureFixture) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        run(["doctor", *args])
    return (end.value.code, *capsys.readouterr())


def test_json__is_the_one_document(data, tmp_path, monkeypatch, capsys):
    """With --json, standard output holds one document, the same as doctor.json."""
    monkeypatch.chdir(tmp_path)
    status, out, _ = ended(["--data", data, *FAST, "--json"], capsys)
    document = json.loads(out)
    assert status == 0 and document["task"] == "doctor" and document["imgsz"] == [64, 64]
    assert document == json.loads((tmp_path / "runs/doctor/exp/doctor.json").read_text())


def test_text__ends_with_the_folder(data, tmp_path, monkeypatch, capsys):
    """The text begins with what is wrong and ends with the run folder."""
    monkeypatch.chdir(tmp_path)
    status, out, _ = ended(["--data", data, *FAST, "--name", "mine"], capsys)
    assert status == 0 and out.strip().startswith("WHAT IS WRONG")
    assert out.strip().endswith(str(tmp_path / "runs/doctor/mine"))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "no data given"),
        (["--data", "{data}", "--group", "("], "--group '(': not a regular expression"),
        (["--data", "{data}", "--group", "nowhere"], "--group 'nowhere': matches no file name"),
        (["--data", "{data}", "--model", "yolov5-nn"], "model 'yolov5-nn'"),
        (["--data", "{data}", "--weights", "none.pt"], "weights 'none.pt' not found"),
        (["--data", "{data}", "--device", "cpu"], "--device cpu has no effect without --weights"),
        (["--data", "{data}", "--imgsz", "8"], "'8' is not a number of pixels"),
        (["--data", "{data}", "--set", "epochs=3"], "--set epochs: has no effect in doctor"),
        (["--data", "hituav", "--set", "path=nowhere"], "--set path=nowhere: not a folder"),
    ],
)
def test_bad_input__is_one_line(args, said, data, tmp_path, monkeypatch, capsys):
    """Bad input ends with status 2, one line that says what is wrong, empty standard output and no file written."""
    monkeypatch.chdir(tmp_path)
    status, out, err = ended([arg.format(data=data) for arg in args], capsys)
    assert (status, out) == (2, "")
    (line,) = [line for line in err.splitlines() if line.startswith("pixelkeep: ")]
    assert said in line
    assert list(tmp_path.iterdir()) == []
