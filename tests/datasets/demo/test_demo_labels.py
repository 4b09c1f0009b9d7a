"""The demo sets for classification and segmentation hold what they promise."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pixelkeep.datasets.class_folders import load_class_split, read_class_folders
from pixelkeep.datasets.definitions.spec import load_spec
from pixelkeep.datasets.demo import demo_scene
from pixelkeep.datasets.demo.labels import (
    NAMES,
    WINDOW,
    _cut,
    label_scene,
    scene_mask,
    write_class_demo,
    write_mask_demo,
)
from pixelkeep.datasets.demo.objects import CLASSES
from pixelkeep.datasets.demo.terrain import WATER
from pixelkeep.datasets.mask_files import IGNORED, load_mask_split
from pixelkeep.errors import DataError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PIXELKEEP_HOME", str(tmp_path / "home"))


def test_classes__as_many_as_promised_and_reproducible(tmp_path):
    """Each class has the asked number of windows, the same for the same seed; a second call writes nothing."""
    counts = {"train": 3, "val": 2}
    paths = [write_class_demo(tmp_path / name, per_class=counts) for name in "ab"]
    contents = [{p.relative_to(path.parent): p.read_bytes() for p in path.parent.rglob("*.png")} for path in paths]
    assert contents[0] == contents[1] and len(contents[0]) == 5 * len(CLASSES)
    spec = read_class_folders(paths[0])
    assert sorted(spec.names.values()) == sorted(CLASSES)
    assert np.bincount([r.label for r in load_class_split(spec, "train").records]).tolist() == [3] * len(CLASSES)
    assert all((r.width, r.height) == (WINDOW, WINDOW) for r in load_class_split(spec, "val").records)
    changed = paths[0].stat().st_mtime_ns
    assert write_class_demo(tmp_path / "a", per_class=counts).stat().st_mtime_ns == changed


def test_windows__the_object_is_in_the_middle():
    """A window is centred on its object, moved by the shift, and kept inside the picture at the edges."""
    rows, columns = np.mgrid[:256, :256]
    picture = np.stack([columns, rows, rows], 2).astype(np.uint8)  # each pixel holds its own column and row
    window = _cut(picture, np.array([100.0, 50.0, 120.0, 70.0]), np.array([3, -2]))
    assert window.shape == (WINDOW, WINDOW, 3) and window[WINDOW // 2, WINDOW // 2, :2].tolist() == [113, 58]
    corner = _cut(picture, np.array([250.0, 0.0, 256.0, 6.0]), np.array([0, 0]))
    assert corner[0, 0, :2].tolist() == [256 - WINDOW, 0]


def test_masks__say_what_was_drawn():
    """Boats lie on water, each object's box holds its class, and hidden (difficult) objects are ignored."""
    seen = set()
    for index in range(24):
        scene = label_scene("train", index)
        mask = scene_mask(scene)
        assert (scene.zone[mask == NAMES.index("boat")] == WATER).all()
        for (x1, y1, x2, y2), number, hard in zip(scene.boxes.astype(int), scene.classes, scene.difficult, strict=True):
            inside = mask[y1:y2, x1:x2]
            name = {"car": "vehicle", "truck": "vehicle"}.get(CLASSES[number], CLASSES[number])
            share = (inside == (IGNORED if hard else NAMES.index(name))).mean()
            assert share == 1 if hard else share > 0.3
            for edge in () if hard else (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
                assert (edge == NAMES.index(name)).any()  # the box is tight around the mask
            seen.add((name, bool(hard)))
    assert {name for name, hard in seen if not hard} == {"building", "vehicle", "boat", "person"}
    assert any(hard for _, hard in seen)


def test_masks__written_as_they_are_read(tmp_path):
    """The files hold the scenes' masks, and every class occurs in them."""
    spec = load_spec(write_mask_demo(tmp_path / "sem", splits={"train": 4, "val": 4}))
    split = load_mask_split(spec, "train")
    assert list(spec.names.values()) == list(NAMES) and not split.problems.found
    assert (sum(record.pixels for record in split.records) > 0).all()
    stored = cv2.imread(str(split.records[2].mask), cv2.IMREAD_UNCHANGED)
    assert (stored == scene_mask(label_scene("train", 2))).all()


def test_scenes__are_none_of_the_detection_demo():
    """No scene is in two splits, nor in the demo for detection."""
    pictures = {label_scene(split, 0).picture.tobytes() for split in ("train", "val", "test")}
    pictures |= {demo_scene(split, 0).picture.tobytes() for split in ("train", "val", "test")}
    assert len(pictures) == 6


def test_other_folder__left_alone(tmp_path):
    """A folder that is not a demo dataset is refused, and so is a negative seed."""
    (tmp_path / "mine.txt").touch()
    for write in (write_class_demo, write_mask_demo):
        with pytest.raises(DataError, match="already exists and is not a demo dataset"):
            write(tmp_path)
        with pytest.raises(DataError, match="seed -1"):
            write(tmp_path / "new", seed=-1)
