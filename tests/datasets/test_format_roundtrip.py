"""Proves for each format that saving and loading gives back any record, and that damage is named, never skipped.

Run: python -m pytest tests/datasets/test_format_roundtrip.py
"""

import json
from pathlib import Path

import numpy as np
import pytest

from pixelkeep.datasets.annotations.extras import load_extras
from pixelkeep.datasets.annotations.record import ImageRecord
from pixelkeep.datasets.coco import save_coco
from pixelkeep.datasets.definitions.spec import load_spec
from pixelkeep.datasets.files.disk import write_image
from pixelkeep.datasets.files.voc_file import read_xml
from pixelkeep.datasets.loading import load_split
from pixelkeep.datasets.saving import WRITTEN, save_split, save_yaml
from pixelkeep.datasets.voc import save_voc
from pixelkeep.datasets.yolo import label_path, load_yolo, save_yolo
from pixelkeep.errors import DataError

NAMES = {0: "person", 1: "bicycle & car", 2: "straße", 3: "<boat>"}


def random_records(folder: Path, seed: int, count: int = 4) -> list[ImageRecord]:
    """Return records with fractional boxes, odd image sizes, areas unlike the boxes', difficult objects and regions."""
    rng = np.random.default_rng(seed)
    records = []
    for index in range(count):
        width, height = (int(side) for side in rng.integers(33, 700, 2))
        path = folder / f"image {index}.png"
        write_image(path, np.zeros((height, width, 3), np.uint8))
        n, m = (int(rng.integers(0, 9)), int(rng.integers(0, 3))) if index else (0, 0)
        boxes, regions = (_random_boxes(rng, k, width, height) for k in (n, m))
        areas = np.where(rng.random(n) < 0.5, 0.7, 1) * (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        labels = rng.integers(0, len(NAMES), n)
        records.append(ImageRecord(path, width, height, boxes, labels, areas, rng.random(n) < 0.3, regions))
    return records


def _random_boxes(rng: np.random.Generator, count: int, width: int, height: int) -> np.ndarray:
    corners = np.sort(rng.uniform(0, 1, (count, 2, 2)), 1) * [width, height]  # (count, corner, axis)
    return corners.reshape(count, 4).round(2)


def assert_close(found: list[ImageRecord], expected: list[ImageRecord], tolerance: float) -> None:
    """Assert equal names, sizes, classes and flags, and boxes, regions and areas within ``tolerance`` pixels."""
    assert [record.path.name for record in found] == [record.path.name for record in expected]
    for one, other in zip(found, expected, strict=True):
        assert (one.width, one.height) == (other.width, other.height)
        np.testing.assert_array_equal(one.classes, other.classes)
        np.testing.assert_array_equal(one.difficult, other.difficult)
        np.testing.assert_allclose(one.boxes, other.boxes, rtol=0, atol=tolerance)
        np.testing.assert_allclose(one.regions, other.regions, rtol=0, atol=tolerance)
        np.testing.assert_allclose(one.areas, other.areas, rtol=1e-6, atol=tolerance)


@pytest.mark.parametrize("seed", range(4))
def test_yolo__roundtrip(tmp_path: Path, seed: int) -> None:
    """Records come back from the folder and from its YAML, areas, flags and regions included."""
    root = tmp_path / "set"
    records = random_records(tmp_path / "source", seed)
    save_yolo(root, "train", records, NAMES)
    save_yolo(root, "val", records[:1], NAMES)
    save_yaml(root / "set.yaml", ("train", "val"), NAMES)
    for source in (root, root / "set.yaml"):
        assert_close(load_yolo(source, "train"), records, 1e-9)


@pytest.mark.parametrize("form", WRITTEN)
@pytest.mark.parametrize("seed", range(3))
def test_form__roundtrip(tmp_path: Path, form: str, seed: int) -> None:
    """Records and names come back from what was written, areas, flags and regions included."""
    root = tmp_path / "set"
    records = random_records(tmp_path / "source", seed)
    save_split(form, root, "train", records, NAMES)
    save_yaml(root / "set.yaml", ("train",), NAMES, form)
    spec = load_spec(root / "set.yaml", needs=("train",))
    assert spec.names == NAMES and spec.form == form
    found = load_split(spec, "train")
    assert not found.problems.found
    assert_close(found.records, records, 1e-9)


def test_coco__ids_kept_or_counted_from_one(tmp_path: Path) -> None:
    """The records' ids are written if they can be used; if some are missing or one is 0, new ids count from 1."""
    boxes, labels = [[0, 0, 2, 3], [0, 0, 4, 4]], [0, 1]
    images = [tmp_path / f"{number}.png" for number in range(2)]
    for first, expected in ((7, [[7, 8], [40]]), (0, [[1, 2], [3]]), (None, [[1, 2], [3]])):
        ids = None if first is None else [first, first + 1]
        records = [
            ImageRecord(images[0], 9, 9, boxes, labels, image_id=31, ids=ids),
            ImageRecord(images[1], 9, 9, [], [], image_id=30, regions=[[0, 0, 5, 5]], region_ids=[40]),
        ]
        save_coco(tmp_path / "c.json", records, NAMES)
        document = json.loads((tmp_path / "c.json").read_text())
        assert [image["id"] for image in document["images"]] == [31, 30]
        found = [[a["id"] for a in document["annotations"] if a["image_id"] == number] for number in (31, 30)]
        assert found == expected


def test_voc__pixels_count_from_one(tmp_path: Path) -> None:
    """The box of the first two columns and three rows is xmin 1, ymin 1, xmax 2, ymax 3, as in the VOC devkit."""
    write_image(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    save_voc(tmp_path / "voc", "val", [ImageRecord(tmp_path / "a.png", 8, 8, [[0, 0, 2, 3]], [0])], {0: "x"})
    bounds = read_xml(tmp_path / "voc" / "Annotations" / "a.xml").find("object/bndbox")
    assert {child.tag: child.text for child in bounds} == {"xmin": "1", "ymin": "1", "xmax": "2", "ymax": "3"}


def test_yolo__polygon_becomes_its_box(tmp_path: Path) -> None:
    """A row with more than five columns is a polygon; its bounding box is kept, as Ultralytics does."""
    write_image(tmp_path / "images" / "val" / "a.png", np.zeros((100, 200, 3), np.uint8))
    label = tmp_path / "labels" / "val" / "a.txt"
    label.parent.mkdir(parents=True)
    label.write_text("1 0.1 0.2 0.5 0.3 0.4 0.9\n")
    (record,) = load_yolo(tmp_path, "val")
    assert record.boxes.tolist() == [[20, 20, 100, 90]]


def test_yolo__label_path_replaces_the_last_images() -> None:
    """Only the last folder called images becomes labels, as in Ultralytics."""
    image = Path("/images/my images/images/val/sub/x.y.jpg")
    assert label_path(image) == Path("/images/my images/labels/val/sub/x.y.txt")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.1", "4 columns"),
        ("zero 0.5 0.5 0.1 0.1", "not numbers"),
        ("nan 0.5 0.5 0.1 0.1", "class nan"),
        ("-1 0.5 0.5 0.1 0.1", "class -1"),
        ("0.5 0.5 0.5 0.1 0.1", "class 0.5"),
        ("0 0.5 0.5 nan 0.1", "must be finite"),
        ("0 0.5 0.5 -0.1 0.1", "width -0.1"),
    ],
)
def test_yolo__damaged_row_named(tmp_path: Path, line: str, message: str) -> None:
    """A malformed row is an error that says what is wrong."""
    write_image(tmp_path / "images" / "val" / "a.png", np.zeros((10, 10, 3), np.uint8))
    label = tmp_path / "labels" / "val" / "a.txt"
    label.parent.mkdir(parents=True)
    label.write_text(f"{line}\n")
    with pytest.raises(DataError, match=message):
        load_yolo(tmp_path, "val")


