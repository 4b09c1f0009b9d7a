"""What comparisons at equal cost or from Python refuse in one line before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pixelkeep.datasets.demo import write_demo
from pixelkeep.errors import OptionError
from pixelkeep.experiments import cells
from pixelkeep.experiments.compare import compare

MODELS = ["yolov5-n", "yolov5-spd-n"]


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_demo(tmp_path / "data", splits={"train": 2, "val": 2, "test": 2})


@pytest.mark.parametrize(
    ("words", "options", "told"),
    [
        (MODELS, {"match": "params"}, "match: 'params'; give one of gflops, latency"),
        ("yolov5-n", {}, "models_or_runs is 'yolov5-n'; give a list"),
        ([], {}, "0 models"),
        (MODELS, {"seeds": 0}, "0 seeds"),
        (
            MODELS,
            {"match": "gflops", "tile": 640},
            "--match-gflops matches costs at the size of whole images, not of tiles",
        ),
        (MODELS, {"epoch": 3}, "unknown setting 'epoch'"),
        (["."], {"match": "gflops"}, "--match-gflops: no effect on runs that exist already"),
        (["a.pt", "yolov5-n"], {"match": "gflops"}, "the baseline a is a checkpoint, which cannot be made wider"),
    ],
)
def test_refused__in_one_line(data, monkeypatch, words, options, told):
    """What cannot be compared is refused by name before anything is trained or written."""
    from ultralytics.nn.tasks import DetectionModel

    if "a.pt" in words:
        torch.save({"model": DetectionModel("yolov5n.yaml", nc=2, verbose=False), "train_args": {}}, "a.pt")
    monkeypatch.setattr(cells.training, "train", None)
    with pytest.raises(OptionError, match=told):
        compare(words, data=data, **options)
    assert not Path("runs").exists()


def test_flags__one_of_the_two(data, capsys):
    """--match-gflops and --match-latency together are refused in one line."""
    from pixelkeep.cli.main import run as command

    with pytest.raises(SystemExit) as ended:
        command(["compare", *MODELS, "--data", str(data), "--match-gflops", "--match-latency"])
    assert ended.value.code == 2
    assert "--match-gflops and --match-latency: give one" in capsys.readouterr().err.splitlines()[-1]
