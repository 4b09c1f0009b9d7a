"""Masks: what their pixel values mean, and which images are left out because of their masks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from pixelkeep.datasets import mask_files
from pixelkeep.datasets.definitions.spec import load_spec
from pixelkeep.datasets.mask_files import IGNORED, class_table, load_mask_split, mask_file, read_mask, read_numbers
from pixelkeep.errors import DataError

NUMBERS = np.array([[0, 1, 2], [2, 255, 1]], np.uint8)


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """Three images of 12x16 pixels with masks of three classes, in train and in val."""
    monkeypatch.setenv("PIXELKEEP_HOME", str(tmp_path / "home"))
    for split in ("train", "val"):
        for number in range(3):
            for kind, ending in (("images", "jpg"), ("masks", "png")):
                path = tmp_path / kind / split / f"{number}.{ending}"
                path.parent.mkdir(parents=True, exist_ok=True)
                shape = (12, 16, 3) if kind == "images" else (12, 16)
                cv2.imwrite(str(path), np.full(shape, number, np.uint8))
    path = tmp_path / "land.yaml"
    path.write_text(yaml.safe_dump({"train": "images/train", "val": "images/val", "names": ["a", "b", "c"]}))
    return path


def rewrite(data: Path, **changes) -> Path:
    data.write_text(yaml.safe_dump(yaml.safe_load(data.read_text()) | changes))
    return data


def test_split__pixels_of_each_class(data):
    """Every image gets the mask of the same name, and the mask's pixels are counted by class."""
    split = load_mask_split(load_spec(data), "train")
    assert [record.pixels.tolist() for record in split.records] == [[192, 0, 0], [0, 192, 0], [0, 0, 192]]
    assert [record.mask.name for record in split.records] == ["0.png", "1.png", "2.png"] and not split.problems.found


def test_split__the_cache_tells_the_same(data, monkeypatch):
    """A second reading takes the counts from the cache, a changed mask is counted again, and the data is left alone."""
    before = {p for p in data.parent.rglob("*") if "home" not in p.parts}
    first = load_mask_split(load_spec(data), "train")
    with monkeypatch.context() as patch:
        patch.setattr(mask_files, "_count", None)
        second = load_mask_split(load_spec(data), "train")
    assert all((a.pixels == b.pixels).all() for a, b in zip(first.records, second.records, strict=True))
    cv2.imwrite(str(data.parent / "masks/train/0.png"), np.full((12, 16), 2, np.uint8) * np.eye(12, 16, dtype=np.uint8))
    assert load_mask_split(load_spec(data), "train").records[0].pixels.tolist() == [180, 0, 12]
    assert {p for p in data.parent.rglob("*") if "home" not in p.parts} == before


