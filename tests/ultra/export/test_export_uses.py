"""Exports in use: at any size, folded or not, in tiles, and for classification and segmentation."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from exports import NAMES, briefly, checkpoint, tiny
from torch import nn
from ultralytics.nn.tasks import ClassificationModel, SemanticSegmentationModel
from varied import write

from pixelkeep.datasets.demo.labels import NAMES as REGIONS
from pixelkeep.datasets.demo.labels import write_class_demo, write_mask_demo
from pixelkeep.errors import ExportError, OptionError
from pixelkeep.ultra.commands.asked import Asked
from pixelkeep.ultra.commands.detection import detect
from pixelkeep.ultra.commands.validation import validate
from pixelkeep.ultra.export import exporting, parity
from pixelkeep.ultra.export.exporting import Request, export
from pixelkeep.ultra.tiled.images import Request as Tiling
from pixelkeep.ultra.weights.checkpoints import load

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    return tiny(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def spd(tmp_path_factory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def fixed(spd, data) -> Path:
    """Export the network to ONNX for two images of 64 pixels."""
    with pytest.MonkeyPatch.context() as patch:
        briefly(patch)
        return Path(export(Request(weights=str(spd), data=data, batch=2, output=str(spd.parent / "two.onnx"))).output)


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    briefly(monkeypatch)


def looked_at(weights: Path, source: Path, folder: Path, name: str, tiling: Tiling = Tiling(), **settings):
    """Run detect and return its summary and its predictions."""
    run = dict(save=False, project=str(folder), name=name, device="cpu", verbose=False, conf=0.3)
    asked = Asked(sources=[str(source)], save_json=True, tiling=tiling, fold=settings.pop("fold", "static"))
    found = detect({"weights": str(weights), **run, **settings}, asked)
    return found, json.loads((found.folder / "predictions.json").read_text())


def same(first: list[dict], second: list[dict], within: float = 0.02) -> bool:
    """Return whether two lists of predictions hold the same objects."""
    key = lambda row: (row["image_id"], -round(row["score"], 3), row["bbox"])  # noqa: E731
    if len(first) != len(second):
        return False
    pairs = zip(sorted(first, key=key), sorted(second, key=key), strict=True)
    return all(
        np.allclose(a["bbox"], b["bbox"], atol=within) and a["category_id"] == b["category_id"] for a, b in pairs
    )


def test_dynamic__refused_where_one_size_is_written_in(data, tmp_path):
    """--dynamic is refused for a network whose graph has its size written in: another size is tried and fails."""
    weights = checkpoint(tmp_path, name="yolov5-cad-n")
    request = Request(weights=str(weights), data=data, dynamic=True, output=str(tmp_path / "any.onnx"))
    with pytest.raises(
        ExportError, match=r"--dynamic: at 32x64 the written file cannot be run .*; leave --dynamic out$"
    ):
        export(request)
    assert not (tmp_path / "any.onnx").exists()


@pytest.mark.parametrize("form", ["onnx", "torchscript"])
def test_dynamic__any_size_and_number(spd, data, tmp_path, form):
    """A dynamic file agrees at two sizes, and detects what the checkpoint does at other sizes and batches."""
    report = export(Request(weights=str(spd), format=form, dynamic=True, data=data, output=str(tmp_path)))
    assert report.dynamic and report.elsewhere.images == 4 and not report.failures()
    file, source = Path(report.output), Path(data).parent / "images" / "val"
    assert load(file)["model"].dynamic
    for settings in ({"imgsz": 96, "batch": 3, "rect": False}, {"imgsz": [64, 128]}):
        _, expected = looked_at(spd, source, tmp_path, "own", **settings)
        found, rows = looked_at(file, source, tmp_path, "found", **settings)
        assert same(rows, expected) and len(rows) > 0 and (found.format, found.precision) == (form, "fp32")


def test_dynamic__that_is_wrong_elsewhere_is_refused(spd, tmp_path, monkeypatch):
    """A file that agrees at the size it was traced at but not at another is refused."""
    stock = parity.agreement

    def agreement(reference, exported, images, batch, device):
        found = stock(reference, exported, images, batch, device)
        away = dict(boxes_max=9.0, boxes_most=9.0) if images.shape[-2] != 64 else {}
        return type(found)(**{**found.to_dict(), **away})

    monkeypatch.setattr(parity, "agreement", agreement)
    with pytest.raises(ExportError, match="at another size, boxes differ"):
        export(Request(weights=str(spd), dynamic=True, output=str(tmp_path)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("fold", "folded", "choice"), [("none", False, "none"), ("3,9", False, "3,9")])
def test_fold__as_asked_and_recorded(spd, tmp_path, fold, folded, choice):
    """Places that are not folded remain slices in the graph, and the file records the choice."""
    report = export(Request(weights=str(spd), fold=fold, output=str(tmp_path)))
    held = load(Path(report.output))["model"]
    assert (held.folded, held.folding["choice"]) == (folded, choice) == (report.folded, report.folding["choice"])
    kinds = [node.op_type for node in onnx.load(report.output).graph.node]
    assert (kinds.count("Slice") > 2) == (choice != "0,3,6,9,12,25,29")


@pytest.mark.parametrize("faster", ["folded", "unfolded"])
def test_fold__measured_in_the_runtime(spd, tmp_path, monkeypatch, faster):
    """Both files are timed, the faster one is kept, and its record holds the choice that repeats it."""
    stock = parity.speeds

    def speeds(network, exported, images, device):
        found, machine = stock(network, exported, images, device)
        assert list(exported) == [parity.EXPORTED, exporting.UNFOLDED]
        slow = {parity.EXPORTED: 0.5, exporting.UNFOLDED: 0.6 if faster == "folded" else 0.4}
        return {n: type(t)(**{**t.to_dict(), "ratio": slow.get(n, 1.0)}) for n, t in found.items()}, machine

    monkeypatch.setattr(parity, "speeds", speeds)
    report = export(Request(weights=str(spd), fold="measured", output=str(tmp_path)))
    held = load(Path(report.output))["model"]
    assert held.folded is report.folded is (faster == "folded") and report.folding["choose"] == "measured"
    assert report.folding["choice"] == ("0,3,6,9,12,25,29" if faster == "folded" else "none")
    assert [p.name for p in tmp_path.iterdir()] == ["best.onnx"]


def test_detect__fold_is_recorded_and_repeated(spd, data, tmp_path):
    """The folds that detect chose by measured time can be given to another run, which gives identical results."""
    source = Path(data).parent / "images" / "val"
    first, rows = looked_at(spd, source, tmp_path, "a", fold="measured")
    record = first.to_dict()["folding"]
    assert record["choose"] == "measured" and all(place["ratio"] > 0 for place in record["places"])
    assert all(place["folded"] == (place["ratio"] < 1) or record["ratio"] >= 1 for place in record["places"])
    again, repeated = looked_at(spd, source, tmp_path, "b", fold=record["choice"])
    assert again.folding["choice"] == record["choice"] and repeated == rows
    plain, _ = looked_at(spd, source, tmp_path, "c", fold="none")
    assert plain.folding["choice"] == "none" and not any(p["folded"] for p in plain.folding["places"])


def test_detect__fold_of_a_file_is_what_it_is(fixed, data):
    """The folding of an exported file cannot be changed."""
    source = str(Path(data).parent / "images" / "val")
    with pytest.raises(OptionError, match="was fixed at export"):
        detect({"weights": str(fixed)}, Asked(sources=[source], fold="none"))


@pytest.mark.parametrize("whole", [False, True])
def test_tiles__by_a_file_for_one_size(spd, fixed, tmp_path, whole):
    """Tiles of the file's own size give what the checkpoint gives, even with small images and incomplete batches."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    shades = np.random.default_rng(0)
    for name, shape in (("large", (150, 230, 3)), ("small", (40, 50, 3)), ("flat", (50, 170, 3))):
        cv2.imwrite(str(folder / f"{name}.png"), cv2.resize(shades.integers(0, 256, (9, 9, 3), np.uint8), shape[1::-1]))
    tiling = Tiling(tile=64, full_image=whole)
    _, expected = looked_at(spd, folder, tmp_path, "own", tiling, batch=2)
    found, rows = looked_at(fixed, folder, tmp_path, "file", tiling)
    assert found.tile["imgsz"] == 64 and len(rows) > 10
    large = [[row for row in shown if row["image_id"] == 2] for shown in (rows, expected)]  # flat, large, small
    if not whole:  # only these tiles look alike to both; others are padded to the file's size
        assert same(*large)
    assert {row["image_id"] for row in rows} == {row["image_id"] for row in expected}


