"""A recipe's settings reach data, loss and processes, survive a resume and change a training; defaults do not."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from pixelkeep.errors import OptionError
from pixelkeep.experiments.identity import identify
from pixelkeep.ultra.commands import training
from pixelkeep.ultra.data.resolving import resolve_data
from pixelkeep.ultra.running import photometric
from pixelkeep.ultra.running.recipe import DEFAULTS, NAMES, Recipe, check
from pixelkeep.ultra.running.settings import check_task, merge
from pixelkeep.ultra.trainers.boxes import Trainer
from pixelkeep.ultra.trainers.wasserstein import BoxLoss

NETWORK = {
    "nc": 2,
    "backbone": [[-1, 1, "Conv", [8, 3, 4]], [-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [16, 3, 2]]],
    "head": [[[1, 2], 1, "Detect", ["nc"]]],
}
EVERYTHING = {
    "best": "AP_S",
    "nwd": 0.5,
    "enlarge": 3.5,
    "initial_box": 3,
    "paste": 6,
    "zoom": 0.7,
    "shrunk": "background",
}
EVERYTHING["albumentations"] = [{"RandomBrightnessContrast": {"p": 1.0}}]
PLAIN = ["imgsz=64", "batch=4", "workers=0", "plots=false", "optimizer=SGD", "lr0=0.01", "close_mosaic=0"]
PLAIN += ["scale=0.9", "warmup_epochs=0"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A dataset of eight images of 128 pixels with objects of 8 to 40 pixels, used for training and validation."""
    folder, rng = tmp_path_factory.mktemp("set"), np.random.default_rng(0)
    for part in ("images", "labels"):
        (folder / part).mkdir()
    for index in range(8):
        image, rows = rng.integers(50, 60, (128, 128, 3)).astype(np.uint8), []
        for kind, side in enumerate((8, 12, 16, 40)):
            x, y = rng.integers(0, 128 - side, 2)
            image[y : y + side, x : x + side] = (200, 120, 80)
            rows.append(f"{kind % 2} {(x + side / 2) / 128} {(y + side / 2) / 128} {side / 128} {side / 128}\n")
        cv2.imwrite(str(folder / "images" / f"{index}.png"), image)
        (folder / "labels" / f"{index}.txt").write_text("".join(rows))
    (folder / "data.yaml").write_text("train: images\nval: images\nnames: [a, b]\n")
    (folder / "net.yaml").write_text(yaml.safe_dump(NETWORK))
    return folder / "data.yaml"


def settings(data: Path, project: Path, *assignments: str, recipe: dict | None = None, **flags) -> dict:
    if recipe is not None:
        (project / "mine.yaml").write_text(yaml.safe_dump(recipe))
    flags = {"model": str(data.parent / "net.yaml"), "data": str(data), "project": str(project)} | flags
    file = None if recipe is None else str(project / "mine.yaml")
    return merge(flags, command="train", recipe=file, assignments=[*PLAIN, *assignments])


def learnt(folder: Path) -> str:
    """Return the hash of the weights of the last epoch."""
    weights = torch.load(folder / "weights" / "last.pt", weights_only=False)["model"].state_dict()
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in weights.values())).hexdigest()


@pytest.fixture(scope="module")
def plain(data, tmp_path_factory) -> str:
    """The hash of the weights after a training without any of the settings."""
    _, folder = training.train(settings(data, tmp_path_factory.mktemp("plain"), epochs=1))
    return learnt(folder)


@pytest.mark.parametrize("name", [name for name in EVERYTHING if name != "best"])
def test_setting__changes_the_training(data, tmp_path, plain, name):
    """Each setting by itself changes the trained weights."""
    _, folder = training.train(settings(data, tmp_path, recipe={name: EVERYTHING[name]}, epochs=1))
    assert learnt(folder) != plain
    assert yaml.safe_load((folder / "settings.yaml").read_text())[name] == EVERYTHING[name]


def test_defaults__change_nothing(data, tmp_path, plain):
    """All settings at their defaults give the weights of a training without them, bit for bit."""
    given = {key: value for key, value in DEFAULTS.items() if value is not None}
    _, folder = training.train(settings(data, tmp_path, recipe=given, epochs=1))
    assert learnt(folder) == plain


