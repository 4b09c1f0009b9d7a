"""The grid of trainings: what is repeated, resumed, named and refused, with a stub for training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from filelock import FileLock

from pixelkeep.datasets.demo import write_demo
from pixelkeep.errors import DataError, OptionError, PixelkeepError, StorageError
from pixelkeep.experiments import cells
from pixelkeep.experiments.cells import duration, train_missing
from pixelkeep.experiments.grid import Cell, plan
from pixelkeep.ultra.running.settings import merge

MODELS = ["yolov5-n", "yolov5-spd-n"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_demo(tmp_path_factory.mktemp("data"), splits={"train": 2, "val": 2, "test": 2})


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def settings(data) -> dict:
    return merge({"data": str(data), "epochs": 1, "imgsz": 64, "batch": 2, "device": "cpu"}, command="train")


class Training:
    """Stub for training: records what it is given, and raises the exception set for a cell."""

    def __init__(self) -> None:
        self.trained: list[dict] = []
        self.resumed: list[tuple] = []
        self.ends: dict[str, BaseException] = {}

    def train(self, settings: dict) -> None:
        self.trained.append(settings)
        folder = Path(settings["project"], settings["name"])
        self._finish(folder)

    def resume(self, run: str, flags: dict, *, requested: bool, assignments: list | None) -> None:
        self.resumed.append((run, flags, requested, assignments))
        self._finish(Path(run))

    def _finish(self, folder: Path) -> None:
        key = f"{folder.parent.name} {folder.name}"
        folder.mkdir(parents=True, exist_ok=True)
        if key in self.ends:
            raise self.ends[key]
        (folder / "metrics.json").write_text("{}")


@pytest.fixture
def training(monkeypatch) -> Training:
    stub = Training()
    monkeypatch.setattr(cells.training, "train", stub.train)
    monkeypatch.setattr(cells.training, "resume", stub.resume)
    return stub


def names(trained: list[dict]) -> list[str]:
    return [f"{Path(entry['project']).name} {entry['name']}" for entry in trained]


def test_train__every_model_with_every_seed_alike(training, settings):
    """All cells get the same settings but for model, seed and folder; all models of a seed precede the next seed."""
    grid = plan(MODELS, 2, settings)
    assert train_missing(grid) == {}
    assert names(training.trained) == ["yolov5-n seed0", "yolov5-spd-n seed0", "yolov5-n seed1", "yolov5-spd-n seed1"]
    assert [(entry["model"], entry["seed"]) for entry in training.trained] == [
        (f"{model}.yaml", seed) for seed in (0, 1) for model in MODELS
    ]
    apart = {"model", "seed", "project", "name"}
    shared = [{key: value for key, value in entry.items() if key not in apart} for entry in training.trained]
    assert all(entry == settings | {"exist_ok": True} for entry in shared)
    assert grid.folder == Path.cwd() / "runs" / "compare" / "exp"


def test_train__what_is_done_is_not_repeated(training, settings, caplog):
    """The same command again trains nothing; with another seed or model it trains only what that adds."""
    train_missing(plan(MODELS, 1, settings))
    training.trained.clear()
    again = plan(MODELS, 1, settings)
    assert train_missing(again) == {} and not training.trained
    assert again.folder.name == "exp"
    train_missing(plan([*MODELS, "yolov5-slicesamp-n"], 2, settings))
    assert names(training.trained) == [
        "yolov5-slicesamp-n seed0", "yolov5-n seed1", "yolov5-spd-n seed1", "yolov5-slicesamp-n seed1"
    ]  # fmt: skip


def test_train__an_interrupted_cell_goes_on(training, settings):
    """A cell that has a last.pt is resumed, on this machine's device, and not trained from the start."""
    grid = plan(MODELS, 1, settings)
    folder = grid.cells[1].folder
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / "last.pt").touch()
    (folder / "settings.yaml").touch()
    assert train_missing(grid) == {}
    assert names(training.trained) == ["yolov5-n seed0"]
    assert training.resumed == [(str(folder), {"device": "cpu"}, True, None)]


