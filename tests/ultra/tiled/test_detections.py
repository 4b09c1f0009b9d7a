"""``pixelkeep.TiledDetector`` returns what the command writes, and closes the files it opens."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import test_oriented
import test_rasters
from test_tiled import SIDE, call, rows, write_weights

import pixelkeep
from pixelkeep.errors import OptionError, SourceError


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "w.pt")


@pytest.fixture(scope="module")
def oriented(tmp_path_factory):
    return test_oriented.write_weights(tmp_path_factory.mktemp("oriented") / "w.pt")


@pytest.mark.parametrize("kind", ["weights", "oriented"])
def test_forms__are_those_that_the_command_writes(request, noise, tmp_path, capfd, kind):
    """JSON, CSV and label files equal those of the command to the last digit, for oriented boxes too."""
    file, checkpoint = tmp_path / "a.png", request.getfixturevalue(kind)
    cv2.imwrite(str(file), noise)
    given = ["--weights", checkpoint, "--source", file, "--tile", SIDE, "--device", "cpu", "--project", tmp_path]
    saves = ["--save-json", "--save-csv", "--save-txt", "--set", "save_conf=true", "--no-save"]
    assert call("detect", *given, *saves, capfd=capfd)[0] == 0
    found = pixelkeep.TiledDetector(checkpoint, tile=SIDE, device="cpu")(file)
    expected = json.loads((tmp_path / "exp" / "predictions.json").read_text())
    assert found.to_coco() == expected and len(expected) > 5
    assert ("obb" in expected[0] and "segmentation" in expected[0]) == (kind == "oriented")
    assert found.to_csv() == (tmp_path / "exp" / "predictions.csv").read_text()
    found.save_txt(tmp_path / "own.txt", save_conf=True)
    assert (tmp_path / "own.txt").read_text() == (tmp_path / "exp" / "labels" / "a.txt").read_text()
    found.save_txt(tmp_path / "own.txt")
    first = (tmp_path / "own.txt").read_text().splitlines()[0]
    assert len(first.split()) == (9 if kind == "oriented" else 5)


def test_forms__of_an_array(weights, noise):
    """Records of an image without a file have no file name, and the image id that is given."""
    found = pixelkeep.TiledDetector(weights, tile=SIDE, device="cpu")(noise)
    records = found.to_coco(7)
    assert {record["image_id"] for record in records} == {7} and "file_name" not in records[0]
    assert found.to_csv(7).splitlines()[1].startswith(f"7,,,{found.names[int(found.classes[0])]},")


@pytest.mark.parametrize("asked", [[1], ["Person"], "person", (np.int64(1), "person")])
def test_classes__others_are_left_out(weights, noise, asked):
    """Detections limited to some classes are those of these classes among all detections."""
    every = rows(pixelkeep.TiledDetector(weights, tile=SIDE, device="cpu")(noise))
    found = rows(pixelkeep.TiledDetector(weights, tile=SIDE, classes=asked, device="cpu")(noise))
    assert 0 < len(found) < len(every)
    np.testing.assert_allclose(found, every[every[:, 5] == 1], atol=1e-3)


@pytest.mark.parametrize(
    "asked, message",
    [
        (["persan"], "classes persan: no such class; did you mean 'person'?"),
        ([2], "classes 2: no such class"),
        (0.5, "classes 0.5: no such class"),
        ([[0]], r"classes [0]: no such class"),
        ([], "classes: none is given"),
    ],
)
def test_classes__unknown_ones_are_refused(weights, asked, message):
    """An unknown class is refused by name, with the classes that exist."""
    with pytest.raises(OptionError) as error:
        pixelkeep.TiledDetector(weights, classes=asked)
    assert message in str(error.value)


def test_rasters__are_closed_and_known_still(weights, noise, tmp_path):
    """The file of each image is closed once its detection is done; every output can still be made afterwards."""
    pytest.importorskip("rasterio")
    files = [test_rasters.write(tmp_path / f"{i}.tif", noise[..., ::-1]) for i in range(3)]
    detector = pixelkeep.TiledDetector(weights, tile=SIDE, device="cpu")
    before = opened()
    every = list(detector.stream(files))
    assert opened() == before and all(found.raster.source.closed for found in every)
    in_memory = detector(noise)
    for found in every:
        assert len(found.to_geojson()["features"]) == len(found) > 5
        assert found.plot().shape == in_memory.plot().shape
        assert "256 x 128" in repr(found)
        assert [r["category"] for r in found.to_coco()] == [r["category"] for r in in_memory.to_coco()]
    stream = detector.stream(files)
    next(stream)
    stream.close()
    assert opened() == before
    files[1].write_bytes(files[1].read_bytes()[:-20_000])
    with pytest.raises(SourceError, match="may be damaged"):
        list(detector.stream(files))
    assert opened() == before


def opened() -> int:
    """Return how many files this process has open, or 0 where the system does not tell."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0