@pytest.mark.parametrize("head", ['<!DOCTYPE a [<!ENTITY e "boom">]>', '<!DOCTYPE a SYSTEM "file:///etc/passwd">'])
def test_voc__doctype_refused(tmp_path: Path, head: str) -> None:
    """An XML file that declares a document type is refused before anything in it is expanded."""
    (tmp_path / "a.xml").write_text(f"<?xml version='1.0'?>{head}<annotation><filename>&e;</filename></annotation>")
    with pytest.raises(DataError, match="DOCTYPE"):
        read_xml(tmp_path / "a.xml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "schema 'list'"),
        ('{"schema": 2, "images": {}}', "schema 2"),
        ('{"schema": 1, "images": {"a.jpg": {"hard": [0]}}}', "has hard; allowed"),
        ('{"schema": 1, "images": {"a.jpg": {"areas": {"x": 1}}}}', "row: area"),
        ('{"schema": 1, "images": {"a.jpg": {"ids": ["x"]}}}', "needs rows"),
        ('{"schema": 1, "images": {"a.jpg": {"polygons": [[1, 2, 3]]}}}', "needs rows"),
        ("{", "line 1: not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("1" * 10_000, "not valid JSON"),
    ],
)
def test_extras__damage_named(tmp_path: Path, text: str, message: str) -> None:
    """Extras that cannot be understood are an error and are never skipped."""
    (tmp_path / "e.json").write_text(text)
    with pytest.raises(DataError, match=message):
        load_extras(tmp_path / "e.json")


