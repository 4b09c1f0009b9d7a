"""Classification and semantic segmentation from data to figures, on tiny sets: train, resume, validate, detect."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from pixelkeep.cli.main import run
from pixelkeep.datasets.demo.labels import NAMES, write_class_demo, write_mask_demo
from pixelkeep.ultra.data.mask_dataset import MaskDataset
from pixelkeep.ultra.running.recipe import Recipe
from pixelkeep.ultra.trainers.classes import ClassTrainer
from pixelkeep.ultra.trainers.masks import MaskTrainer

LONG = 5000  # seconds that results.csv is made to give for the first epoch
TINY = ["--batch", "4", "--optimizer", "AdamW"]
PLOTS = {"results.png", "confusion_matrix.png", "confusion_matrix_normalized.png"}
PLOTS |= {"train_batch0.jpg", "val_batch0_labels.jpg", "val_batch0_pred.jpg"}
MODELS = {
    "classify": ["--model", "yolo11-cls-n", "--imgsz", "32"],
    "semantic": ["--model", "yolo26-sem-n", "--imgsz", "64"],
}


def command(*args: object, status: int = 0) -> None:
    """Run a command in this process and expect it to exit with ``status``."""
    with pytest.raises(SystemExit) as ended:
        run([str(arg) for arg in args])
    assert (ended.value.code or 0) == status


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, Path]:
    """A demo set of a few images for each task, with one unusable image each."""
    root = tmp_path_factory.mktemp("data")
    sets = {
        "classify": write_class_demo(root / "cls", per_class={"train": 2, "val": 2, "test": 1}),
        "semantic": write_mask_demo(root / "sem", splits={"train": 5, "val": 3, "test": 1}),
    }
    (root / "cls" / "train" / "car" / "broken.png").write_bytes(b"no picture")
    shutil.copy(root / "sem" / "images" / "train" / "train_000.jpg", root / "sem" / "images" / "train" / "bare.jpg")
    return sets


@pytest.fixture(scope="module", params=["classify", "semantic"])
def task(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def resumed(task, data, tmp_path_factory) -> Path:
    """A run of three epochs that was interrupted while the second was being saved, and was then resumed."""
    trainer = {"classify": ClassTrainer, "semantic": MaskTrainer}[task]
    project, saved = tmp_path_factory.mktemp(task), []
    whole = trainer.save_model

    def save_model(self):
        if saved:
            raise KeyboardInterrupt
        saved.append(self.epoch)
        return whole(self)

    source = data[task].parent if task == "classify" else data[task]
    line = ["train", "--data", source, "--epochs", "3", "--project", project, *MODELS[task], *TINY]
    before = {path: path.stat().st_mtime_ns for path in data[task].parent.rglob("*")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "save_model", save_model)
        command(*line, status=130)
    assert saved == [0] and not (project / "exp" / "metrics.json").exists()
    table = project / "exp" / "results.csv"
    header, first, *_ = table.read_text().splitlines()
    table.write_text(f"{header}\n1,{LONG},{first.split(',', 2)[2]}\n")
    command("train", "--resume", project / "exp")
    assert {path: path.stat().st_mtime_ns for path in data[task].parent.rglob("*")} == before
    return project / "exp"


def document(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def test_run__complete_and_resumed(resumed, task):
    """After the interruption the run continues with the second epoch, and ends with figures, weights and settings."""
    with (resumed / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert LONG == float(rows[0]["time"]) < float(rows[1]["time"]) < float(rows[2]["time"]) < 2 * LONG
    assert {"classify": "metrics/accuracy_top1", "semantic": "metrics/mIoU"}[task] in rows[0]
    assert {p.name for p in (resumed / "weights").iterdir()} == {"best.pt", "last.pt"}
    assert yaml.safe_load((resumed / "settings.yaml").read_text())["imgsz"] == int(MODELS[task][-1])
    own = {"classify": set(), "semantic": {"labels.jpg", "iou_bar_chart.png"}}[task]
    assert {p.name for p in resumed.iterdir()} >= PLOTS | own
    assert not list(resumed.rglob("*.partial")) and not list(resumed.rglob(".partial"))


def test_run__what_is_left_out_is_named(resumed, task):
    """data_problems.csv names the broken image and the image without a mask."""
    with (resumed / "data_problems.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["effect"] == "left out"]
    expected = {"classify": ("image unusable", "broken.png"), "semantic": ("mask missing", "bare.png")}[task]
    assert [(row["split"], row["problem"], Path(row["file"]).name) for row in rows] == [("train", *expected)]


def test_metrics__schema(resumed, task):
    """metrics.json has the schema's keys, and its figures agree with each other."""
    result = document(resumed)
    assert (result["schema"], result["task"], result["split"]) == (1, task, "val")
    assert result["params"] > 1e6 and result["gflops"] > 0 and len(result["gt_sha256"]) == 64
    how = {"imgsz": int(MODELS[task][-1]), "precision": "fp32", "format": "pytorch", "device": "cpu", "seed": 0}
    assert result["protocol"] == how
    assert set(result["speed_ms"]) == {"preprocess", "inference", "postprocess"}
    classes = result["per_class"].values()
    if task == "classify":
        assert result["images"] == sum(entry["n"] for entry in classes) == 10
        assert result["top1"] == pytest.approx(sum(entry["top1"] * entry["n"] for entry in classes) / 10)
        found = json.loads((resumed / "predictions.json").read_text())
        right = [row["predicted"][0]["category"] == row["category"] for row in found]
        assert result["top1"] == np.mean(right) and len(found[0]["predicted"]) == 5
        assert sum(entry["score"] for entry in found[0]["predicted"]) == pytest.approx(1, abs=1e-4)
    else:
        pixels = sum(entry["pixels"] for entry in classes)
        assert 0.9 * 3 * 256**2 < pixels < 3 * 256**2
        hits = sum(entry["accuracy"] * entry["pixels"] for entry in classes if entry["pixels"])
        assert result["pixel_accuracy"] == pytest.approx(hits / pixels)


