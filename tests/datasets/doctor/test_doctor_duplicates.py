"""Near-duplicates: planted ones are found after every change made to them, and the demo has none."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pixelkeep.datasets.definitions.spec import DatasetSpec, load_spec
from pixelkeep.datasets.doctor import duplicates
from pixelkeep.datasets.doctor.duplicates import NEAR, copies, fingerprints, near_pairs


def scene(seed: int, size: tuple[int, int] = (240, 320)) -> np.ndarray:
    """Return a picture (H, W, 3) of soft shapes and noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (9, 12, 3)).astype(np.uint8)
    picture = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC).astype(int)
    return np.clip(picture + rng.normal(0, 6, picture.shape), 0, 255).astype(np.uint8)


CHANGES = {
    "copied": lambda image: image,
    "recompressed": lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], 1),
    "resized": lambda image: cv2.resize(image, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA),
    "darkened": lambda image: (image * 0.7).astype(np.uint8),
    "shifted": lambda image: np.roll(image, (1, 2), (0, 1)),
    "noisy": lambda image: np.clip(image + np.random.default_rng(9).normal(0, 8, image.shape), 0, 255).astype(np.uint8),
}


@pytest.fixture
def spec(tmp_path) -> DatasetSpec:
    return DatasetSpec(tmp_path / "data.yaml", tmp_path, {}, {0: "a"})


def write(path: Path, image: np.ndarray) -> Path:
    cv2.imwrite(str(path), image)
    return path


@pytest.mark.parametrize("change", CHANGES)
def test_near_pairs__finds_planted_ones_and_no_others(spec, tmp_path, change):
    """The two scenes that 20 train and 10 val images share are found, and no other pair is reported."""
    train = [write(tmp_path / f"train{i}.png", scene(i)) for i in range(20)]
    val = [write(tmp_path / f"val{i}.png", scene(100 + i)) for i in range(8)]
    val += [write(tmp_path / f"same{i}.png", CHANGES[change](scene(i))) for i in (3, 11)]
    pairs = near_pairs({"train": train, "val": val}, fingerprints(spec, train + val))
    assert {(pair.first.stem, pair.second.stem) for pair in pairs} == {("train3", "same3"), ("train11", "same11")}
    assert all(pair.splits == ("train", "val") and pair.distance <= NEAR for pair in pairs)


def test_near_pairs__equals_counting_bits(spec, tmp_path, monkeypatch):
    """The product of signs gives the same numbers of differing bits as a plain count, in chunks as well."""
    monkeypatch.setattr(duplicates, "CHUNK", 3)
    groups = {name: [write(tmp_path / f"{name}{i}.png", scene(7 * i + len(name))) for i in range(7)] for name in "ab"}
    found = fingerprints(spec, [path for group in groups.values() for path in group])
    pairs = near_pairs(groups, found, limit=256)
    assert len(pairs) == 49
    for pair in pairs:
        first, second = (int(found[path].bits, 16) for path in (pair.first, pair.second))
        assert pair.distance == bin(first ^ second).count("1")


def test_copies__are_files_of_one_content(spec, tmp_path):
    """Copies under other names are found; the same path listed twice is not a copy."""
    first = write(tmp_path / "a.png", scene(0))
    again = write(tmp_path / "b.png", scene(0))
    other = write(tmp_path / "c.png", scene(1))
    assert copies([first, first, other, again], fingerprints(spec, [first, again, other])) == [[first, again]]


def test_flat_images__are_not_alike(spec, tmp_path):
    """Pictures of one even colour have nothing to compare; they are reported only if their files are equal."""
    grey = [write(tmp_path / f"{i}.png", np.full((64, 64, 3), 100 + i, np.uint8)) for i in range(3)]
    same = write(tmp_path / "same.png", np.full((64, 64, 3), 100, np.uint8))
    found = fingerprints(spec, [*grey, same])
    assert all(not found[path].bits for path in grey)
    (pair,) = near_pairs({"train": grey, "val": [same]}, found)
    assert (pair.first, pair.second, pair.distance) == (grey[0], same, 0)


def test_an_image_in_two_splits__is_its_own_duplicate(spec, tmp_path):
    """One file listed in both splits is reported."""
    path = write(tmp_path / "a.png", scene(0))
    (pair,) = near_pairs({"train": [path], "val": [path]}, fingerprints(spec, [path]))
    assert pair.first == pair.second == path


def test_fingerprints__are_remembered_until_a_file_changes(spec, tmp_path, monkeypatch):
    """A second call decodes no image, except for a file that has changed."""
    paths = [write(tmp_path / f"{i}.png", scene(i)) for i in range(3)]
    first = fingerprints(spec, paths)
    looked = []
    original = duplicates.fingerprint
    monkeypatch.setattr(duplicates, "fingerprint", lambda path, spec: looked.append(path) or original(path, spec))
    assert fingerprints(spec, paths) == first and looked == []
    write(paths[1], scene(50, (250, 330)))
    assert fingerprints(spec, paths) != first and looked == [paths[1]]


def test_deep_images__are_compared_as_training_sees_them(tmp_path):
    """16-bit images are stretched before comparison: the same scene in the lowest bits is found, others are not."""
    spec = DatasetSpec(tmp_path / "data.yaml", tmp_path, {}, {0: "a"}, channels=1, stretch=(0.5, 99.5))
    deep = [write(tmp_path / f"{i}.png", scene(i)[..., 0].astype(np.uint16) + 3000) for i in range(3)]
    dark = write(tmp_path / "dark.png", scene(1)[..., 0].astype(np.uint16) * 2 + 100)
    pairs = near_pairs({"train": deep, "val": [dark]}, fingerprints(spec, [*deep, dark]))
    assert [(pair.first, pair.second) for pair in pairs] == [(deep[1], dark)]


def test_demo__has_none(demo):
    """No near-duplicate is reported between the demo's splits, and no copy within one."""
    spec = load_spec(demo / "demo.yaml")
    members = {split: list(spec.images(split)) for split in spec.splits}
    found = fingerprints(spec, [path for paths in members.values() for path in paths])
    assert near_pairs(members, found) == []
    assert not any(copies(paths, found) for paths in members.values())
