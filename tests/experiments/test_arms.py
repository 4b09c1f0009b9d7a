"""Run folders sorted into arms, and the runs that are refused because their figures cannot be compared."""

from __future__ import annotations

import json

import pytest
import yaml

from pixelkeep.datasets.demo import write_demo
from pixelkeep.errors import DataError, OptionError
from pixelkeep.evaluation import Result
from pixelkeep.experiments.arms import check_alike, read_run, rebuild_truth, require_baseline, sort_into_arms


@pytest.fixture
def make(tmp_path):
    """Return a writer of run folders; keywords set the result, ``protocol_`` ones its protocol, ``set_`` settings."""
    made = []

    def write(model: str = "yolov5-n", seed: int | None = 0, **others):
        folder = tmp_path / f"run{len(made)}"
        made.append(folder)
        folder.mkdir()
        result = Result(model=model, gt_sha256="a" * 64, counts={"S": 1, "M": 1, "L": 1}, split="val")
        result.protocol.seed, result.protocol.imgsz = seed, 64
        settings = {"epochs": 2, "seed": seed, "model": f"{model}.yaml"}
        for key, value in others.items():
            if key.startswith("protocol_"):
                setattr(result.protocol, key.removeprefix("protocol_"), value)
            elif key.startswith("set_"):
                settings[key.removeprefix("set_")] = value
            else:
                setattr(result, key, value)
        (folder / "metrics.json").write_text(result.to_json())
        (folder / "predictions.json").write_text("[]")
        (folder / "settings.yaml").write_text(yaml.safe_dump(settings))
        return read_run(folder)

    return write


def test_arms__of_models_with_their_seeds(make):
    """Runs of one model form an arm in order of their seeds, however they are given; device and plots do not matter."""
    given = [make(seed=2), make("yolov5-spd-n", 1), make(seed=0, set_device="0", set_plots=False), make("yolov5-spd-n")]
    arms = sort_into_arms(given)
    assert {name: [run.seed for run in runs] for name, runs in arms.items()} == {
        "yolov5-n": [0, 2],
        "yolov5-spd-n": [0, 1],
    }


def test_arms__of_one_model_are_named_by_what_differs(make):
    """Runs of one model with different settings form different arms, whose names say which settings differ."""
    arms = sort_into_arms([make(), make(set_epochs=9, set_data="/a/b-12ab.yaml"), make("yolov5-s", set_epochs=5)])
    assert list(arms) == ["yolov5-n (data default, epochs 2)", "yolov5-n (data b-12ab, epochs 9)", "yolov5-s"]


def test_arms__another_definition_of_the_name_is_another_arm(make):
    """Runs between which the model YAML was edited belong to different arms."""
    runs = [make(), make()]
    for run, text in zip(runs, ("one", "two"), strict=True):
        (run.folder / "model.yaml").write_text(text)
    arms = sort_into_arms([read_run(run.folder) for run in runs])
    assert len(arms) == 2 and all("(model definition " in name for name in arms)


def test_arms__paths_of_one_name_are_told_apart(make):
    """Runs that started from two checkpoints called best.pt are two arms, named by their paths."""
    arms = sort_into_arms([make(set_pretrained=f"/runs/{name}/best.pt") for name in ("one", "two")])
    assert list(arms) == ["yolov5-n (pretrained /runs/one/best.pt)", "yolov5-n (pretrained /runs/two/best.pt)"]


def test_arms__a_resumed_run_is_of_its_model(make):
    """A resumed run, whose metrics.json calls its model last, is sorted by the model in its settings."""
    resumed = make("last", 1, set_model="yolov5-n.yaml")
    assert {name: len(runs) for name, runs in sort_into_arms([make(), resumed, make("yolov5-s")]).items()} == {
        "yolov5-n": 2,
        "yolov5-s": 1,
    }


def test_arms__same_seed_twice_is_refused(make):
    """Two runs of one model, settings and seed are refused."""
    with pytest.raises(OptionError, match=r"run0 and .*run1 are both yolov5-n with seed 0"):
        sort_into_arms([make(), make(), make("yolov5-s")])


TILED = {"size": 256, "imgsz": 256, "overlap": 0.2, "full_image": True, "merge": "nms"}


@pytest.mark.parametrize(
    ("field", "value", "names"),
    [
        ("imgsz", [96, 128], ["yolov5-n (imgsz 64)", "yolov5-n (imgsz 96x128)"]),
        ("precision", "int8", ["yolov5-n (precision fp32)", "yolov5-n (precision int8)"]),
        ("format", "onnx", ["yolov5-n (format pytorch)", "yolov5-n (format onnx)"]),
        ("tile", TILED, ["yolov5-n (tile none)", "yolov5-n (tile 256)"]),
    ],
)
def test_arms__of_one_training_scored_differently(make, field, value, names):
    """A field to compare across splits one training into arms of the same seeds; without it the runs are duplicates."""
    given = [make(seed=seed, protocol_precision="fp32") for seed in (1, 0)]
    given += [make(seed=seed, **{"protocol_precision": "fp32", f"protocol_{field}": value}) for seed in (1, 0)]
    check_alike(given, across=[field])
    arms = sort_into_arms(given, [field])
    assert {name: [run.seed for run in runs] for name, runs in arms.items()} == {name: [0, 1] for name in names}
    with pytest.raises(OptionError, match="are both yolov5-n with seed 0"):
        sort_into_arms(given)


def test_arms__trained_and_scored_at_other_sizes(make):
    """Where both the training and the validation size differ, arm names state both."""
    given = [make(set_imgsz=64), make(set_imgsz=96), make(set_imgsz=96, protocol_imgsz=96)]
    assert list(sort_into_arms(given, ["imgsz"])) == [
        f"yolov5-n (imgsz {trained}, val imgsz {scored})" for trained, scored in ((64, 64), (96, 64), (96, 96))
    ]