def test_val__equals_the_end_of_training(resumed, task, data, tmp_path, capsys):
    """Validating best.pt again gives the figures that training ended with, as a table and as JSON."""
    line = ["val", "--weights", resumed / "weights" / "best.pt", "--data", data[task], "--project", tmp_path]
    command(*line, "--json")
    again, first = json.loads(capsys.readouterr().out), document(resumed)
    for key in ("per_class", "gt_sha256", "images", "params"):
        assert again[key] == first[key], key
    command(*line)
    table = capsys.readouterr().out
    paths = ("weights", "results")
    assert all(len(text) <= 80 for text in table.splitlines() if not text.startswith(paths))
    assert f"\n\nweights   {resumed / 'weights' / 'best.pt'}\nresults   {tmp_path / 'exp2'}\n" in table
    assert {"classify": "top-1", "semantic": "accuracy"}[task] in table


def test_detect__pictures_and_documents(resumed, task, data, tmp_path, capsys):
    """detect writes annotated copies and predictions.json, and masks if they are requested."""
    folder = data[task].parent / ("test/boat" if task == "classify" else "images/test")
    line = ["detect", "--weights", resumed / "weights" / "best.pt", "--source", folder, "--project", tmp_path]
    masks = ["--save-masks"] if task == "semantic" else []
    command(*line, "--save-json", "--json", *masks)
    told = json.loads(capsys.readouterr().out)
    (picture,) = (tmp_path / "exp").glob("*.jpg")
    assert cv2.imread(str(picture)).shape[0] > 768  # enlarged, with a strip below
    (row,) = json.loads((tmp_path / "exp" / "predictions.json").read_text())
    if task == "classify":
        assert told["images_by_class"] == {row["predicted"][0]["category"]: 1}
    else:
        assert told["pixels"] == row["pixels"] and sum(row["pixels"].values()) == 256**2
        mask = cv2.imread(str(tmp_path / "exp" / "masks" / "test_000.png"), cv2.IMREAD_UNCHANGED)
        counts = dict(zip(*np.unique(mask, return_counts=True), strict=True))
        assert {NAMES[number]: count for number, count in counts.items()} == row["pixels"]
    assert told["task"] == task and "confidence" not in told


def test_weights__hold_no_transforms(resumed):
    """Weights hold only the network, without the image transforms that Ultralytics' own trainer leaves in the model."""
    model = torch.load(resumed / "weights" / "best.pt", weights_only=False)["model"]
    assert not hasattr(model, "transforms")


def test_resume__of_a_finished_run(resumed, capsys):
    """Resuming a finished run is refused."""
    command("train", "--resume", resumed, status=2)
    assert "this run is finished" in capsys.readouterr().err


def test_broken_batch__last_of_one_image(data, tmp_path, capsys):
    """Ten images in batches of 3 are refused, since batch norm would get one value per channel from the last image."""
    line = ["train", "--model", "resnet18-cls", "--data", data["classify"].parent, "--imgsz", "32", "--epochs", "1"]
    command(*line, "--batch", "3", "--set", "plots=false", "--project", tmp_path / "none", status=2)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("pixelkeep: ")]
    assert said == [
        "pixelkeep: batch 3 leaves one image for the last batch of 3, too few for batch norm at imgsz 32; "
        "take another batch, or imgsz 64 or more"
    ]


def test_weights__on_data_of_another_task(resumed, task, data, tmp_path, capsys):
    """Weights of one task with data of the other are refused in one line, and no run folder is made."""
    other = data["semantic" if task == "classify" else "classify"]
    for words in (["val", "--weights"], ["train", "--epochs", "1", "--model"]):
        command(*words, resumed / "weights" / "best.pt", "--data", other, "--project", tmp_path / "none", status=2)
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("pixelkeep: ")]
        assert len(said) == 1 and str(other) in said[0]
    assert not (tmp_path / "none").exists()


def test_masks__counted_at_the_original_size_as_ultralytics_at_that_size(data, tmp_path):
    """At an input of the images' own size our figures equal Ultralytics' own; loaded masks equal those on the disk."""
    trainer = MaskTrainer(
        overrides={
            "model": "yolo26-sem-n.yaml", "data": str(resolved(data["semantic"])), "imgsz": 256, "epochs": 1,
            "batch": 2, "save_dir": str(tmp_path / "run"), "plots": False, "fraction": 0.4, "workers": 0,
        },
        recipe=Recipe(best="mIoU"),
    )  # fmt: skip
    trainer.train()
    from pixelkeep.ultra.validators.masks import MaskValidator

    arguments = {"model": str(trainer.best), "data": trainer.args.data, "imgsz": 256, "mode": "val", "plots": False}
    validator = MaskValidator(args=arguments, save_dir=tmp_path / "val")
    validator()
    result = validator.judge()
    assert result.mIoU == pytest.approx(validator.metrics.miou, abs=1e-6)
    assert result.pixel_accuracy == pytest.approx(validator.metrics.pixel_accuracy, abs=1e-6)
    dataset: MaskDataset = validator.dataloader.dataset
    for index, record in enumerate(dataset.records):
        assert (dataset.load_mask(index) == cv2.imread(str(record.mask), cv2.IMREAD_UNCHANGED)).all()


def resolved(path: Path) -> Path:
    from pixelkeep.ultra.data.label_data import resolve_masks, write_masks

    return write_masks(resolve_masks(str(path)))
