"""Pictures of a training run: all exist after several epochs, each is complete, and AP_S is among the curves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from pixelkeep.datasets.demo import write_demo
from pixelkeep.ultra.commands.training import resume, train
from pixelkeep.ultra.trainers import curves

CURVES = {f"Box{name}_curve.png" for name in ("PR", "F1", "P", "R")}
OF_BEST = CURVES | {"confusion_matrix.png", "confusion_matrix_normalized.png", "results.png"}
OF_BEST |= {f"val_batch{n}_{what}.jpg" for n in (0, 1) for what in ("labels", "pred")}
OF_EPOCHS = {"labels.jpg", *(f"train_batch{n}.jpg" for n in range(3))}


@pytest.fixture(scope="module")
def drawn() -> list[list[str]]:
    """The columns of each table that Ultralytics has drawn."""
    return []


@pytest.fixture(scope="module")
def run(tmp_path_factory, drawn) -> Path:
    """A training run of two epochs with plots, which are on by default."""
    data = write_demo(tmp_path_factory.mktemp("demo") / "tiny", splits={"train": 4, "val": 3, "test": 1})
    settings = {"data": str(data), "model": "yolov5-n", "imgsz": 64, "epochs": 2, "batch": 2, "max_det": 20}
    settings |= {"project": str(tmp_path_factory.mktemp("runs")), "conf": 1e-5, "optimizer": "AdamW"}
    stock = curves.plot_results

    def plot_results(file: Path) -> None:
        drawn.append(file.read_text().splitlines()[0].split(","))
        stock(file=file)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curves, "plot_results", plot_results)
        return train(settings)[1]


def pictures(folder: Path) -> set[str]:
    """Return the names of the pictures in a folder, after reading each of them to its end."""
    files = [path for path in folder.rglob("*") if path.suffix in {".png", ".jpg"}]
    for path in files:
        with Image.open(path) as picture:
            picture.load()
    assert not [path for path in folder.rglob("*") if "partial" in path.name]
    return {str(path.relative_to(folder)) for path in files}


def test_pictures__all_after_two_epochs(run):
    """All pictures that Ultralytics draws of a training exist under its names, and none is half-written."""
    assert pictures(run) == OF_BEST | OF_EPOCHS


def test_results__small_objects_among_the_curves(run, drawn):
    """The curves show each epoch's losses, Ultralytics' metrics and ours, under names that Ultralytics' plot finds."""
    (columns,) = drawn
    assert {"metrics/AP", "metrics/AP_S", "metrics/mAP50(B)", "train/box_loss", "val/box_loss"} <= set(columns)
    header = (run / "results.csv").read_text().splitlines()[0].split(",")
    assert "AP_S" in header and not [name for name in header if name == "metrics/AP_S"]


def test_results__a_column_without_figures_is_left_out(tmp_path, monkeypatch):
    """A column without any figure is not drawn; one with figures for some epochs is."""
    rows = ["epoch,time,train/box_loss,AP_S,AP_L,lr/pg0", "1,2,3,nan,nan,0.1", "2,4,3,0.5,nan,0.1"]
    (tmp_path / "results.csv").write_text("".join(f"{row}\n" for row in rows))
    tables, stock = [], curves.plot_results
    monkeypatch.setattr(curves, "plot_results", lambda file: (tables.append(file.read_text()), stock(file=file)))
    assert curves.plot_epochs(tmp_path / "results.csv") == tmp_path / "results.png"
    kept = ["epoch,time,train/box_loss,metrics/AP_S,lr/pg0", "1,2,3,nan,0.1", "2,4,3,0.5,0.1"]
    assert tables[0].splitlines() == kept
    assert {path.name for path in tmp_path.iterdir()} == {"results.csv", "results.png"}
    assert (tmp_path / "results.csv").read_text().splitlines() == rows


def test_resumed__after_the_last_epoch_has_its_pictures(run, tmp_path):
    """A run killed between its last epoch and its end gets the pictures of its best epoch once it is resumed."""
    folder = shutil.copytree(run, tmp_path / "exp")
    for name in OF_BEST | {"metrics.json"}:
        (folder / name).unlink()
    resume(str(folder), {}, requested=True, assignments=None)
    assert pictures(folder) == OF_BEST | OF_EPOCHS
