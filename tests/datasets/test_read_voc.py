"""Pascal VOC is read as it is: lists, pixels and pictures, and every bad file or object is named.

Run: python -m pytest tests/datasets/test_read_voc.py
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pixelkeep.datasets.definitions.spec import DatasetSpec, load_spec
from pixelkeep.datasets.files.voc_file import read_voc_file
from pixelkeep.datasets.loading import Split, load_split
from pixelkeep.errors import DataError

LIST = "ImageSets/Main/train.txt"
YAML = f"train: {LIST}\nval: {LIST}\n"
GOOD = [f"{number:06d}" for number in range(1, 6)]


def thing(name: str = "cat", box: tuple = (2, 3, 11, 10), extra: str = "") -> str:
    corners = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{name}</name>{extra}<bndbox>{corners}</bndbox></object>"


class Voc:
    """A VOC dataset that a test changes: five good images with a cat each."""

    def __init__(self, root: Path, picture):
        self.root, self.picture = root, picture
        for stem in GOOD:
            self.add(stem)
        self.list(GOOD)

    def add(self, stem: str, content: str = thing(), ending: str = ".jpg", head: str = "") -> None:
        self.picture(self.root / "JPEGImages" / f"{stem}{ending}")
        file = self.root / "Annotations" / f"{stem}.xml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{head}<annotation>{content}</annotation>")

    def list(self, lines: list[str], name: str = LIST) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines))

    def spec(self, yaml: str = "") -> DatasetSpec:
        (self.root / "data.yaml").write_text(YAML + yaml)
        return load_spec(self.root / "data.yaml")

    def load(self, yaml: str = "") -> Split:
        return load_split(self.spec(yaml), "train")


@pytest.fixture
def voc(tmp_path, picture) -> Voc:
    return Voc(tmp_path, picture)


@pytest.mark.parametrize(
    ("yaml", "box"),
    [("", [1, 2, 11, 10]), ("voc_pixels: inclusive\n", [1, 2, 11, 10]), ("voc_pixels: edges\n", [2, 3, 11, 10])],
)
def test_pixels__inclusive_from_one_or_edges(voc, yaml, box):
    """As inclusive pixels, xmin 2 and xmax 11 are ten pixels from the second on; as edges they are kept as they are."""
    assert voc.load(yaml).records[0].boxes.tolist() == [box]


def test_names__found_sorted_or_given(voc):
    """Without names the objects' names count, sorted; given names keep their order; the difficult flag is kept."""
    voc.add("000003", thing("dog", extra="<difficult>1</difficult>") + thing("ant", (1, 1, 5, 5)))
    assert voc.spec().names == {0: "ant", 1: "cat", 2: "dog"}
    record = voc.load("names: [dog, cat, ant]\n").records[2]
    assert record.classes.tolist() == [0, 2] and record.difficult.tolist() == [True, False]


def test_ignored_class__becomes_a_region(voc):
    """Objects of a class under ignore become regions."""
    voc.add("000003", thing("dog") + thing())
    record = voc.load("ignore: [dog]\n").records[2]
    assert voc.spec("ignore: [dog]\n").names == {0: "cat"}
    assert record.regions.tolist() == [[1, 2, 11, 10]] and record.classes.tolist() == [0]


def test_list__second_column_and_spaces(voc):
    """Rows with -1 are left out, with 0 or 1 kept; an existing name with spaces is not split into columns."""
    voc.add("a b 1")
    voc.list(["000001  1", "000002 -1", "000003\t0", "", "a b 1", " 000004 "])
    assert [r.path.stem for r in voc.load().records] == ["000001", "000003", "000004", "a b 1"]


def test_several_lists__each_with_its_own_root(voc, tmp_path_factory, picture):
    """A split may be several lists; annotations and pictures are found beside each list's ImageSets folder."""
    other = Voc(voc.root / "VOC2012", picture)
    other.list(["000001"])
    (voc.root / "data.yaml").write_text(YAML.replace(f"train: {LIST}", f"train: [{LIST}, VOC2012/{LIST}]"))
    records = load_split(load_spec(voc.root / "data.yaml"), "train").records
    assert [str(r.path.parent.relative_to(voc.root)) for r in records] == ["JPEGImages"] * 5 + ["VOC2012/JPEGImages"]


