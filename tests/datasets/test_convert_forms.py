"""Conversion between forms loses nothing, writes a whole dataset or nothing, and divides images by groups.

Run: python -m pytest tests/datasets/test_convert_forms.py
"""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from pixelkeep.datasets import convert as converting
from pixelkeep.datasets.annotations.record import ImageRecord
from pixelkeep.datasets.convert import Division, convert
from pixelkeep.datasets.definitions.spec import DatasetSpec, load_spec
from pixelkeep.datasets.files.disk import read_json, write_image
from pixelkeep.datasets.loading import load_split
from pixelkeep.datasets.saving import WRITTEN, save_split, save_yaml
from pixelkeep.errors import DataError, OptionError, PixelkeepError

NAMES = {0: "person", 1: "bicycle & car", 2: "straße"}
FIELDS = ("boxes", "areas", "regions")
CATEGORY_IDS = (0, 17, 90)


def random_dataset(root: Path, form: str, seed: int, images: int = 6) -> DatasetSpec:
    """Write a dataset with boxes of any float32, areas of their own, difficult objects, regions and ids."""
    rng = np.random.default_rng(seed)
    polygons = bool(seed % 2) and form == "yolo"
    for split, start in (("train", 0), ("val", images)):
        records, number = [], 1000 * start + 5
        for index in range(start, start + images):
            width, height = (int(side) for side in rng.integers(33, 900, 2))
            path = root / "source" / f"{split} {index}.png"
            write_image(path, np.zeros((height, width, 3), np.uint8))
            n, m = int(rng.integers(1, 9)), int(rng.integers(0, 3))
            boxes, regions = (_boxes(rng, count, width, height) for count in (n, m))
            area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
            records.append(
                ImageRecord(
                    path,
                    width,
                    height,
                    boxes,
                    rng.integers(0, len(NAMES), n),
                    area * rng.choice([1, 0.37, 1.0001], n),
                    rng.random(n) < 0.3,
                    regions,
                    [_outline(box) for box in boxes] if polygons else None,
                    image_id=number if form == "coco" else None,
                    ids=number + rng.permutation(n) if form == "coco" else None,
                    region_ids=number + n + np.arange(m) if form == "coco" else None,
                )
            )
            number += 50
        save_split(form, root / "set", split, records, NAMES)
    save_yaml(root / "set" / "data.yaml", ("train", "val"), NAMES, form, {"channels": 3})
    return load_spec(root / "set" / "data.yaml")


def _boxes(rng: np.random.Generator, count: int, width: int, height: int) -> np.ndarray:
    """Boxes with all the digits of float32, some in whole pixels and some at the border."""
    corners = np.sort(rng.uniform(0.01, 0.999, (count, 2, 2)), 1) * [width, height]  # (count, corner, axis)
    boxes = corners.reshape(count, 4).astype(np.float32).astype(float)
    boxes[::3] = np.column_stack([np.floor(boxes[::3, :2]), np.ceil(boxes[::3, 2:])])
    boxes[::4, 0] = 0
    return boxes


def _outline(box: np.ndarray) -> np.ndarray:
    x1, y1, x2, y2 = box
    return np.array([[x1, (y1 + y2) / 2], [(x1 + x2) / 2, y1], [x2, (y1 + y2) / 2], [(x1 + x2) / 2, y2]])


def assert_same(found: list[ImageRecord], expected: list[ImageRecord], ids: bool) -> None:
    """Assert that records are equal: numbers to the last bit of float32, and ids if ``ids`` is True."""
    assert [record.path.name for record in found] == [record.path.name for record in expected]
    for one, other in zip(found, expected, strict=True):
        assert (one.width, one.height) == (other.width, other.height)
        assert one.classes.tolist() == other.classes.tolist()
        assert one.difficult.tolist() == other.difficult.tolist()
        for field in FIELDS:
            np.testing.assert_array_equal(getattr(one, field).astype("f4"), getattr(other, field).astype("f4"), field)
        assert (one.polygons is None) == (other.polygons is None)
        for outline, expected_outline in zip(one.polygons or [], other.polygons or [], strict=True):
            np.testing.assert_array_equal(outline.astype("f4"), expected_outline.astype("f4"))
        if ids:
            assert one.image_id == other.image_id is not None
            assert _listed(one.ids) == _listed(other.ids) and _listed(one.region_ids) == _listed(other.region_ids)


def _listed(ids: np.ndarray | None) -> list[int]:
    return [] if ids is None else ids.tolist()  # no ids at all and an empty array of ids mean the same


