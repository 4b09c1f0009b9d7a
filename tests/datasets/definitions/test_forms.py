"""The forms of data: recognised by their entries, written out and read back the same, and bundled YAMLs that are right.

Run: python -m pytest tests/datasets/definitions/test_forms.py
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pixelkeep import assets
from pixelkeep.datasets.definitions.forms import COCO, VISDRONE, VOC, YOLO, form_of
from pixelkeep.datasets.definitions.naming import VISDRONE_NAMES
from pixelkeep.datasets.definitions.spec import load_spec
from pixelkeep.datasets.demo import FORMS as DEMO
from pixelkeep.datasets.loading import load_split
from pixelkeep.errors import DataError

FILE = Path("data.yaml")


@pytest.mark.parametrize(
    ("entries", "form"),
    [
        ({"train": "images/train", "val": ["a", "list.txt"]}, YOLO),
        ({"train": "a.json", "val": ["b.json", "c.JSON"]}, COCO),
        ({"train": ["VOC2007/ImageSets/Main/trainval.txt"], "val": "ImageSets/Main/val.txt"}, VOC),
        ({"train": "DET-train", "val": "DET-val", "format": "visdrone"}, VISDRONE),
        ({"train": "images/train", "val": "images/val", "format": "yolo"}, YOLO),
    ],
)
def test_form__from_the_entries(entries, form):
    """The entries decide on the form, and 'format:' decides where they cannot."""
    assert form_of(FILE, entries) == form


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"train": "images/train", "format": "coc"}, "not one of yolo, coco, voc, visdrone; did you mean 'coco'"),
        ({"train": "images/train", "format": "coco"}, r"wants COCO files \(.json\), but 'train:' has 'images/train'"),
        ({"train": "a.json", "format": "yolo"}, "'format: yolo' wants image folders or image lists"),
        ({"train": "a.json", "val": "images/val"}, "'a.json' is of form coco and 'images/val' of form yolo"),
        ({"train": "images/train", "images": "x"}, "'images:' is for data of form coco; this is of form yolo"),
        ({"train": "a.json", "voc_pixels": "edges"}, "'voc_pixels:' is for data of form voc"),
        ({"train": "images/train", "format": [1]}, r"'format: \[1\]' is not one of"),
    ],
)
def test_form__contradiction_refused(entries, message):
    """Entries that do not fit their form, or each other, are refused in one line."""
    with pytest.raises(DataError, match=message):
        form_of(FILE, entries)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("images:", "picture:", "'images:' must say where the images of split 'train' are"),
        ("images/train", "images/tarin", "'images: images/tarin' is not a folder"),
        ("train: images/train", "x: images/train", "images of split 'train'"),
        ("train: annotations/train.json", "train: annotations/tarin.json", "'train: annotations/tarin.json' not found"),
        ("annotations/val.json", "annotations/val.json/..", "is of form"),
    ],
)
def test_coco_yaml__one_line_for_each_mistake(demo, tmp_path, old, new, message):
    """What is missing or wrong in a COCO YAML is reported with its key."""
    text = (demo / "coco.yaml").read_text()
    assert old in text
    (tmp_path / "bad.yaml").write_text(text.replace(old, new) + f"path: {demo}\n")
    with pytest.raises(DataError, match=message):
        load_spec(tmp_path / "bad.yaml")


def test_voc_yaml__pixels_checked(demo, tmp_path):
    """A value of voc_pixels other than its two is refused."""
    (tmp_path / "bad.yaml").write_text((demo / "voc/voc.yaml").read_text() + f"path: {demo}/voc\nvoc_pixels: zero\n")
    with pytest.raises(DataError, match="'voc_pixels: zero' is not one of inclusive, edges"):
        load_spec(tmp_path / "bad.yaml")


@pytest.mark.parametrize("name", DEMO.values())
@pytest.mark.parametrize("extra", ["", "ignore: [car, boat]\nchannels: 3\nstretch: [1, 99]\nkpt: 2\n"])
def test_ultralytics_dictionary__reads_back_the_same(demo, tmp_path, name, extra):
    """What is handed to Ultralytics reads back to the same dataset, whatever its form, ignored classes included."""
    source = demo / name
    (tmp_path / "data.yaml").write_text(f"{source.read_text()}path: {source.parent}\n{extra}")
    spec = load_spec(tmp_path / "data.yaml")
    (tmp_path / "resolved.yaml").write_text(yaml.safe_dump(spec.to_ultralytics(), sort_keys=False))
    assert load_spec(tmp_path / "resolved.yaml") == spec
    assert list(spec.names) == list(range(len(spec.names))) and ("car" in spec.names.values()) == (not extra)


def test_ignored_class__the_same_in_every_form(demo, tmp_path):
    """All forms of the same data give the same records, in which objects of ignored classes are regions."""
    found = []
    for number, name in enumerate(DEMO.values()):
        source = demo / name
        (tmp_path / f"{number}.yaml").write_text(f"{source.read_text()}path: {source.parent}\nignore: [car]\n")
        records = load_split(load_spec(tmp_path / f"{number}.yaml"), "val").records
        found.append([(r.path.name, r.boxes.tolist(), r.classes.tolist(), r.regions.tolist()) for r in records])
    assert found[0] == found[1] == found[2]
    whole = load_split(load_spec(demo / "demo.yaml"), "val").records
    cars = sum(int((r.classes == 1).sum()) for r in whole)
    assert cars and sum(len(entry[3]) for entry in found[0]) == cars + sum(len(r.regions) for r in whole)
    assert sum(len(entry[1]) for entry in found[0]) == sum(len(r.boxes) for r in whole) - cars


@pytest.mark.parametrize("name", DEMO.values())
def test_split__is_sorted_by_path(demo, name):
    """The records of every form are sorted by their paths."""
    paths = [str(record.path) for record in load_split(load_spec(demo / name), "val").records]
    assert paths == sorted(paths) and len(paths) == 40


def test_folder_override__in_place_of_path(demo, tmp_path):
    """A given folder replaces 'path:'; a missing one is refused in one line that says how to give it."""
    text = (demo / "coco.yaml").read_text()
    (tmp_path / "data.yaml").write_text(text + "path: nowhere\n")
    with pytest.raises(DataError, match=r"'path: nowhere' is not a folder; .*; give it with --set path=FOLDER"):
        load_spec(tmp_path / "data.yaml")
    assert load_spec(tmp_path / "data.yaml", str(demo)).root == demo
    with pytest.raises(DataError, match=r"--set path=.*elsewhere: not a folder"):
        load_spec(tmp_path / "data.yaml", str(tmp_path / "elsewhere"))


def test_bundled_yamls__complete():
    """Every bundled YAML has the right form, names the source of its data, and has all its classes."""
    classes = {"coco": 80, "voc": 20, "visdrone": 10, "ai-tod": 8, "hituav": 4, "bccd": 3}
    forms = {"coco": COCO, "ai-tod": COCO, "hituav": COCO, "voc": VOC, "bccd": VOC, "visdrone": VISDRONE}
    assert set(assets.names("data")) == {"demo", "demo-cls", "demo-sem", *classes}
    for name, count in classes.items():
        text = assets.find("data", name).read_text(encoding="utf-8")
        d = yaml.safe_load(text)
        assert len(d["names"]) == len(set(d["names"])) == count and form_of(FILE, d) == forms[name]
        assert "Data: http" in text and d["path"] and not Path(d["path"]).is_absolute()
    assert yaml.safe_load(assets.find("data", "visdrone").read_text())["names"] == VISDRONE_NAMES


def test_bundled_names__as_ultralytics_has_them():
    """The classes of COCO, VOC and VisDrone are those of Ultralytics' files, in their order."""
    from ultralytics.utils import ROOT

    for name, theirs in {"coco": "coco", "voc": "VOC", "visdrone": "VisDrone"}.items():
        expected = yaml.safe_load((ROOT / "cfg" / "datasets" / f"{theirs}.yaml").read_text(encoding="utf-8"))["names"]
        assert dict(enumerate(yaml.safe_load(assets.find("data", name).read_text())["names"])) == expected
