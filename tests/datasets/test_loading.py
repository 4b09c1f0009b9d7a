"""Any data: problems are counted, named by file and line, and left out, mended or refused by one rule."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from pixelkeep.datasets.annotations.problems import to_csv
from pixelkeep.datasets.definitions.spec import load_spec
from pixelkeep.datasets.images import inspection
from pixelkeep.datasets.loading import Split, load_split
from pixelkeep.errors import DataError

BOX = "0 0.5 0.5 0.2 0.2\n"
YAML = "train: images/train\nval: images/val\nnames: [car, person]\n"


class Folder:
    """A dataset folder that a test fills; ``good`` usable images are there from the start."""

    def __init__(self, root: Path, good: int = 10):
        self.root = root
        self.yaml = root / "data.yaml"
        self.yaml.write_text(YAML)
        for index in range(good):
            self.add(f"good{index}.jpg")
        self.add("val.jpg", split="val")

    def add(self, name: str, label: str | bytes | None = BOX, content: bytes | None = None, split: str = "train"):
        """Write an image of 120 x 80 pixels, or ``content``, and its label file unless ``label`` is None."""
        image = self.root / "images" / split / name
        labels = self.root / "labels" / split / f"{image.stem}.txt"
        for folder in (image.parent, labels.parent):
            folder.mkdir(parents=True, exist_ok=True)
        image.write_bytes(encode(image.suffix) if content is None else content)
        if label is not None:
            labels.write_bytes(label if isinstance(label, bytes) else label.encode())
        return image

    def load(self, split: str = "train") -> Split:
        return load_split(load_spec(self.yaml), split)


def encode(ending: str, shape: tuple[int, ...] = (80, 120, 3), dtype=np.uint8) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    return cv2.imencode(ending.lower(), pixels)[1].tobytes()


@pytest.fixture
def folder(tmp_path) -> Folder:
    return Folder(tmp_path)


@pytest.mark.parametrize(
    ("row", "kind", "detail"),
    [
        ("0 1.5 0.5 0.1 0.1", "label outside the image", "corners 1.45, 0.45, 1.55, 0.55"),
        ("0 320 240 50 60", "label outside the image", "are these pixels?"),
        ("0 nan 0.5 0.1 0.1", "label not finite", "must be finite"),
        ("0 0.5 0.5 inf 0.1", "label not finite", "must be finite"),
        ("0 0.5 0.5 -0.1 0.1", "label without a size", "width -0.1"),
        ("0 0.5 0.5 0.1 0", "label without a size", "height 0"),
        ("car 0.5 0.5 0.1 0.1", "label not numbers", "'car 0.5 0.5 0.1 0.1' is not numbers"),
        ("0,0.5,0.5,0.1,0.1", "label not numbers", "separated by spaces"),
        ("2 0.5 0.5 0.1 0.1", "class number unknown", "class 2; it must be a whole number from 0 to 1"),
        ("-1 0.5 0.5 0.1 0.1", "class number unknown", "class -1"),
        ("0.5 0.5 0.5 0.1 0.1", "class number unknown", "class 0.5"),
        ("nan 0.5 0.5 0.1 0.1", "class number unknown", "class nan"),
        ("0 0.5 0.5 0.1", "label with a wrong number of columns", "4 columns"),
        ("0 0.5 0.5 0.1 0.1 0.9", "label with a wrong number of columns", "6 columns"),
        ("0 0.1 0.1 0.5 0.1 0.9 0.1", "label without a size", "on one line"),
    ],
)
def test_wrong_row__leaves_its_image_out(folder, row, kind, detail):
    """A row that cannot be understood leaves its image out and is named by file and line; other images stay."""
    image = folder.add("bad.jpg", f"{BOX}\n{row}\n")
    split = folder.load()
    assert len(split.records) == 10 and split.problems.left_out == {image}
    (problem,) = split.problems.found
    assert (problem.effect, problem.kind, problem.line) == ("left out", kind, 3)
    assert problem.file.name == "bad.txt" and detail in problem.detail


def test_wrong_rows__each_named_the_image_counted_once(folder):
    """Every wrong row is listed, and its image counts once."""
    folder.add("bad.jpg", "0 nan 0.5 0.1 0.1\n9 0.5 0.5 0.1 0.1\nx\n")
    problems = folder.load().problems
    assert [p.line for p in problems.found] == [1, 2, 3] and len(problems.left_out) == 1
    assert "1 of 11 images left out" in problems.summary(folder.root)


@pytest.mark.parametrize(
    "label",
    [
        b"\xef\xbb\xbf" + BOX.encode(),
        BOX.replace("\n", "\r\n").encode(),
        BOX.replace("\n", "\r").encode(),
        b"\n\n  0\t0.5   0.5 0.2 0.2  \n\n",
        b"0 5e-1 .5 2E-1 0.2",
        b"0.0 0.5 0.5 0.2 0.2",
    ],
    ids=["byte-order mark", "CRLF", "CR", "blanks", "exponents, no line end", "class as a float"],
)
def test_text_variants__read_alike(folder, label):
    """Byte-order marks, line ends, blanks and number formats make no difference to what a label file means."""
    folder.add("x.jpg", label)
    split = folder.load()
    assert not split.problems.found
    record = next(r for r in split.records if r.path.name == "x.jpg")
    assert record.boxes.tolist() == [[48, 32, 72, 48]] and record.classes.tolist() == [0]


def test_text_in_another_encoding__named(folder):
    """A label file in UTF-16, as some editors write, is named as such."""
    folder.add("x.jpg", BOX.encode("utf-16"))
    (problem,) = folder.load().problems.found
    assert (problem.kind, problem.detail) == ("label file unreadable", "not UTF-8 text")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("zero.jpg", b"", "the file is empty"),
        ("cut.jpg", encode(".jpg")[:1500], "decoded whole"),
        ("cut.png", encode(".png")[:-100], "decoded whole"),
        ("text.png", b"not a picture", "decoded whole"),
        ("dot.png", encode(".png", (1, 1, 3)), "1x1 pixels; at least 10"),
        ("line.png", encode(".png", (4, 20000, 3)), "20000x4 pixels; at least 10"),
        ("deep.png", encode(".png", (80, 120), np.uint16), "16 bits a channel; declare 'stretch:"),
    ],
)
def test_unusable_image__left_out_with_its_reason(folder, name, content, reason):
    """An image that cannot be used is left out and named with the reason."""
    image = folder.add(name, content=content)
    split = folder.load()
    (problem,) = split.problems.found
    assert split.problems.left_out == {image} and problem.file == image and reason in problem.detail


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("wide.png", encode(".png", (40, 20000, 3))),
        ("grey.png", encode(".png", (80, 120))),
        ("alpha.png", encode(".png", (80, 120, 4))),
        ("with space.jpg", None),
        ("ünï 名前 🚁.jpg", None),
        ("UPPER.JPG", None),
        ("dots.in.name.jpeg", None),
        ("sub/deeper/x.jpg", None),
    ],
)
def test_unusual_image__used(folder, name, content):
    """Images of unusual names, sizes and channels are used without a problem."""
    image = folder.root / "images" / "train" / name
    for part in ("images", "labels"):
        (folder.root / part / "train" / name).parent.mkdir(parents=True, exist_ok=True)
    image.write_bytes(encode(image.suffix) if content is None else content)
    (folder.root / "labels" / "train" / name).with_suffix(".txt").write_text(BOX)
    split = folder.load()
    assert not split.problems.found
    assert len(next(r for r in split.records if r.path == image).boxes) == 1


def test_animation__first_frame_is_mended(folder, tmp_path):
    """The first frame of an animated picture is used, and this is reported as mended."""
    from PIL import Image

    frames = [Image.new("RGB", (120, 80), colour) for colour in ("red", "blue")]
    image = folder.root / "images" / "train" / "moving.png"
    frames[0].save(image, save_all=True, append_images=frames[1:])
    (problem,) = folder.load().problems.found
    assert (problem.effect, problem.file) == ("mended", image) and "first is used" in problem.kind


def test_links__followed(folder, tmp_path_factory):
    """Linked files and folders are read; labels beside the link come first, else those beside the file itself."""
    store = Folder(tmp_path_factory.mktemp("store"), good=0)
    linked = store.add("far.jpg", "1 0.5 0.5 0.5 0.5\n")
    os.symlink(linked, folder.root / "images" / "train" / "near.jpg")
    (folder.root / "labels" / "train" / "near.txt").write_text(BOX)
    os.symlink(linked, folder.root / "images" / "train" / "far.jpg")
    os.symlink(store.root / "images" / "val", folder.root / "images" / "train" / "more")
    os.symlink(folder.root / "images", folder.root / "images" / "train" / "loop")
    split = folder.load()
    classes = {record.path.name: record.classes.tolist() for record in split.records}
    assert classes["near.jpg"] == [0] and classes["far.jpg"] == [1] and classes["val.jpg"] == [0]
    names = [str(record.path.relative_to(folder.root)) for record in split.records]
    assert len(names) == len(set(names)) and "images/train/more/val.jpg" in names


def test_backgrounds_and_lonely_labels__counted(folder):
    """Images without a label file, or with an empty one, are background; a label file without an image is named."""
    folder.add("none.jpg", None)
    folder.add("empty.jpg", "")
    (folder.root / "labels" / "train" / "lonely.txt").write_text(BOX)
    (folder.root / "labels" / "train" / "classes.txt").write_text("car\nperson\n")
    split = folder.load()
    assert split.contents() == "train: 12 images, 10 objects, 2 images without one (background)"
    (problem,) = split.problems.found
    assert (problem.effect, problem.file.name) == ("noted", "lonely.txt")


def test_boxes__cut_at_the_border_and_used_once(folder):
    """A box across the border is clipped, a repeated one used once; both are counted, but not mere rounding."""
    folder.add("over.jpg", "0 0 0.5 0.2 0.2\n0 0.9 0.5 0.2000001 0.2\n")
    folder.add("twice.jpg", BOX + "1 0.5 0.5 0.2 0.2\n" + BOX)
    split = folder.load()
    records = {record.path.name: record for record in split.records}
    np.testing.assert_allclose(records["over.jpg"].boxes, [[0, 32, 12, 48], [96, 32, 120, 48]], atol=1e-5)
    assert records["twice.jpg"].classes.tolist() == [0, 1]
    assert {(p.kind, p.detail) for p in split.problems.found} == {
        ("boxes across the image border, clipped", "1 of 2"),
        ("objects given twice, used once", "1 of 3"),
    }


def test_polygons__kept_with_their_boxes(folder):
    """Polygons stay outlines for training; a box among them becomes the polygon of its corners."""
    folder.add("x.jpg", "1 0.1 0.1 0.3 0.1 0.2 0.5\n" + BOX)
    record = next(r for r in folder.load().records if r.path.name == "x.jpg")
    np.testing.assert_allclose(record.boxes, [[12, 8, 36, 40], [48, 32, 72, 48]])
    np.testing.assert_allclose(record.polygons[0], [[12, 8], [36, 8], [24, 40]])
    np.testing.assert_allclose(record.polygons[1], [[48, 32], [72, 32], [72, 48], [48, 48]])


def test_more_than_half_wrong__refused(tmp_path):
    """Up to half of a split may be left out; if it is more, the split is refused and the first problem named."""
    folder = Folder(tmp_path, good=3)
    for index in range(3):
        folder.add(f"bad{index}.jpg", "5 0.5 0.5 0.1 0.1\n")
    assert len(folder.load().records) == 3
    folder.add("bad3.jpg", "5 0.5 0.5 0.1 0.1\n")
    with pytest.raises(DataError, match=r"4 of 7 images of split 'train'.*bad0.txt, line 1: class 5"):
        folder.load()


def test_no_labels_at_all__refused(tmp_path):
    """A split without any label is refused with the place where labels were looked for."""
    folder = Folder(tmp_path, good=0)
    folder.add("a.jpg", None)
    with pytest.raises(DataError, match=r"no image of split 'train' has a label; looked for .txt files in .*labels"):
        folder.load()


def test_listed_twice__weighs_in_training_counts_once_in_validation(folder):
    """An image that a list names twice is trained on twice and validated on once."""
    (folder.root / "list.txt").write_text("./images/train/good0.jpg\n" * 2 + "./images/train/good1.jpg\n")
    folder.yaml.write_text("train: list.txt\nval: list.txt\nnames: [car, person]\n")
    assert len(folder.load("train").records) == 3 and len(folder.load("val").records) == 2
    assert "listed twice" in folder.load("val").problems.found[0].kind


def test_summary__short_and_complete_list(folder):
    """However many problems there are, the summary has one entry per kind within 80 columns; the list has them all."""
    for index in range(8):
        folder.add(f"bad{index}.jpg", "7 0.5 0.5 0.1 0.1\n" * 30)
    problems = folder.load().problems
    lines = problems.summary(folder.root).splitlines()
    assert (
        lines[0] == "train: 8 of 18 images left out"
        and lines[1].split() == "240 class number unknown, the first:".split()
    )
    assert len(lines) <= 4 and max(map(len, lines)) <= 80
    assert len(to_csv([problems]).splitlines()) == 241


def test_inspection__cached_until_a_file_changes(folder, monkeypatch):
    """Images are decoded once, and again after a file or the declared channels have changed."""
    seen = []
    decode = inspection.read_pixels
    monkeypatch.setattr(inspection, "read_pixels", lambda path, *args: seen.append(path.name) or decode(path, *args))
    folder.load()
    assert len(seen) == 10
    folder.load()
    assert len(seen) == 10
    folder.add("good3.jpg", content=encode(".jpg", (90, 130, 3)))
    record = next(r for r in folder.load().records if r.path.name == "good3.jpg")
    assert seen[10:] == ["good3.jpg"] and (record.width, record.height) == (130, 90)
    folder.yaml.write_text(YAML + "channels: 1\n")
    folder.load()
    assert len(seen) == 21


def test_inspection_cache__damaged_or_hostile_is_not_trusted(folder, home):
    """A cache that is no JSON, or does not hold what is expected, is ignored and the images are read again."""
    folder.load()
    caches = (home / "cache" / "images").glob("*.json")
    newest = max(caches, key=lambda path: path.stat().st_mtime_ns)
    for text in ("", "[]", "{", '{"x": 1}', newest.read_text().replace("120", '"x"')):
        newest.write_text(text)
        assert {(r.width, r.height) for r in folder.load().records} == {(120, 80)}


def test_user_files__only_read(folder):
    """Reading writes nothing beside the data and leaves damaged pictures as they are."""
    folder.add("cut.jpg", content=encode(".jpg")[:1500])
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.root.rglob("*")}
    folder.load()
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.root.rglob("*")} == before


@pytest.mark.skipif(os.name == "nt", reason="file names are text on Windows")
def test_name_that_is_no_text__left_out(folder):
    """A file name that is not UTF-8 could not be written into any result, so it is named and left out."""
    path = os.fsencode(folder.root / "images" / "train") + b"/bad\xff.jpg"
    Path(os.fsdecode(path)).write_bytes(encode(".jpg"))
    problems = folder.load().problems
    assert "not valid UTF-8" in problems.found[0].detail
    to_csv([problems]).encode("utf-8")
