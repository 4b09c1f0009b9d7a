"""Comparisons at equal cost, with training replaced: arms, what is kept of them, verdicts, and what is refused."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import yaml

from pixelkeep.datasets.definitions.spec import load_spec
from pixelkeep.datasets.demo import write_demo
from pixelkeep.datasets.loading import load_split
from pixelkeep.errors import OptionError
from pixelkeep.evaluation import evaluate, sha256
from pixelkeep.experiments import cells, equal
from pixelkeep.experiments.compare import compare, compare_any
from pixelkeep.experiments.equal import Equal
from pixelkeep.experiments.grid import plan
from pixelkeep.report.comparison import as_markdown, as_text, notes
from pixelkeep.ultra.costs import multiples as costs
from pixelkeep.ultra.data.truth import build_truth
from pixelkeep.ultra.running.settings import merge

MODELS = ["yolov5-n", "yolov5-spd-n"]
WIDER, LARGER = "yolov5-n w0.31835", "yolov5-n 224x256"  # at 1.61 times the GFLOPs, with 10 classes and 192 pixels


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_demo(tmp_path_factory.mktemp("data"), splits={"train": 2, "val": 60, "test": 2})


COUNTED: dict[str, float] = {}


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """Work in a temporary folder, and count each network only once in this file."""
    count = costs.definition_gflops

    def counted(*network) -> float:
        key = json.dumps(network, sort_keys=True)
        if key not in COUNTED:
            COUNTED[key] = count(*network)
        return COUNTED[key]

    monkeypatch.setattr(costs, "definition_gflops", counted)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def settings(data) -> dict:
    return merge({"data": str(data), "epochs": 1, "imgsz": 192, "batch": 2, "device": "cpu"}, command="train")


class Training:
    """Stub for training: writes the result of a detector that finds the share of the objects set for its arm."""

    def __init__(self, data: Path) -> None:
        spec = load_spec(data)
        self.truth, _ = build_truth(load_split(spec, "val").records, spec)
        self.data, self.shares, self.trained, self.fails = data, {}, [], set()

    def __call__(self, settings: dict) -> None:
        folder = Path(settings["project"], settings["name"])
        arm, seed = folder.parent.name, settings["seed"]
        if f"{arm} {seed}" in self.fails:
            raise OptionError("not today")
        self.trained.append(settings)
        drawn = np.random.default_rng(0).random(len(self.truth["annotations"]))  # the larger share includes the smaller
        own = np.random.default_rng(zlib.crc32(f"{arm} {seed}".encode()))
        found = [
            {key: a[key] for key in ("image_id", "category_id", "bbox")} | {"score": float(own.uniform(0.5, 1))}
            for a, difficulty in zip(self.truth["annotations"], drawn, strict=True)
            if not a.get("iscrowd") and difficulty + own.normal(0, 0.01) < self.shares.get(arm, 0.5)
        ]
        result = evaluate(self.truth, found)
        result.model, result.data, result.split, result.gt_sha256 = arm, str(self.data), "val", sha256(self.truth)
        result.protocol.seed, result.protocol.imgsz = seed, settings["imgsz"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.json").write_text(result.to_json())
        (folder / "predictions.json").write_text(json.dumps(found))
        (folder / "settings.yaml").write_text(yaml.safe_dump({"model": settings["model"], "seed": seed}))


@pytest.fixture
def training(data, monkeypatch) -> Training:
    stub = Training(data)
    monkeypatch.setattr(cells.training, "train", stub)
    return stub


def test_plan__adds_the_baseline_at_the_cost_of_the_variant(settings):
    """Each seed has both arms of equal cost after the models; the wider one is a file that Ultralytics trains from."""
    from ultralytics.nn.tasks import DetectionModel

    made = plan(MODELS, 2, settings, match="gflops")
    assert [cell.arm for cell in made.cells] == [*MODELS, WIDER, LARGER] * 2
    plain, _, wider, larger = made.cells[:4]
    assert (larger.model, larger.imgsz) == (plain.model, (224, 256)) and wider.imgsz is None
    assert wider.model == str(made.folder / WIDER / f"{WIDER}.yaml")
    network = DetectionModel(wider.model, nc=2, verbose=False)
    assert network.model[1].conv.out_channels == 40 and network.yaml["scale"] == "n"
    assert {cell.folder for cell in made.cells} == {made.folder / cell.arm / f"seed{cell.seed}" for cell in made.cells}


def test_again__uses_the_same_arms(settings, monkeypatch):
    """A comparison that is continued does not search again, even without its files; without --match it has no arms."""
    settings["name"] = "mine"
    first = plan(MODELS, 1, settings, match="gflops")
    Path(first.cells[2].model).unlink()
    monkeypatch.setattr(equal, "match", None)
    again = plan(MODELS, 2, settings, match="gflops")
    assert [cell.arm for cell in again.cells] == [*MODELS, WIDER, LARGER] * 2
    assert Path(again.cells[2].model).is_file() and again.equal.variants == first.equal.variants
    assert [cell.arm for cell in plan(MODELS, 1, settings).cells] == MODELS
    assert "matched" in json.loads((first.folder / "grid.json").read_text())


def test_another_variant__shares_what_costs_as_much(settings):
    """A variant added later leaves the arms of the first as they are, and uses them where they cost as much."""
    settings["name"] = "mine"
    first = plan(MODELS, 1, settings, match="gflops")
    copy = Path("copied-n.yaml")
    from pixelkeep.assets import find

    copy.write_text(find("models", "yolov5-spd").read_text())
    both = plan([*MODELS, str(copy), "yolov5-slicesamp-n"], 1, settings, match="gflops")
    variants = both.equal.variants
    assert variants["yolov5-spd-n"] == first.equal.variants["yolov5-spd-n"]
    assert list(variants["copied-n"]["arms"]) == [WIDER, LARGER]
    assert not {WIDER, LARGER} & set(variants["yolov5-slicesamp-n"]["arms"])
    assert len(both.cells) == 4 + len(both.equal.arms) == len({cell.arm for cell in both.cells})


def test_rivals__are_all_of_the_baseline_that_cost_no_more():
    """The rivals of a costlier variant are plain baseline and arms, of a cheaper one the arms, of an equal one none."""
    arms = {"b w0.3": {"ratio": 1.0}}
    entries = {
        name: {"times": times, "arms": arms if made else {}}
        for name, times, made in (("more", 1.5, True), ("less", 0.5, True), ("same", 1.02, False))
    }
    rivals = Equal("gflops", {}, entries, None).rivals("b")
    assert rivals == {"more": ["b", "b w0.3"], "less": ["b w0.3"]}


def run(data: Path, **others) -> dict:
    settings = {"data": str(data), "epochs": 1, "imgsz": 192, "batch": 2, "device": "cpu", "name": "mine"}
    return compare_any(MODELS, settings, match="gflops", **others).document


def test_verdict__compute_alone_is_not_better(training, data):
    """A gain that the wider baseline has too beats the plain baseline, but is not better at equal GFLOPs."""
    training.shares = {"yolov5-n": 0.5, "yolov5-spd-n": 0.8, WIDER: 0.8, LARGER: 0.6}
    document = run(data)
    assert {(d["arm"], d["verdict"]) for d in document["differences"]} == {("yolov5-spd-n", "better")}
    for joint, metric in zip(document["equal_cost"], ("AP", "AP_S"), strict=True):
        assert (joint["arm"], joint["metric"], joint["stronger"]) == ("yolov5-spd-n", metric, WIDER)
        assert joint["verdict"] not in ("better", "worse")
        assert [d["baseline"] for d in joint["differences"]] == ["yolov5-n", WIDER, LARGER]
    assert [arm["imgsz"] for arm in document["arms"]] == [192, 192, 192, [224, 256]]
    text = as_text(document)
    assert "yolov5-spd-n at equal GFLOPs\n" in text and f"{WIDER} *" in text and "224x256" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "yolov5-spd-n has 1.61 times the GFLOPs of yolov5-n" in notes(document)[-1]
    assert "## yolov5-spd-n at equal GFLOPs" in as_markdown(document)
    page = Path("runs/compare/mine/comparison.html").read_text()
    assert f"At equal GFLOPs, against {WIDER}" in page


def test_verdict__a_gain_over_all_is_better(training, data):
    """A variant that finds more than all three baselines is better at equal GFLOPs as well."""
    training.shares = {"yolov5-n": 0.5, "yolov5-spd-n": 0.9, WIDER: 0.6, LARGER: 0.65}
    assert {joint["verdict"] for joint in run(data)["equal_cost"]} == {"better"}


def test_verdict__behind_the_best_is_worse(training, data):
    """A variant that is better than the plain baseline but worse than the larger image is worse at equal cost."""
    training.shares = {"yolov5-n": 0.5, "yolov5-spd-n": 0.6, WIDER: 0.6, LARGER: 0.9}
    document = run(data)
    assert {joint["verdict"] for joint in document["equal_cost"]} == {"worse"}
    assert {joint["stronger"] for joint in document["equal_cost"]} == {LARGER}
    assert {d["verdict"] for d in document["differences"]} == {"better"}


def test_one_seed__has_intervals_alone(training, data):
    """With one seed there are no verdicts at equal cost either, only intervals that cover the images."""
    document = run(data, seeds=1)
    assert {joint["verdict"] for joint in document["equal_cost"]} == {None}
    assert as_text(document).count(" images only\n") == 4


def test_failed__arms_leave_the_rest(training, data, monkeypatch):
    """Without one of its arms a variant has no verdict at equal cost, which a note says; the rest is still compared."""
    training.fails = {f"{WIDER} {seed}" for seed in range(3)}
    outcome = compare_any(
        MODELS, {"data": str(data), "imgsz": 192, "epochs": 1, "batch": 2, "name": "mine"}, match="gflops"
    )
    document = outcome.document
    assert document["equal_cost"] == [] and len(document["failed"]) == 3 and len(outcome.failed) == 3
    assert [arm["name"] for arm in document["arms"]] == [*MODELS, LARGER]
    assert {d["arm"] for d in document["differences"]} == {"yolov5-spd-n"}
    assert f"yolov5-spd-n has no verdict at equal GFLOPs, for want of {WIDER}" in notes(document)
    with pytest.raises(OptionError, match=f"{WIDER} seed 0 and 2 more failed: not today"):
        outcome.require_all()
    training.fails = {f"yolov5-spd-n {seed}" for seed in range(3)}
    with pytest.raises(ValueError, match="nothing to compare: all trainings of yolov5-spd-n failed"):
        compare_any(MODELS, {"data": str(data), "imgsz": 192, "epochs": 2, "batch": 2, "name": "other"}, match="gflops")


def test_alike__of_image_sizes_only_these_may_differ(training, data):
    """An image size other than the one found is refused, and so are runs of different image sizes given as folders."""
    run(data, seeds=1)
    folder = Path("runs/compare/mine")
    with pytest.raises(OptionError, match=r"differ in protocol\.imgsz \(192 and \[224, 256\]\)"):
        compare_any([str(folder / name / "seed0") for name in ("yolov5-n", LARGER)], {})
    file = folder / LARGER / "seed0" / "metrics.json"
    changed = json.loads(file.read_text())
    changed["protocol"]["imgsz"] = [256, 256]
    file.write_text(json.dumps(changed))
    with pytest.raises(OptionError, match=r"differ in protocol\.imgsz \(\[224, 256\] and \[256, 256\]\)"):
        run(data, seeds=1)


def test_not_equal__is_told_in_the_verdict(training, settings, data, monkeypatch):
    """Where an arm cannot be found within 3 %, the note of the verdict says how near it came."""
    small = {"data": str(data), "epochs": 1, "imgsz": 64, "batch": 2, "device": "cpu", "name": "small"}
    document = compare_any(MODELS, small, match="gflops").document
    made = document["equal"]["variants"]["yolov5-spd-n"]["arms"]
    (size,) = [name for name in made if "imgsz" in made[name]]
    ratio = made[size]["ratio"]
    assert abs(ratio - 1) > 0.03
    for joint in document["equal_cost"]:
        assert f"as near to equal cost as could be found: {size} at {ratio:.2f} times the GFLOPs" in joint["note"]


def test_python__is_the_command(training, data):
    """pixelkeep.compare returns the document of the command, its tables, and its verdicts by arm and metric."""
    training.shares = {"yolov5-n": 0.5, "yolov5-spd-n": 0.9, WIDER: 0.6, LARGER: 0.65}
    options = dict(epochs=1, imgsz=192, batch=2, device="cpu", name="mine")
    found = compare(MODELS, data, seeds=2, match="gflops", **options)
    assert found.verdicts == {("yolov5-spd-n", key): "better" for key in ("AP", "AP_S")}
    assert found.verdicts_at_equal_cost == found.verdicts and found.failed == {}
    assert found.to_dict() == json.loads((found.folder / "comparison.json").read_text())
    assert str(found) == found.table == as_text(found.document) and found.page.is_file()
    folders = [found.folder / name / f"seed{seed}" for name in MODELS for seed in (0, 1)]
    again = compare(folders, project="elsewhere")
    assert again.verdicts == found.verdicts and again.verdicts_at_equal_cost == {}


class Clock:
    """Stub for latency: the square root of the GFLOPs' multiple, as on a device that is also busy with other things."""

    device = "a clock"

    def __init__(self, target, channels, classes, device) -> None:
        self._compute = costs.Compute(target, channels, classes)
        self.asked = device

    def ratio(self, network):
        found = self._compute.ratio(network)
        return found and found**0.5

    def settle(self, networks):
        return [self.ratio(network) for network in networks]


