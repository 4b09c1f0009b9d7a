"""Several processes train one model, validate it as one process would, and lose nothing on the way (CPUs, gloo)."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
import yaml
from several_processes import Knowing, validated
from ultralytics.utils import LOGGER
from ultralytics.utils.dist import find_free_network_port

import pixelkeep
from pixelkeep.datasets.definitions.spec import load_spec
from pixelkeep.datasets.demo import write_demo
from pixelkeep.errors import OptionError
from pixelkeep.ultra.data.resolving import write_resolved
from pixelkeep.ultra.network.registry import REGISTRY
from pixelkeep.ultra.running import console, distributed
from pixelkeep.ultra.running.recipe import Recipe
from pixelkeep.ultra.trainers import boxes as trainer_module
from pixelkeep.ultra.trainers.boxes import Trainer
from pixelkeep.ultra.trainers.tally import COLUMNS

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = Path(__file__).with_name("several_processes.py")
BATCH = 4  # images, shared by two processes
TRAIN = ["--model", "yolov5-n", "--imgsz", "128", "--batch", str(BATCH), "--set", "optimizer=AdamW"]
TRAIN += ["--set", "plots=false"]
PATIENCE = 150  # seconds after which a job counts as hanging


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A demo dataset whose five validation images cannot be split equally between two processes."""
    return write_demo(tmp_path_factory.mktemp("demo") / "tiny", splits={"train": 8, "val": 5, "test": 1})