def load(spec: DatasetSpec, split: str) -> list[ImageRecord]:
    loaded = load_split(spec, split)
    assert not loaded.problems.found
    return loaded.records


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("first", "second"), [*permutations(WRITTEN, 2), *((form, form) for form in WRITTEN)])
def test_there_and_back__nothing_lost(tmp_path, first, second, seed):
    """Converting any form to any other and back gives the same records, and so does the dataset in between."""
    spec = random_dataset(tmp_path, first, seed)
    there = load_spec(convert(spec, second, tmp_path / "there").yaml)
    back = load_spec(convert(there, first, tmp_path / "back").yaml)
    assert (there.form, back.form) == (second, first) and spec.names == there.names == back.names == NAMES
    for split in ("train", "val"):
        expected = load(spec, split)
        assert_same(load(there, split), expected, ids=first == "coco")
        assert_same(load(back, split), expected, ids=first == "coco")


def test_other_entries__kept(tmp_path):
    """Channels, stretch and foreign keys are kept, and objects of ignored classes become regions."""
    spec = random_dataset(tmp_path, "voc", 0)
    text = spec.file.read_text() + "ignore: [person]\nstretch: [1, 99]\nkpt: 2\n"
    spec.file.write_text(text)
    spec = load_spec(spec.file)
    there = load_spec(convert(spec, "coco", tmp_path / "there").yaml)
    assert (there.stretch, there.channels, there.others) == ((1, 99), 3, {"kpt": 2})
    assert list(there.names.values()) == list(NAMES.values())[1:]
    assert_same(load(there, "train"), load(spec, "train"), ids=False)


@pytest.mark.parametrize("form", WRITTEN)
def test_link__points_at_the_source(tmp_path, form):
    """Linked images are symbolic links to the source, and are read like any others."""
    spec = random_dataset(tmp_path, "yolo", 0)
    outcome = convert(spec, form, tmp_path / "linked", link=True)
    for record in load(load_spec(outcome.yaml), "train"):
        assert record.path.is_symlink() and record.path.resolve().parent == spec.root / "images" / "train"


def test_left_out__told_and_listed(tmp_path):
    """Images that cannot be used are not written, but counted and listed in data_problems.csv."""
    spec = random_dataset(tmp_path, "yolo", 0)
    (spec.root / "labels" / "train" / "train 2.txt").write_text("7 0.5 0.5 0.1 0.1\n")
    outcome = convert(spec, "coco", tmp_path / "out")
    assert outcome.to_dict()["left_out"] == {"train": 1, "val": 0}
    assert [p.name for p in sorted((tmp_path / "out" / "images" / "train").iterdir())] == [
        f"train {index}.png" for index in (0, 1, 3, 4, 5)
    ]
    listing = (tmp_path / "out" / "data_problems.csv").read_text().splitlines()
    assert len(listing) == 2 and "train 2.txt,1,class 7" in listing[1]


