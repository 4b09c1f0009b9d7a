"""Settings: later sources win, and nothing is let through that Ultralytics would fail on or silently ignore."""

from __future__ import annotations

import pytest
import torch
from ultralytics.utils import DEFAULT_CFG_PATH

from pixelkeep.errors import OptionError
from pixelkeep.ultra.running.settings import check_task, for_ultralytics, load_recipe, merge, parse_assignments


def test_order__defaults_recipe_flags_assignments(tmp_path):
    """Recipes override our defaults, flags override recipes, --set overrides flags; a flag of None was not given."""
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("epochs: 3\nimgsz: 320\nbatch: 4\nplots: false\nexpected: {AP: 0.5}\n", encoding="utf-8-sig")
    flags = {"imgsz": 416, "batch": 8, "epochs": None}
    merged = merge(flags, command="train", recipe=str(recipe), assignments=["batch=2"])
    assert {k: merged[k] for k in ("epochs", "imgsz", "batch", "plots", "verbose")} == {
        "epochs": 3,
        "imgsz": 416,
        "batch": 2,
        "plots": False,
        "verbose": True,
    }
    assert "expected" not in merged


def test_bundled_recipe__by_name(tmp_path, monkeypatch):
    """A recipe of configs/ is found by its name from any folder."""
    monkeypatch.chdir(tmp_path)
    assert load_recipe("demo") == load_recipe("demo.yaml")
    assert merge({}, command="train", recipe="demo")["data"] == "demo"


def test_assignments__values_are_yaml():
    """Values of --set are read as YAML; only the first equals sign separates the key from the value."""
    given = ["mosaic=0.5", "cos_lr=true", "classes=[0, 2]", "name=a=b", "freeze=null"]
    assert parse_assignments(given) == {
        "mosaic": 0.5,
        "cos_lr": True,
        "classes": [0, 2],
        "name": "a=b",
        "freeze": None,
    }


def test_name__a_number_is_a_name():
    """A number is accepted as the name of a run or project."""
    assert merge({}, command="train", assignments=["name=5", "project=2024"]) | {
        "name": "5",
        "project": "2024",
    } == merge({"name": "5", "project": "2024"}, command="train")


def test_exponent__a_number(tmp_path):
    """1e-3 is read as a number in --set and in a recipe, although YAML takes it for a string."""
    (tmp_path / "mine.yaml").write_text("lr0: 1e-3\noptimizer: SGD\n")
    merged = merge(
        {}, command="train", recipe=str(tmp_path / "mine.yaml"), assignments=["lrf=2E-2", "epochs=1e2", "name=1e2"]
    )
    assert (merged["lr0"], merged["lrf"], merged["epochs"], merged["name"]) == (0.001, 0.02, 100, "1e2")
    assert isinstance(merged["epochs"], int)


def test_own_settings__kept_from_ultralytics():
    """Settings that only we have are not passed on to Ultralytics."""
    assert for_ultralytics({"best": "AP_S", "epochs": 1}) == {"epochs": 1}


GOOD = [
    "batch=-1",
    "imgsz=640",
    "imgsz=[480, 640]",
    "optimizer=adamw",
    "cache=disk",
    "cache=true",
    "device=cpu",
    "device=null",
    "workers=0",
    "freeze=[0, 1]",
    "classes=3",
    "pretrained=false",
    "best=AP_S",
    "task=detect",
    "resume=false",
    "time=0.5",
]


FOREIGN = {
    "val": {
        "epochs=7": "setting 'epochs' has no effect in val; it is for train",
        "mosaic=0.1": "setting 'mosaic' has no effect in val; it is for train",
        "vid_stride=2": "setting 'vid_stride' has no effect in val; it is for detect",
        "best=AP_S": "setting 'best' has no effect in val; it is for train",
        "nwd=0.5": "setting 'nwd' has no effect in val; it is for train",
        "model=a.pt": "setting 'model' has no effect in val; give --weights",
        "format=onnx": "setting 'format' has no effect in val",
        "rect=false": "setting 'rect' has no effect in val; it is for train and detect",
        "save_json=true": "train and val always write predictions.json",
    },
    "detect": {
        "mosaic=0.1": "setting 'mosaic' has no effect in detect; it is for train",
        "split=test": "setting 'split' has no effect in detect; it is for val",
        "plots=true": "setting 'plots' has no effect in detect; it is for train and val",
        "retina_masks=true": "setting 'retina_masks' has no effect in detect",
        "save_json=true": "detect with --save-json",
    },
    "train": {
        "vid_stride=2": "setting 'vid_stride' has no effect in train; it is for detect",
        "augment=true": "setting 'augment' has no effect in train; it is for val and detect",
        "split=test": "setting 'split' has no effect in train; it is for val",
        "expected=1": "unknown setting 'expected'",
        "tracker=a.yaml": "setting 'tracker' has no effect in train",
        "verbose=false": "setting 'verbose' has no effect in train; give --verbose",
    },
}


