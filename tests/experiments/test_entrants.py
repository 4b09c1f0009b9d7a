"""Arms with settings of their own: read, refused, and trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pixelkeep.datasets.demo import write_demo
from pixelkeep.errors import OptionError
from pixelkeep.experiments import cells
from pixelkeep.experiments.cells import train_missing
from pixelkeep.experiments.entrants import Entrant
from pixelkeep.experiments.grid import plan
from pixelkeep.ultra.running.settings import merge

PLAIN = Entrant("plain", "yolov5-n")
NWD = Entrant("nwd", "yolov5-n", {"nwd": 0.5})


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_demo(tmp_path_factory.mktemp("data"), splits={"train": 2, "val": 2, "test": 2})


@pytest.fixture
def settings(data, tmp_path, monkeypatch) -> dict:
    monkeypatch.chdir(tmp_path)
    flags = {"data": str(data), "epochs": 1, "imgsz": 64, "batch": 2, "device": "cpu", "name": "mine"}
    return merge(flags, command="train")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain:yolov5-n", PLAIN),
        ("nwd:yolov5-n:nwd=0.5", NWD),
        ("both:yolov5-n:nwd=0.5:paste=4", Entrant("both", "yolov5-n", {"nwd": 0.5, "paste": 4})),
    ],
)
def test_read__name_model_and_settings(text, expected):
    """An arm is written as its name, its model and its settings."""
    assert Entrant.read(text) == expected


@pytest.mark.parametrize("text", ["yolov5-n", "a:", ":yolov5-n", "a:yolov5-n:nwd"])
def test_read__another_form_is_refused(text):
    """Text that lacks a name, a model or a value is refused with an example."""
    with pytest.raises(OptionError, match=r"write it as"):
        Entrant.read(text)


def test_plan__arms_have_settings_of_their_own(settings, monkeypatch):
    """Two arms train the same model, and the settings of one arm reach its own trainings alone."""
    trained = []
    monkeypatch.setattr(cells.training, "train", trained.append)
    train_missing(plan([PLAIN, NWD], 2, settings))
    assert [(Path(t["project"]).name, t["model"], t.get("nwd"), t["seed"]) for t in trained] == [
        ("plain", "yolov5-n.yaml", None, 0),
        ("nwd", "yolov5-n.yaml", 0.5, 0),
        ("plain", "yolov5-n.yaml", None, 1),
        ("nwd", "yolov5-n.yaml", 0.5, 1),
    ]
    rest = [{k: v for k, v in t.items() if k not in ("project", "name", "seed", "nwd")} for t in trained]
    assert all(each == rest[0] for each in rest)


def test_plan__an_arm_of_other_settings_is_refused(settings):
    """A folder never holds trainings of one arm name with different settings; other arms can be added."""
    folder = plan([PLAIN, NWD], 1, settings).folder
    assert json.loads((folder / "grid.json").read_text())["own"] == {"nwd": {"nwd": 0.5}}
    with pytest.raises(OptionError, match=r"the settings of nwd were nwd=0\.5 and are nwd=0\.7"):
        plan([PLAIN, Entrant("nwd", "yolov5-n", {"nwd": 0.7})], 1, settings)
    with pytest.raises(OptionError, match=r"the settings of nwd were nwd=0\.5 and are those of all arms"):
        plan([PLAIN, Entrant("nwd", "yolov5-n")], 1, settings)
    plan([PLAIN, Entrant("paste", "yolov5-n", {"paste": 4})], 1, settings)
    assert set(json.loads((folder / "grid.json").read_text())["own"]) == {"nwd", "paste"}


def test_plan__the_baseline_may_be_named_by_its_arm(settings):
    """The baseline can be given by the name of an arm, or by a model that is an arm."""
    assert plan([PLAIN, NWD], 1, settings, "nwd").baseline == "nwd"
    assert plan([PLAIN, "yolov5-n.yaml"], 1, settings, "yolov5-n.yaml").baseline == "yolov5-n"
    with pytest.raises(OptionError, match="--baseline yolov5-s: not among plain, nwd"):
        plan([PLAIN, NWD], 1, settings, "yolov5-s")


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ({"data": "demo"}, "data is the same for all arms"),
        ({"seed": 3}, "seed is the same for all arms"),
        ({"conf": 0.1}, "conf is the same for all arms"),
        ({"imgsz": 320}, "imgsz is the same for all arms"),
        ({"nwdd": 0.5}, "arm odd: unknown setting 'nwdd'"),
        ({"nwd": 2}, "arm odd: nwd: '2' is not between 0.0 and 1.0"),
        ({"lr0": 0.01}, "arm odd: lr0: 0.01 has no effect with optimizer auto"),
    ],
)
def test_plan__own_settings_that_cannot_be(settings, own, told):
    """Own settings that affect how all are scored, are unknown or are wrong are refused before anything is trained."""
    with pytest.raises(OptionError) as error:
        plan([PLAIN, Entrant("odd", "yolov5-n", own)], 1, settings)
    assert told in str(error.value)


def test_plan__names_that_cannot_be(settings):
    """Arm names must differ and be valid names of folders."""
    with pytest.raises(OptionError, match="two of the models are called 'plain'"):
        plan([PLAIN, PLAIN], 1, settings)
    with pytest.raises(OptionError, match="its name becomes a folder"):
        plan([PLAIN, Entrant("a/b", "yolov5-n")], 1, settings)
    with pytest.raises(OptionError, match="its name becomes a folder"):
        plan([PLAIN, Entrant("..", "yolov5-n")], 1, settings)


def test_plan__arms_at_equal_cost_have_the_baselines_settings(settings, monkeypatch):
    """The widened baseline is trained with the baseline's own settings."""
    trained = []
    monkeypatch.setattr(cells.training, "train", trained.append)
    grid = plan([NWD, Entrant("spd", "yolov5-spd-n")], 1, settings, "nwd", "gflops")
    train_missing(grid)
    assert grid.equal.arms and {Path(t["project"]).name: t.get("nwd") for t in trained} == {
        "nwd": 0.5, "spd": None, **dict.fromkeys(grid.equal.arms, 0.5)
    }  # fmt: skip