def test_output__new_or_empty_and_whole_or_not_at_all(tmp_path, monkeypatch):
    """A folder with something in it is left alone, and a conversion that fails leaves nothing behind."""
    spec = random_dataset(tmp_path, "yolo", 0)
    for name in ("file", "full/x"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
        with pytest.raises(DataError, match="already exists and is not empty; give a new folder"):
            convert(spec, "coco", tmp_path / name.split("/")[0])
        assert path.read_text() == "mine"
    (tmp_path / "empty").mkdir()
    before = set(tmp_path.iterdir())

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(converting, "save_yaml", fail)
        for name in ("empty", "new"):
            with pytest.raises(KeyboardInterrupt):
                convert(spec, "voc", tmp_path / name)
    assert set(tmp_path.iterdir()) == before and not any((tmp_path / "empty").iterdir())
    assert convert(spec, "voc", tmp_path / "empty").yaml.is_file()


def test_same_name_twice__refused(tmp_path, picture):
    """Images of the same name in two folders, which would share a file, give one line, and nothing is written."""
    for folder in ("a", "b"):
        picture(tmp_path / "images" / folder / "x.png")
        (tmp_path / "labels" / folder).mkdir(parents=True)
        (tmp_path / "labels" / folder / "x.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "data.yaml").write_text("train: images\nval: images/a\nnames: [x]\n")
    for form in WRITTEN:
        with pytest.raises(DataError, match=r"x\.png"):
            convert(load_spec(tmp_path / "data.yaml"), form, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def frames(root: Path, picture, groups: dict[str, int]) -> DatasetSpec:
    """Write a dataset of video frames, as many of each group as ``groups`` says, all in train and without val."""
    (root / "labels" / "train").mkdir(parents=True)
    for group, count in groups.items():
        for number in range(count):
            picture(root / "images" / "train" / f"{group}_{number:03d}.png")
            (root / "labels" / "train" / f"{group}_{number:03d}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (root / "data.yaml").write_text("train: images/train\nnames: [x]\n")
    return load_spec(root / "data.yaml", needs=("train",))


def parts(outcome) -> dict[str, list[str]]:
    return {split: [record.path.name for record in records] for split, records in outcome.splits.items()}


def test_division__whole_groups_near_the_share_the_same_for_a_seed(tmp_path, picture):
    """No group is in both splits, the share is met as closely as groups allow, and the seed decides."""
    spec = frames(tmp_path / "set", picture, {f"film{i}": 1 + i % 3 for i in range(12)})
    found = []
    for number, seed in enumerate((0, 0, 1)):
        outcome = convert(spec, "coco", tmp_path / str(number), link=True, division=Division(0.75, seed, r"(film\d+)_"))
        found.append(parts(outcome))
        sides = [{name.split("_")[0] for name in names} for names in found[-1].values()]
        assert not sides[0] & sides[1] and len(sides[0] | sides[1]) == outcome.groups == 12
        assert abs(len(found[-1]["train"]) - 18) <= 1 and sum(map(len, found[-1].values())) == 24
    assert found[0] == found[1] != found[2]
    loaded = load_spec(tmp_path / "0" / "data.yaml")
    assert {s: len(load(loaded, s)) for s in loaded.splits} == {s: len(names) for s, names in found[0].items()}


def test_division__pools_train_and_val_and_leaves_test(tmp_path):
    """The images of train and val are divided anew, each used once; without a pattern each is its own group."""
    spec = random_dataset(tmp_path, "yolo", 0, images=5)
    text = spec.file.read_text().replace("val: images/val\n", "val: images/val\ntest: images/val\n")
    spec.file.write_text(text.replace("extras:", "extras:\n  test: extras/val.json"))
    outcome = convert(load_spec(spec.file), "yolo", tmp_path / "out", division=Division(0.3))
    found = parts(outcome)
    assert [len(names) for names in found.values()] == [3, 7, 5] and list(found) == ["train", "val", "test"]
    assert set(Counter(found["train"] + found["val"]).values()) == {1}


@pytest.mark.parametrize(
    ("division", "message"),
    [
        (Division(1), "--split 1: the share of the training images must be between 0 and 1"),
        (Division(0.5, 0, "("), r"--group \(: not a regular expression"),
        (Division(0.5, 0, "film"), "--group film: needs a group in brackets"),
        (Division(0.5, 0, "(clip)"), r"a_000.png: --group \(clip\) does not match its name"),
        (Division(0.5, 0, "(_)"), "5 images in 1 group: nothing to divide"),
    ],
)
def test_division__that_cannot_be_refused(tmp_path, picture, division, message):
    """A share, pattern or grouping that cannot divide the images gives one line, and nothing is written."""
    spec = frames(tmp_path / "set", picture, {"a": 3, "b": 2})
    with pytest.raises(PixelkeepError, match=message):
        convert(spec, "coco", tmp_path / "out", division=division)
    assert not (tmp_path / "out").exists()


def test_form__that_cannot_be_written_refused(tmp_path):
    """VisDrone can only be read, and a misspelt form is refused with the nearest name."""
    spec = random_dataset(tmp_path, "yolo", 0)
    for form, message in (("visdrone", "not one of yolo, coco, voc"), ("cocoo", "did you mean 'coco'")):
        with pytest.raises(OptionError, match=message):
            convert(spec, form, tmp_path / "out")


@pytest.mark.parametrize("form", ["yolo", "voc", "coco"])
def test_category_ids__come_back(tmp_path, form):
    """The ids of a COCO file's categories survive a form that has none."""
    spec = random_dataset(tmp_path, "coco", seed=3)
    for split in ("train", "val"):
        save_split("coco", tmp_path / "set", split, load_split(spec, split).records, NAMES, category_ids=CATEGORY_IDS)
    spec = load_spec(spec.file)
    assert spec.category_ids == CATEGORY_IDS
    between = convert(spec, form, tmp_path / "between").yaml
    back = convert(load_spec(between), "coco", tmp_path / "back").yaml
    for split in ("train", "val"):
        before, after = (read_json(file.parent / "annotations" / f"{split}.json") for file in (spec.file, back))
        assert after["categories"] == before["categories"]
        crowdless = [[a for a in d["annotations"] if not a["iscrowd"]] for d in (before, after)]
        assert [a["category_id"] for a in crowdless[0]] == [a["category_id"] for a in crowdless[1]]


@pytest.mark.parametrize("given", ["[1, 2]", "[3, 2, 5]", "[1, 1, 2]", "[1, 2, x]", "7"])
def test_category_ids__bad(tmp_path, given):
    """Category ids that cannot tell the classes apart, or are not in rising order, are refused in one line."""
    spec = random_dataset(tmp_path, "yolo", seed=4)
    spec.file.write_text(spec.file.read_text(encoding="utf-8") + f"category_ids: {given}\n", encoding="utf-8")
    with pytest.raises(DataError, match="must be 3 rising numbers"):
        load_spec(spec.file)
