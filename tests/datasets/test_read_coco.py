"""COCO JSON is read as it is: what is understood, mended or noted, and every bad annotation is named.

Run: python -m pytest tests/datasets/test_read_coco.py
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pixelkeep.datasets.definitions.spec import DatasetSpec, load_spec
from pixelkeep.datasets.files.coco_file import read_coco_file
from pixelkeep.datasets.loading import Split, load_split
from pixelkeep.errors import DataError

YAML = "train: train.json\nval: train.json\nimages: pictures\n"
GOOD = 5  # images, enough that one bad one is not most of them


class Coco:
    """A COCO dataset that a test changes: good images 1 to 5 with an object each, in a folder of pictures."""

    def __init__(self, root: Path, picture):
        self.root = root
        for number in range(1, GOOD + 1):
            picture(root / "pictures" / f"{number}.png")
        self.images = [{"id": n, "file_name": f"{n}.png", "width": 40, "height": 30} for n in range(1, GOOD + 1)]
        self.annotations = [annotation(n, n) for n in range(1, GOOD + 1)]
        self.categories = [{"id": 9, "name": "late"}, {"id": 3, "name": "early"}]

    def spec(self, yaml: str = "") -> DatasetSpec:
        document = {"images": self.images, "annotations": self.annotations, "categories": self.categories}
        (self.root / "train.json").write_text(json.dumps(document))
        (self.root / "data.yaml").write_text(YAML + yaml)
        return load_spec(self.root / "data.yaml")

    def load(self, yaml: str = "") -> Split:
        return load_split(self.spec(yaml), "train")


def annotation(number: int, image: int, **changes) -> dict:
    return {"id": number, "image_id": image, "category_id": 3, "bbox": [1, 2, 10, 8], "area": 70} | changes


@pytest.fixture
def coco(tmp_path, picture) -> Coco:
    return Coco(tmp_path, picture)


def test_reads__classes_areas_flags_regions_and_ids(coco):
    """Classes follow the category ids' order; areas, ignore, crowds and ids are those of the file, in its order."""
    coco.annotations += [
        annotation(12, 1, category_id=9, bbox=[3.5, 4, 5, 6], area=None, ignore=1),
        annotation(11, 1, bbox=[20, 20, 10, 5], iscrowd=1),
    ]
    split = coco.load()
    first = split.records[0]
    assert coco.spec().names == {0: "early", 1: "late"}
    assert first.boxes.tolist() == [[1, 2, 11, 10], [3.5, 4, 8.5, 10]] and first.classes.tolist() == [0, 1]
    assert first.areas.tolist() == [70, 30] and first.difficult.tolist() == [False, True]
    assert first.regions.tolist() == [[20, 20, 30, 25]]
    assert (first.image_id, first.ids.tolist(), first.region_ids.tolist()) == (1, [1, 12], [11])
    assert not split.problems.found


def test_names_given__matched_by_name(coco):
    """With names, classes follow the YAML's order, whatever the ids; a category without annotations may be left out."""
    assert coco.load("names: [late, early]\n").records[0].classes.tolist() == [1]
    assert coco.load("names: [early]\n").records[0].classes.tolist() == [0]


@pytest.mark.parametrize("yaml", ["ignore: [late]\n", "names: [early]\nignore: [late]\n", "ignore: late\n"])
def test_ignored_class__is_a_region_for_all(coco, yaml):
    """Boxes of an ignored class become regions, after the crowds, and the network does not learn the class."""
    coco.annotations += [
        annotation(8, 2, category_id=9, bbox=[5, 5, 9, 9]),
        annotation(9, 2, bbox=[0, 0, 4, 4], iscrowd=1),
    ]
    record = coco.load(yaml).records[1]
    assert coco.spec(yaml).names == {0: "early"}
    assert record.classes.tolist() == [0] and record.ids.tolist() == [2]
    assert record.regions.tolist() == [[0, 0, 4, 4], [5, 5, 14, 14]] and record.region_ids.tolist() == [9, 8]


