"""Confidences in the weights: they are read back, the file stays a checkpoint, and detection keeps to them."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import nms

from pixelkeep.cli.main import run
from pixelkeep.datasets.demo import CLASSES
from pixelkeep.errors import OptionError, WeightsError
from pixelkeep.evaluation import Detections, GroundTruthBuilder
from pixelkeep.evaluation.operating import operating_point
from pixelkeep.ultra.commands.analysis import keep
from pixelkeep.ultra.predictors.boxes import silence
from pixelkeep.ultra.weights.checkpoints import check_weights, load
from pixelkeep.ultra.weights.confidence import KEY, Stored, store, stored_in

OWN = [0.125, 0.5, 0.25, 0.75, 1.0]


@pytest.fixture
def weights(tmp_path):
    """Return a checkpoint of yolov5-spd-n with random weights."""
    torch.manual_seed(3)
    model = DetectionModel("yolov5-spd-n.yaml", nc=len(CLASSES), verbose=False)
    model.names = dict(enumerate(CLASSES))
    path = tmp_path / "w.pt"
    torch.save({"model": model.half(), "train_args": {"imgsz": 64}, "date": "today"}, path)
    return path


def stored(**changes):
    values = dict(objective="f1", confidence=list(OWN), imgsz=64, split="val", gt_sha256="0" * 64)
    return Stored(**{**values, **changes})


def test_store__comes_back_and_nothing_else_changes(weights):
    """Stored confidences are read back, model and other entries stay the same, and no other file is left behind."""
    before = {name: value.clone() for name, value in load(weights)["model"].state_dict().items()}
    store(weights, stored(imgsz=[64, 96]))
    checkpoint = load(check_weights(weights))
    assert stored_in(checkpoint, weights, len(CLASSES)) == stored(imgsz=[64, 96])
    after = checkpoint["model"].state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)
    assert checkpoint["date"] == "today" and checkpoint["train_args"] == {"imgsz": 64}
    assert [path.name for path in weights.parent.iterdir()] == ["w.pt"]
    store(weights, stored(objective="recall=0.8"))
    assert stored_in(load(weights), weights, len(CLASSES)).objective == "recall=0.8"


def test_store__plain_ultralytics_reads_the_file(weights):
    """Ultralytics loads the weights as before, and the entry has only types that restricted loading accepts."""
    store(weights, stored())
    assert YOLO(weights).model.names == dict(enumerate(CLASSES))
    assert torch.load(weights, weights_only=False)[KEY]["confidence"] == OWN


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("imgsz"),
        lambda d: d.update(confidence=[0.5]),
        lambda d: d.update(confidence=[0.5, 0.5, 0.5, 0.5, float("nan")]),
        lambda d: d.update(confidence=[0.5, 0.5, 0.5, 0.5, 2.0]),
        lambda d: d.update(confidence="00000"),
        lambda d: d.update(objective=3),
        lambda d: d.update(imgsz="64"),
    ],
    ids=["incomplete", "short", "nan", "above-1", "text", "objective", "size"],
)
def test_damaged__is_one_line(weights, change):
    """Damaged confidences are refused with the command that makes them anew."""
    store(weights, stored())
    checkpoint = load(weights)
    change(checkpoint[KEY])
    with pytest.raises(WeightsError, match=r"w\.pt': the confidences for --conf auto are damaged; .*val --weights"):
        stored_in(checkpoint, weights, len(CLASSES))


def test_none_stored__is_one_line(weights, tmp_path, capsys):
    """detect --conf auto with weights that hold no confidences says how to find them, and writes nothing."""
    with pytest.raises(OptionError):
        stored_in(load(weights), weights, len(CLASSES))
    (tmp_path / "a.png").write_bytes(picture())
    args = ["detect", "--source", str(tmp_path / "a.png"), "--weights", str(weights), "--project", str(tmp_path / "r")]
    with pytest.raises(SystemExit) as ended:
        run([*args, "--conf", "auto"])
    line = capsys.readouterr().err.splitlines()[-1]
    assert ended.value.code == 2 and "hold no confidences" in line and "--store-conf" in line
    assert not (tmp_path / "r").exists()


def test_auto__excludes_a_number(weights, tmp_path, capsys):
    """--conf auto and a confidence given as a number exclude each other."""
    store(weights, stored())
    (tmp_path / "a.png").write_bytes(picture())
    with pytest.raises(SystemExit) as ended:
        run([*f"detect --source {tmp_path / 'a.png'} --weights {weights} --conf auto --set conf=0.3".split()])
    assert ended.value.code == 2 and "exclude each other" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("text", ["automatic", "1.5", "-0.1", "nan"])
def test_conf__other_values_are_refused(text, capsys):
    """A confidence that is neither a number from 0 to 1 nor auto is refused."""
    with pytest.raises(SystemExit) as ended:
        run(["detect", "--source", "a.png", f"--conf={text}"])
    assert ended.value.code == 2 and "not a number from 0 to 1, or auto" in capsys.readouterr().err


def picture():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return cv2.imencode(".png", image)[1].tobytes()


def candidates(seed, boxes=200, classes=3):
    """Return raw predictions, (1, 4 + classes, boxes), whose boxes in pixels, x y w h, overlap a lot."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(1, 4 + classes, boxes, generator=generator)
    values[:, :2] *= 64
    values[:, 2:4] = 10 + 10 * values[:, 2:4]
    return values