def test_tiles__scaled_to_the_file(fixed, tmp_path):
    """Tiles of another size are resized to the file's, which cannot be shown them at any other size."""
    cv2.imwrite(str(tmp_path / "a.png"), np.full((200, 200, 3), 90, np.uint8))
    found, _ = looked_at(fixed, tmp_path / "a.png", tmp_path, "scaled", Tiling(tile=100))
    assert (found.tile["size"], found.tile["imgsz"]) == (100, 64)
    with pytest.raises(OptionError, match=r"imgsz 96: .* takes only 64"):
        looked_at(fixed, tmp_path / "a.png", tmp_path, "not", Tiling(tile=100), imgsz=96)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> dict[str, tuple[Path, str]]:
    """Write a checkpoint and a dataset for each task without boxes."""
    root = tmp_path_factory.mktemp("labels")
    classes = write_class_demo(root / "cls", per_class={"train": 2, "val": 2, "test": 1})
    masks = write_mask_demo(root / "sem", splits={"train": 4, "val": 2, "test": 1})
    torch.manual_seed(0)
    built = {
        "classify": (
            ClassificationModel("resnet18-spd-cls.yaml", nc=5, verbose=False),
            sorted(NAMES.values()),
            classes,
        ),
        "semantic": (
            SemanticSegmentationModel("yolo26-slicesamp-up-sem-n.yaml", nc=len(REGIONS), verbose=False),
            REGIONS,
            masks,
        ),
    }
    made = {}
    for task, (model, names, data) in built.items():
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.running_mean.normal_(0, 0.1)
                m.running_var.uniform_(0.5, 1.2)
        last = model.model[-1].linear if task == "classify" else model.model[-1].classifier[-1]
        nn.init.normal_(last.weight, 0, 0.2)
        model.names, model.task = dict(enumerate(names)), task
        (root / task).mkdir()
        made[task] = write(model.eval(), root / task / "best.pt"), str(data)
    return made