@pytest.mark.parametrize(
    ("change", "kind", "detail"),
    [
        ({"bbox": ["1", "2", "10", "8"]}, "label not numbers", "bbox ['1', '2', '10', '8']; it must be"),
        ({"bbox": [1, 2, 10]}, "label not numbers", "bbox [1, 2, 10]"),
        ({"bbox": "1 2 10 8"}, "label not numbers", "bbox '1 2 10 8'"),
        ({"bbox": None}, "label not numbers", "bbox None"),
        ({"bbox": [1, True, 3, 4]}, "label not numbers", "bbox [1, True, 3, 4]"),
        ({"bbox": [1, 2, float("nan"), 8]}, "label not numbers", "bbox [1, 2, nan, 8]"),
        ({"bbox": [1, 2, 10**400, 8]}, "label not numbers", "bbox [1, 2, 1000"),
        ({"bbox": [1, 2, 0, 8]}, "label without a size", "width 0 and height 8"),
        ({"bbox": [1, 2, 10, -8]}, "label without a size", "width 10 and height -8"),
        ({"bbox": [40, 2, 10, 8]}, "label outside the image", "corners 40, 2, 50, 10 in pixels"),
        ({"bbox": [-20, 2, 20, 8]}, "label outside the image", "corners -20, 2, 0, 10"),
        ({"category_id": 5}, "class number unknown", "category_id 5 is not in 'categories'"),
        ({"category_id": [3]}, "class number unknown", "category_id [3]"),
        ({"category_id": None}, "class number unknown", "category_id None"),
    ],
)
def test_bad_annotation__leaves_its_image_out(coco, change, kind, detail):
    """An annotation that cannot be understood leaves its image out, named by file, place, id and image."""
    coco.annotations.append(annotation(77, 3, **change))
    split = coco.load()
    (problem,) = split.problems.found
    assert (problem.effect, problem.kind, problem.file.name) == ("left out", kind, "train.json")
    assert problem.detail.startswith("annotations[5] (id 77) of 3.png: ") and detail in problem.detail
    assert [record.path.name for record in split.records] == ["1.png", "2.png", "4.png", "5.png"]


@pytest.mark.parametrize(
    ("change", "effect", "kind", "detail"),
    [
        (lambda c: c.annotations[0].update(bbox=[-5, 2, 10, 8]), "mended", "boxes across", "1 of 1 of 1.png"),
        (lambda c: c.annotations[0].update(area="70"), "mended", "area not a number", "annotations[0] (id 1)"),
        (lambda c: c.annotations[0].update(area=-1), "mended", "area not a number", "annotations[0] (id 1)"),
        (lambda c: c.annotations[0].update(area=1e999), "mended", "area not a number", "annotations[0] (id 1)"),
        (
            lambda c: c.annotations.append(annotation(6, 1, bbox=[9, 9, 0, 3], iscrowd=1)),
            "mended",
            "regions to",
            "1 of",
        ),
        (lambda c: c.annotations.append(annotation(6, 1)), "mended", "objects given twice", "1 of 2"),
        (
            lambda c: c.annotations.append(annotation(6, 99)),
            "noted",
            "not listed",
            "1, the first: annotations[5] (id 6)",
        ),
        (lambda c: c.annotations.append(annotation(1, 2)), "noted", "annotation ids not used", "each given once"),
        (lambda c: c.annotations[0].update(id=0), "noted", "annotation ids from 0", "pycocotools never matches"),
        (lambda c: c.images[1].update(file_name="x.png"), "left out", "image unusable", "No such file or directory"),
        (lambda c: c.images[1].update(width=41), "left out", "image of another size", "2.png: 41x30 pixels"),
    ],
)
def test_other_mistakes__mended_noted_or_left_out(coco, change, effect, kind, detail):
    """What needs no guessing is mended, what changes nothing is noted, and an image unlike its entry is left out."""
    change(coco)
    (problem,) = (p for p in coco.load().problems.found if "given twice" not in p.kind or "given twice" in kind)
    assert problem.effect == effect and kind in problem.kind and detail in problem.detail


def test_areas__missing_or_unusable_is_the_box(coco):
    """The box's area replaces an unusable one; where a box is cut, its own area is cut too, a mask's area is not."""
    del coco.annotations[0]["area"]
    coco.annotations[1].update(area="x")
    coco.annotations[2].update(bbox=[-5, 2, 10, 8], area=80)
    coco.annotations[3].update(bbox=[-5, 2, 10, 8], area=33)
    assert [record.areas.tolist() for record in coco.load().records] == [[80], [80], [40], [33], [70]]


def test_sizes_missing__those_of_the_image(coco):
    """Width and height may be missing or 0, as they are read from the image itself."""
    del coco.images[0]["width"]
    coco.images[1].update(width=0, height=0)
    split = coco.load()
    assert {(record.width, record.height) for record in split.records} == {(40, 30)} and not split.problems.found


