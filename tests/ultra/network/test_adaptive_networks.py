"""yolov5-cad and yolov5-select as whole networks: resumed, in half precision, in two processes, and in the commands."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from ultralytics import YOLO
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.dist import find_free_network_port

from pixelkeep.blocks import ObjectMask
from pixelkeep.cli.main import run
from pixelkeep.datasets.definitions.spec import load_spec
from pixelkeep.datasets.demo import write_demo
from pixelkeep.datasets.demo.labels import write_mask_demo
from pixelkeep.errors import ModelError
from pixelkeep.ultra.costs.catalogue import entries
from pixelkeep.ultra.costs.measure import adaptive_layers, count_gflops
from pixelkeep.ultra.data.resolving import write_resolved
from pixelkeep.ultra.trainers.boxes import Trainer

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[3]
NAMES = ("yolov5-cad-n", "yolov5-select-n")
SCRIPT = Path(__file__).with_name("adaptive_processes.py")
CLASSES = ("person", "car", "truck", "boat", "building")  # of the demo data
PATIENCE = 400  # seconds after which a job counts as hanging


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A demo dataset of a few images."""
    return write_demo(tmp_path_factory.mktemp("demo") / "tiny", splits={"train": 4, "val": 2, "test": 1})


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> dict[str, Path]:
    """Return untrained weights of both networks; their thresholds open a quarter of the cells of some images."""
    files = {}
    for name in NAMES:
        torch.manual_seed(0)
        yolo = YOLO(f"{name}.yaml", task="detect", verbose=False)
        yolo.model = DetectionModel(f"{name}.yaml", nc=len(CLASSES), verbose=False)
        for mask in masks(yolo.model.eval()):
            logits = []
            hook = mask.estimator.register_forward_hook(lambda m, inputs, y, logits=logits: logits.append(y))
            with torch.no_grad():
                yolo.model(batch()["img"])
                mask.threshold.copy_(mask.grown(logits[0]).quantile(0.75))
            hook.remove()
        yolo.model.names = dict(enumerate(CLASSES))
        files[name] = tmp_path_factory.mktemp("weights") / f"{name}.pt"
        yolo.save(files[name])
    return files


def masks(model: nn.Module) -> list[ObjectMask]:
    return [m for m in model.modules() if isinstance(m, ObjectMask)]


def built(name: str) -> DetectionModel:
    torch.manual_seed(0)
    model = DetectionModel(f"{name}.yaml", nc=3, verbose=False)
    model.args = get_cfg()
    return model