@pytest.mark.parametrize(
    ("error", "told", "kept"),
    [
        (OptionError("freeze: too\n many"), "freeze: too many", False),
        (RuntimeError("out of memory"), "RuntimeError: out of memory (see ", True),
    ],
    ids=["the user's", "any other"],
)
def test_failure__is_named_and_the_others_go_on(training, settings, caplog, error, told, kept):
    """A failed cell has its reason in one line, and a traceback in its folder unless the error is the user's."""
    training.ends = {"yolov5-n seed0": error}
    grid = plan(MODELS, 2, settings)
    failed = train_missing(grid)
    (cell, reason), *others = failed.items()
    assert not others and str(cell) == "yolov5-n seed 0"
    assert reason.startswith(told) and "\n" not in reason
    assert [cell.done for cell in grid.cells] == [False, True, True, True]
    assert (cell.folder / "error.txt").exists() == kept
    training.ends.clear()
    training.trained.clear()
    assert train_missing(plan(MODELS, 2, settings)) == {}  # the same command tries again
    assert names(training.trained) == ["yolov5-n seed0"] and not (cell.folder / "error.txt").exists()


def test_train__two_processes_share_the_work(training, settings, caplog):
    """A cell that another process holds is left to it and reported as missing; once released, it is trained."""
    grid = plan(MODELS, 1, settings)
    first = grid.cells[0]
    first.folder.parent.mkdir(parents=True)
    with FileLock(first.folder.with_name(f".{first.folder.name}.lock")):
        assert train_missing(grid) == {first: "another process is training it"}
    assert [cell.done for cell in grid.cells] == [False, True]
    assert f"{first} is left out: another process is training it" in caplog.text
    assert train_missing(grid) == {} and first.done


def test_train__what_another_process_has_done_meanwhile(training, settings, monkeypatch):
    """A cell that was finished after this process began is not trained again."""
    grid = plan(MODELS, 1, settings)
    first, second = grid.cells

    def both(values: dict) -> None:
        training.train(values)
        training._finish(second.folder)

    monkeypatch.setattr(cells.training, "train", both)
    assert train_missing(grid) == {} and first.done and second.done
    assert len(training.trained) == 1


def test_failure__of_the_disk_ends_all(training, settings):
    """A full disk ends the grid, since the other cells would meet it too."""
    training.ends = {"yolov5-n seed0": StorageError("no space left")}
    with pytest.raises(StorageError, match="no space left"):
        train_missing(plan(MODELS, 1, settings))
    assert len(training.trained) == 1


def test_interruption__names_what_is_done(training, settings, monkeypatch):
    """Ctrl-C ends the grid after saying what is done; the same command does the rest."""
    told: list[str] = []
    monkeypatch.setattr(cells.LOGGER, "info", told.append)
    training.ends = {"yolov5-spd-n seed0": KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        train_missing(plan(MODELS, 2, settings))
    assert told[-1] == "\nDone so far: yolov5-n seed 0. The same command goes on from here."
    training.ends.clear()
    training.trained.clear()
    train_missing(plan(MODELS, 2, settings))
    assert names(training.trained) == ["yolov5-spd-n seed0", "yolov5-n seed1", "yolov5-spd-n seed1"]


def test_seed__counts_from_the_one_that_is_set(settings):
    """Seeds count from the one in the settings, be it a recipe's or that of --set seed=5."""
    assert [cell.seed for cell in plan(MODELS, 2, settings | {"seed": 5}).cells] == [5, 5, 6, 6]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"epochs": 2}, "epochs was 1 and is 2"),
        ({"mosaic": 0.5}, "mosaic was 1.0 and is 0.5"),
        ({"epochs": 2, "imgsz": 96}, "epochs was 1 and is 2, imgsz was 64 and is 96"),
    ],
)
def test_settings__others_of_the_same_name_are_refused(settings, change, told):
    """Different settings under the same name are refused with the differences, and nothing is changed."""
    settings["name"] = "mine"
    first = plan(MODELS, 1, settings)
    before = (first.folder / "grid.json").read_text()
    with pytest.raises(OptionError, match=f"cannot be continued: {told};"):
        plan(MODELS, 1, settings | change)
    assert (first.folder / "grid.json").read_text() == before


def test_settings__of_the_machine_and_defaults_may_change(settings):
    """Device, workers and a default that is written out may change within a comparison."""
    first = plan(MODELS, 1, settings | {"name": "mine"})
    again = plan(MODELS, 1, settings | {"name": "mine", "device": None, "workers": 1, "mosaic": 1.0})
    assert again.folder == first.folder


def test_settings__without_a_name_others_get_a_folder_of_their_own(settings):
    """Without a name each set of settings gets a folder, exp and exp2, which the same settings find again."""
    places = [plan(MODELS, 1, settings | change).folder.name for change in ({}, {"epochs": 2}, {}, {"epochs": 2})]
    assert places == ["exp", "exp2", "exp", "exp2"]