def test_spelling__accepted_where_unambiguous_and_noted(coco):
    """The keys of the published HIT-UAV are accepted and noted; two keys that could both be meant are refused."""
    coco.spec()
    text = (coco.root / "train.json").read_text()
    text = text.replace('"file_name"', '"filename"').replace('"annotations"', '"annotation"')
    (coco.root / "train.json").write_text(text)
    split = load_split(load_spec(coco.root / "data.yaml"), "train")
    assert len(split.records) == GOOD
    assert {p.detail for p in split.problems.found} == {"'filename' as 'file_name'", "'annotation' as 'annotations'"}
    (coco.root / "train.json").write_text(text.replace('"categories"', '"Annotations": [], "categories"'))
    with pytest.raises(DataError, match="no list 'annotations'"):
        read_coco_file(coco.root / "train.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c.images.append({"id": 2, "file_name": "9.png"}),
            r"images\[5\] \('9.png'\) has id 2, which images\[1\]",
        ),
        (lambda c: c.images.append({"id": 8, "file_name": "2.png"}), r"images\[1\] and images\[5\] are both '2.png'"),
        (lambda c: c.images.append({"id": 8}), r"images\[5\] has file_name None"),
        (lambda c: c.images.append({"id": [8], "file_name": "9.png"}), r"images\[5\] \('9.png'\) has id \[8\]"),
        (
            lambda c: c.categories.append({"id": 3, "name": "x"}),
            r"categories\[2\] \('x'\) has id 3, which categories\[1\]",
        ),
        (lambda c: c.categories.append({"id": 4, "name": "late"}), "two categories are called 'late'"),
        (lambda c: c.categories.append({"id": 4}), r"categories\[2\] \(id 4\) has no name"),
        (lambda c: c.annotations.append("x"), "no list 'annotations'"),
    ],
)
def test_file_that_contradicts_itself__refused(coco, change, message):
    """Images and categories that cannot be told apart are refused in one line with the file and the entries."""
    change(coco)
    with pytest.raises(DataError, match=message) as error:
        coco.load()
    assert str(error.value).startswith(str(coco.root / "train.json")) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "no list 'images'; a COCO file has images, annotations and categories"),
        ("{", "line 1: not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"images": {}}', "no list 'images'"),
    ],
)
def test_no_coco_file__refused(coco, text, message):
    """A file that is no COCO JSON is refused in one line."""
    coco.spec()
    (coco.root / "train.json").write_text(text)
    with pytest.raises(DataError, match=message):
        load_spec(coco.root / "data.yaml")


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        (
            "names: [late]\n",
            r"category 'early' \(id 3\) is neither in names nor under ignore of .*data.yaml; they have late",
        ),
        ("names: [earli, late]\n", "category 'early'.* did you mean 'earli'"),
        ("ignore: [lat]\n", "'ignore: lat' is not one of the classes; did you mean 'late'"),
        ("ignore: [late, early]\n", "no class is left"),
        ("names: [early, early]\n", "two classes are called 'early'"),
        ("ignore: {a: b}\n", "'ignore:' must be a list of class names"),
    ],
)
def test_classes_that_do_not_fit__refused(coco, yaml, message):
    """A category outside names and ignore, or names that do not fit the file, give one line with the nearest name."""
    with pytest.raises(DataError, match=message):
        coco.load(yaml)


def test_several_files__one_split(coco, picture):
    """A split may be several files with ids of their own; an image in two of them is refused."""
    spec = coco.spec()
    picture(coco.root / "pictures" / "more.png")
    document = json.loads((coco.root / "train.json").read_text())
    document["images"] = [{"id": 1, "file_name": "more.png"}]
    (coco.root / "more.json").write_text(json.dumps(document))
    (coco.root / "data.yaml").write_text(YAML.replace("train: train.json", "train: [more.json, train.json]"))
    split = load_split(load_spec(coco.root / "data.yaml"), "train")
    assert [r.path.name for r in split.records] == [*(f"{n}.png" for n in range(1, GOOD + 1)), "more.png"]
    assert "4, the first: annotations[1] (id 2)" in [p.detail for p in split.problems.found]
    document["images"][0]["file_name"] = "2.png"
    (coco.root / "more.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"2\.png' is in .*more\.json as well"):
        load_split(load_spec(coco.root / "data.yaml"), "train")
    assert spec.form == "coco"


def test_file__read_again_once_it_changed(coco):
    """A file is parsed once in a process, and again when it has changed."""
    coco.spec()
    first = read_coco_file(coco.root / "train.json")
    assert read_coco_file(coco.root / "train.json") is first
    coco.annotations.append(annotation(6, 1))
    coco.spec()
    assert len(read_coco_file(coco.root / "train.json").rows) == GOOD + 1


def test_folder__only_read(coco):
    """Reading the dataset writes nothing beside the data."""
    spec = coco.spec()
    before = {path: path.stat().st_mtime_ns for path in coco.root.rglob("*")}
    load_split(spec, "train")
    assert {path: path.stat().st_mtime_ns for path in coco.root.rglob("*")} == before