@pytest.mark.parametrize("task", ["classify", "semantic"])
def test_labels__exported_validated_and_looked_at(labelled, tmp_path, task):
    """Both tasks agree by their own metric; val and detect report the same for the file and the checkpoint."""
    weights, data = labelled[task]
    report = export(Request(weights=str(weights), data=data, output=str(tmp_path)))
    assert report.task == task and report.parity.agreed > 0.999 and not report.failures()
    key = {"classify": "top1", "semantic": "mIoU"}[task]
    assert abs(report.losses()[key]) <= 0.002
    alike = dict(data=data, project=str(tmp_path / "runs"), plots=False, device="cpu")
    found, _ = validate({"weights": report.output, **alike})
    assert (found.protocol.format, found.protocol.precision, found.task) == ("onnx", "fp32", task)
    assert found.params == sum(p.numel() for p in load(weights)["model"].parameters())
    source = next((Path(data).parent if Path(data).is_file() else Path(data)).rglob("val*"))
    asked = Asked(sources=[str(next(p for p in source.rglob("*.*") if p.suffix in (".png", ".jpg")))])
    run = dict(save=False, project=str(tmp_path / "runs"), device="cpu", verbose=False)
    summaries = [detect({"weights": str(w), **run}, asked) for w in (weights, report.output)]
    assert summaries[0].task == summaries[1].task == task and summaries[1].format == "onnx"
    counts = [summary.detections for summary in summaries]
    total = sum(counts[0].values())
    assert total and sum(abs(counts[0][name] - counts[1][name]) for name in {*counts[0], *counts[1]}) <= 0.02 * total


def test_export__what_does_not_fit(labelled, data, tmp_path):
    """Data of other classes, oblong or too large images and unsupported dynamic sizes are refused by name."""
    weights, _ = labelled["classify"]
    other = checkpoint(tmp_path, {0: "cat", 1: "dog", 2: "bird"})
    for request, told in (
        (dict(weights=str(weights), dynamic=True), "only detection models can be exported so"),
        (dict(weights=str(weights), imgsz=[64, 96]), "give one side"),
        (dict(weights=str(other), imgsz=100_000), "--imgsz 100000: an export takes at most 32768 pixels a side"),
        (dict(weights=str(other), data=data), "it has 5 classes, but the network knows 3"),
    ):
        with pytest.raises(OptionError, match=told):
            export(Request(**request))


def test_export__more_at_once_than_there_are_images(spd, data, tmp_path, monkeypatch):
    """Speed is measured on whole batches: with six images, a file for eight is given eight on both sides."""
    shown = []
    monkeypatch.setattr(parity, "speeds", lambda *given, own=parity.speeds: shown.append(given[2].shape) or own(*given))
    report = export(Request(weights=str(spd), data=data, batch=8, output=str(tmp_path / "eight.onnx")))
    assert shown == [(8, 3, 64, 64)] and not report.failures()


def test_export__file_that_opens_and_cannot_run(spd, data, tmp_path, monkeypatch):
    """A written file that opens but fails to run is reported in one line, and nothing is left."""

    def opened(path, device):
        def call(images):
            raise RuntimeError("no kernel for Resize\n  at somewhere")

        return call

    monkeypatch.setattr(parity, "opened", opened)
    with pytest.raises(ExportError, match=r"the written file cannot be run \(no kernel for Resize at somewhere\)"):
        export(Request(weights=str(spd), data=data, output=str(tmp_path / "x.onnx")))
    assert not list(tmp_path.iterdir())
