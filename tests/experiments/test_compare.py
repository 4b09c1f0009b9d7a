"""A comparison from end to end on a tiny demo set, and what is refused before anything is trained."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path

import numpy as np
import pytest

from pixelkeep.cli.main import run
from pixelkeep.datasets.definitions.spec import load_spec
from pixelkeep.datasets.demo import write_demo
from pixelkeep.datasets.loading import load_split
from pixelkeep.errors import DataError, OptionError
from pixelkeep.evaluation import Result, evaluate, sha256
from pixelkeep.experiments import document as documents
from pixelkeep.experiments.compare import compare_any
from pixelkeep.experiments.document import group_images
from pixelkeep.ultra.costs import latency
from pixelkeep.ultra.data.truth import build_truth

MODELS = ["yolov5-n", "yolov5-spd-n"]
SMALL = ["--epochs", "1", "--imgsz", "64", "--batch", "4", "--set", "plots=false", "--device", "cpu"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_demo(tmp_path_factory.mktemp("data"), splits={"train": 4, "val": 12, "test": 2})


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("project")


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch):
    """Measure latency in as few rounds as possible: its value does not matter here."""
    monkeypatch.setattr(latency, "MOST", latency.FEWEST)


def command(*args: str, status: int = 0) -> None:
    with pytest.raises(SystemExit) as ended:
        run(["compare", *args])
    assert (ended.value.code or 0) == status


@pytest.fixture(scope="module")
def compared(data, project) -> Path:
    """Return the folder of a comparison of two models with two seeds each."""
    command(*MODELS, "--data", str(data), "--seeds", "2", "--project", str(project), "--name", "mine", *SMALL)
    return project / "mine"


def metrics(folder: Path) -> Result:
    return Result.from_dict(json.loads((folder / "metrics.json").read_text()))


def test_models__trained_and_compared(compared):
    """Every cell is trained; the document has the figures of their metrics.json, and differences in AP and AP_S."""
    document = json.loads((compared / "comparison.json").read_text())
    assert document["baseline"] == "yolov5-n" and document["failed"] == []
    for arm, model in zip(document["arms"], MODELS, strict=True):
        results = [metrics(compared / model / f"seed{seed}") for seed in (0, 1)]
        assert (arm["name"], arm["seeds"]) == (model, [0, 1])
        assert [result.protocol.seed for result in results] == [0, 1]
        assert arm["params"] == results[0].params and arm["gflops"] == results[0].gflops
        for key, figures in arm["figures"].items():
            values = [getattr(result, key) for result in results]
            assert figures["values"] == values
            assert figures["mean"] == pytest.approx(sum(values) / 2)
            assert figures["spread"] == pytest.approx(statistics.stdev(values))
        assert arm["latency"]["low"] <= arm["latency"]["ms"] <= arm["latency"]["high"]
    assert document["arms"][0]["latency"]["ratio"] == 1.0
    assert [(d["arm"], d["metric"], d["seeds"]) for d in document["differences"]] == [
        ("yolov5-spd-n", "AP", [2, 2]),
        ("yolov5-spd-n", "AP_S", [2, 2]),
    ]
    means = [[arm["figures"][key]["mean"] for arm in document["arms"]] for key in ("AP", "AP_S")]
    assert [d["value"] for d in document["differences"]] == pytest.approx([b - a for a, b in means])


def test_models__again_trains_nothing(compared, data, project, capsys, monkeypatch):
    """The same command trains nothing and prints the comparison again; --json prints comparison.json alone."""
    monkeypatch.setattr("pixelkeep.ultra.commands.training.train", None)
    command(*MODELS, "--data", str(data), "--seeds", "2", "--project", str(project), "--name", "mine", *SMALL, "--json")
    assert json.loads(capsys.readouterr().out) == json.loads((compared / "comparison.json").read_text())


def test_models__one_seed_gives_no_verdict(compared, data, project, capsys):
    """With a single seed the interval covers the images only, and the text says so."""
    command(*MODELS, "--data", str(data), "--seeds", "1", "--project", str(project), "--name", "mine", *SMALL)
    out = capsys.readouterr().out
    assert out.count(" images only\n") == 2 and "images only: the interval leaves out how much training" in out
    assert max(map(len, out.split("\n\npage ")[0].splitlines())) <= 80
    assert f"page      {compared / 'comparison.html'}\n" in out


def test_models__what_is_missing_ends_with_status_2(compared, data, project, capsys, monkeypatch):
    """A failed training is named in the text and on standard error, and the other trainings are still compared."""

    def fail(settings: dict) -> None:
        raise OptionError(f"no seed {settings['seed']} today")

    monkeypatch.setattr("pixelkeep.ultra.commands.training.train", fail)
    place = ["--project", str(project), "--name", "mine", *SMALL]
    command(*MODELS, "--data", str(data), "--seeds", "3", *place, status=2)
    out, err = capsys.readouterr()
    assert "yolov5-n seed 2 failed: no seed 2 today" in out
    last = "pixelkeep: yolov5-n seed 2 and 1 more failed: no seed 2 today; the same command retries what is missing"
    assert err.splitlines()[-1] == last
    command("yolov5-s", *MODELS, "--data", str(data), "--seeds", "2", *place, status=2)
    told = "nothing to compare: all trainings of yolov5-s failed, first yolov5-s seed 0: no seed 0 today"
    assert capsys.readouterr().err.splitlines()[-1].endswith(told)


def test_interruption__ends_with_130(data, tmp_path, capsys, caplog, monkeypatch):
    """Ctrl-C ends the command without a traceback or a result, after it has said what is done."""

    def interrupt(settings: dict) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pixelkeep.ultra.commands.training.train", interrupt)
    command(*MODELS, "--data", str(data), "--project", str(tmp_path), *SMALL, status=130)
    out, err = capsys.readouterr()
    assert not out and "Traceback" not in err
    assert "Done so far: nothing. The same command goes on from here." in caplog.messages[-1]


def test_runs__of_folders_that_are_there(compared, project, capsys):
    """The same runs, given as folders in any order, have the same arms, figures and differences."""
    folders = [str(compared / model / f"seed{seed}") for seed in (1, 0) for model in MODELS]
    given = [*folders, "--project", str(project), "--name", "folders"]
    command(*given, "--json")
    document = json.loads(capsys.readouterr().out)
    command(*given, "--json", "--baseline", "yolov5-spd-n", "--group", r"(\d)\.\w+$")
    swapped = json.loads(capsys.readouterr().out)
    assert [arm["name"] for arm in document["arms"]] == MODELS and document["settings"]["epochs"] == 1
    first = compare_any(
        [*reversed(folders)], {"project": str(project), "name": "folders"}, baseline="yolov5-n"
    ).document
    assert first["differences"] == document["differences"]
    assert [d["value"] for d in swapped["differences"]] == [
        -d["value"] if d["value"] else 0 for d in document["differences"]
    ]
    assert swapped["groups"] == 10 and document["groups"] is None  # by the last digit of 12 names
    assert {path.name for path in project.iterdir()} >= {"folders", "folders2", "folders3"}


@pytest.fixture
def detected(data, tmp_path) -> list[str]:
    """Write run folders without weights, of two models with three seeds, which find 5 and 9 of 10 objects."""
    spec = load_spec(data)
    truth, _ = build_truth(load_split(spec, "val").records, spec)
    drawn, folders = np.random.default_rng(0), []
    for model, share in (("yolov5-n", 0.5), ("yolov5-spd-n", 0.9)):
        for seed in range(3):
            found = [
                {key: a[key] for key in ("image_id", "category_id", "bbox")} | {"score": float(drawn.random())}
                for a in truth["annotations"]
                if not a.get("iscrowd") and drawn.random() < share
            ]
            folder = tmp_path / f"{model}-{seed}"
            folder.mkdir()
            result = evaluate(truth, found)
            result.model, result.data, result.split, result.gt_sha256 = model, str(data), "val", sha256(truth)
            result.protocol.seed, result.protocol.imgsz = seed, 64
            (folder / "metrics.json").write_text(result.to_json())
            (folder / "predictions.json").write_text(json.dumps(found))
            folders.append(str(folder))
    return folders


def test_runs__a_real_difference_is_told(detected, tmp_path, monkeypatch):
    """An arm that finds nearly twice as much is better by the difference of the means, and the other arm is worse."""
    monkeypatch.chdir(tmp_path)
    document = compare_any(detected, {}).document
    results = {folder: metrics(Path(folder)) for folder in detected}
    for entry in document["differences"]:
        values = [getattr(result, entry["metric"]) for result in results.values()]
        assert entry["value"] == pytest.approx(statistics.fmean(values[3:]) - statistics.fmean(values[:3]))
        assert entry["low"] > 0 and entry["verdict"] == "better"
    assert document["latency"] is None and document["arms"][0]["latency"] is None  # no weights to measure
    back = compare_any(detected, {}, baseline="yolov5-spd-n").document
    assert [d["value"] for d in back["differences"]] == pytest.approx([-d["value"] for d in document["differences"]])
    assert {d["verdict"] for d in back["differences"]} == {"worse"}


def test_runs__of_one_model_with_tiles_and_without(detected, tmp_path, monkeypatch, capsys):
    """With --across tile, arms of one model are compared without latency, and the text says how images were cut."""
    tile = {"size": 48, "imgsz": 96, "overlap": 0.2, "full_image": False, "merge": "nms"}
    for folder in detected[3:]:
        document = json.loads((Path(folder) / "metrics.json").read_text())
        document["model"] = "yolov5-n"
        document["protocol"] |= {"tile": tile, "imgsz": 96}
        document["gflops"] = 2.0
        (Path(folder) / "metrics.json").write_text(json.dumps(document))
    monkeypatch.chdir(tmp_path)
    command(*detected, "--across", "tile")
    out = " ".join(capsys.readouterr().out.split())
    assert "yolov5-n (tile 48): tiles of 48 px seen at 96, overlap 0.2, merged by nms" in out
    assert "yolov5-n (tile none): whole images" in out and "latency is not measured" in out
    found = json.loads((tmp_path / "runs/compare/exp/comparison.json").read_text())
    assert found["across"] == ["tile"] and found["protocol"]["tile"] is None
    assert found["protocol"]["imgsz"] is None and "imgsz as in the table of costs" in out
    assert [arm["tile"] for arm in found["arms"]] == [None, tile]
    assert found["arms"][1]["gflops"] == 2.0 * found["arms"][1]["tiles"] > 20 and "of them per image" in out
    assert {d["verdict"] for d in found["differences"]} == {"better"}
    assert not any(d["paired"] for d in found["differences"])  # nothing shows that these are the same trainings
    command(*detected, status=2)
    assert "give --across tile where that is the question" in capsys.readouterr().err.splitlines()[-1]


def test_runs__groups_are_drawn_together(detected, tmp_path, monkeypatch):
    """With all images in one group there is only one unit to draw, and so neither interval nor verdict."""
    monkeypatch.chdir(tmp_path)
    document = compare_any(detected, {}, group=r"\.\w+$").document
    assert document["groups"] == 1
    assert {(d["low"], d["verdict"]) for d in document["differences"]} == {(None, None)}
    assert all("too few objects" in d["note"] for d in document["differences"])


def test_runs__of_one_training_scored_in_two_sizes(compared, project, data, capsys):
    """Each training is compared with itself, whatever the folders' order; a single training gets a verdict too."""
    folders = []
    for size in ("64", "96"):
        for seed in ("0", "1"):
            weights = compared / "yolov5-n" / f"seed{seed}" / "weights" / "best.pt"
            given = ["--weights", weights, "--data", data, "--imgsz", size, "--project", project, "--device", "cpu"]
            with pytest.raises(SystemExit):
                run(["val", *map(str, given), "--name", f"size{size}-{seed}", "--set", "plots=false"])
            folders.append(str(project / f"size{size}-{seed}"))
    capsys.readouterr()
    command(
        *reversed(folders),
        "--across",
        "imgsz",
        "--project",
        str(project),
        "--json",
        "--baseline",
        "yolov5-n (imgsz 64)",
    )
    both = json.loads(capsys.readouterr().out)
    assert [arm["name"] for arm in both["arms"]] == ["yolov5-n (imgsz 96)", "yolov5-n (imgsz 64)"]
    assert all(d["paired"] and d["seeds"] == [2, 2] for d in both["differences"])
    assert both["latency"] is not None and [arm["imgsz"] for arm in both["arms"]] == [96, 64]
    command(folders[0], folders[2], "--across", "imgsz", "--project", str(project))
    assert "difference within one training, for other images" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (["--seeds", "2"], "--seeds: no effect on runs that exist already"),
        (["--epochs", "2", "--set", "mosaic=0"], "--set, --epochs: no effect"),
        (["yolov5-n"], "'yolov5-n' is not a run folder, but .* is;"),
        (["--baseline", "yolov5-s"], "--baseline yolov5-s: not among yolov5-n, yolov5-spd-n"),
        (["--data", "nowhere.yaml"], "data 'nowhere.yaml' not found"),
        (["--group", "("], "--group .*: not a regular expression"),
        (["--across", "tiles"], "--across tiles: not among imgsz, tile, precision, format; did you mean 'tile'"),
        (["--across", "imgsz"], "--across imgsz: all runs were scored with imgsz 64; leave it out"),
    ],
)
def test_runs__what_has_no_effect_is_refused(compared, capsys, extra, told):
    """Options of training, and options that do not fit the runs, are refused by name in one line."""
    command(*(str(compared / model / "seed0") for model in MODELS), *extra, status=2)
    assert re.search(told, capsys.readouterr().err.splitlines()[-1])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["yolov5-n"], "one model, yolov5-n: give another"),
        (["runs/train/nowhere", "yolov5-n"], "'runs/train/nowhere': no such run folder, model YAML or checkpoint"),
        ([*MODELS, "--set", "model=yolov5-s"], "--set model=yolov5-s: leave it out; the models to compare are"),
        ([*MODELS, "--group", "video"], "--group video does not match its name; every image needs a group"),
        ([*MODELS, "--seeds", "0"], "--seeds"),
        ([*MODELS, "--across", "imgsz"], "--across imgsz: only for run folders"),
    ],
)
def test_models__refused_before_training(data, tmp_path, capsys, monkeypatch, words, told):
    """What cannot be compared is refused before the first training."""
    monkeypatch.setattr("pixelkeep.ultra.commands.training.train", None)
    command(*words, "--data", str(data), "--project", str(tmp_path), *SMALL, status=2)
    assert told in capsys.readouterr().err.splitlines()[-1]


def test_group__first_brackets_or_all():
    """The group is the text of the first brackets, else of the whole match; a pattern with a slash sees the folders."""
    truth = {"images": [{"id": 1, "file_name": "images/day/cam1_001.jpg"}, {"id": 2, "file_name": "cam2_002.jpg"}]}
    assert group_images(truth, r"(cam\d)_") == group_images(truth, r"cam\d") == {1: "cam1", 2: "cam2"}
    with pytest.raises(DataError, match=r"cam2_002\.jpg: --group"):
        group_images(truth, "images/(.*)/")


def test_spread__undefined_stays_undefined():
    """A figure without ground truth has no mean, one seed has no spread, and two have the sample standard deviation."""
    assert documents._spread([0.2, 0.4])["spread"] == pytest.approx((0.1**2 + 0.1**2) ** 0.5)
    assert documents._spread([None, None])["mean"] is None
    assert documents._spread([0.25]) == {"mean": 0.25, "spread": None, "values": [0.25]}
