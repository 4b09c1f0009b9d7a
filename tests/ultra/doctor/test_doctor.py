"""The whole examination: planted faults are found, the demo has none, the document is complete, weights are judged."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from ultralytics.nn.tasks import DetectionModel

from pixelkeep.datasets.demo import write_demo
from pixelkeep.errors import DataError, OptionError
from pixelkeep.ultra.doctor.document import FILES, examine

SMALL = {"imgsz": 64, "model": "yolov5-n", "batch": 2}


class Folder:
    """A YOLO dataset that a test fills with images of 128 x 96 pixels and objects of known sizes."""

    def __init__(self, root: Path, names: str = "[car, bus]"):
        self.root = root
        self.yaml = root / "data.yaml"
        root.mkdir(parents=True, exist_ok=True)
        self.yaml.write_text(f"train: images/train\nval: images/val\nnames: {names}\n")

    def add(self, split: str, name: str, seed: int, objects: list[tuple[int, float, float, float]]) -> None:
        """Add an image with objects, each given by its class, the x and y of its middle, and its side, in pixels."""
        coarse = np.random.default_rng(seed).integers(0, 255, (8, 10, 3)).astype(np.uint8)
        for kind in ("images", "labels"):
            (self.root / kind / split).mkdir(parents=True, exist_ok=True)
        picture = cv2.resize(coarse, (128, 96), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(self.root / "images" / split / f"{name}.png"), picture)
        rows = [f"{c} {x / 128} {y / 96} {side / 128} {side / 96}\n" for c, x, y, side in objects]
        (self.root / "labels" / split / f"{name}.txt").write_text("".join(rows))


def spread(side: float, count: int = 4, cls: int = 0) -> list[tuple[int, float, float, float]]:
    return [(cls + i % 2, 20 + 25 * i, 30 + 10 * i, side) for i in range(count)]


@pytest.fixture
def sound(tmp_path) -> Folder:
    """Six train and three val images of different scenes, each with four objects of 10 pixels in two classes."""
    folder = Folder(tmp_path / "sound")
    for i in range(6):
        folder.add("train", f"a{i}_0", i, spread(10))
    for i in range(3):
        folder.add("val", f"b{i}_0", 50 + i, spread(10))
    return folder


def run(folder: Folder, tmp_path: Path, **options) -> tuple[dict, Path]:
    return examine(data=str(folder.yaml), project=str(tmp_path / "runs"), **{**SMALL, **options})


def untrained(folder: Path, names: list[str]) -> Path:
    """Write the weights of an untrained model for image size 64, and return their path."""
    network = DetectionModel("yolov5n.yaml", nc=len(names), verbose=False)
    network.names = dict(enumerate(names))
    torch.save({"model": network.half(), "train_args": {"imgsz": 64, "model": "yolov5n.yaml"}}, folder / "untrained.pt")
    return folder / "untrained.pt"


def kinds(document: dict) -> dict[str, str]:
    return {finding["kind"]: finding["level"] for finding in document["findings"]}


def test_examine__of_known_sizes(sound, tmp_path):
    """Objects of 10 px in images of 128 px have 5 px at imgsz 64, so 12 px need 64 * 12 / 5, in whole cells 160."""
    document, folder = run(sound, tmp_path)
    assert document["sizes"]["original"]["percentiles"]["50"] == pytest.approx(10)
    assert document["sizes"]["network"]["percentiles"]["50"] == pytest.approx(5)
    assert document["sizes"]["network"]["under"] == {"8": 1, "16": 1, "32": 1}
    assert document["splits"]["train"]["classes"] == {"car": 12, "bus": 12}
    coarse, fine = document["choices"]
    assert (coarse["head"], coarse["size"], fine["head"], fine["size"]) == ("P3", (160, 160), "P2", (96, 96))
    assert fine["gflops"] < coarse["gflops"]  # of the two, the head of stride 4 on smaller images is the cheaper one
    texts = {item["kind"]: item["text"] for item in document["advice"]}
    assert texts["image size"] == "use --imgsz 160, or 96 with --model yolov5-p2-n"
    assert "not measured" in document["advice"][0]["why"] and "head" not in texts
    assert re.fullmatch(r"expect .* GB at 64, .* GB at 160, .* GB at 96 with yolov5-p2-n in training", texts["memory"])
    assert texts["boxes"] == "train with --set initial_box=2"
    assert document["memory"]["bytes"] == sum(
        document["memory"][key] for key in ("weights", "activations", "loss", "workspace")
    )
    assert {path.name for path in folder.iterdir()} == {"doctor.json", "sizes.png", "smallest.jpg"} < set(FILES)
    assert json.loads((folder / "doctor.json").read_text()) == json.loads(json.dumps(document))
    assert "duplicates" not in kinds(document) and kinds(document)["cells"] == "warning"


def test_examine__never_advises_less_than_is_asked(sound, tmp_path):
    """For objects of 10 px at 128, a P2 head would do at 96 but is advised at 128, with the memory that 128 takes."""
    document, _ = run(sound, tmp_path, imgsz=128)
    texts = {item["kind"]: item["text"] for item in document["advice"]}
    assert texts["image size"] == "use --imgsz 160, or 128 with --model yolov5-p2-n"
    assert re.search(r"GB at 128, .* GB at 160, .* GB at 128 with yolov5-p2-n", texts["memory"])


def test_examine__boxes_of_a_head_that_has_learnt(sound, tmp_path):
    """A checkpoint's head knows boxes already, so there is no advice on the boxes that a new head begins with."""
    document, _ = run(sound, tmp_path, model=str(untrained(sound.root, ["car", "bus"])))
    assert not any(item["kind"] == "boxes" for item in document["advice"])