@pytest.mark.parametrize(
    ("command", "assignment", "message"), [(c, a, m) for c, cases in FOREIGN.items() for a, m in cases.items()]
)
def test_foreign_setting__refused(command, assignment, message):
    """A setting without effect in a command is refused, and the message names the commands that use it."""
    with pytest.raises(OptionError) as error:
        merge({}, command=command, assignments=[assignment])
    assert message in str(error.value) and "\n" not in str(error.value)


OWN_SETTINGS = {
    "train": [
        "mosaic=0.1",
        "conf=0.1",
        "classes=[0]",
        "agnostic_nms=true",
        "multi_scale=0.5",
        "nbs=16",
        "save_txt=true",
        "best=AP_S",
        "nwd=0.5",
        "enlarge=2.75",
        "initial_box=2",
        "paste=4",
        "zoom=0.3",
        "shrunk=background",
        "albumentations=none",
        "albumentations=[{CLAHE: {p: 0.2}}, HorizontalFlip]",
    ],
    "val": [
        "conf=0.1",
        "augment=true",
        "plots=false",
        "single_cls=true",
        "fraction=[1, 0.5]",
        "cache=ram",
    ],
    "detect": [
        "augment=true",
        "rect=true",
        "line_width=2",
        "stream_buffer=true",
        "save_conf=true",
        "batch=2",
        "nms=false",
    ],
}


@pytest.mark.parametrize(("command", "assignment"), [(c, a) for c, cases in OWN_SETTINGS.items() for a in cases])
def test_own_setting__accepted(command, assignment):
    """A setting with an effect in a command is accepted, whichever of Ultralytics' groups it belongs to."""
    key, value = next(iter(parse_assignments([assignment]).items()))
    assert merge({}, command=command, assignments=[assignment])[key] == value


def test_recipe__may_be_a_copy_of_ultralytics_defaults(tmp_path):
    """A recipe with all of Ultralytics' settings is accepted if those for other commands keep their defaults."""
    text = DEFAULT_CFG_PATH.read_text(encoding="utf-8").replace("optimizer: auto ", "optimizer: SGD ")
    (tmp_path / "whole.yaml").write_text(text.replace("epochs: 100 ", "epochs: 7 "))
    assert merge({}, command="train", recipe=str(tmp_path / "whole.yaml"))["epochs"] == 7
    (tmp_path / "changed.yaml").write_text(text.replace("vid_stride: 1 ", "vid_stride: 2 "))
    with pytest.raises(OptionError, match="'vid_stride' has no effect in train"):
        merge({}, command="train", recipe=str(tmp_path / "changed.yaml"))


@pytest.mark.parametrize("assignment", GOOD)
def test_good_value__accepted(assignment):
    """Every form that Ultralytics understands is let through unchanged."""
    key, value = next(iter(parse_assignments([assignment]).items()))
    assert merge({}, command="train", assignments=[assignment])[key] == value


BAD = {
    "epoch=3": "unknown setting 'epoch'; did you mean 'epochs'?",
    "save_dir=x": "unknown setting 'save_dir'",
    "epochs": "--set epochs: write it as key=value",
    "=3": "--set =3: write it as key=value",
    "lr0=[1": "--set lr0=.1: the value is not valid YAML",
    "lr0=2001-99-99": "the value is not valid YAML",
    "lr0=fast": "lr0=fast.*invalid type",
    "lr0=2": "lr0: '2' is not between 0.0 and 1.0",
    "cos_lr=maybe": "cos_lr=maybe.*must be a bool",
    "epochs=0": "epochs: '0' is not a positive whole number",
    "epochs=.inf": "epochs: 'inf' is not a positive whole number",
    "epochs=true": "epochs: 'True' is not a positive whole number",
    "batch=0": "batch: '0' is not a positive whole number, or -1",
    "batch=-2": "batch: '-2' is not a positive",
    "batch=0.5": "batch: '0.5' is not a positive",
    "imgsz=big": "imgsz: 'big' is not a positive number of pixels",
    "imgsz=640.0": "imgsz: '640.0' is not a positive number of pixels",
    "imgsz=640.5": "imgsz: '640.5' is not a positive number of pixels, or .height, width.",
    "imgsz=[64, 64, 64]": "imgsz: .* is not a positive number of pixels",
    "imgsz=[]": "imgsz: .* is not a positive number of pixels",
    "data=5": "data: '5' is not the name or path of a dataset",
    "model=[a]": "model: .* is not the name or path of a model",
    "pretrained=5": "pretrained: '5' is not a checkpoint",
    "workers=-1": "workers: '-1' is not a number of processes",
    "close_mosaic=-3": "close_mosaic: '-3' is not a number of epochs",
    "time=-1": "time: '-1' is not a number of hours",
    "freeze=head": "freeze: 'head' is not a number of layers",
    "classes=car": "classes: 'car' is not a class number",
    "optimizer=AdanW": "optimizer: 'AdanW' is not one of .*SGD.*did you mean 'AdamW'?",
    "cache=floppy": "cache: 'floppy' is not one of ram, disk",
    "best=mAP": r"best: 'mAP' is not one of AP, AP_S \(detection\), top1, top5 \(classification\), mIoU",
    "nwd=1.5": "nwd: '1.5' is not between 0.0 and 1.0",
    "nwd=true": "nwd: 'True' is not between",
    "enlarge=0": "enlarge: '0' is not a number of strides between 0.5 and 16",
    "initial_box=0": "initial_box: '0' is not a number of strides between 0.5 and 16",
    "paste=1.5": "paste: '1.5' is not a number of copies",
    "paste=-1": "paste: '-1' is not a number of copies",
    "zoom=2": "zoom: '2' is not between",
    "shrunk=drop": "shrunk: 'drop' is not one of ignore, background",
    "albumentations=smal": "albumentations: 'smal' is not one of none, default, small, or a list; did you mean 'small'",
    "albumentations=[Blurr]": "albumentations: 'Blurr' is not one of its transforms; did you mean 'Blur'",
    "albumentations=[{Blur: {q: 1}}]": "albumentations: Blur does not take {'q': 1}",
    "albumentations=[FDA]": "albumentations: FDA fails on an image",
    "albumentations=[{RandomCrop: {height: 64, width: 64}}]": "changes the size of images",
    "device=gpu": "device: 'gpu' is not there; give cpu, or GPUs by their numbers, such as 0",
    "device=[98, 99]": "device: .* is not there; give cpu, or GPUs by their numbers, such as 0",
    "lr=0.1": "unknown setting 'lr'; did you mean 'lr0'",
    "img_size=640": "unknown setting 'img_size'; did you mean 'imgsz'",
    "task=segment": "task: segment cannot be set; the command decides it",
    "show_labels=false": "show_labels: False cannot be set: objects carry no labels, .*predictions.json",
    "show_conf=false": "show_conf: False cannot be set: a confidence stands beside its box, .*predictions.json",
    "show_boxes=false": "show_boxes: False cannot be set: the boxes are drawn around .*predictions.json",
    "mode=export": "mode: export cannot be set",
    "resume=true": "resume: True cannot be set",
    "source=a.png": "source: a.png cannot be set",
    "embed=[1]": "embed: .1. cannot be set",
}


