"""Contrasts from their files to their answers, with trainings that only pretend: sharing, val once, what is kept."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import yaml

from pixelkeep.datasets.definitions.spec import load_spec
from pixelkeep.datasets.demo import write_demo
from pixelkeep.datasets.loading import load_split
from pixelkeep.errors import DataError, OptionError
from pixelkeep.evaluation import evaluate, sha256
from pixelkeep.experiments import campaign, evidence
from pixelkeep.experiments import grid as grids
from pixelkeep.ultra.data.truth import build_truth

FORMS = {
    "full": {"split": "val", "seeds": 2, "imgsz": 64, "epochs": 2, "batch": 4},
    "early": {"split": "dev", "seeds": 2, "imgsz": 64, "epochs": 1, "batch": 4},
}
FIRST = {
    "question": "Does it find more?",
    "data": None,
    "dev": {"group": r"(\d)\.\w+$", "share": 0.6, "seed": 0},
    "group": r"(\d+)\.\w+$",
    "baseline": "yolov5-n",
    "arms": {"yolov5-n": "yolov5-n", "yolov5-spd-n": "yolov5-spd-n"},
    "forms": FORMS,
}
SECOND = FIRST | {
    "best_of": ["1-a"],
    "baseline": "plain",
    "arms": {"plain": "best-n", "nwd": {"model": "best-n", "nwd": 0.5}},
}
FOUND = {"yolov5-n": 0.4, "yolov5-spd-n": 0.9, "nwd": 0.9}  # shares of the objects that are found


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_demo(tmp_path_factory.mktemp("data"), splits={"train": 30, "val": 12, "test": 2})


class Pretender:
    """Stands for training and validation: writes what they would, with a share of the objects found."""

    def __init__(self) -> None:
        self.trained: list[str] = []
        self.scored: list[str] = []
        self.fails: set[str] = set()

    def train(self, settings: dict) -> None:
        folder = Path(settings["project"], settings["name"])
        key = f"{folder.parent.name} {folder.name}"
        self.trained.append(key)
        if key in self.fails:
            raise OptionError(f"{key} cannot be")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "settings.yaml").write_text(yaml.safe_dump(settings))
        (folder / "results.csv").write_text("epoch,time\n1,10.2\n2,20.4\n")
        (folder / "environment.json").write_text(json.dumps({"python": "3", "command": [str(folder)]}))
        self._write(folder, settings, "val", folder.parent.name)

    def validate(self, settings: dict) -> None:
        folder = Path(settings["project"], settings["name"])
        self.scored.append(f"{folder.parent.parent.name} {folder.parent.name}")
        seed = int(folder.parent.name.removeprefix("seed"))
        self._write(folder, settings | {"seed": seed}, settings["split"], folder.parent.parent.name)

    def _write(self, folder: Path, settings: dict, split: str, arm: str) -> None:
        spec = load_spec(Path(settings["data"]))
        truth, _ = build_truth(load_split(spec, split).records, spec)
        drawn = np.random.default_rng(settings["seed"])
        found = [
            {key: a[key] for key in ("image_id", "category_id", "bbox")} | {"score": float(drawn.random())}
            for a in truth["annotations"]
            if not a.get("iscrowd") and drawn.random() < FOUND[arm]
        ]
        result = evaluate(truth, found)
        result.model, result.data, result.split, result.gt_sha256 = arm, settings["data"], split, sha256(truth)
        result.weights = str((folder.parent if split == "test" else folder) / "weights" / "best.pt")
        result.protocol.seed, result.protocol.imgsz = settings["seed"], 64
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.json").write_text(result.to_json())
        (folder / "predictions.json").write_text(json.dumps(found))


@pytest.fixture
def pretended(monkeypatch) -> Pretender:
    stub = Pretender()
    monkeypatch.setattr(grids.training, "train", stub.train)
    monkeypatch.setattr(evidence, "validate", stub.validate)
    monkeypatch.setattr(campaign, "side_by_side", lambda words, jobs, until, logs, **_: campaign.work(stub.options))
    return stub


@pytest.fixture
def options(data, tmp_path, monkeypatch, pretended) -> Namespace:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "contrasts").mkdir()
    for name, contrast in (("1-a", FIRST), ("2-b", SECOND)):
        (tmp_path / "contrasts" / f"{name}.yaml").write_text(yaml.safe_dump(contrast | {"data": str(data)}))
    given = {"only": [], "form": "full", "minutes": None, "jobs": 1, "seeds": None, "path": None, "device": "cpu"}
    given |= {"project": tmp_path / "made", "out": tmp_path / "out", "weights": False, "again": False, "job": None}
    pretended.options = Namespace(**given, contrasts=tmp_path / "contrasts")
    return pretended.options


def run(options: Namespace) -> str:
    return campaign.run(options, Path("evidence.py"))


def test_run__both_contrasts_to_their_answers(options, pretended, tmp_path):
    """Every arm is trained once, the second contrast with the best of the first, and val is scored once for each."""
    text = run(options)
    assert pretended.trained == [
        "yolov5-n seed0", "yolov5-spd-n seed0", "yolov5-n seed1", "yolov5-spd-n seed1", "nwd seed0", "nwd seed1"
    ]  # fmt: skip
    assert "The best family on dev is yolov5-spd." in text and max(map(len, text.splitlines())) <= 80
    first = json.loads((tmp_path / "out" / "full" / "1-a" / "summary.json").read_text())
    (answer,) = first["answers"]
    assert (answer["arm"], answer["verdict"], first["split"]) == ("yolov5-spd-n", "better", "val")
    document = json.loads((tmp_path / "out" / "full" / "1-a" / "val" / "comparison.json").read_text())
    values = [arm["figures"]["AP_S"]["mean"] for arm in document["arms"]]
    assert answer["value"] == pytest.approx(values[1] - values[0]) and answer["low"] > 0
    assert document["images"] == 12 and first["arms"][0]["least_s"] == [20, 20]
    ledger = json.loads((tmp_path / "out" / "ledger.json").read_text())
    assert [entry["contrast"] for entry in ledger] == ["1-a", "2-b"] and not any(entry["again"] for entry in ledger)


def test_run__again_does_nothing(options, pretended):
    """The same command prints the same, trains nothing and does not look at val."""
    first = run(options)
    pretended.trained.clear()
    pretended.scored.clear()
    assert run(options) == first
    assert not pretended.trained and not pretended.scored


def test_run__val_is_scored_once(options, pretended, tmp_path):
    """With more seeds val would be looked at a second time: refused, unless asked for, and then noted."""
    run(options)
    options.seeds = 3
    with pytest.raises(
        OptionError, match=r"contrast 1-a: val was scored for it on .*, for 4 trainings and not these 6"
    ):
        run(options)
    options.again = True
    run(options)
    ledger = json.loads((tmp_path / "out" / "ledger.json").read_text())
    assert [(entry["contrast"], entry["again"]) for entry in ledger[:2]] == [("1-a", False), ("2-b", False)]
    assert [entry["again"] for entry in ledger[2:]] == [True, True]
    assert len(ledger[2]["trainings"]) == 6


def test_run__the_kept_ledger_counts_elsewhere(options, pretended, tmp_path):
    """On another machine, with other trainings of the same names, the ledger of the kept results refuses val."""
    run(options)
    options.project = tmp_path / "elsewhere"
    FOUND["yolov5-n"] = 0.5
    try:
        with pytest.raises(OptionError, match="a second look"):
            run(options)
    finally:
        FOUND["yolov5-n"] = 0.4


def test_run__a_damaged_ledger_is_told(options, pretended, tmp_path):
    """Val is not scored where it cannot be known whether it has been."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "ledger.json").write_text('[{"contrast": 1}]')
    with pytest.raises(DataError, match=r"ledger\.json: the ledger of val is damaged"):
        run(options)


