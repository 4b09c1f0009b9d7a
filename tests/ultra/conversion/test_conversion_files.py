"""Converted checkpoints as files: in both forms, under names of their own; and networks that only seem to be equal."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from torch import nn
from ultralytics.nn.modules import Conv
from ultralytics.utils import ROOT as ULTRALYTICS
from varied import image, output, varied, write

from pixelkeep.errors import ModelError, OptionError, WeightsError
from pixelkeep.report.conversion import SAME, conversion_table
from pixelkeep.ultra.conversion.fit import read_images
from pixelkeep.ultra.conversion.models import convert_model
from pixelkeep.ultra.conversion.pretrained import adapted
from pixelkeep.ultra.network.names import parse
from pixelkeep.ultra.network.rows import readers, sources
from pixelkeep.ultra.weights import manifest
from pixelkeep.ultra.weights.checkpoints import load, model_of, save

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Return the file of a yolov5n with three classes, which no test changes."""
    return write(varied("yolov5n.yaml"), tmp_path_factory.mktemp("source") / "source.pt")


def stock(family: str, folder: Path, **changes: str) -> str:
    """Return the file of one of Ultralytics' YAMLs in which the given words are replaced."""
    path = next((ULTRALYTICS / "cfg" / "models").rglob(f"{family}.yaml"))
    text = path.read_text()
    for word, other in changes.items():
        assert word in text
        text = text.replace(word, other)
    content = yaml.safe_load(text)
    if scales := content.get("scales"):
        content["scales"] = {"n": scales["n"]}
    (folder / "changed.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return str(folder / "changed.yaml")


@pytest.mark.parametrize("block", ["spdconv", "spd"])
def test_portable__both_ways(source, tmp_path, block):
    """Portable sources give the same as their .pt, and portable results hold the same tensors as a .pt result."""
    save(load(source), tmp_path / "source.safetensors")
    found = []
    for start, end in ((source, "a.pt"), (tmp_path / "source.safetensors", "b.safetensors")):
        report = convert_model(start, f"yolov5-{block}-n", tmp_path / end)
        assert report.exact and report.checked < 1e-9
        found.append(model_of(load(tmp_path / end)).state_dict())
    assert found[0].keys() == found[1].keys() and all(map(torch.equal, found[0].values(), found[1].values()))
    kept = load(tmp_path / "b.safetensors")
    digest = hashlib.sha256((tmp_path / "source.safetensors").read_bytes()).hexdigest()
    assert (kept["converted"]["from"], kept["converted"]["sha256"]) == ("source.safetensors", digest)


def test_result__is_called_by_its_own_model(source, tmp_path):
    """Reports call the result by its target and not by its source; all other training settings stay."""
    before = load(source)["train_args"]
    convert_model(source, "yolov5-spdconv-n", tmp_path / "to.pt")
    assert load(tmp_path / "to.pt")["train_args"] == before | {"model": "yolov5-spdconv-n"}


@pytest.mark.parametrize(("target", "kept"), [("yolov5-spdconv-n", True), ("yolov5-slicesamp-n", False)])
def test_result__has_scores_of_its_own_function_alone(target, kept, tmp_path):
    """The result keeps the metrics of its source only if both compute the same, in a portable file as well."""
    scores = {"train_metrics": {"fitness": 0.5}, "train_results": {"epoch": [1]}, "best_fitness": 0.5}
    path = write(varied("yolov5n.yaml"), tmp_path / "source.pt", operating_point={"schema": 1}, **scores)
    for name in ("to.pt", "to.safetensors"):
        assert convert_model(path, target, tmp_path / name).exact is kept
    assert (scores.keys() <= load(tmp_path / "to.pt").keys()) is kept
    held = load(tmp_path / "to.safetensors")
    assert (
        bool(held.get("train_metrics")) is bool(held.get("train_results")) is bool(held.get("operating_point")) is kept
    )


@pytest.mark.parametrize("how", ["same", "link", "published"])
def test_output__not_onto_what_must_stay(source, tmp_path, monkeypatch, how):
    """The source and published files are never overwritten, whatever name they are given by."""
    given = tmp_path / "given.pt"
    given.write_bytes(source.read_bytes())
    target = tmp_path / "other.pt" if how != "same" else given
    if how == "link":
        target.symlink_to(given)
    if how == "published":
        monkeypatch.setattr("pixelkeep.ultra.conversion.models.listed", lambda path: path == target)
    with pytest.raises(OptionError, match="is a published file" if how == "published" else "is the source itself"):
        convert_model(given, "yolov5-spdconv-n", target)
    assert given.read_bytes() == source.read_bytes() and (how == "link") == target.is_symlink()
    assert manifest.listed(given) is None


def test_rows__count_back_from_their_own(tmp_path):
    """``-2`` is the row before the previous one, as in Ultralytics' own networks, and not the image."""
    model = varied("yolov3-tiny.yaml")
    rows = model.model
    number = next(row.i for row in rows if row.f == -2)
    assert sources(rows[number]) == [number - 2] and rows[number] in readers(rows)[number - 2]
    path = write(model, tmp_path / "tiny.pt")
    report = convert_model(path, stock("yolov3-tiny", tmp_path), tmp_path / "to.pt")
    assert report.exact and report.share == 1 and report.checked == 0
    with pytest.raises(ModelError, match="nothing in the weights fits it; give weights of its own family"):
        convert_model(path, "yolov5-spdconv-n")


def test_stride_64__compared_at_its_own_size(tmp_path):
    """A network with a sixth level is compared on images whose sides are multiples of its stride of 64 pixels."""
    path = write(varied("yolov5n-p6.yaml"), tmp_path / "p6.pt")
    report = convert_model(path, stock("yolov5-p6", tmp_path))
    assert report.exact and report.checked == 0


def test_other_input__is_not_taken(tmp_path):
    """Where the source's first strided convolution reads maps and the target's the image, the target's starts fresh."""
    rows = "backbone:\n{first}  - [-1, 1, {down}]\n  - [-1, 1, Conv, [16, 3, 2]]\nhead:\n  - [[-1], 1, Detect, [nc]]\n"
    texts = {
        "source": rows.format(first="  - [-1, 1, Conv, [8, 3, 1]]\n", down="Conv, [8, 3, 2]"),
        "target": rows.format(first="", down="SPDConv, [8, 3]"),
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.yaml").write_text(f"nc: 3\n{text}")
    path = write(varied(str(tmp_path / "source.yaml")), tmp_path / "source.pt")
    report = convert_model(path, str(tmp_path / "target.yaml"), tmp_path / "to.pt")
    found = {part.role: (part.how, part.note) for part in report.parts}
    assert found["backbone P1 down"] == ("fresh", "the source's convolution reads 8 channels") and not report.exact
    assert found["backbone P2 down"][0] == "taken" and report.left == ["backbone P0 conv"]


def test_layers_without_weights__are_compared_too(source, tmp_path):
    """Where all weights are taken but the upsampling differs, the report does not call it the same function."""
    path = stock("yolov5", tmp_path, nearest="bilinear")
    report = convert_model(source, path, tmp_path / "to.pt")
    assert report.share == 1 and all(part.exact for part in report.parts)
    assert report.checked > SAME and not report.exact and not load(tmp_path / "to.pt")["converted"]["exact"]
    text = conversion_table(report)
    assert "100 % of the parameters" in text and "layers without weights" in text
    assert "same function" not in text and max(map(len, text.splitlines())) <= 80


def test_in_place__is_no_other_activation():
    """Activations that Ultralytics lets work in place in weights that it loads count as the same in training."""
    start = varied("yolov5n.yaml")
    for module in start.modules():
        if isinstance(module, Conv) and isinstance(module.act, nn.SiLU):  # a new instance, since all layers share one
            module.act = nn.SiLU(inplace=not Conv.default_act.inplace)
    found, report = adapted(start, parse("yolov5-spdconv-n").definition())
    assert (output(found, image(64, 64)) - output(start, image(64, 64))).abs().max() < 1e-3
    assert report.exact


def test_fit__images_enough_for_the_deepest_layer(tmp_path):
    """More small images are read than large ones: 4,096 cells of 32 pixels in all, and 16 images at least."""
    for number in range(170):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((8, 8, 3), np.uint8))
    for side, most, expected in ((160, None, 164), (192, None, 114), (640, None, 16), (160, 5, 5)):
        assert len(read_images(str(tmp_path), side, 3, most)) == expected


@pytest.mark.parametrize("end2end", [True, False])
def test_two_branches__puts_out_the_same_one(end2end):
    """For a head with a second branch without NMS, the converted network puts out the branch that its source does."""
    start = varied("yolo26n.yaml")
    start.model[-1].end2end = end2end
    network = adapted(start, parse("yolo26-spdconv-n").definition())[0]
    shapes = [tuple(each.eval()(image(64, 64))[0].shape) for each in (start, network)]
    assert shapes[0] == shapes[1] and (shapes[0][-1] == 6) == end2end


def test_table__notes_fit(source, tmp_path):
    """Notes on the published layering are whole in the table, at 80 columns."""
    lines = conversion_table(convert_model(source, "yolov5-spd-n", tmp_path / "to.pt")).splitlines()
    assert max(map(len, lines)) <= 80 and not any("…" in line for line in lines)
    assert sum(line.endswith("zeros for 3 of 4 phases") for line in lines) == 6


@pytest.mark.parametrize("given", ["DWConv, [16, 3, 2]", "Conv, [16, 3, 2, null, 8]", "DWConv, [24, 3, 2]"])
def test_depthwise__is_a_convolution_with_groups(given, tmp_path):
    """Ultralytics' strided DWConv converts exactly, as a strided Conv with as many groups does, and back."""
    rows = "nc: 3\nbackbone:\n  - [-1, 1, Conv, [8, 3, 2]]\n  - [-1, 1, {}]\nhead:\n  - [[-1], 1, Detect, [nc]]\n"
    width = given.split("[")[1].split(",")[0]
    for name, row in (("source", given), ("target", f"SPDConv, [{width}, 3]"), ("back", given)):
        (tmp_path / f"{name}.yaml").write_text(rows.format(row))
    start = varied(str(tmp_path / "source.yaml"))
    path = write(start, tmp_path / "source.pt")
    assert start.model[1].conv.groups == 8
    report = convert_model(path, str(tmp_path / "target.yaml"), tmp_path / "to.pt")
    part = {part.role: part for part in report.parts}["backbone P2 down"]
    assert part.how == "rewritten" and part.exact and report.exact and report.checked < 1e-9
    assert convert_model(path, str(tmp_path / "back.yaml")).exact


@pytest.mark.parametrize("where", ["weight", "running_mean"])
def test_nan__is_not_converted(where, tmp_path):
    """Weights of a training that diverged are refused in one line, by conversion and by training."""
    start = varied("yolov5n.yaml")
    dict(start.model[3].state_dict(keep_vars=True))[f"{'conv' if where == 'weight' else 'bn'}.{where}"].data[0] = np.nan
    path = write(start, tmp_path / "source.pt")
    for start in (
        lambda: convert_model(path, "yolov5-spdconv-n", tmp_path / "to.pt"),
        lambda: adapted(model_of(load(path)), parse("yolov5-n").definition()),
    ):
        with pytest.raises(WeightsError, match=rf"NaN in tensor model.3.\w+.{where}: the training diverged"):
            start()
    assert not (tmp_path / "to.pt").exists()
