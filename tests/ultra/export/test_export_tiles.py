"""Exports of networks trained in tiles are compared, calibrated and scored in tiles at the scale of training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from exports import NAMES, briefly, tiny
from varied import varied, write

from pixelkeep.datasets.annotations.record import ImageRecord
from pixelkeep.datasets.images.pixels import read_pixels
from pixelkeep.datasets.loading import load_split
from pixelkeep.errors import ExportError
from pixelkeep.report.export import export_table
from pixelkeep.tiling import make_grid
from pixelkeep.ultra.commands.validation import validate
from pixelkeep.ultra.data.resolving import resolve_data
from pixelkeep.ultra.export import exporting, parity
from pixelkeep.ultra.export.exporting import Request, export
from pixelkeep.ultra.export.images import _tiles, images_of
from pixelkeep.ultra.tiled.auto import suitable_tile
from pixelkeep.ultra.tiled.images import Request as Tiling
from pixelkeep.ultra.tiled.images import Tiles
from pixelkeep.ultra.weights.checkpoints import load, model_of

torch.set_num_threads(1)
TILE, SIDE = 96, 64  # side of a tile, in pixels of the image and of the network's input
LOOSE = ("matched=0", "ap=1", "ap_s=1")  # bounds that an untrained network can meet


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    briefly(monkeypatch)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    return tiny(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Write the checkpoint of a network trained in tiles of 96 pixels that it sees at 64."""
    model = varied("yolov5-spd-n", NAMES)
    model.task, model.yaml["tile"] = "detect", TILE
    path = write(model, tmp_path_factory.mktemp("weights") / "best.pt")
    checkpoint = torch.load(path, weights_only=False)
    torch.save(checkpoint | {"train_args": {"imgsz": SIDE}}, path)
    return path


def record(path: Path, image: np.ndarray, *centres: tuple[float, float]) -> ImageRecord:
    """Write an image, and return its record with objects of 8 x 8 pixels at the given centres."""
    cv2.imwrite(str(path), image)
    boxes = np.array([[x - 4, y - 4, x + 4, y + 4] for x, y in centres], float).reshape(-1, 4)
    count, (height, width) = len(boxes), image.shape[:2]
    return ImageRecord(
        path, width, height, boxes, np.zeros(count, int), np.full(count, 64.0), np.zeros(count, bool), np.zeros((0, 4))
    )


def test_tiles__are_pixels_of_the_image(tmp_path):
    """Only tiles with an object's centre are cut, at the scale of the image, in RGB from 0 to 1."""
    image = np.random.default_rng(0).integers(0, 256, (150, 200, 3), np.uint8)
    made = record(tmp_path / "a.png", image, (5, 5), (190, 140))
    found = _tiles(made, Tiles(size=100, imgsz=100), 9, 3, None)
    assert len(found) == 2
    for tile, rows, columns in zip(
        found, (slice(0, 100), slice(50, 150)), (slice(0, 100), slice(100, 200)), strict=True
    ):
        np.testing.assert_array_equal((tile * 255).round().permute(1, 2, 0).numpy(), image[rows, columns, ::-1])