SPOILED = {
    "mask missing": lambda path: path.unlink(),
    "mask of another size": lambda path: cv2.imwrite(str(path), np.zeros((16, 12), np.uint8)),
    "mask unusable": lambda path: cv2.imwrite(str(path), np.full((12, 16), 3, np.uint8)),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_spoiled_mask__left_out_counted_and_named(data, kind):
    """An image whose mask cannot be used is left out by name."""
    mask = data.parent / "masks/train/1.png"
    SPOILED[kind](mask)
    split = load_mask_split(load_spec(data), "train")
    assert [record.path.name for record in split.records] == ["0.jpg", "2.jpg"]
    left_out = [(p.kind, p.file) for p in split.problems.found if p.effect == "left out"]
    assert left_out == [(kind, mask)]


def test_spoiled_mask__details(data):
    """The detail of a problem names the mask's colour mode or its unknown value."""
    folder = data.parent / "masks/train"
    cv2.imwrite(str(folder / "0.png"), np.full((12, 16, 3), (0, 1, 2), np.uint8))
    split = load_mask_split(load_spec(data), "train")
    assert "has colours (mode RGB)" in split.problems.found[0].detail
    cv2.imwrite(str(folder / "0.png"), np.full((12, 16), 7, np.uint8))
    assert load_mask_split(load_spec(data), "train").problems.found[0].detail == "7: neither a class (0 to 2) nor 255"


def test_refused__in_one_line(data):
    """Masks that are mostly missing, masks without a labelled pixel, and a single class are refused."""
    for path in (data.parent / "masks/val").iterdir():
        cv2.imwrite(str(path), np.full((12, 16), IGNORED, np.uint8))
    with pytest.raises(DataError, match="no pixel of split 'val' is labelled"):
        load_mask_split(load_spec(data), "val")
    for path in (data.parent / "masks/train").iterdir():
        path.unlink()
    with pytest.raises(
        DataError, match=r"3 of 3 images of split 'train' cannot be used; the first: .*masks.train.0.png"
    ):
        load_mask_split(load_spec(data), "train")
    with pytest.raises(DataError, match="1 class; semantic data needs two or more"):
        load_mask_split(load_spec(rewrite(data, names=["a"])), "val")


def test_mapping__as_ultralytics_has_it(data):
    """Values are mapped to classes or to ignored; values that are neither mapped nor a class stay unknown."""
    spec = load_spec(rewrite(data, label_mapping={7: 1, 2: "ignore_label", 9: None, -1: 0}))
    table = class_table(spec)
    assert [table[number] for number in (0, 1, 2, 7, 9, 5, 255, 300)] == [0, 1, 255, 1, 255, -1, 255, -1]
    split = load_mask_split(spec, "train")
    assert [record.pixels.tolist() for record in split.records] == [[192, 0, 0], [0, 192, 0], [0, 0, 0]]


@pytest.mark.parametrize("mapping", [{1: 3}, {1: "b"}, {"x": 1}, [1]])
def test_mapping__refused(data, mapping):
    """A mapping to something that is no class, or one that is no mapping, is refused."""
    with pytest.raises(DataError, match="label_mapping"):
        class_table(load_spec(rewrite(data, label_mapping=mapping)))


def test_numbers__however_a_mask_is_stored(tmp_path):
    """Grey, 16-bit, colour palettes (by index) and grey palettes (by level) give the same values."""
    grey = Image.fromarray(NUMBERS)
    coloured = Image.fromarray(NUMBERS).convert("P")
    coloured.putdata(NUMBERS.ravel().tolist())
    coloured.putpalette([value for i in range(256) for value in (255 - i, i, 0)])
    levels = Image.fromarray(np.array([[0, 1, 2], [2, 3, 1]], np.uint8)).convert("P")
    levels.putdata([0, 1, 2, 2, 3, 1])
    levels.putpalette([value for level in (0, 1, 2, 255) for value in (level,) * 3])
    deep = Image.fromarray(NUMBERS.astype(np.uint16))
    for number, picture in enumerate((grey, coloured, levels, deep)):
        picture.save(tmp_path / f"{number}.png")
        assert read_numbers(tmp_path / f"{number}.png").tolist() == NUMBERS.tolist(), number
    bits = Image.fromarray(NUMBERS == 1)
    bits.save(tmp_path / "bits.png")
    assert read_numbers(tmp_path / "bits.png").tolist() == (NUMBERS == 1).astype(int).tolist()


def test_damaged__one_reason(tmp_path):
    """A file that is no picture, or is truncated, is refused with a reason in one line."""
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 3, (200, 200)).astype(np.uint8)).save(path)
    whole = path.read_bytes()
    for content in (b"", b"nothing", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(DataError, match="cannot be decoded") as error:
            read_numbers(path)
        assert "\n" not in str(error.value)


def test_mask_file__beside_the_last_images_folder(tmp_path):
    """The last folder called images is replaced, and another ending is used if there is no PNG."""
    image = tmp_path / "images" / "images" / "train" / "a.b.jpg"
    expected = tmp_path / "images" / "masks" / "train" / "a.b.png"
    assert mask_file(image) == expected
    other = expected.with_suffix(".tif")
    other.parent.mkdir(parents=True)
    other.touch()
    assert mask_file(image) == other
    assert mask_file(image, "labels") == tmp_path / "images" / "labels" / "train" / "a.b.png"


def test_read_mask__classes(data):
    """A mask is read as training uses it: class numbers, and 255 for ignored pixels."""
    path = data.parent / "masks/train/0.png"
    cv2.imwrite(str(path), NUMBERS)
    table = class_table(load_spec(rewrite(data, label_mapping={2: 0})))
    mask = read_mask(path, table)
    assert mask.dtype == np.uint8 and mask.tolist() == [[0, 1, 0], [0, 255, 1]]