def test_extras__dangling_image_or_row_named(tmp_path: Path) -> None:
    """Extras for an image or a row that does not exist are an error."""
    write_image(tmp_path / "images" / "val" / "a.png", np.zeros((10, 10, 3), np.uint8))
    extras = tmp_path / "extras" / "val.json"
    extras.parent.mkdir()
    for name, message in (("images/val/b.png", "not one of the 1 images"), ("images/val/a.png", "row 3")):
        extras.write_text(json.dumps({"schema": 1, "images": {name: {"difficult": [3]}}}))
        with pytest.raises(DataError, match=message):
            load_yolo(tmp_path, "val")


@pytest.mark.parametrize("save", [save_yolo, save_voc])
def test_save__name_clash_and_missing_name_refused(tmp_path: Path, save: callable) -> None:
    """Two images that would share an annotation file, and a class without a name, are refused."""
    for name, level in (("one/a.png", 0), ("two/a.png", 255)):
        write_image(tmp_path / name, np.full((8, 8, 3), level, np.uint8))
    one, two = (ImageRecord(tmp_path / part / "a.png", 8, 8, [[0, 0, 2, 3]], [0]) for part in ("one", "two"))
    with pytest.raises(DataError, match="share one annotation file"):
        save(tmp_path / "set", "val", [one, two], NAMES)
    save(tmp_path / "set", "val", [one], NAMES)
    with pytest.raises(DataError, match="is a different image"):
        save(tmp_path / "set", "val", [two], NAMES)
    with pytest.raises(DataError, match="class 0 has no name"):
        save(tmp_path / "new", "val", [one], {1: "x"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"boxes": [[3, 0, 1, 2]], "classes": [0]}, r"boxes\[0\]"),
        ({"boxes": [[0, 0, 1]], "classes": [0]}, "x1 y1 x2 y2"),
        ({"boxes": [[0, 0, 1, 1]], "classes": []}, "classes of shape"),
        ({"boxes": [[0, 0, 1, 1]], "classes": [-1]}, "count from 0"),
        ({"boxes": [[0, 0, 1, 1]], "classes": [0], "areas": [1, 2]}, "areas of shape"),
        ({"boxes": [[0, 0, 1, 1]], "classes": [0], "areas": [np.nan]}, "must be finite"),
        ({"boxes": [], "classes": [], "regions": [[0, 5, 1, 1]]}, r"regions\[0\]"),
        ({"boxes": [[0, 0, 1, 1]], "classes": [0], "ids": [1, 2]}, "ids of shape"),
    ],
)
def test_record__inconsistent_refused(arguments: dict, message: str) -> None:
    """A record whose arrays do not agree, or with an inverted box, cannot be made."""
    with pytest.raises(DataError, match=message):
        ImageRecord(Path("a.jpg"), 10, 10, **arguments)