def test_settings__a_changed_label_or_definition_is_seen(settings, tmp_path):
    """Changed labels and model files are noticed, since they are compared by content."""
    data = write_demo(tmp_path / "own", splits={"train": 2, "val": 2, "test": 2})
    definition = tmp_path / "mine-n.yaml"
    from pixelkeep.assets import find

    definition.write_text(find("models", "yolov5-spd").read_text())
    given = settings | {"data": str(data), "name": "mine"}
    plan(["yolov5-n", str(definition)], 1, given)
    definition.write_text(definition.read_text().replace("[512, 3, 1]] # 26", "[512, 1, 1]] # 26"))
    with pytest.raises(OptionError, match="the definition of mine-n has changed"):
        plan(["yolov5-n", str(definition)], 1, given)
    labels = next(path for path in (data.parent / "labels" / "train").glob("*.txt") if path.read_text())
    labels.write_text("\n".join(labels.read_text().splitlines()[:-1]))
    with pytest.raises(OptionError, match="the data of split train has changed"):
        plan(MODELS, 1, given)


@pytest.mark.parametrize(("file", "content"), [("notes.txt", "mine"), ("grid.json", "[]"), ("grid.json", "{")])
def test_folder__of_something_else_is_refused(settings, file, content):
    """A folder that holds something else, or a damaged grid.json, is refused and not written into."""
    folder = Path("runs/compare/mine")
    folder.mkdir(parents=True)
    (folder / file).write_text(content)
    with pytest.raises(OptionError, match=r"cannot be continued: .*grid\.json"):
        plan(MODELS, 1, settings | {"name": "mine"})
    assert [path.name for path in folder.iterdir()] == [file]


@pytest.mark.parametrize(
    ("models", "others", "told"),
    [
        (["yolov5-n", "yolov5n"], {}, "two of the models are called 'yolov5-n'"),
        (["yolov5-n", "resnet18-cls"], {}, "'resnet18-cls' is for classification; compare measures detection"),
        (["yolov5-n", "yolov5-spf-n"], {}, "did you mean 'yolov5-spd-n'"),
        (MODELS, {"fraction": [1.0, 0.5]}, "fraction:"),
        (MODELS, {"data": "nowhere.yaml"}, "nowhere.yaml"),
    ],
)
def test_plan__refused_before_anything_is_written(settings, models, others, told):
    """What cannot be trained is refused before anything is written."""
    with pytest.raises(PixelkeepError, match=told):
        plan(models, 1, settings | others)
    assert not Path("runs").exists()


def test_baseline__any_spelling_of_a_model(settings):
    """The baseline is the first model, or the one given, in any spelling of its name."""
    assert plan(MODELS, 1, settings).baseline == "yolov5-n"
    assert plan(MODELS, 1, settings, "yolov5n-spd").baseline == "yolov5-spd-n"
    with pytest.raises(OptionError, match=r"--baseline yolov5-s: not among yolov5-n, yolov5-spd-n; did you mean"):
        plan(MODELS, 1, settings, "yolov5-s")


def test_timer__means_of_the_arms_seen(monkeypatch):
    """A training is expected to take the mean time of its arm's trainings, or of all where its arm has none yet."""
    now = 0.0
    monkeypatch.setattr(cells.time, "monotonic", lambda: now)
    told = []
    timer = cells._Timer([Cell(arm, arm, seed, Path()) for seed in (0, 1) for arm in "ab"])
    for cell, left in timer:
        told.append(left)
        now += {"a": 600, "b": 1800}[cell.arm]
        timer.took(cell)
    # only a is known: three of 10 min; then a and b: 10 + 30 min; then b alone
    assert told == ["", ", about 30 min left", ", about 40 min left", ", about 30 min left"]
    assert [duration(seconds) for seconds in (89, 120, 7200)] == ["89 s", "2 min", "2.0 h"]
    assert {left for _, left in cells._Timer([Cell("a", "a", seed, Path()) for seed in (0, 1)])} == {""}  # others' work


def test_identity__is_written_as_json(settings):
    """grid.json keeps the models of earlier commands, so that none is trained under two definitions."""
    folder = plan(MODELS, 1, settings).folder
    plan([MODELS[0], "yolov5-slicesamp-n"], 1, settings)
    known = json.loads((folder / "grid.json").read_text())
    assert set(known["models"]) == {*MODELS, "yolov5-slicesamp-n"} and known["settings"]["epochs"] == 1


def test_data__is_needed():
    """A comparison without data is refused."""
    with pytest.raises(DataError, match="no data given"):
        plan(MODELS, 1, {})