def test_resume__has_all_of_it(data, tmp_path, monkeypatch):
    """An interrupted run resumes with its recipe in data, loss, choice of the best epoch and colour transforms."""
    seen = []
    call = Trainer.run_callbacks

    def watched(self, event):
        call(self, event)
        if event == "on_train_batch_end":
            loss, images = self.model.criterion, self.train_loader.dataset
            assert isinstance(loss.bbox_loss, BoxLoss) and loss.assigner.stride_val == 3.5 * 8
            assert images.recipe == self.recipe and (images.zoom, images.paste) == (0.7, 6)
            seen.append((self.epoch, self.recipe, self.best_by, str(self.args.augmentations), self.validator.best))
        elif event == "on_model_save" and self.epoch == 0 and len({epoch for epoch, *_ in seen}) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "run_callbacks", watched)
    with pytest.raises(KeyboardInterrupt):
        training.train(settings(data, tmp_path, recipe=EVERYTHING, epochs=2))
    _, folder = training.resume(str(tmp_path / "exp"), {}, requested=True, assignments=None)
    assert {epoch for epoch, *_ in seen} == {0, 1} and len({str(rest) for _, *rest in seen}) == 1
    _, recipe, best, colours, by = seen[-1]
    assert recipe == Recipe(**EVERYTHING) and best == by == "AP_S" and "RandomBrightnessContrast" in colours
    assert len((folder / "results.csv").read_text().splitlines()) == 3


def test_comparison__knows_its_cells_by_the_recipe(data, tmp_path):
    """Cells with different recipes are told apart; a value that equals the default makes no difference."""
    spec = resolve_data(str(data))

    def shared(*assignments: str) -> dict:
        return identify({}, settings(data, tmp_path, *assignments), spec)[1]["settings"]

    assert shared() == shared("nwd=0", "paste=0", "zoom=0.0", "shrunk=ignore", "albumentations=default", "best=AP")
    assert shared("nwd=0.5") == shared() | {"nwd": 0.5}
    assert shared("paste=2", "zoom=0.1") == shared() | {"paste": 2, "zoom": 0.1}


def test_other_tasks__refuse_what_is_about_boxes():
    """Classification and segmentation refuse settings that have no effect there, unless they are at their defaults."""
    for task, refused in (
        ("classify", {*EVERYTHING} - {"best"}),
        ("semantic", {*EVERYTHING} - {"best", "albumentations"}),
    ):
        for name, value in EVERYTHING.items():
            if name in refused:
                with pytest.raises(OptionError, match=f"'{name}' has no effect in train for task '{task}'"):
                    check_task({name: value}, "train", task)
            elif name != "best":
                check_task({name: value}, "train", task)
        check_task({"nwd": 0.0, "paste": 0, "shrunk": "ignore"}, "train", task)


def test_sets__nothing_that_blurs():
    """The set for small objects has only per-pixel and contrast transforms; the empty one has none."""
    names = {each["transform"]["__class_fullname__"] for each in photometric.transforms("small")}
    assert names == {"RandomBrightnessContrast", "RandomGamma", "CLAHE", "ToGray"}
    assert photometric.transforms("none") == [] and photometric.transforms("default") is None
    mixed = photometric.transforms(["HorizontalFlip", {"CLAHE": {"p": 0.25}}])
    assert [each["transform"]["p"] for each in mixed] == [0.5, 0.25]


def test_recipe__of_checked_settings():
    """Settings that are missing or null take their defaults, and numbers get the type of their setting."""
    check(dict.fromkeys(NAMES))
    assert Recipe.of({"epochs": 3, "nwd": None}) == Recipe()
    recipe = Recipe.of({"paste": 2.0, "nwd": 0.5})
    assert recipe == replace(Recipe(), paste=2, nwd=0.5) and isinstance(recipe.paste, int)


@pytest.mark.slow
def test_small_objects__the_whole_recipe_trains(tmp_path):
    """The recipe in configs/ trains two epochs on the demo data, with every part on, and measures small objects."""
    flags = {"data": "demo", "epochs": 2, "imgsz": 64, "batch": 4, "project": str(tmp_path)}
    given = merge(flags, command="train", recipe="small-objects", assignments=["plots=false", "fraction=0.1"])
    assert all(key in given for key in DEFAULTS)
    result, folder = training.train(given)
    assert result.counts["S"] > 0 and (folder / "weights" / "best.pt").is_file()
    kept = yaml.safe_load((folder / "args.yaml").read_text())["augmentations"]
    assert kept[0]["transform"]["__class_fullname__"] == "RandomBrightnessContrast"


