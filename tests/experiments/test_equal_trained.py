"""A comparison at equal cost with real trainings: the wider model trains, resumes, and loads without this project."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pixelkeep.cli.main import run
from pixelkeep.datasets.demo import write_demo
from pixelkeep.ultra.costs import latency
from pixelkeep.ultra.trainers.boxes import Trainer

WIDER = "yolov5-n w0.31835"


@pytest.mark.slow
def test_arms__train_resume_and_load(tmp_path, monkeypatch, capsys):
    """The wider arm is interrupted after one of two epochs and resumed, and its checkpoint is loaded by Ultralytics."""
    monkeypatch.setattr(latency, "MOST", latency.FEWEST)
    data = write_demo(tmp_path / "data", splits={"train": 4, "val": 12, "test": 2})
    words = ["compare", "yolov5-n", "yolov5-spd-n", "--data", str(data), "--seeds", "1", "--match-gflops"]
    words += ["--epochs", "2", "--imgsz", "64", "--batch", "4", "--set", "plots=false", "--device", "cpu"]
    words += ["--project", str(tmp_path), "--name", "mine"]
    save = Trainer.save_model

    def save_and_stop(trainer) -> None:
        save(trainer)
        if WIDER in str(trainer.save_dir):
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "save_model", save_and_stop)
    with pytest.raises(SystemExit) as ended:
        run(words)
    assert ended.value.code == 130
    folder = tmp_path / "mine"
    kept = json.loads((folder / "grid.json").read_text())["matched"]["gflops"]["yolov5-spd-n"]["arms"]
    assert WIDER in kept and not (folder / WIDER / "seed0" / "metrics.json").exists()

    monkeypatch.setattr(Trainer, "save_model", save)
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        run([*words, "--json"])
    assert not ended.value.code
    document = json.loads(capsys.readouterr().out)
    arms = {arm["name"]: arm for arm in document["arms"]}
    assert list(arms) == ["yolov5-n", "yolov5-spd-n", *kept]
    (larger,) = [name for name in kept if "imgsz" in kept[name]]
    assert arms[larger]["imgsz"] == kept[larger]["imgsz"]
    assert arms[larger]["model"] == "yolov5-n" and arms[WIDER]["model"] == WIDER
    for name in kept:  # GFLOPs of the trained checkpoint agree with those of the definition
        ratio = arms[name]["gflops"] / arms["yolov5-spd-n"]["gflops"]
        assert ratio == pytest.approx(kept[name]["ratio"], abs=0.01)
        assert arms[name]["latency"]["ratio"] > 0
    assert len((folder / WIDER / "seed0" / "results.csv").read_text().splitlines()) == 3  # the header and both epochs
    best = folder / WIDER / "seed0" / "weights" / "best.pt"
    code = f"from ultralytics import YOLO; print(YOLO({str(best)!r}).model.model[1].conv.out_channels)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert loaded.stdout.split()[-1] == "40"
    assert Path(folder / "comparison.html").read_text().count("at equal GFLOPs") >= 2
