"""Effects of train's options on the run folder and the weights, and two trainings at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from ultralytics.nn.tasks import DetectionModel

from pixelkeep import assets
from pixelkeep.cli.main import run
from pixelkeep.datasets.demo import CLASSES, write_demo
from pixelkeep.ultra.trainers.boxes import Trainer
from pixelkeep.ultra.validators.boxes import Validator

ROOT = Path(__file__).resolve().parents[2]
TINY = "--epochs 1 --imgsz 64 --batch 2 --set plots=false --set mosaic=0 --set warmup_epochs=0".split()
LEARNING = "--optimizer SGD --lr0 0.1".split()  # enough for one epoch to change every layer that is free


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A demo dataset of a few images."""
    return write_demo(tmp_path_factory.mktemp("data") / "tiny", splits={"train": 4, "val": 2, "test": 1})


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    """A checkpoint of yolov5-n with random weights."""
    torch.manual_seed(7)
    model = DetectionModel("yolov5-n.yaml", nc=len(CLASSES), verbose=False)
    model.names = dict(enumerate(CLASSES))
    path = tmp_path_factory.mktemp("start") / "start.pt"
    torch.save({"model": model.half(), "train_args": {}}, path)
    return path


@pytest.fixture
def train(data, tmp_path):
    """Return a function that trains, for one epoch by default, and returns the run folder."""

    def call(*options: str, tiny: list[str] = TINY) -> Path:
        with pytest.raises(SystemExit) as ended:
            run(["train", "--data", str(data), "--project", str(tmp_path), "--name", "run", *tiny, *options])
        assert not ended.value.code
        return tmp_path / "run"

    return call


def weights(path: Path) -> dict[str, torch.Tensor]:
    """Return the parameters of a checkpoint's model."""
    content = torch.load(path, weights_only=False)
    return {name: value.float() for name, value in (content.get("ema") or content["model"]).named_parameters()}


def same_layers(one: dict, other: dict) -> set[int]:
    """Return the numbers of the layers whose parameters are all the same in two checkpoints."""
    layers = {int(name.split(".")[1]) for name in one if ".dfl." not in name}  # the DFL convolution is never trained
    changed = {
        int(name.split(".")[1]) for name in one if ".dfl." not in name and not torch.equal(one[name], other[name])
    }
    return layers - changed


@pytest.mark.parametrize(("option", "frozen"), [("3", {0, 1, 2}), ("1 4", {1, 4})], ids=["number", "list"])
def test_freeze__those_layers_stay(train, start, option, frozen):
    """One number freezes that many first layers, several numbers freeze those layers; all others learn."""
    folder = train("--model", str(start), "--freeze", *option.split(), *LEARNING)
    assert same_layers(weights(start), weights(folder / "weights" / "last.pt")) == frozen


def test_weights_false__from_nothing(train, start):
    """--weights False trains the checkpoint's network from new weights, which the frozen layers keep."""
    folder = train("--model", str(start), "--weights", "False", "--freeze", "3", *LEARNING)
    last = weights(folder / "weights" / "last.pt")
    assert last.keys() == weights(start).keys()
    assert not same_layers(weights(start), last)


@pytest.mark.parametrize(("words", "kind"), [(["--cache"], "ram"), (["--cache", "disk"], "disk")])
def test_cache__holds_the_images(train, data, monkeypatch, words, kind):
    """--cache keeps images in memory, --cache disk in the cache folder; the user's data stays as it is."""
    built = []
    build = Trainer.build_dataset
    monkeypatch.setattr(Trainer, "build_dataset", lambda *args, **kw: built.append(build(*args, **kw)) or built[-1])
    monkeypatch.setenv("PIXELKEEP_HOME", str(assets.home().parent / f"cache-{kind}"))
    before = {path: path.stat().st_mtime_ns for path in data.parent.rglob("*")}
    folder = train(*words, "--model", "yolov5-n")
    assert yaml.safe_load((folder / "args.yaml").read_text())["cache"] == kind
    assert [len(dataset.im_files) for dataset in built] == [4, 2]
    held = sum(image is not None for dataset in built for image in dataset.ims)
    files = len(list(assets.home().rglob("*.npy")))
    if kind == "ram":
        assert (held, files) == (6, 0)
    else:
        assert files == 6
    assert {path: path.stat().st_mtime_ns for path in data.parent.rglob("*")} == before