def test_examine__finds_planted_faults(sound, tmp_path):
    """Planted faults are found: a scene in two splits, a copy, a class absent from val, a shared group, a bad label."""
    for record in (sound.root / "labels/val").glob("*.txt"):
        record.write_text("".join(line for line in record.read_text().splitlines(True) if line.startswith("0")))
    sound.add("val", "a3_1", 3, spread(10)[:1])
    sound.add("train", "a5_1", 5, spread(10))
    (sound.root / "labels/train/a0_0.txt").write_text("7 0.5 0.5 0.1 0.1\n")
    document, folder = run(sound, tmp_path, group=r"^(\w+)_")
    found = kinds(document)
    assert {found[kind] for kind in ("duplicates", "groups", "problem", "classes")} == {"error"}
    assert found["copies"] == "warning"
    (pair,) = document["duplicates"]["pairs"]
    assert (pair["first"], pair["second"]) == ("images/train/a3_0.png", "images/val/a3_1.png")
    assert document["duplicates"]["copies"]["train"] == [["images/train/a5_0.png", "images/train/a5_1.png"]]
    assert document["groups"]["shared"] == {"a3": {"train": 1, "val": 1}}
    assert document["splits"]["train"]["left_out"] == 1 and document["splits"]["val"]["classes"]["bus"] == 0
    levels = [finding["level"] for finding in document["findings"]]
    assert levels == sorted(levels, key=["error", "warning", "note"].index)
    assert (folder / "duplicates.jpg").is_file() and (folder / "data_problems.csv").is_file()


def test_examine__tiny_and_crowded_objects(tmp_path):
    """Objects that augmentation shrinks away, that crowd each other out of anchors or exceed the limits are found."""
    folder = Folder(tmp_path / "tiny")
    crowd = [(i % 2, 60 + 0.05 * i, 40.0, 3.0) for i in range(120)]
    folder.add("train", "crowd", 1, crowd)
    folder.add("val", "plain", 2, spread(30))
    document, _ = run(folder, tmp_path)
    assert {"anchors", "augmentation", "density"} <= set(kinds(document))
    # 3 px become 1.5 px, which stay under 2 px up to a scale factor of 4/3: five sixths of all views.
    assert document["augmentation"]["views"] == pytest.approx(5 / 6) and document["augmentation"]["ever"] == 1
    assert document["density"] == {"densest": 120, "limit": 300, "images_over": {"100": 1, "300": 0}}
    assert 0 < document["anchors"]["unassigned"] < 120


def test_examine__a_split_that_cannot_be_used_is_a_finding(sound, tmp_path):
    """If val has no label at all, train is examined all the same; if nothing can be used, that is an error."""
    for record in (sound.root / "labels/val").glob("*.txt"):
        record.unlink()
    document, _ = run(sound, tmp_path)
    assert kinds(document)["refused"] == "error" and list(document["splits"]) == ["train"]
    for record in (sound.root / "labels/train").glob("*.txt"):
        record.unlink()
    with pytest.raises(DataError, match="no image of split 'train' has a label"):
        run(sound, tmp_path)


def test_examine__rectangles_and_p2_heads(sound, tmp_path):
    """A rectangle of the images' shape shrinks them less; a P2 model has half the goal size and no other choice."""
    document, _ = run(sound, tmp_path, imgsz=[96, 128], model="yolov8-p2-n")
    assert document["imgsz"] == [96, 128] and document["strides"] == [4, 8, 16, 32]
    assert document["sizes"]["network"]["percentiles"]["50"] == pytest.approx(10)
    assert document["sizes"]["goal"] == 6 and len(document["choices"]) == 1
    assert document["advice"][0]["text"] == "keep --imgsz 96 128"
    assert not any(item["kind"] == "boxes" for item in document["advice"])  # boxes of a P2 head begin at half the size
    plain, _ = run(sound, tmp_path, imgsz=[100, 128], model="yolov8-n")
    assert plain["imgsz"] == [128, 128]  # rounded up to whole cells
    assert plain["choices"][1]["model"] == "yolov8-p2-n" and plain["choices"][1]["gflops"] > 0


def test_examine__refuses_before_anything_is_written(sound, tmp_path):
    """An invalid pattern or weights with other classes stop the command and leave no run folder."""
    with pytest.raises(OptionError, match="--group"):
        run(sound, tmp_path, group="(")
    with pytest.raises(OptionError, match="know 3 classes"):
        run(sound, tmp_path, weights=str(untrained(tmp_path, ["dog", "cat", "cow"])))
    assert not (tmp_path / "runs").exists()


def test_examine__demo_has_no_duplicates(tmp_path):
    """No duplicates are reported among generated scenes."""
    yaml = write_demo(tmp_path / "demo", splits={"train": 12, "val": 8, "test": 2})
    document, _ = examine(data=str(yaml), project=str(tmp_path / "runs"), **SMALL)
    assert document["duplicates"]["count"] == 0
    assert not {"duplicates", "copies", "problem", "groups"} & set(kinds(document))


def test_examine__weights_are_validated_in_the_same_sizes(sound, tmp_path):
    """For an untrained model, which finds nothing, every size class is reported with its recall and misses."""
    weights = untrained(tmp_path, ["car", "bus"])
    document, folder = run(sound, tmp_path, weights=str(weights), imgsz=None, model=None)
    assert document["imgsz"] == [64, 64] and document["strides"] == [8, 16, 32]
    sizes = {(row["low"], row["high"]): row for row in document["validation"]["sizes"]}
    own = sizes[8, 16]
    assert (own["objects"], own["above_goal"]) == (12, 0)
    assert own["missed"] + own["badly_placed"] + own["wrong_class"] == round(12 * (1 - own["recall"]))
    assert sizes[96, None]["recall"] is None
    assert (folder / "val" / "errors.json").is_file()
