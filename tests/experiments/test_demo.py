"""The demo's wiring: data, then training on it, then detection with what was trained, all in one folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pixelkeep.cli.main import run
from pixelkeep.datasets.definitions.spec import DatasetSpec
from pixelkeep.evaluation import Result
from pixelkeep.experiments import demo
from pixelkeep.ultra.commands.asked import Asked
from pixelkeep.ultra.commands.summary import Summary
from pixelkeep.ultra.running import settings


@pytest.fixture
def steps(monkeypatch, tmp_path) -> list[tuple[str, dict]]:
    """Replace data, training and detection by stubs, and return the list of the arguments that they are given."""
    monkeypatch.chdir(tmp_path)
    taken: list[tuple[str, dict]] = []
    data = tmp_path / "demo-data"

    def resolve_data(name: str) -> DatasetSpec:
        taken.append(("data", {"name": name}))
        spec = object.__new__(DatasetSpec)
        object.__setattr__(spec, "root", data)
        return spec

    def train(given: dict) -> tuple[Result, Path]:
        taken.append(("train", given))
        result = Result(model="yolov5-spd-n", AP=0.5, counts={"S": 1, "M": 1, "L": 1})
        return result, Path(given["project"], given["name"])

    def detect(given: dict, asked: Asked) -> Summary:
        taken.append(("detect", given | vars(asked)))
        return Summary(Path(given["project"], given["name"]), Path(given["weights"]))

    monkeypatch.setattr(demo, "resolve_data", resolve_data)
    monkeypatch.setattr(demo.training, "train", train)
    monkeypatch.setattr(demo.detection, "detect", detect)
    return taken


def test_demo__one_step_feeds_the_next(steps, tmp_path):
    """The recipe is trained into the demo's folder, and its best.pt is used on the test pictures and the video."""
    outcome = demo.run_demo()
    folder = tmp_path / "runs" / "demo" / "exp"
    assert [step for step, _ in steps] == ["data", "train", "detect"]
    (_, data), (_, trained), (_, detected) = steps
    assert data == {"name": "demo"}
    recipe = settings.load_recipe("demo")
    recipe.pop("expected")
    assert {key: trained[key] for key in recipe} == recipe
    assert (trained["project"], trained["name"]) == (str(folder), "train")
    assert detected["weights"] == str(folder / "train" / "weights" / "best.pt")
    pictures = tmp_path / "demo-data"
    assert detected["sources"] == [str(pictures / "images" / "test"), str(pictures / "demo.mp4")]
    assert detected["save"] and detected["save_json"] and detected["save_video"]
    assert (outcome.run, outcome.pictures, outcome.data) == (folder / "train", folder / "detect", pictures)
    assert outcome.result.AP == 0.5


def test_demo__twice_makes_two_folders(steps):
    """A second demo gets a folder of its own and leaves the first alone."""
    first, second = demo.run_demo(), demo.run_demo()
    assert (first.run.parent.name, second.run.parent.name) == ("exp", "exp2")


def test_command__project_name_and_closing_lines(steps, tmp_path, capsys):
    """--project and --name place the demo, and its last lines say where everything lies."""
    with pytest.raises(SystemExit) as ended:
        run(["demo", "--project", "mine", "--name", "first"])
    assert not ended.value.code
    out = capsys.readouterr().out
    folder = tmp_path / "mine" / "first"
    assert f"weights   {folder / 'train' / 'weights' / 'best.pt'}\n" in out
    assert f"pictures  {folder / 'detect'}\n" in out and f"dataset   {tmp_path / 'demo-data'}\n" in out


def test_command__json(steps, tmp_path, capsys):
    """--json prints the validation's document with the demo's folders in it, and nothing else."""
    with pytest.raises(SystemExit):
        run(["demo", "--json"])
    document = json.loads(capsys.readouterr().out)
    folder = tmp_path / "runs" / "demo" / "exp"
    assert (document["AP"], document["demo"]["run"]) == (0.5, str(folder / "train"))
    assert document["demo"]["pictures"] == str(folder / "detect")


@pytest.mark.parametrize(("flags", "quiet"), [([], True), (["--verbose"], False)], ids=["quiet", "verbose"])
def test_command__verbose(steps, monkeypatch, flags, quiet):
    """--verbose shows what Ultralytics prints."""
    from pixelkeep.ultra.running import console

    called = []
    monkeypatch.setattr(console, "quiet", lambda: called.append(True))
    with pytest.raises(SystemExit):
        run(["demo", *flags])
    assert bool(called) == quiet