def test_tiles__scaled_as_a_whole(tmp_path):
    """A tile of 100 pixels seen at 50 equals a part of the image resized to half its sides."""
    image = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (150, 200, 3), np.uint8), None, 3)
    (tile,) = _tiles(record(tmp_path / "a.png", image, (190, 140)), Tiles(size=100, imgsz=50), 9, 3, None)
    half = cv2.resize(image, (100, 75), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal((tile * 255).round().permute(1, 2, 0).numpy(), half[25:, 50:, ::-1])


def test_tiles__without_objects_any_and_small_ones_padded(tmp_path):
    """Images without objects give tiles from all over; images smaller than a tile are padded, not enlarged."""
    empty = record(tmp_path / "a.png", np.full((100, 420, 3), 7, np.uint8))
    assert len(_tiles(empty, Tiles(size=100, imgsz=100), 3, 3, None)) == 3
    assert len(_tiles(empty, Tiles(size=100, imgsz=100), 99, 3, None)) == len(make_grid(420, 100, 100))
    (tile,) = _tiles(
        record(tmp_path / "b.png", np.full((30, 40, 3), 7, np.uint8)), Tiles(size=64, imgsz=64), 9, 3, None
    )
    assert tile.shape == (3, 64, 64)
    assert (tile[:, :30, :40] * 255).round().unique().tolist() == [7]
    assert (tile[:, 30:] * 255).round().unique().tolist() == (tile[:, :, 40:] * 255).round().unique().tolist() == [114]


def test_images__in_tiles(weights, data):
    """A dataset yields as many tiles as are asked for, from all of its images; without tiling, whole images."""
    network = model_of(load(weights)).float()
    records = load_split(resolve_data(data), "val").records
    assert len(images_of(data, [SIDE, SIDE], network)) == len(records) == 6
    tiles = images_of(data, [SIDE, SIDE], network, tile=SIDE)
    assert tiles.shape == (16, 3, SIDE, SIDE)
    picture = read_pixels(records[0].path, 3, None)[..., ::-1]
    shown = (tiles[0] * 255).round().permute(1, 2, 0).numpy()
    places = [picture[y1:y2, x1:x2] for x1, y1, x2, y2 in make_grid(*picture.shape[1::-1], SIDE).windows]
    assert any(np.array_equal(shown, place) for place in places)


def told(function, calls: list):
    """Wrap a function so that its arguments are appended to ``calls``."""

    def keep(*arguments, **keywords):
        calls.append((arguments, keywords))
        return function(*arguments, **keywords)

    return keep


def test_export__compared_and_scored_in_tiles(weights, data, tmp_path, monkeypatch):
    """The comparison uses tiles at the scale of training, and AP is that of val --tile."""
    images, scored = [], []
    monkeypatch.setattr(exporting, "images_of", told(images_of, images))
    monkeypatch.setattr(parity, "validate", told(validate, scored))
    report = export(Request(weights=str(weights), data=data, bounds=LOOSE, output=str(tmp_path)))
    assert [keywords for _, keywords in images] == [{"tile": TILE}]
    assert [keywords["tiling"].tile for _, keywords in scored] == [TILE, TILE]
    assert report.tile == report.to_dict()["tile"] == TILE and report.parity.images == 16
    given = dict(weights=str(weights), data=data, imgsz=SIDE, plots=False, project=str(tmp_path))
    expected, _ = validate(given, tiling=Tiling(tile=TILE))
    assert report.accuracy[parity.UNFOLDED]["AP"] == expected.AP
    assert "compared in tiles of 96 pixels" in export_table(report) and "times as fast" in export_table(report)
    int8 = replace(report, quantized={"images": 128, "float": "head", "agreed": {}})
    report.parity = replace(report.parity, detections=0, matched=None)
    assert "nothing is detected above 0.25, so this says little" in " ".join(export_table(report).split())
    assert "calibrated on 128 training tiles" in " ".join(export_table(int8).split())


def test_int8__calibrated_on_tiles(weights, data, tmp_path, monkeypatch):
    """int8 is calibrated on tiles of training images."""
    images = []
    monkeypatch.setattr(exporting, "images_of", told(images_of, images))
    monkeypatch.setattr(exporting, "quantize", lambda *_: (_ for _ in ()).throw(ExportError("far enough")))
    with pytest.raises(ExportError, match="far enough"):
        export(Request(weights=str(weights), data=data, precision="int8", output=str(tmp_path)))
    assert [(arguments[3:], keywords) for arguments, keywords in images][1] == (("train", 128), {"tile": TILE})


@pytest.mark.parametrize("side, tile", [(SIDE, TILE), (2 * SIDE, 2 * TILE)])
def test_auto__the_file_says_what_the_checkpoint_says(weights, tmp_path, side, tile):
    """A file for another size than that of training keeps the scale of training."""
    report = export(Request(weights=str(weights), imgsz=side, bounds=LOOSE, output=str(tmp_path)))
    assert suitable_tile(load(weights), side) == suitable_tile(load(Path(report.output)), None) == (tile, side)


def test_export__oblong_is_compared_in_whole_images(weights, tmp_path):
    """A file for oblong images cannot take tiles, so it is compared on whole images."""
    report = export(Request(weights=str(weights), imgsz=[64, 96], bounds=LOOSE, output=str(tmp_path)))
    assert report.tile is None and report.parity.images == 16
