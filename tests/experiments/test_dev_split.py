"""The dev split, for choices: groups stay whole, val stays as it is, and the same files come out every time."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from pixelkeep.datasets.definitions.spec import load_spec
from pixelkeep.datasets.demo import write_demo
from pixelkeep.datasets.loading import load_split
from pixelkeep.errors import DataError, OptionError
from pixelkeep.experiments.dev_split import SPLITS, DevSplit

GROUP = r"(\d)\.\w+$"  # the last digit of a name
CUT = DevSplit(GROUP, 0.6, 0)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_demo(tmp_path_factory.mktemp("data"), splits={"train": 30, "val": 12, "test": 2})


@pytest.fixture(scope="module")
def cut(data, tmp_path_factory):
    return load_spec(CUT.cut(load_spec(data), tmp_path_factory.mktemp("cut") / "made"))


def contents(spec, split: str) -> dict:
    """Return the boxes, classes, areas and regions of the images of a split, by file name."""
    return {
        record.path.name: tuple(part.tolist() for part in (record.boxes, record.classes, record.areas, record.regions))
        for record in load_split(spec, split).records
    }


def test_cut__groups_stay_together_and_nothing_is_lost(cut, data):
    """Train and dev together are the former train; they share no group, and each has about its share of the images."""
    train, dev = contents(cut, "train"), contents(cut, SPLITS["dev"])
    both = [{re.search(GROUP, name)[1] for name in part} for part in (train, dev)]
    assert both[0] and both[1] and not both[0] & both[1]
    whole = contents(load_spec(data), "train")
    assert {name: whole[name][1] for name in whole} == {name: part[1] for name, part in (train | dev).items()}
    assert abs(len(train) - 0.6 * len(whole)) <= max(len(whole) / 10, 3)


def test_cut__val_is_the_same(cut, data):
    """The images of val are in the cut under the split name test, box for box."""
    before, after = contents(load_spec(data), "val"), contents(cut, SPLITS["val"])
    assert before.keys() == after.keys()
    for name, parts in before.items():
        for one, other in zip(parts, after[name], strict=True):
            np.testing.assert_allclose(np.array(other), np.array(one))


def test_cut__once_and_the_same_again(data, tmp_path, monkeypatch):
    """The same cut is made once, in one folder, and its files are reproducible; another cut gets another folder."""
    spec = load_spec(data)
    first = CUT.cut_once(spec, tmp_path)
    kept = {path.name: path.read_bytes() for path in first.parent.rglob("*.json")}
    assert CUT.cut_once(spec, tmp_path) == first
    elsewhere = DevSplit(GROUP, 0.6, 0).cut_once(spec, tmp_path / "elsewhere")
    assert {path.name: path.read_bytes() for path in elsewhere.parent.rglob("*.json")} == kept
    other = DevSplit(GROUP, 0.6, 1).cut_once(spec, tmp_path)
    assert other.parent != first.parent
    assert (other.parent / "annotations" / "train.json").read_bytes() != kept["train.json"]


def test_cut__what_cannot_be(data, tmp_path):
    """Data without val, and group patterns that match nothing or are invalid, are refused."""
    plain = yaml.safe_load(data.read_text())
    (data.parent / "one.yaml").write_text(yaml.safe_dump({k: v for k, v in plain.items() if k != "val"}))
    with pytest.raises(DataError, match="needs both train and val"):
        CUT.cut(load_spec(data.parent / "one.yaml", needs=("train",)), tmp_path / "a")
    with pytest.raises(DataError, match="does not match its name"):
        DevSplit("(flight)").cut(load_spec(data), tmp_path / "b")
    with pytest.raises(OptionError, match="not a regular expression"):
        DevSplit("(").cut(load_spec(data), tmp_path / "c")
    assert not list(tmp_path.iterdir())


def test_hituav__one_day_and_two_nights():
    """HIT-UAV's cut depends on its file names alone: of the ten groups in train, these three become dev."""
    from pixelkeep.datasets.annotations.splitting import split_by_group

    counts = {"0_60": 126, "0_100": 135, "0_110": 78, "0_120": 123, "0_130": 113}
    counts |= {"1_60": 567, "1_80": 129, "1_100": 107, "1_120": 135, "1_130": 293}

    class Named:
        def __init__(self, name: str) -> None:
            self.path = Path(name)

    records = [Named(f"{group}_30_0_{n:05d}.webp") for group, count in counts.items() for n in range(count)]
    train, dev, groups = split_by_group(records, 0.8, 0, r"^(\d+_\d+)_")
    assert {record.path.name[: record.path.name.index("_30")] for record in dev} == {"0_100", "1_80", "1_120"}
    assert (len(train), len(dev), groups) == (1407, 399, 10)


def test_cut_once__named_by_what_the_data_hold(data, tmp_path):
    """A copy of the data elsewhere gets the same folder name; another label or image name gives another one."""
    copies = [tmp_path / name for name in ("one", "two", "three")]
    for copy in copies:
        shutil.copytree(data.parent, copy)
    labels = next(path for path in (copies[1] / "labels" / "train").glob("*.txt") if path.read_text()[:1] in ("0", "1"))
    labels.write_text("10"[int(labels.read_text()[0])] + labels.read_text()[1:])  # another class
    image = sorted((copies[2] / "images" / "train").iterdir())[0]
    label = copies[2] / "labels" / "train" / f"{image.stem}.txt"
    image.rename(image.with_stem(f"{image.stem}5"))
    label.rename(label.with_stem(f"{label.stem}5"))
    names = [CUT.cut_once(load_spec(copy / data.name), tmp_path / "cut").parent.name for copy in copies]
    assert names[0] == CUT.cut_once(load_spec(data), tmp_path / "cut").parent.name
    assert len(set(names)) == 3