@pytest.mark.parametrize(
    ("chosen", "channels", "said"),
    [("small", 1, ""), ("small", 3, ""), ("small", 4, "no effect on images of 4 channels"), ("default", 4, "")],
)
def test_albumentations__images_of_other_channels(chosen, channels, said):
    """Ultralytics applies transforms only to grey and colour images; for others a message says they have no effect."""
    told = photometric.check_channels(chosen, channels)
    assert said in told and bool(told) == bool(said)


def test_albumentations__what_cannot_do_grey_images():
    """A transform that works only in colour is refused for grey images, in one line before training."""
    chosen = [{"ChannelDropout": {"p": 1.0}}]
    photometric.check(chosen)
    assert photometric.check_channels(chosen, 3) == "" and photometric.check_channels(["CLAHE"], 1) == ""
    with pytest.raises(OptionError, match=r"ChannelDropout.* fails on an image of 1 channel "):
        photometric.check_channels(chosen, 1)


@pytest.mark.parametrize(("epochs", "closing", "told"), [(3, 3, 2), (3, 10, 2), (3, 2, 0)])
def test_closing__told_when_nothing_is_left(data, tmp_path, monkeypatch, epochs, closing, told):
    """Copies and windows end when mosaics close; if that is at the start, a warning for each says so beforehand."""
    lines = []
    monkeypatch.setattr(training.LOGGER, "warning", lambda text, *_: lines.append(str(text)))
    given = settings(data, tmp_path, f"epochs={epochs}", f"close_mosaic={closing}", recipe={"paste": 2, "zoom": 0.5})
    training._check(given)
    assert len([line for line in lines if "(close_mosaic)" in line]) == told


def test_zoom__not_with_rect(data, tmp_path):
    with pytest.raises(OptionError, match=r"zoom: 0\.5 has no meaning with rect"):
        settings(data, tmp_path, "rect=true", recipe={"zoom": 0.5})


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A dataset of eight images of 128 pixels with objects of 4 pixels a side, used for training and validation."""
    folder, rng = tmp_path_factory.mktemp("tiny"), np.random.default_rng(0)
    for part in ("images", "labels"):
        (folder / part).mkdir()
    for index in range(8):
        image, rows = rng.integers(50, 60, (128, 128, 3)).astype(np.uint8), []
        for x, y in rng.integers(8, 116, (6, 2)):
            image[y : y + 4, x : x + 4] = (200, 120, 80)
            rows.append(f"0 {(x + 2) / 128} {(y + 2) / 128} {4 / 128} {4 / 128}\n")
        cv2.imwrite(str(folder / "images" / f"{index}.png"), image)
        (folder / "labels" / f"{index}.txt").write_text("".join(rows))
    (folder / "data.yaml").write_text("train: images\nval: images\nnames: [a]\n")
    (folder / "net.yaml").write_text(yaml.safe_dump(NETWORK))
    return folder / "data.yaml"


@pytest.mark.parametrize(("recipe", "learnt"), [({}, False), ({"initial_box": 2}, True)])
def test_tiny_objects_alone__learnt_from_small_boxes(tiny, tmp_path, monkeypatch, recipe, learnt):
    """Starting from boxes of 15 strides boxes are never learnt, and a warning says so; from two strides they are."""
    lines = []
    monkeypatch.setattr("pixelkeep.ultra.trainers.boxes.LOGGER.warning", lambda text, *_: lines.append(str(text)))
    more = ["imgsz=128", "mosaic=0", "scale=0", "optimizer=AdamW", "lr0=0.01"]
    given = settings(tiny, tmp_path, *more, recipe=recipe, epochs=20)
    _, folder = training.train(given)
    with (folder / "results.csv").open() as file:
        loss = [float(row["train/box_loss"]) for row in csv.DictReader(file)]
    assert len(loss) == 20 and (min(loss) > 0.3 and loss[-1] < loss[0] if learnt else max(loss) < 0.01)
    assert any("initial_box" in line for line in lines) is not learnt
