"""Proves what the demo dataset promises: sizes, crowding, difficult objects, regions, determinism, and a safe write.

Run: python -m pytest tests/datasets/demo/test_demo_promises.py
"""

from pathlib import Path

import cv2
import numpy as np
import pytest

from pixelkeep.datasets.annotations.record import ImageRecord, box_areas
from pixelkeep.datasets.definitions.spec import load_spec
from pixelkeep.datasets.demo import CROWDED, FORMS, NAMES, SIZE, SPLITS, demo_scene, write_demo
from pixelkeep.datasets.demo.scene import Scene
from pixelkeep.datasets.images.pixels import read_pixels
from pixelkeep.datasets.loading import load_split
from pixelkeep.datasets.yolo import load_yolo
from pixelkeep.errors import DataError

FEW = {"train": 3, "val": 2}


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    """Every scene of train and val at seed 0."""
    return [demo_scene(split, index) for split in ("train", "val") for index in range(SPLITS[split])]


@pytest.fixture(scope="module")
def records(demo: Path) -> dict[str, list[ImageRecord]]:
    """The records of each split."""
    return {split: load_yolo(demo / "demo.yaml", split) for split in SPLITS}


def all_boxes(records: dict[str, list[ImageRecord]], *splits: str) -> np.ndarray:
    return np.concatenate([record.boxes for split in splits for record in records[split]])


def assert_same(found: list[ImageRecord], expected: list[ImageRecord]) -> None:
    """Assert that two lists of records hold the same images and annotations, exactly."""
    assert [record.path.name for record in found] == [record.path.name for record in expected]
    for one, other in zip(found, expected, strict=True):
        assert (one.width, one.height) == (other.width, other.height)
        for field in ("boxes", "classes", "areas", "difficult", "regions"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field), err_msg=f"{one.path}: {field}")


def test_demo__two_thirds_small_a_fifth_tiny_some_large(records: dict[str, list[ImageRecord]]) -> None:
    """About 2/3 of the labelled objects are COCO-small, about 1/5 under 16x16, and all three sizes occur in val."""
    boxes = all_boxes(records, "train", "val")
    areas = box_areas(boxes)
    assert 0.62 <= np.mean(areas < 32**2) <= 0.72
    assert 0.16 <= np.mean((boxes[:, 2:] - boxes[:, :2] < 16).all(1)) <= 0.25
    val = box_areas(all_boxes(records, "val"))
    assert len(val) >= 350
    assert np.sum((val > 32**2) & (val < 96**2)) >= 50
    assert np.sum(val > 96**2) >= 5


def test_demo__every_class_in_every_split(records: dict[str, list[ImageRecord]]) -> None:
    """There are at least four classes, and each occurs in train, val and test."""
    assert len(NAMES) >= 4
    for split in SPLITS:
        assert set(np.concatenate([record.classes for record in records[split]])) == set(NAMES)


def test_demo__one_crowd_some_empty_some_difficult(records: dict[str, list[ImageRecord]]) -> None:
    """One image has over 150 objects, about one in twenty has none, and 2 to 8 % of the objects are difficult."""
    counts = [len(record.boxes) for split in ("train", "val") for record in records[split]]
    assert sum(count > 150 for count in counts) == 1
    assert len(records[CROWDED[0]][CROWDED[1]].boxes) > 150
    assert 4 <= counts.count(0) <= 10
    for split in ("train", "val"):
        assert 0.02 <= np.mean(np.concatenate([record.difficult for record in records[split]])) <= 0.08


def test_demo__regions_hold_fifteen_percent_of_the_objects(scenes: list[Scene]) -> None:
    """Regions to ignore hold 15 ± 3 % of all objects drawn, and no labelled box touches one."""
    ignored = sum(scene.ignored for scene in scenes)
    assert ignored / (ignored + sum(len(scene.boxes) for scene in scenes)) == pytest.approx(0.15, abs=0.03)
    for scene in scenes:
        for x1, y1, x2, y2 in scene.regions:
            apart = (scene.boxes[:, 0] >= x2) | (scene.boxes[:, 2] <= x1)
            apart |= (scene.boxes[:, 1] >= y2) | (scene.boxes[:, 3] <= y1)
            assert apart.all()


