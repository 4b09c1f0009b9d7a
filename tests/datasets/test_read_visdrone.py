"""VisDrone-DET is read as it is, and every bad row is named.

Run: python -m pytest tests/datasets/test_read_visdrone.py
"""

from __future__ import annotations

import pytest

from pixelkeep.datasets.definitions.naming import VISDRONE_NAMES
from pixelkeep.datasets.definitions.spec import load_spec
from pixelkeep.datasets.loading import load_split
from pixelkeep.errors import DataError

YAML = "format: visdrone\ntrain: DET-train\nval: DET-train\n"
BOX = "1,2,10,8,1,4,0,0\n"


@pytest.fixture
def root(tmp_path, picture):
    """A VisDrone dataset of five good images."""
    (tmp_path / "DET-train" / "annotations").mkdir(parents=True)
    for number in range(5):
        picture(tmp_path / "DET-train" / "images" / f"{number}.jpg")
        (tmp_path / "DET-train" / "annotations" / f"{number}.txt").write_text(BOX)
    (tmp_path / "data.yaml").write_text(YAML)
    return tmp_path


def load(root, rows: str, yaml: str = ""):
    (root / "DET-train" / "annotations" / "3.txt").write_text(rows)
    (root / "data.yaml").write_text(YAML + yaml)
    spec = load_spec(root / "data.yaml")
    return spec, load_split(spec, "train")


def test_rows__classes_and_regions(root):
    """Categories 1 to 10 are the classes; categories 0 and 11 and rows with score 0 are regions."""
    rows = f"{BOX}0,0,5,5,0,0,0,0\n\n3,3,9,9,1,10,1,2,\r\n2,2,4,4,1,11,0,0\n5,5,6,6,0,4,0,0\n"
    spec, split = load(root, rows)
    assert list(spec.names.values()) == VISDRONE_NAMES and len(VISDRONE_NAMES) == 10
    record = split.records[3]
    assert record.boxes.tolist() == [[1, 2, 11, 10], [3, 3, 12, 12]] and record.classes.tolist() == [3, 9]
    assert record.regions.tolist() == [[0, 0, 5, 5], [2, 2, 6, 6], [5, 5, 11, 11]]
    assert not split.problems.found


def test_ignored_class__becomes_a_region(root):
    """Objects of a class under ignore become regions, and the numbers of the classes after it move up."""
    spec, split = load(root, BOX + "3,3,9,9,1,10,0,0\n", "ignore: [car]\n")
    assert list(spec.names.values()) == [name for name in VISDRONE_NAMES if name != "car"]
    assert split.records[3].classes.tolist() == [8] and split.records[3].regions.tolist() == [[1, 2, 11, 10]]


@pytest.mark.parametrize(
    ("row", "kind", "detail"),
    [
        ("1,2,10,8,1,4,0", "label with a wrong number of columns", "7 columns; they must be x,y,width"),
        ("1,2,x,8,1,4,0,0", "label not numbers", "'1,2,x,8,1,4,0,0' is not x,y"),
        ("1,2,10,8,1,12,0,0", "class number unknown", "category 12; it must be 0 to 11"),
        ("1,2,0,8,1,4,0,0", "label without a size", "3.jpg: width 0 and height 8"),
        ("40,2,4,8,1,4,0,0", "label outside the image", "3.jpg: corners 40, 2, 44, 10"),
    ],
)
def test_bad_row__leaves_its_image_out(root, row, kind, detail):
    """A row that cannot be understood leaves its image out and is named by file and line."""
    _, split = load(root, f"{BOX}{row}\n")
    (problem,) = split.problems.found
    assert (problem.effect, problem.kind, problem.line, problem.file.name) == ("left out", kind, 2, "3.txt")
    assert detail in problem.detail and len(split.records) == 4


def test_missing_file__leaves_its_image_out(root):
    """An image without an annotation file is left out and is no background: in VisDrone every image has one."""
    (root / "DET-train" / "annotations" / "1.txt").unlink()
    _, split = load(root, BOX)
    (problem,) = split.problems.found
    assert (problem.kind, problem.file.name) == ("annotation file unreadable", "1.txt")


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        (YAML.replace("val: DET-train", "val: DET-train/images"), "lacks images/ or annotations/"),
        (YAML + "names: [car]\n", "1 names; VisDrone has 10 classes"),
        (
            YAML.replace("val: DET-train", "val: a.json"),
            "'format: visdrone' wants folders with images/ and annotations/",
        ),
    ],
)
def test_bad_yaml__one_line(root, yaml, message):
    """A YAML that does not fit the form is refused in one line."""
    (root / "data.yaml").write_text(yaml)
    with pytest.raises(DataError, match=message):
        load_spec(root / "data.yaml")