def batch() -> dict[str, torch.Tensor]:
    boxes = torch.tensor([[0.3, 0.4, 0.1, 0.1], [0.7, 0.6, 0.1, 0.1]])
    made = {"cls": torch.zeros(2, 1), "bboxes": boxes, "batch_idx": torch.arange(2.0)}
    return made | {"img": torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half__evaluation_is_finite_and_that_of_full_precision(name, dtype, weights):
    """In half precision outputs are finite, and close where masks agree: a cell near the threshold may change sides."""
    model = YOLO(weights[name]).model.float().eval()
    x = batch()["img"]
    with torch.no_grad():
        expected = model(x)[0]
        shares = [layer.active_fraction for layer in adaptive_layers(model)]
        got = copy.deepcopy(model).to(dtype)(x.to(dtype))[0]
    assert all(0 < share < 1 for share in shares)
    assert got.dtype == dtype and got.isfinite().all()
    if got.shape == expected.shape:  # the same number of anchors exists
        error = (got.float() - expected)[:, :4].abs().median()
        assert error < 2  # pixels


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_mask__empty_and_full_in_training_and_evaluation(name, fill):
    model = built(name).train()
    for mask in masks(model):
        nn.init.constant_(mask.estimator[-1].bias, 100 if fill else -100)
    loss, _ = model(batch())
    loss.sum().backward()
    assert loss.isfinite().all() and all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert [layer.active_fraction for layer in adaptive_layers(model)] == [fill] * len(masks(model))
    for mask in masks(model):
        mask.threshold.zero_()
    with torch.no_grad():
        assert model.eval()(batch()["img"])[0].isfinite().all()
    assert [layer.active_fraction for layer in adaptive_layers(model)] == [fill] * len(masks(model))


def test_models__states_select_at_its_target():
    """The catalogue states the target share of yolov5-select as that of yolov5-cad, and none for yolov5."""
    by_name = {entry.name: entry for entry in entries([*NAMES, "yolov5-n"])}
    assert [by_name[name].active_fraction for name in (*NAMES, "yolov5-n")] == [0.25, 0.05, None]


class Interrupted(Exception):
    pass


def test_resume__cad_goes_on_with_its_mask(data, tmp_path):
    """A training interrupted after the first of two epochs goes on with the mask's threshold from the checkpoint."""

    def stop(trainer):
        if trainer.epoch == 1:
            raise Interrupted

    options = {"imgsz": 64, "batch": 2, "plots": False, "workers": 0, "device": "cpu", "project": str(tmp_path)}
    yolo = YOLO("yolov5-cad-n.yaml", verbose=False)
    yolo.add_callback("on_train_epoch_start", stop)
    with pytest.raises(Interrupted):
        yolo.train(data=str(write_resolved(load_spec(data))), epochs=2, name="run", trainer=Trainer, **options)
    resumed = YOLO(tmp_path / "run" / "weights" / "last.pt")
    (kept,), (fresh,) = masks(resumed.model), masks(built("yolov5-cad-n"))
    assert kept.threshold != fresh.threshold and kept.logits is None
    resumed.train(resume=True, trainer=Trainer)
    assert resumed.trainer.epoch == 1
    (mask,) = masks(resumed.trainer.ema.ema)
    assert type(resumed.model.model[-1]).__name__ == "RegionDetect" and mask.threshold != kept.threshold


@pytest.mark.parametrize("name", NAMES)
def test_detect__runs_in_the_command(name, weights, data, tmp_path, capsys):
    source = next((data.parent / "images" / "val").iterdir())
    line = ["detect", "--weights", weights[name], "--source", source, "--imgsz", "128", "--json", "--conf", "0.001"]
    with pytest.raises(SystemExit) as ended:
        run([*map(str, line), "--project", str(tmp_path)])
    assert not ended.value.code
    assert json.loads(capsys.readouterr().out)["images"] == 1


@pytest.mark.parametrize("tiled", [[], ["--tile", "64"]])
def test_val__counts_at_the_share_of_its_images(tiled, weights, data, tmp_path, capsys):
    """The result of val has the mean share over the images, and the GFLOPs at this share."""
    line = ["val", "--weights", weights["yolov5-cad-n"], "--data", data, "--imgsz", "128", "--json", *tiled]
    with pytest.raises(SystemExit) as ended:
        run([*map(str, line), "--project", str(tmp_path)])
    assert not ended.value.code
    document = json.loads(capsys.readouterr().out)
    model = YOLO(weights["yolov5-cad-n"]).model
    at = {share: count_gflops(model, 128, fractions=[share]) for share in (document["active_fraction"], 0.0, 0.25)}
    assert 0 < document["active_fraction"] < 1 and document["active_fraction"] != 0.25
    assert document["gflops"] == pytest.approx(at[document["active_fraction"]], abs=2e-3)
    assert at[0.0] < at[0.25]


def edges(first: str) -> dict:
    """Return a small network whose mask is made from the edges in the output of row 0."""
    backbone = [[-1, 1, first, []], [-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [32, 3, 2]]]
    backbone += [[0, 1, "EdgeMask", [32]], [[2, 3], 1, "ContentAdaptiveStage", [32, 1, None]]]
    backbone += [[-1, 1, "Conv", [64, 3, 2]]]
    return {"nc": 3, "backbone": backbone, "head": [[[-1], 1, "Detect", ["nc"]]]}


def test_edges__of_the_image_in_a_network():
    """With an Identity as row 0, regions are active where the image has edges, and the network trains."""
    model = DetectionModel(edges("nn.Identity"), nc=3, verbose=False)
    model.args = get_cfg()
    stage = model.model[4]
    picture = torch.full((2, 3, 128, 128), 0.5)
    picture[0, :, 70:90, 5:25] = 1.0
    with torch.no_grad():
        model.eval()(picture)
    expected = torch.zeros(2, 4, 4)
    expected[0, 2, 0] = 1  # rows 64 to 96, columns 0 to 32
    assert torch.equal(stage.region_mask.float(), expected)
    model.train().loss({**batch(), "img": picture})[0].sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in stage.parameters())


def test_edges__a_row_that_is_no_module_is_named():
    with pytest.raises(ModelError, match=r"nn\.Identty"):
        DetectionModel(edges("nn.Identty"), nc=3, verbose=False)


def in_two_processes(folder: Path, cells: str, *arguments: str | Path) -> tuple[dict, list[dict]]:
    """Train in two processes; return the result and what each process held at the end."""
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]
    line += ["--master-port", str(find_free_network_port()), str(SCRIPT), cells, str(folder), *map(str, arguments)]
    line += ["--imgsz", "64", "--epochs", "1", "--set", "plots=false", "--json", "--project", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    job = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert job.returncode == 0, job.stderr[-3000:]
    return json.loads(job.stdout), [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cells", ["drawn", "uneven"])
def test_two_processes__train_one_network(name, cells, data, tmp_path):
    """Both processes end with the same parameters to the last bit, even if empty masks leave some without gradient."""
    document, (first, second) = in_two_processes(tmp_path, cells, "--model", name, "--data", data, "--batch", 2)
    assert 0 <= document["active_fraction"] <= 1 and document["gflops"] > 0
    assert any(first["shares"]) and (any(second["shares"]) is (cells == "drawn"))
    assert first["shares"] != second["shares"]
    first, second = first["parameters"], second["parameters"]
    assert [key for key in first if not torch.equal(first[key], second[key])] == []
    scales = [value for key, value in first.items() if key.endswith("bn.weight")]
    assert any(not torch.equal(value, torch.ones_like(value)) for value in scales)  # the network has learnt


@pytest.mark.slow
@pytest.mark.parametrize("cells", ["drawn", "uneven"])
def test_two_processes__segment_and_end(cells, tmp_path):
    """A semantic host, whose second stage shares its mask with the first, trains in two processes as well."""
    made = write_mask_demo(tmp_path / "sem", splits={"train": 4, "val": 2, "test": 1})
    line = ("--model", "resnet18-cad-sem", "--data", made, "--batch", 4)
    document, held = in_two_processes(tmp_path, cells, *line)
    assert 0 <= document["active_fraction"] <= 1
    first, second = (own["parameters"] for own in held)
    assert [key for key in first if not torch.equal(first[key], second[key])] == []