def test_demo__files_hold_the_scenes(demo: Path, scenes: list[Scene], records: dict[str, list[ImageRecord]]) -> None:
    """The files hold the rendered scenes box for box; images lose only what JPEG compression takes."""
    written = [*records["train"], *records["val"]]
    for scene, record in zip(scenes, written, strict=True):
        np.testing.assert_array_equal(record.boxes, scene.boxes)
        np.testing.assert_array_equal(record.classes, scene.classes)
        np.testing.assert_array_equal(record.difficult, scene.difficult)
        np.testing.assert_array_equal(record.regions, scene.regions)
    difference = read_pixels(written[0].path).astype(float) - scenes[0].picture
    assert np.abs(difference).mean() < 4


@pytest.mark.parametrize("split", SPLITS)
def test_demo__three_forms_same_annotations(demo: Path, records: dict[str, list[ImageRecord]], split: str) -> None:
    """YOLO, COCO and VOC hold exactly the same boxes, classes, flags and regions."""
    for name in FORMS.values():
        spec = load_spec(demo / name)
        found = load_split(spec, split)
        assert spec.names == NAMES and not found.problems.found
        assert_same(found.records, records[split])


def test_demo__boxes_are_whole_and_inside(records: dict[str, list[ImageRecord]]) -> None:
    """Boxes are whole pixels, at least 4 wide and high, and inside their image."""
    boxes = all_boxes(records, *SPLITS)
    height, width = SIZE
    assert (boxes == boxes.round()).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= 4).all()
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= [width, height]).all()


def test_demo__video_plays(demo: Path) -> None:
    """The video has 40 frames of the images' size, and its window moves."""
    video = cv2.VideoCapture(str(demo / "demo.mp4"))
    frames = []
    while (read := video.read())[0]:
        frames.append(read[1])
    video.release()
    assert len(frames) == 40 and frames[0].shape == (*SIZE, 3)
    assert np.abs(frames[0].astype(float) - frames[-1]).mean() > 10


def test_write_demo__same_seed_same_bytes(tmp_path: Path) -> None:
    """The same seed writes the same bytes, and another seed writes other scenes."""
    roots = [write_demo(tmp_path / name, seed, splits=FEW).parent for name, seed in (("a", 5), ("b", 5), ("c", 6))]
    contents = [
        {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.suffix in {".jpg", ".txt", ".xml"}}
        for root in roots
    ]
    assert contents[0] == contents[1]
    assert contents[0].keys() == contents[2].keys() and contents[0] != contents[2]


def test_write_demo__complete_dataset_reused(tmp_path: Path) -> None:
    """A second call with the same seed leaves every file alone; another seed replaces the dataset."""
    root = write_demo(tmp_path / "demo", splits=FEW).parent
    (root / "note.txt").write_text("still here")
    assert write_demo(root, splits=FEW) == root / "demo.yaml"
    assert (root / "note.txt").exists()
    write_demo(root, seed=1, splits=FEW)
    assert not (root / "note.txt").exists()


def test_write_demo__interruption_leaves_nothing(tmp_path: Path) -> None:
    """An interruption leaves no half dataset, and an older dataset as it was."""

    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_demo(tmp_path / "demo", progress=interrupt, splits=FEW)
    assert list(tmp_path.iterdir()) == []
    yaml = write_demo(tmp_path / "demo", splits=FEW)
    before = yaml.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write_demo(tmp_path / "demo", seed=1, progress=interrupt, splits=FEW)
    assert [p.name for p in tmp_path.iterdir()] == ["demo"]
    assert yaml.read_bytes() == before and len(load_yolo(yaml, "train")) == FEW["train"]


def test_write_demo__foreign_folder_left_alone(tmp_path: Path) -> None:
    """A folder with other files is refused and its files are kept."""
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="choose another folder"):
        write_demo(tmp_path, splits=FEW)
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    with pytest.raises(DataError, match="seed -1"):
        write_demo(tmp_path / "new", seed=-1)
