"""The gallery: which images are picked, what is found and missed on them, and what cannot be shown."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from pixelkeep.datasets.definitions.spec import load_spec
from pixelkeep.datasets.demo import write_demo
from pixelkeep.datasets.loading import load_split
from pixelkeep.errors import DataError, OptionError
from pixelkeep.evaluation import evaluate, sha256
from pixelkeep.experiments.arms import read_run
from pixelkeep.experiments.gallery import found, gallery, pick
from pixelkeep.ultra.data.truth import build_truth


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_demo(tmp_path_factory.mktemp("data"), splits={"train": 2, "val": 6, "test": 2})


@pytest.fixture(scope="module")
def truth(data) -> dict:
    spec = load_spec(data)
    return build_truth(load_split(spec, "val").records, spec)[0]


def objects(truth: dict) -> list[dict]:
    return [a for a in truth["annotations"] if not a.get("iscrowd") and not a.get("ignore")]


def detections(truth: dict, *, missed: dict[int, int], false: dict[int, int]) -> list[dict]:
    """Return a detection of score 0.9 for each object but the missed ones, and false ones; both counts are by image."""
    left, made = dict(missed), []
    for a in objects(truth):
        if left.get(a["image_id"], 0):
            left[a["image_id"]] -= 1
            continue
        made.append({key: a[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.9})
    for image, count in false.items():
        made += [
            {"image_id": image, "category_id": 1, "bbox": [0.25 * n, 0.0, 2.0, 1.0], "score": 0.9} for n in range(count)
        ]
    return made


def run(folder: Path, data: Path, truth: dict, name: str, made: list[dict]) -> Path:
    folder.mkdir()
    result = evaluate(truth, made)
    result.model, result.data, result.split, result.gt_sha256 = name, str(data), "val", sha256(truth)
    result.protocol.imgsz = 64
    (folder / "metrics.json").write_text(result.to_json())
    (folder / "predictions.json").write_text(json.dumps(made))
    return folder


@pytest.fixture
def both(data, truth, tmp_path) -> tuple[Path, Path]:
    """Write two runs: on the three images with most objects the second has 3 errors less, 1 less, and 2 more."""
    counts = {image["id"]: sum(a["image_id"] == image["id"] for a in objects(truth)) for image in truth["images"]}
    first, second, third = sorted(counts, key=lambda image: -counts[image])[:3]
    assert counts[third] >= 3
    baseline = run(
        tmp_path / "a", data, truth, "plain", detections(truth, missed={first: 2, second: 1}, false={first: 1})
    )
    other = run(tmp_path / "b", data, truth, "better", detections(truth, missed={third: 1}, false={third: 1}))
    return baseline, other


def test_pick__the_largest_differences_of_both_kinds(both, truth):
    """Images are picked by their gain in errors, misses and false alarms alike, first the best and then the worst."""
    errors = [found(read_run(folder), truth) for folder in both]
    picked = pick(errors, ["a", "b"], 6)
    assert [image.gained for image in picked] == [3, 1, -2]
    half, other = picked[0].halves
    assert (len(half.missed), len(half.false)) == (2, 1) and (len(other.missed), len(other.false)) == (0, 0)
    assert len(other.found) == len(half.found) + 2
    assert half.caption() == f"a: {len(half.found)} found, 2 missed, 1 false"
    assert [image.gained for image in pick(errors, ["a", "b"], 1)] == [3, -2]


def test_pick__small_objects_alone(both, truth):
    """Where only small objects count, large objects and large false alarms are left out."""
    errors = [found(read_run(folder), truth) for folder in both]
    for image in pick(errors, ["a", "b"], 6, small=True):
        for half in image.halves:
            for boxes in (half.missed, half.false):
                assert all(w * h <= 32**2 for _, _, w, h in boxes)


def test_gallery__pictures_and_their_list(both, tmp_path):
    """Each image gets a picture with the two halves side by side, and a list says what the pictures show."""
    files = gallery(*both, tmp_path / "out")
    assert [path.name for path in files] == ["better-1.jpg", "better-2.jpg", "worse-1.jpg"]
    for path in files:
        height, width = cv2.imread(str(path)).shape[:2]
        assert width > 2 * 256 and height > 256 and width > height
    told = json.loads((tmp_path / "out" / "gallery.json").read_text())
    assert (told["baseline"], told["other"]) == ("plain", "better")
    assert [entry["errors_less"] for entry in told["images"]] == [3, 1, -2]
    assert not any("/" in entry["image"] for entry in told["images"])  # no folder: that of dev images is called val
    assert told["command"].startswith("python scripts/gallery.py RUNS/") and told["command"].endswith("--each 6")
    assert str(tmp_path) not in told["command"]


def test_gallery__images_at_their_own_size(both, tmp_path):
    """Without enlarging, the sheet is as wide as two images of 256 pixels with the margins between and beside them."""
    picture = cv2.imread(str(gallery(*both, tmp_path / "out", enlarge=False)[0]))
    assert picture.shape[1] == 2 * 256 + 3 * 12


def test_gallery__the_halves_differ_in_colour(both, tmp_path):
    """What the baseline misses is yellow in its half on the left, and no longer yellow on the right."""
    picture = cv2.imread(str(gallery(*both, tmp_path / "out")[0])).astype(int)
    middle = picture.shape[1] // 2
    body = picture[60:-40]  # without captions and legend

    def count(half: np.ndarray, rgb: tuple[int, int, int]) -> int:
        return int((np.abs(half - np.array(rgb[::-1])).max(axis=2) < 60).sum())

    yellow = [count(half, (240, 228, 66)) for half in (body[:, :middle], body[:, middle:])]
    assert yellow[0] > yellow[1] + 40


def test_gallery__what_cannot_be_shown(both, tmp_path):
    """Equal runs, numbers below one and folders without figures are refused."""
    with pytest.raises(DataError, match="nothing to show"):
        gallery(both[0], both[0], tmp_path / "out")
    with pytest.raises(OptionError, match="--each 0"):
        gallery(*both, tmp_path / "out", each=0)
    with pytest.raises(DataError, match=r"has no metrics\.json"):
        gallery(tmp_path, both[1], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names__of_an_arm_with_settings_of_its_own(tmp_path, data, truth):
    """A run of a comparison is called by its arm's name where that is not the model's."""
    (tmp_path / "recipe").mkdir()
    other = run(tmp_path / "recipe" / "seed0", data, truth, "b", detections(truth, missed={}, false={}))
    baseline = run(tmp_path / "a", data, truth, "a", detections(truth, missed={1: 1}, false={}))
    for names in ({"baseline": "a", "other": "b"}, {"baseline": "a", "other": "recipe (b)"}):
        gallery(baseline, other, tmp_path / "out")
        assert json.loads((tmp_path / "out" / "gallery.json").read_text()).items() >= names.items()
        (tmp_path / "grid.json").touch()