def test_latency__is_kept_with_its_device(settings, monkeypatch):
    """The arms of equal latency are kept beside those of equal GFLOPs, together with their device."""
    settings["name"] = "mine"
    monkeypatch.setattr(equal, "Latency", Clock)
    gflops = plan(MODELS, 1, settings, match="gflops").equal
    latency = plan(MODELS, 1, settings, match="latency").equal
    assert latency.device == "a clock" and latency.variants["yolov5-spd-n"]["times"] == pytest.approx(
        1.61**0.5, abs=0.01
    )
    assert gflops.device is None and set(latency.arms) == set(gflops.arms)
    kept = json.loads(Path("runs/compare/mine/grid.json").read_text())["matched"]
    assert set(kept) == {"gflops", "latency"} and kept["latency"]["yolov5-spd-n"]["device"] == "a clock"


def test_both__a_variant_is_set_against_the_arms_of_either(settings, monkeypatch):
    """With equal GFLOPs and equal latency at once, each arm of both is trained once, and rivals come from both."""
    settings["name"] = "mine"
    monkeypatch.setattr(equal, "Latency", Clock)
    made = plan([*MODELS, "yolov5-slicesamp-n"], 1, settings, match=["gflops", "latency"])
    gflops, latency = made.equal.parts
    assert (gflops.by, latency.by) == ("gflops", "latency")
    arms = {*gflops.arms, *latency.arms}
    assert set(made.equal.arms) == arms == {cell.arm for cell in made.cells} - {*MODELS, "yolov5-slicesamp-n"}
    for variant, rivals in made.equal.rivals("yolov5-n").items():
        own = {name for part in (gflops, latency) for name in part.variants[variant]["arms"]}
        plain = {"yolov5-n"} if gflops.variants[variant]["times"] > 1 else set()
        assert set(rivals) == own | plain and len(rivals) == len(set(rivals))
    document = made.equal.to_dict()
    assert document["by"] == "gflops+latency" and document["parts"][1] == latency.to_dict()
    with pytest.raises(OptionError, match="match: 'time'; give one of gflops, latency"):
        plan(MODELS, 1, settings, match=["gflops", "time"])


def test_both__the_report_tells_each(training, data, monkeypatch):
    """The report states the costs in both measures, and verdicts under both names."""
    monkeypatch.setattr(equal, "Latency", Clock)
    small = {"data": str(data), "epochs": 1, "imgsz": 192, "batch": 2, "device": "cpu", "name": "both"}
    document = compare_any(MODELS, small, match=["gflops", "latency"]).document
    text = " ".join(as_text(document).split())
    assert "yolov5-spd-n at equal GFLOPs and latency" in text
    assert "times the GFLOPs of yolov5-n" in text and "times the latency of yolov5-n" in text
    assert set(found["metric"] for found in document["equal_cost"]) == {"AP", "AP_S"}