def test_config__recipe_below_flags(train, tmp_path):
    """A recipe's settings hold unless an option overrides them, and the run folder records the outcome."""
    recipe = {"model": "yolov5-n", "epochs": 2, "imgsz": 96, "batch": 2, "plots": False, "fliplr": 0.25, "seed": 5}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe))
    folder = train("--config", str(tmp_path / "mine.yaml"), "--imgsz", "64", tiny=[])
    expected = recipe | {"imgsz": 64, "model": "yolov5-n.yaml"}
    for name in ("settings.yaml", "args.yaml"):
        kept = yaml.safe_load((folder / name).read_text())
        assert {key: kept[key] for key in expected} == expected
    assert len((folder / "results.csv").read_text().splitlines()) == 1 + 2  # a header and two epochs


def test_final_validation__under_the_epochs_settings(train, monkeypatch):
    """The final validation has the same settings and ground truth as the validation after an epoch."""
    seen = []
    prepare = Validator.init_metrics

    def spy(self: Validator, model: torch.nn.Module) -> None:
        prepare(self, model)
        seen.append((self.training, {key: getattr(self.args, key) for key in chosen}, len(self.truth["annotations"])))

    chosen = {
        "imgsz": 96, "conf": 0.2, "iou": 0.55, "max_det": 7, "agnostic_nms": True, "nms": False, "classes": [0, 2],
        "single_cls": False, "fraction": [1.0, 0.5],
    }  # fmt: skip
    monkeypatch.setattr(Validator, "init_metrics", spy)
    assignments = [f"--set={key}={json.dumps(value)}" for key, value in chosen.items()]
    folder = train("--model", "yolov5-n", *assignments)
    assert [training for training, *_ in seen] == [True, False]
    assert seen[0][1:] == seen[1][1:] and seen[0][1] == chosen
    protocol = json.loads((folder / "metrics.json").read_text())["protocol"]
    assert (protocol["conf"], protocol["nms_iou"], protocol["max_dets"]) == (0.2, 0.55, 7)


@pytest.mark.parametrize(("given", "used"), [("50", 64), ("50 100", [64, 128])], ids=["one", "two"])
def test_odd_size__one_line(train, caplog, given, used):
    """A size that is no multiple of the stride is rounded up, reported once, and used to the end."""
    folder = train("--model", "yolov5-n", "--imgsz", *given.split())
    told = [record.getMessage() for record in caplog.records if "stride" in record.getMessage()]
    assert len(told) == 1 and f"updating to {used if isinstance(used, list) else [used]}" in told[0]
    assert json.loads((folder / "metrics.json").read_text())["protocol"]["imgsz"] == used


def test_batch_that_fits__is_training_only(train):
    """--batch -1 does not reach the final validation, as only training can work out the batch size."""
    folder = train("--model", "yolov5-n", "--batch", "-1")
    assert (folder / "metrics.json").is_file()


def test_two_at_once__two_run_folders(data, tmp_path):
    """Two trainings started together in one folder both finish, each in a run folder of its own."""
    line = [sys.executable, "-m", "pixelkeep", "train", "--model", "yolov5-n", "--data", str(data), *TINY, "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(line, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ended = [(process.communicate(), process.returncode) for process in started]
    assert all(code == 0 for _, code in ended), [errors[-2000:] for (_, errors), _ in ended]
    folders = sorted(path.name for path in (tmp_path / "runs" / "train").iterdir())
    assert folders == ["exp", "exp2"]
    reported = {json.loads(out)["weights"] for (out, _), _ in ended}
    assert reported == {str(tmp_path / "runs" / "train" / name / "weights" / "best.pt") for name in folders}
    for name in folders:
        assert (tmp_path / "runs" / "train" / name / "metrics.json").is_file()