def test_arms__tiles_that_differ_in_more_than_size(make):
    """Arms whose tiles differ in more than their size are named by the full description of their tiles."""
    other = {**TILED, "overlap": 0.4}
    arms = sort_into_arms([make(protocol_tile=TILED), make(protocol_tile=other)], ["tile"])
    assert list(arms) == [
        f"yolov5-n (tile 256, overlap {overlap}, the whole image too, merged by nms)" for overlap in (0.2, 0.4)
    ]


def test_alike__tiles_have_an_image_size_of_their_own(make):
    """Runs on tiles may have an image size of their own; runs on whole images must still agree on theirs."""
    whole, tiled = make(), [make(protocol_tile=TILED, protocol_imgsz=256) for _ in range(2)]
    check_alike([whole, *tiled, make("yolov5-s")], across=["tile"])
    with pytest.raises(OptionError, match=rf"{whole.folder} and .* differ in protocol\.imgsz \(64 and 96\)"):
        check_alike([whole, *tiled, make("yolov5-s", protocol_imgsz=96)], across=["tile"])


def test_alike__in_all_but_what_is_asked(make):
    """A field of --across in which no run differs is refused, as is any other difference; messages say what to do."""
    with pytest.raises(OptionError, match=r"--across imgsz: all runs were scored with imgsz 64; leave it out"):
        check_alike([make(), make("yolov5-s")], across=["imgsz"])
    with pytest.raises(OptionError, match=r"differ in protocol\.conf \(None and 0\.25\).*compare those runs$"):
        check_alike([make(), make(protocol_imgsz=96, protocol_conf=0.25)], across=["imgsz"])
    with pytest.raises(OptionError, match=r"those runs, or give --across imgsz where that is the question$"):
        check_alike([make(), make(protocol_imgsz=96)])


def test_arms__a_single_one_is_refused(make):
    """Runs of one model that differ in their seeds alone are refused: there is nothing to compare."""
    with pytest.raises(OptionError, match="all runs are of one model and settings, yolov5-n"):
        sort_into_arms([make(), make(seed=1)])


def test_alike__other_ground_truth_is_refused(make):
    """Runs scored on different ground truth are refused, and the message gives both values of the field, shortened."""
    with pytest.raises(OptionError, match=r"differ in gt_sha256 \(aaaaaaaa\.\.\. and bbbbbbbb\.\.\.\)"):
        check_alike([make(), make("yolov5-s"), make("yolov5-m", gt_sha256="b" * 64)])


@pytest.mark.parametrize(
    ("field", "value"),
    [("conf", 0.25), ("imgsz", 96), ("nms_iou", 0.5), ("max_dets", 100), ("match", "nwd"), ("precision", "fp16")],
)
def test_alike__another_protocol_is_refused(make, field, value):
    """Runs whose protocols differ in a field that affects the figures are refused."""
    with pytest.raises(OptionError, match=rf"differ in protocol\.{field} \(.* and {value}\)"):
        check_alike([make(), make("yolov5-s", **{f"protocol_{field}": value})])


def test_alike__evaluator_device_and_seed_may_differ(make):
    """Runs may differ in evaluator, device and seed: both evaluators give equal figures."""
    check_alike([make(), make("yolov5-s", 3, protocol_evaluator="pixelkeep", protocol_device="cuda:0")])


@pytest.mark.parametrize("name", ["metrics.json", "predictions.json"])
def test_read__unfinished_is_refused(make, name):
    """A folder without a result is refused, and the message names the file that it lacks."""
    folder = make().folder
    (folder / name).unlink()
    with pytest.raises(DataError, match=rf"run0 has no {name}; give the folder of a finished"):
        read_run(folder)


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"schema": 1})])
def test_read__damaged_is_refused(make, text):
    """A metrics.json that holds no result is refused as damaged."""
    folder = make().folder
    (folder / "metrics.json").write_text(text)
    with pytest.raises(DataError, match=r"metrics\.json is damaged"):
        read_run(folder)


def test_read__runs_of_another_task_are_refused(make):
    """A run of classification is refused for its task, which has other figures, and not as damaged."""
    folder = make().folder
    (folder / "metrics.json").write_text(json.dumps({"schema": 1, "task": "classify", "top1": 0.5}))
    with pytest.raises(DataError, match=r"run0 is a run of task 'classify'; compare reads runs of detection"):
        read_run(folder)


def test_read__settings_of_a_validation_are_its_trainings(make, tmp_path):
    """The settings of a validation, whose folder has none, are those beside its weights."""
    trained = make(set_epochs=7).folder
    validated = make(weights=str(trained / "weights" / "best.pt")).folder
    (validated / "settings.yaml").unlink()
    assert read_run(validated).settings["epochs"] == 7


def test_truth__changed_data_is_refused(make, tmp_path):
    """Data whose ground truth has changed since the run was scored are refused."""
    data = write_demo(tmp_path / "data", splits={"train": 2, "val": 2, "test": 2})
    with pytest.raises(DataError, match=r"split 'val' is not what .*run0 was scored on \(gt_sha256 "):
        rebuild_truth(make(data=str(data)))


def test_baseline__default_and_unknown():
    """The first arm is the baseline by default, and a name that is no arm is refused."""
    arms = {"yolov5-n": [], "yolov5-spd-n": []}
    assert require_baseline(None, arms) == "yolov5-n" and require_baseline("yolov5-spd-n", arms) == "yolov5-spd-n"
    with pytest.raises(OptionError, match=r"--baseline yolov5-spd-m: not among .*; did you mean 'yolov5-spd-n'"):
        require_baseline("yolov5-spd-m", arms)