def test_run__early_does_not_look_at_val(options, pretended, tmp_path):
    """Early training is judged on dev, gives no verdict, and says so."""
    options.form = "early"
    text = run(options)
    assert not pretended.scored and not (tmp_path / "out" / "ledger.json").exists()
    summary = json.loads((tmp_path / "out" / "early" / "1-a" / "summary.json").read_text())
    assert (summary["split"], summary["notice"]) == ("dev", "early training, no verdict")
    assert "better" not in text and text.count("early training, no verdict") == 4


def test_run__what_waits_is_told(options, pretended):
    """A contrast on the best waits until the others are whole; a failed training keeps it waiting."""
    pretended.fails = {"yolov5-spd-n seed1"}
    text = run(options)
    assert "2-b: not run, waits for 1-a" in text and "yolov5-spd-n seed 1 failed: yolov5-spd-n seed1 cannot be" in text
    assert "1-a (full): 3 of 4 trainings" in text and not pretended.scored
    assert pretended.trained.count("yolov5-spd-n seed1") == 1
    pretended.fails = set()
    assert "1-a (full): 4 of 4 trainings" in run(options)  # the same command tries it again


def test_run__no_time_trains_nothing(options, pretended):
    """When the time is over before a training begins, nothing is trained, and the table says "not run"."""
    options.minutes = 1e-6
    text = run(options)
    assert not pretended.trained and text.count("not run") == 5


def test_run__arms_that_are_alike_are_trained_once(options, pretended, tmp_path):
    """The second contrast's plain arm is the first one's best: its folder leads there, and its figures are those."""
    run(options)
    plain = tmp_path / "made" / "full" / "2-b" / "plain"
    assert plain.is_symlink() and plain.resolve() == tmp_path / "made" / "full" / "1-a" / "yolov5-spd-n"
    summaries = [json.loads((tmp_path / "out" / "full" / name / "summary.json").read_text()) for name in ("1-a", "2-b")]
    assert summaries[1]["arms"][0]["dev"] == summaries[0]["arms"][1]["dev"]
    assert not (tmp_path / "made" / "full" / "2-b" / "nwd").is_symlink()
    report = (tmp_path / "out" / "full" / "2-b" / "dev" / "comparison.md").read_text()
    assert "- nwd is yolov5-spd-n with nwd 0.5\n" in report and "plain is" not in report


def test_keep__no_path_of_the_machine(options, pretended, tmp_path):
    """What is kept names no folder of this machine, and holds figures, epochs and settings of every training."""
    run(options)
    kept = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sum(path.name == "metrics.json" for path in kept) == 16  # eight trainings, each on dev and on val
    assert sum(path.name in ("results.csv", "settings.yaml") for path in kept) == 16
    for path in kept:
        assert str(tmp_path) not in path.read_text(), path
    assert not any(path.name == "predictions.json" for path in kept)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"jobs": 0}, "--jobs 0"),
        ({"seeds": 0}, "--seeds 0"),
        ({"minutes": 0.0}, "--minutes 0"),
        ({"minutes": float("nan")}, "--minutes nan"),
    ],
)
def test_run__odd_options_are_refused(options, changes, told):
    """Numbers that make no sense are named."""
    with pytest.raises(OptionError) as error:
        run(Namespace(**{**vars(options), **changes}))
    assert told in str(error.value)
