"""Class folders are read as they are, checked image by image, and refused in one line if they contradict themselves."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from pixelkeep.datasets.class_folders import load_class_split, read_class_folders
from pixelkeep.errors import DataError


def picture(path: Path, size: tuple[int, int] = (12, 16), value: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), value, np.uint8))
    return path


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A dataset of two classes, with three images of each in train and two in val."""
    monkeypatch.setenv("PIXELKEEP_HOME", str(tmp_path / "home"))
    for split, count in (("train", 3), ("val", 2)):
        for name in ("cat", "dog"):
            for number in range(count):
                picture(tmp_path / "data" / split / name / f"{number}.png")
    return tmp_path / "data"


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_folder__classes_by_name_and_nothing_written(root):
    """Classes are the folders of train in alphabetical order; reading leaves the user's folder as it was."""
    before = files(root)
    spec = read_class_folders(root)
    split = load_class_split(spec, "train")
    assert spec.names == {0: "cat", 1: "dog"} and spec.root == root
    assert [(r.label, r.path.parent.name, r.width, r.height) for r in split.records] == [
        *[(0, "cat", 16, 12)] * 3,
        *[(1, "dog", 16, 12)] * 3,
    ]
    assert split.contents() == "train: 6 images of 2 classes" and files(root) == before


def test_yaml__names_give_another_order(root):
    """A YAML beside the folders may order the classes; its 'download:' script is ignored."""
    path = root.parent / "pets.yaml"
    content = {"path": "data", "train": "train", "val": "val", "names": ["dog", "cat"], "download": "raise SystemExit"}
    path.write_text(yaml.safe_dump(content))
    spec = read_class_folders(path)
    assert [r.label for r in load_class_split(spec, "val").records] == [0, 0, 1, 1]
    again = root.parent / "again.yaml"
    again.write_text(yaml.safe_dump(spec.to_ultralytics()))
    assert read_class_folders(again) == spec


@pytest.mark.parametrize("name", ["valid", "validation"])
def test_validation_folder__other_names(root, name):
    """The folder of val may be called valid or validation."""
    (root / "val").rename(root / name)
    assert read_class_folders(root).splits["val"] == root / name


def test_broken_image__left_out_counted_and_named(root):
    """An image that cannot be decoded is left out, and so is one that lies in no class folder."""
    (root / "train" / "cat" / "0.png").write_bytes(b"no picture")
    picture(root / "train" / "stray.png")
    split = load_class_split(read_class_folders(root), "train")
    assert len(split.records) == 5 and split.problems.images == 7
    assert {(p.kind, p.file.name) for p in split.problems.found} == {
        ("image unusable", "0.png"),
        ("image outside class folders", "stray.png"),
    }


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def flatten(folder: Path) -> None:
    for path in list(folder.glob("*/*.png")):
        path.rename(folder / f"{path.parent.name}_{path.name}")
    for path in [path for path in folder.iterdir() if path.is_dir()]:
        path.rmdir()


REFUSED = {
    "no-train": (lambda root: (root / "train").rename(root / "training"), "no folder 'train'"),
    "no-val": (lambda root: (root / "val").rename(root / "other"), "no folder 'val'"),
    "no-classes": (lambda root: flatten(root / "train"), "has no class folders"),
    "empty-class": (lambda root: empty(root / "train" / "dog"), "class 'dog' has no image to learn from"),
    "unknown-class": (lambda root: (root / "val" / "dog").rename(root / "val" / "dogs"),
                      "split 'val' has a class 'dogs' that train lacks; did you mean 'dog'?"),
    "all-broken": (lambda root: [p.write_bytes(b"x") for p in root.glob("train/*/*.png")],
                   "6 of 6 images of split 'train' cannot be used"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused__in_one_line(root, case):
    """Folders that cannot be meant as class folders are refused in one line that names the place."""
    spoil, message = REFUSED[case]
    spoil(root)
    with pytest.raises(DataError) as error:
        spec = read_class_folders(root)
        for split in ("train", "val"):
            load_class_split(spec, split)
    assert message in str(error.value) and "\n" not in str(error.value) and str(root) in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"names": ["cat", "dogs"]}, "class 'dogs' of 'names:' has no folder; did you mean 'dog'?"),
        ({"names": ["cat"]}, "folder 'dog' is not among 'names:'"),
        ({"train": "train/cat/0.png"}, "is not a folder"),
        ({"channels": 1}, "'channels: 1'; classification takes images of 3 channels"),
    ],
)
def test_yaml__refused(root, content, message):
    """A YAML that does not fit its folders is refused with the reason."""
    path = root / "pets.yaml"
    path.write_text(yaml.safe_dump({"train": "train", "val": "val"} | content))
    with pytest.raises(DataError, match=message.replace("?", r"\?")):
        read_class_folders(path)


def test_val__class_without_images_is_noted(root):
    """A class that has no image in val is noted, and the images of the others are there."""
    empty(root / "val" / "dog")
    split = load_class_split(read_class_folders(root), "val")
    assert [(p.effect, p.kind, p.file.name) for p in split.problems.found] == [
        ("noted", "class without an image", "dog")
    ]
    assert {record.label for record in split.records} == {0}