@pytest.mark.parametrize("seed", range(5))
def test_silence__is_the_threshold_of_each_class(seed):
    """After NMS exactly those boxes of validation remain that reach the confidence of their class."""
    least = [0.9, 0.3, 0.6]
    raw = candidates(seed)
    (everything,) = nms.non_max_suppression(raw.clone(), 0.01, 0.7, multi_label=True, max_det=10_000, max_time_img=99)
    expected = everything[everything[:, 4] >= torch.tensor(least)[everything[:, 5].long()]]
    silence(raw, least)
    (found,) = nms.non_max_suppression(raw, min(least), 0.7, multi_label=True, max_det=10_000, max_time_img=99)
    assert torch.equal(found, expected) and 0 < len(found) < len(everything)


def test_silence__end_to_end_models():
    """For models without NMS, scores below the confidence of their class become 0."""
    rows = torch.tensor([[[0, 0, 9, 9, 0.5, 0], [0, 0, 9, 9, 0.5, 1], [0, 0, 9, 9, 0.4, 1]]])
    silence(rows, [0.6, 0.5])
    assert rows[0, :, 4].tolist() == [0, 0.5, 0]


@pytest.mark.parametrize("conf", ["auto", "0.0001"])
def test_detect__keeps_to_the_confidences(weights, tmp_path, conf, capsys):
    """detect --conf auto shows what reaches its class's confidence and reports these; a number is for all classes."""
    least = [0.011, 0.0105, 0.01, 0.5, 0.0]
    store(weights, stored(confidence=least))
    (tmp_path / "a.png").write_bytes(picture())
    args = f"detect --source {tmp_path / 'a.png'} --weights {weights} --conf {conf} --project {tmp_path} --name r"
    with pytest.raises(SystemExit):
        run([*args.split(), "--save-json", "--json", "--no-save"])
    used = json.loads(capsys.readouterr().out)["confidence"]
    records = json.loads((tmp_path / "r" / "predictions.json").read_text())
    assert records
    if conf == "auto":
        assert used == dict(zip(CLASSES, least, strict=True))
        assert all(record["score"] >= used[record["category"]] - 1e-6 for record in records)
    else:
        assert used == 0.0001
        assert any(record["score"] < least[record["category_id"] - 1] for record in records)


@pytest.mark.parametrize(("objective", "used"), [("f1", 0.275), ("recall=0.8", 0.0096)])
def test_detect__no_confidence_of_chance(weights, tmp_path, capsys, objective, used):
    """A class of which hardly anything was found does not flood the pictures, unless a recall was asked for."""
    store(weights, stored(confidence=[0.2, 0.3, 0.0096, 0.5, 0.25], objective=objective))
    (tmp_path / "a.png").write_bytes(picture())
    args = f"detect --source {tmp_path / 'a.png'} --weights {weights} --conf auto --project {tmp_path} --json".split()
    with pytest.raises(SystemExit):
        run(args)
    told = json.loads(capsys.readouterr().out)["confidence"]
    assert list(told.values()) == pytest.approx([0.2, 0.3, used, 0.5, 0.25])


def test_detect__another_size_is_told(weights, tmp_path, caplog):
    """Confidences hold for the image size that they were chosen at, and detect warns if it uses another."""
    store(weights, stored())
    (tmp_path / "a.png").write_bytes(picture())
    args = f"detect --source {tmp_path / 'a.png'} --weights {weights} --conf auto --no-save --imgsz 96".split()
    args += ["--project", str(tmp_path / "r")]
    with pytest.raises(SystemExit) as ended:
        run(args)
    assert not ended.value.code and "chosen at imgsz 64, but this run uses 96" in caplog.text


def test_keep__nothing_where_there_is_no_point(weights):
    """Where no confidence can be chosen, the weights stay as they are, with what was stored before."""
    builder = GroundTruthBuilder(CLASSES)
    builder.add_image("a.jpg", 64, 64, [[0, 0, 9, 9]], [0])
    store(weights, stored())
    content = weights.read_bytes()
    nothing = operating_point(builder.build(), Detections.from_json([]))
    facts = dict(classes=len(CLASSES), imgsz=64, split="val", sha="1")
    assert not keep(weights, nothing, **facts) and weights.read_bytes() == content
    record = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.5}
    assert keep(weights, operating_point(builder.build(), Detections.from_json([record])), **facts)
    assert stored_in(load(weights), weights, len(CLASSES)).confidence == [0.25] * len(CLASSES)