@pytest.mark.parametrize(("assignment", "message"), BAD.items(), ids=BAD)
def test_bad_value__one_line(assignment, message):
    """An unknown setting or an invalid value gives one line that names the setting and says what is right."""
    command = "detect" if assignment.startswith("show_") else "train"
    with pytest.raises(OptionError, match=message) as error:
        merge({}, command=command, assignments=[assignment])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("device", "gpus", "right"), [("1", 2, True), ("0,1", 2, True), ("0,2", 2, False)])
def test_device__counted_gpus(monkeypatch, device, gpus, right):
    """A GPU's number is accepted if there are that many GPUs."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    if right:
        assert merge({"device": device}, command="train")["device"] == device
    else:
        with pytest.raises(OptionError, match=r"give cpu, or GPUs by their numbers, .* 0 \(this machine has 0, 1\)$"):
            merge({"device": device}, command="train")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x81", "cannot be read as text"),
        (b"- 1\n", "a recipe is a mapping of settings, not list"),
        (b"a: [\n", "not valid YAML"),
        (b"lr0: 2001-99-99\n", "not valid YAML"),
        (b"1: 2\n", "unknown setting '1'"),
        (b"epoch: 2\n", "unknown setting 'epoch'; did you mean 'epochs'?"),
    ],
)
def test_bad_recipe__one_line(tmp_path, content, message):
    """A recipe that cannot be used is refused with what is wrong in it."""
    (tmp_path / "mine.yaml").write_bytes(content)
    with pytest.raises(OptionError, match=message) as error:
        merge({}, command="train", recipe=str(tmp_path / "mine.yaml"))
    assert "\n" not in str(error.value)


def test_missing_recipe__nearest_name():
    """A misspelt recipe is answered by the nearest name and all names."""
    with pytest.raises(OptionError, match=r"no such recipe; did you mean 'demo'\? \(recipes: .*demo"):
        load_recipe("dmo")


@pytest.mark.parametrize(
    ("task", "assignment", "users"),
    [
        ("detect", "dropout=0.1", "classify"),
        ("classify", "mosaic=0.5", "detect, semantic"),
        ("semantic", "max_det=7", "detect"),
        ("semantic", "paste=2", "detect"),
    ],
)
def test_other_task__refused(task, assignment, users):
    """A setting without effect for the model's task is refused, unless it has Ultralytics' default value."""
    merged = merge({}, command="train", assignments=[assignment])
    key = assignment.partition("=")[0]
    with pytest.raises(
        OptionError, match=f"setting '{key}' has no effect in train for task '{task}'; it is for {users}"
    ):
        check_task(merged, "train", task)
    check_task(merge({}, command="train", assignments=["mosaic=1.0", "iou=0.7"]), "train", "classify")


def test_rectangle__for_detection_alone():
    """Detection accepts a rectangular image size; segmentation takes one side."""
    with pytest.raises(OptionError, match="is a rectangle; task 'semantic' takes one side"):
        check_task(merge({"imgsz": [64, 96]}, command="train"), "train", "semantic")
    check_task(merge({"imgsz": [64, 96]}, command="train"), "train", "detect")