def test_pictures__by_the_stem_then_by_the_file_name(voc):
    """The picture is the listed stem with any ending; <filename> decides only where this is missing or ambiguous."""
    voc.add("six", thing() + "<filename>wrong.jpg</filename>", ".PNG")
    voc.add("seven", "<filename>other.png</filename>" + thing())
    (voc.root / "JPEGImages" / "seven.jpg").rename(voc.root / "JPEGImages" / "other.png")
    voc.add("eight", thing() + "<filename>eight.png</filename>")
    voc.picture(voc.root / "JPEGImages" / "eight.png")
    voc.list(["six", "seven", "eight"])
    assert [r.path.name for r in voc.load().records] == ["eight.png", "other.png", "six.PNG"]


@pytest.mark.parametrize(
    ("content", "kind", "detail"),
    [
        (
            thing("cta"),
            "class name unknown",
            "object 1 ('cta'): class 'cta' is neither in names nor under ignore; did you mean",
        ),
        (thing() + thing(""), "class name unknown", "object 2 ('')"),
        (
            thing(box=("x", 3, 11, 10)),
            "label not numbers",
            "object 1 ('cat'): xmin, ymin, xmax, ymax are 'x', '3', '11', '10'",
        ),
        (thing(box=("nan", 3, 11, 10)), "label not numbers", "'nan'"),
        ("<object><name>cat</name></object>", "label not numbers", "are nothing, nothing, nothing, nothing"),
        (thing(box=(12, 3, 11, 10)), "label without a size", "object 1 ('cat') of 000003.jpg: width 0 and height 8"),
        (thing(box=(20, 3, 11, 10)), "label without a size", "width -8 and height 8"),
        (thing(box=(50, 3, 60, 10)), "label outside the image", "corners 49, 2, 60, 10 in pixels"),
        (
            thing() + "<size><width>41</width><height>30</height></size>",
            "image of another size",
            "41x30 pixels in the annotations, but 40x30",
        ),
    ],
)
def test_bad_object__leaves_its_image_out(voc, content, kind, detail):
    """An object that cannot be understood leaves its image out and is named by file and number."""
    voc.add("000003", content)
    split = voc.load("names: [cat, dog]\n")
    (problem,) = split.problems.found
    assert (problem.effect, problem.kind, problem.file.name) == ("left out", kind, "000003.xml")
    assert detail in problem.detail and len(split.records) == 4


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<annotation><object>", "not valid XML (no element found"),
        ("", "not valid XML"),
        ("<?xml version='1.0' encoding='nonsense'?><a/>", "not valid XML (unknown encoding"),
        ('<!DOCTYPE a [<!ENTITY e "boom"><!ENTITY f "&e;&e;&e;">]><annotation>&f;</annotation>', "declares a DOCTYPE"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', "declares a DOCTYPE"),
        (None, "cannot be read (No such file or directory)"),
    ],
)
def test_bad_file__leaves_its_image_out(voc, text, reason):
    """A file that is missing, is no XML, or declares entities (never expanded) leaves its image out."""
    file = voc.root / "Annotations" / "000003.xml"
    file.unlink() if text is None else file.write_text(text)
    split = voc.load()
    (problem,) = split.problems.found
    assert (problem.kind, problem.file) == ("annotation file unreadable", file) and reason in problem.detail
    with pytest.raises(DataError, match="^" + reason.split(" (")[0]):
        read_voc_file(file)


def test_missing_picture_and_size__left_out_and_fine(voc):
    """A missing picture is named with its annotations; a <size> that is missing or 0 does not matter."""
    voc.add("000001", thing() + "<size><width>0</width><height>0</height></size>")
    (voc.root / "JPEGImages" / "000002.jpg").unlink()
    (problem,) = voc.load().problems.found
    assert problem.file.name == "000002.jpg" and "000002.xml" in problem.detail


def test_one_list_is_a_folder_or_no_text__refused(voc):
    """An image list that is not text is refused in one line with its name."""
    (voc.root / "ImageSets" / "Main" / "bad.txt").write_bytes(b"\xff\xfe\x80")
    (voc.root / "data.yaml").write_text(YAML.replace("val: " + LIST, "val: ImageSets/Main/bad.txt"))
    with pytest.raises(DataError, match=r"bad\.txt: cannot be read as text"):
        load_spec(voc.root / "data.yaml")