def torchrun(*arguments: str, nodes: int = 1) -> list[subprocess.CompletedProcess]:
    """Run two processes with torchrun, as one node or as two nodes with a process each, all on the local machine."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(2 // nodes), "--nnodes", str(nodes)]
    line += ["--master-addr", "127.0.0.1", "--master-port", str(find_free_network_port())]
    with ExitStack() as stack:
        jobs = []
        for node in range(nodes):
            job = subprocess.Popen(
                [*line, "--node-rank", str(node), *arguments],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.callback(job.kill)
            jobs.append(job)
        ended = [(job, *job.communicate(timeout=PATIENCE)) for job in jobs]
        return [subprocess.CompletedProcess(job.args, job.returncode, out, err) for job, out, err in ended]


@pytest.fixture(scope="module")
def watched(data, tmp_path_factory) -> dict:
    """A training by two processes: what each held at the end, the finished job, and its project folder."""
    folder, project = tmp_path_factory.mktemp("held"), tmp_path_factory.mktemp("runs")
    line = [str(SCRIPT), "watch", str(folder), "--data", str(data), *TRAIN, "--epochs", "2", "--seed", "3", "--json"]
    (job,) = torchrun(*line, "--project", str(project))
    assert job.returncode == 0, job.stderr[-3000:]
    held = [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]
    return {"held": held, "job": job, "project": project}


def test_weights__are_equal_in_both_processes(watched):
    """Every trainable tensor is the same in both processes, bit for bit, although each saw different images."""
    first, second = (held["weights"] for held in watched["held"])
    statistics = {key for key in first if "running_" in key}
    assert {key for key in first if not torch.equal(first[key], second[key])} <= statistics
    assert any(not torch.equal(first[key], second[key]) for key in statistics)


def alone(data: Path, folder: Path, average: dict, monkeypatch: pytest.MonkeyPatch) -> dict:
    """Validate averaged weights in this process alone, with the batch size that each of the two processes had."""
    monkeypatch.setattr(trainer_module, "Validator", Knowing)
    overrides = {"model": "yolov5-n.yaml", "data": str(write_resolved(load_spec(data))), "imgsz": 128, "epochs": 1}
    overrides |= {"batch": BATCH // 2, "device": "cpu", "plots": False, "save_dir": str(folder)}
    trainer = Trainer(overrides=overrides)
    trainer._setup_train()
    trainer.ema.ema.load_state_dict(average)
    trainer.epoch = 0
    trainer.loss, trainer.loss_items = trainer.model(trainer.preprocess_batch(next(iter(trainer.train_loader))))
    return validated(trainer)


def test_validation__is_that_of_one_process(watched, data, tmp_path, monkeypatch):
    """Two processes give the figures and detections of one, even where padding shows an image to both processes."""
    first, second = watched["held"]
    assert sorted(first["share"] + second["share"]) == [0, 1, 2, 3, 4]
    assert len(first["padded_share"] + second["padded_share"]) == 6
    assert second["shared"] is second["padded"] is None
    expected = alone(data, tmp_path, first["average"], monkeypatch)
    assert 0 < expected["stats"]["AP_S"] < 1 and len(expected["images"]) > expected["stats"]["counts"]["S"]
    for found in (first["shared"], first["padded"]):
        assert found["images"].tolist() == expected["images"].tolist()
        assert found["categories"].tolist() == expected["categories"].tolist()
        assert found["boxes"] == pytest.approx(expected["boxes"], abs=0.01)
        assert found["scores"] == pytest.approx(expected["scores"], abs=1e-5)
        for key in ("AP", "AP50", "AP_S", "AP_M", "AP_L", "AR"):
            assert found["stats"][key] == pytest.approx(expected["stats"][key], abs=1e-6), key


def test_torchrun__writes_one_run_and_speaks_once(watched):
    """A job writes one run folder with everything in it, one document on standard output, and each message once."""
    job, project = watched["job"], watched["project"]
    assert [path.name for path in project.iterdir()] == ["exp"]
    names = {path.name for path in (project / "exp").iterdir()}
    assert names >= {"settings.yaml", "environment.json", "data.yaml", "model.yaml", "metrics.json", "args.yaml"}
    assert json.loads(job.stdout) == json.loads((project / "exp" / "metrics.json").read_text())
    assert len((project / "exp" / "results.csv").read_text().splitlines()) == 3  # the header and two epochs
    for message in ("train: 8 images", "val: 5 images", "Starting training"):
        assert job.stderr.count(message) == 1
    assert "destroy_process_group() was not called" not in job.stderr
    assert "device" not in yaml.safe_load((project / "exp" / "settings.yaml").read_text())


def test_counts__add_up_over_both_processes(watched):
    """An epoch's counts in results.csv are the sums over what both processes saw."""
    with (watched["project"] / "exp" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    first, second = (held["tallies"] for held in watched["held"])
    assert len(rows) == len(first) == len(second)
    for row, one, other in zip(rows, first, second, strict=True):
        assert one[0] > 0 and other[0] > 0
        assert [int(row[key]) for key in COLUMNS] == (one + other).tolist()


def test_bad_data__told_once(data, tmp_path):
    """An error that one process finds ends all of them with status 2 and one line, and nothing is written."""
    (job,) = torchrun("-m", "pixelkeep", "train", *TRAIN, "--data", "nowhere.yaml", "--project", str(tmp_path))
    assert job.returncode != 0 and job.stderr.count("pixelkeep: data 'nowhere.yaml' not found") == 1
    assert "exitcode  : 2 " in job.stderr and "exitcode  : 1 " not in job.stderr
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def failed(data, tmp_path_factory) -> tuple[subprocess.CompletedProcess, Path]:
    """A training of which one process failed in the second epoch: the job and its run folder."""
    project = tmp_path_factory.mktemp("failed")
    line = [str(SCRIPT), "fail", str(project), "--data", str(data), *TRAIN, "--epochs", "2", "--best", "AP_S"]
    (job,) = torchrun(*line, "--project", str(project))
    return job, project / "exp"


def test_failing_process__ends_the_job(failed):
    """If one process fails in training, the other does not wait for it, and the epoch before is kept."""
    job, folder = failed
    assert job.returncode != 0 and "the second process fails" in job.stderr
    assert not (folder / "metrics.json").exists() and (folder / "weights" / "last.pt").is_file()


@pytest.mark.slow
def test_resume__goes_on_in_several_processes(failed):
    """A failed run continues in two processes after its last complete epoch, and one of them finishes it."""
    _, folder = failed
    (job,) = torchrun("-m", "pixelkeep", "train", "--resume", str(folder), "--json")
    assert job.returncode == 0, job.stderr[-3000:]
    assert json.loads(job.stdout) == json.loads((folder / "metrics.json").read_text())
    rows = (folder / "results.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "1", "2"]


@pytest.mark.slow
def test_two_machines__agree_on_one_run(data, tmp_path):
    """Two machines with a process each train together; the second prints no result."""
    line = ["-m", "pixelkeep", "train", "--data", str(data), *TRAIN, "--epochs", "2", "--project", str(tmp_path)]
    jobs = torchrun(*line, "--json", nodes=2)
    assert [job.returncode for job in jobs] == [0, 0], jobs[0].stderr[-3000:] + jobs[1].stderr[-3000:]
    assert json.loads(jobs[0].stdout)["images"] == 5 and not jobs[1].stdout
    assert [path.name for path in tmp_path.iterdir()] == ["exp"]


@pytest.mark.slow
def test_val__refuses_several_processes(data):
    """val refuses to run in several processes, and says that only train does."""
    (job,) = torchrun("-m", "pixelkeep", "val", "--weights", "none.pt", "--data", str(data))
    assert job.returncode != 0 and "only 'train' works in several processes" in job.stderr


MODULE = """
import json, os
import torch
from ultralytics.utils import LOGGER

class Halving(torch.nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.conv = torch.nn.Conv2d(in_channels, out_channels, 2, stride=2)

    def forward(self, x):
        return self.conv(x)

def report(trainer):
    told = {"best": trainer.best_by, "limit": trainer.limit, "max_det": trainer.validator.args.max_det}
    told |= {"fitness_by": trainer.validator.best, "filters": [type(f).__name__ for f in LOGGER.filters]}
    told |= {"environment": dict(os.environ), "processes": trainer.world_size, "rectangle": trainer.rectangle}
    dataset, loss = trainer.train_loader.dataset, trainer.model.module.criterion
    told |= {"recipe": vars(trainer.recipe), "weight": loss.bbox_loss.weight, "paste": dataset.recipe.paste}
    perspective, blend = (dataset.transforms.transforms[0].transforms[-1], dataset.transforms.transforms[3])
    told |= {"perspective": type(perspective).__name__, "colour": [type(t).__name__ for t in blend.transform]}
    (trainer.save_dir / "told.json").write_text(json.dumps(told))
"""
NETWORK = {
    "nc": 5,
    "backbone": [[-1, 1, "Conv", [8, 3, 4]], [-1, 1, "Halving", [16]]],
    "head": [[[1], 1, "Detect", ["nc"]]],
}


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A user's module with a registered block and a callback."""
    (tmp_path / "users_blocks.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    import users_blocks

    pixelkeep.register(users_blocks.Halving)
    yield users_blocks
    REGISTRY.pop("Halving", None)
    del sys.modules["users_blocks"]


def test_launched_processes__get_what_the_trainer_has(own, data, tmp_path, monkeypatch, capfd):
    """Processes that Ultralytics itself starts get block, recipe, limit, size, environment and the run's files."""
    model, folder = tmp_path / "net.yaml", tmp_path / "run"
    model.write_text(yaml.safe_dump(NETWORK))
    folder.mkdir()
    (folder / "settings.yaml").write_text("kept")
    overrides = {"model": str(model), "data": str(write_resolved(load_spec(data))), "epochs": 1}
    overrides |= {"batch": BATCH, "device": "cpu", "plots": False, "save_dir": str(folder), "imgsz": [64, 96]}
    recipe = Recipe(best="AP_S", nwd=0.5, paste=3, shrunk="background", albumentations="small")
    trainer = Trainer(overrides=overrides | recipe.for_ultralytics(), recipe=recipe, limit=7)
    trainer.add_callback("on_train_end", own.report)
    trainer.ddp, trainer.world_size = True, 2  # as with device 0,1
    monkeypatch.setattr(LOGGER, "filters", [console._Quiet()])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    capfd.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", sys.stderr)  # as the commands do it
        trainer.train()
    told = json.loads((folder / "told.json").read_text())
    assert (told["best"], told["fitness_by"], told["limit"], told["max_det"]) == ("AP_S", "AP_S", 7, 7)
    assert told["recipe"] == vars(recipe) and (told["weight"], told["paste"]) == (0.5, 3)
    assert told["perspective"] == "DroppingPerspective" and "RandomGamma" in told["colour"]
    assert told["processes"] == 2 and told["rectangle"] == [64, 96] and told["filters"] == ["_Quiet"]
    names = ("YOLO_OFFLINE", "YOLO_AUTOINSTALL", "ULTRALYTICS_SAFE_LOAD", "YOLO_CONFIG_DIR", "PIXELKEEP_HOME")
    assert {name: told["environment"].get(name) for name in names} == {name: os.environ[name] for name in names}
    assert (folder / "settings.yaml").read_text() == "kept" and (folder / "weights" / "best.pt").is_file()
    assert capfd.readouterr().out == ""


def test_carried__given_beats_carried():
    """A value that is not given is taken from the callbacks, a given one replaces it; only one `Carried` is kept."""
    callbacks, own = {distributed.EVENT: [print]}, Recipe(best="AP_S", nwd=0.5, paste=3)
    steps = [
        ((None, None, None), {"recipe": Recipe(), "limit": None, "rectangle": None}),
        ((own, 7, [64, 96]), {"recipe": own, "limit": 7, "rectangle": [64, 96]}),
        ((None, 9, None), {"recipe": own, "limit": 9, "rectangle": [64, 96]}),
        ((Recipe(), None, [32, 64]), {"recipe": Recipe(), "limit": 9, "rectangle": [32, 64]}),
    ]
    for given, expected in steps:
        assert vars(distributed.carry(callbacks, *given)) == expected
    assert [type(callback) for callback in callbacks[distributed.EVENT]] == [type(print), distributed.Carried]


@pytest.mark.parametrize(("batch", "multiple"), [(5, 4), (1, 2), (-1, 16)])
def test_batch__must_be_shared_by_all_devices(batch, multiple):
    """A batch that two GPUs cannot share evenly is refused, and one that they can is named; one process takes any."""
    with pytest.raises(OptionError, match=f"batch: {batch} cannot be shared by 2 processes.* such as {multiple}$"):
        distributed.join({"device": "0,1", "batch": batch})
    assert distributed.join({"device": "0,1", "batch": multiple}) == "0,1"
    assert distributed.join({"batch": batch}) is None


@pytest.mark.parametrize(("device", "expected"), [(None, "0,1"), ("1,2", "1,2"), ([0, 2], "0,2"), ("cpu", "cpu")])
def test_devices__one_for_each_process(device, expected, monkeypatch):
    """Each local process gets a GPU of its own: one of the first, or of those that are named."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert distributed._devices(device) == expected
    with pytest.raises(OptionError, match="'2' is 1 of this machine's 3 GPUs, but torchrun started 2 processes"):
        distributed._devices("2")
