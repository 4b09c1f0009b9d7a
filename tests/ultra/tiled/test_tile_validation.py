"""``val --tile``: settings of validation take effect or are refused."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from test_tiled import call, write_weights

from pixelkeep.datasets.demo import CLASSES, write_demo
from pixelkeep.ultra.commands.validation import validate
from pixelkeep.ultra.running import settings
from pixelkeep.ultra.tiled import validator
from pixelkeep.ultra.tiled.images import Request, Tiles, tiles_of_image


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Write a demo dataset of a few images."""
    return write_demo(tmp_path_factory.mktemp("data") / "tiny", splits={"train": 2, "val": 3, "test": 1})


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "w.pt", names=dict(enumerate(CLASSES)))


def side_of(data) -> int:
    return max(cv2.imread(str(next((data.parent / "images" / "val").iterdir()))).shape)


@pytest.mark.parametrize("more", [{}, {"save_conf": True, "single_cls": True, "max_det": 5}])
def test_save_txt__equals_plain_validation(data, weights, tmp_path, more):
    """With one tile as large as the images, label files equal those of a validation without tiles."""
    side = side_of(data)
    given = {"data": str(data), "conf": 0.1, "device": "cpu", "save_txt": True, "project": str(tmp_path)}
    merged = settings.merge(given | more, command="val") | {"weights": str(weights)}
    _, plain = validate({**merged, "imgsz": [side, side], "plots": False})
    _, tiled = validate({**merged, "imgsz": side}, tiling=Request(tile=side))
    files = sorted(file.name for file in (plain / "labels").iterdir())
    assert len(files) == 3 and sorted(file.name for file in (tiled / "labels").iterdir()) == files
    for name in files:
        one, other = (np.loadtxt(folder / "labels" / name, ndmin=2) for folder in (plain, tiled))
        assert one.shape == other.shape and one.shape[1] == (6 if more else 5)
        order, of_other = (np.lexsort(np.round(rows, 3).T) for rows in (one, other))
        np.testing.assert_allclose(one[order], other[of_other], atol=1e-3)


@pytest.mark.parametrize("plots", [True, False])
def test_plots__as_without_tiles(data, weights, tmp_path, plots):
    """Curves and confusion matrices are drawn from boxes in whole images, unless plots=false."""
    given = {"data": str(data), "device": "cpu", "project": str(tmp_path), "plots": plots}
    merged = settings.merge(given, command="val") | {"weights": str(weights)}
    _, folder = validate(merged, tiling=Request(tile=128))
    names = {f"Box{name}_curve.png" for name in ("PR", "F1", "P", "R")}
    names |= {"confusion_matrix.png", "confusion_matrix_normalized.png"}
    assert {path.name for path in folder.glob("*.png")} == (names if plots else set())


def test_tiles_of_image__in_whole_tiles_pixels():
    """Six tiles of 320 cover 640 x 512; a smaller image is a fraction; --full-image adds one to a tiled image."""
    tiles = Tiles(size=320, imgsz=320, overlap=0.2)
    assert tiles_of_image([(512, 640)], tiles) == 6
    assert tiles_of_image([(512, 640), (160, 320)], tiles) == (6 + 0.5) / 2
    assert tiles_of_image([(512, 640), (160, 320)], replace(tiles, full_image=True)) == (7 + 0.5) / 2
    assert tiles_of_image([(256, 320)], replace(tiles, size=160)) == 6


def test_cache__is_refused(data, weights, tmp_path, capfd):
    """cache=ram is refused, because every image is read only once."""
    given = ["--weights", weights, "--data", data, "--tile", 128, "--project", tmp_path / "runs", "--set", "cache=ram"]
    code, _, error = call("val", *given, capfd=capfd)
    assert code == 2 and "--tile and cache=ram exclude each other" in error and not (tmp_path / "runs").exists()


@pytest.mark.parametrize("threads", [1, 3, 9])
def test_read_ahead__as_many_as_asked_for_in_order(monkeypatch, threads):
    """Images are read ahead, at most as many at a time as there are threads, and are yielded in order."""
    paths, begun, gate = [f"{i}.png" for i in range(7)], [], threading.Barrier(min(threads, 7))

    def read(path: str, *_: object) -> str:
        begun.append(path)
        if len(begun) <= min(threads, 7):
            gate.wait(timeout=20)  # raises unless all of the first images are being read at once
        return f"pixels of {path}"

    monkeypatch.setattr(validator, "read_pixels", read)
    spec = SimpleNamespace(channels=3, stretch=None)
    for number, (path, pixels, seconds) in enumerate(validator.read_ahead(paths, spec, threads)):
        assert path == paths[number] and pixels == f"pixels of {path}" and seconds >= 0
        assert len(begun) <= number + 1 + threads
    assert sorted(begun) == paths


@pytest.mark.parametrize("device, given, threads", [("cpu", 5, 1), ("cuda", 5, 5), ("cuda", None, 1), ("cuda", 0, 1)])
def test_workers__threads_that_read_on_a_gpu(monkeypatch, device, given, threads):
    """On a GPU, ``--workers`` sets how many images are read at a time; on a CPU, one is."""
    asked = []

    class Unread(Exception):
        pass

    def read_ahead(paths: list, spec: object, count: int):
        asked.append(count)
        raise Unread

    validating = object.__new__(validator.TiledValidator)
    validating.records, validating.spec, validating.device = [], None, torch.device(device)
    validating._overrides = {} if given is None else {"workers": given}
    monkeypatch.setattr(validator, "read_ahead", read_ahead)
    monkeypatch.setattr(validator.TiledValidator, "_engine", lambda self: None)
    with pytest.raises(Unread):
        validating()
    assert asked == [threads]
