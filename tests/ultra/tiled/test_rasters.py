"""Images read from disk in windows give the same boxes as from memory, placed on the map, in little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_tiled import SIDE, call, rows, write_weights

import pixelkeep
from pixelkeep.datasets.images import rasters
from pixelkeep.datasets.images.pixels import read_pixels
from pixelkeep.datasets.images.rasters import Window, open_raster
from pixelkeep.errors import DataError, OptionError, SourceError
from pixelkeep.report.geojson import to_geojson

rasterio = pytest.importorskip("rasterio")
ROOT = Path(__file__).resolve().parents[3]
PLACE = rasterio.transform.Affine(0.1, 0, 500000, 0, -0.1, 5300000)
STRETCH = (0.5, 99.5)


def write(path, pixels: np.ndarray, crs="EPSG:32632", transform=PLACE, **how):
    """Write (H, W, C), with bands in that order, as a tiled GeoTIFF."""
    height, width, count = pixels.shape
    given = dict(tiled=True, blockxsize=64, blockysize=64, crs=crs, transform=transform) | how
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=count, dtype=pixels.dtype, **given
    ) as file:
        file.write(pixels.transpose(2, 0, 1))
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "w.pt")


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    """Return blurred noise, (300, 420, 3) in BGR."""
    return cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (300, 420, 3), np.uint8), None, 3)


def assert_same(found: np.ndarray, expected: np.ndarray, atol: float = 2e-3) -> None:
    assert len(found) == len(expected) > 20
    np.testing.assert_allclose(found, expected, atol=atol)


@pytest.mark.parametrize("tile", [64, SIDE])
def test_detector__windows_equal_memory(weights, noise, tmp_path, monkeypatch, tile):
    """Tiles read from disk, a few at a time, give the same detections as the whole image in memory."""
    from pixelkeep.ultra.tiled import rasters as reading

    monkeypatch.setattr(reading, "READ", 3 * 2 * tile * tile)  # makes each read one or two tiles
    file = write(tmp_path / "a.tif", noise[..., ::-1])
    detector = pixelkeep.TiledDetector(weights, tile=tile, device="cpu", batch=2)
    found = detector(file)
    assert found.raster is not None
    assert_same(rows(found), rows(detector(noise)))


def test_detector__windows_at_another_scale(weights, noise, tmp_path, monkeypatch):
    """If the network sees tiles at another scale, windows are resized as the whole image would be."""
    from pixelkeep.ultra.tiled import rasters as reading

    monkeypatch.setattr(reading, "READ", 60_000)
    file = write(tmp_path / "a.tif", noise[..., ::-1])
    detector = pixelkeep.TiledDetector(weights, tile=160, imgsz=64, device="cpu", conf=0.1)
    raster = open_raster(file)
    grid = detector._predictor.engine.grid(raster)
    whole = cv2.resize(noise, (grid.width, grid.height), interpolation=cv2.INTER_LINEAR).astype(int)
    shown = np.full(whole.shape, -99)
    for part in reading._read_ahead(raster, grid, 1):
        x1, y1, x2, y2 = part.run.around
        shown[y1:y2, x1:x2] = part.pixels
    assert np.abs(shown - whole).max() <= 2  # OpenCV warps in steps of a 32nd of a pixel
    assert np.abs(shown - whole).mean() < 0.4


def test_detect__every_output_in_pixels_and_on_the_map(weights, noise, tmp_path, capfd):
    """All outputs are in pixels of the whole image; GeoJSON holds the same corners in longitude and latitude."""
    file = write(tmp_path / "field.tif", noise[..., ::-1])
    given = ["--weights", weights, "--source", file, "--tile", SIDE, "--device", "cpu", "--project", tmp_path / "runs"]
    saves = ["--save-json", "--save-txt", "--save-csv", "--save-geojson", "--json"]
    code, text, _ = call("detect", *given, *saves, capfd=capfd)
    summary, folder = json.loads(text), tmp_path / "runs" / "exp"
    assert code == 0
    assert summary["rasters"] == {
        str(file): {"width": 420, "height": 300, "empty_tiles": 0, "map": "field.geojson"}
    }  # fmt: skip
    boxes = pixelkeep.TiledDetector(weights, tile=SIDE, device="cpu")(noise).boxes
    records = json.loads((folder / "predictions.json").read_text())
    x, y, width, height = np.array([record["bbox"] for record in records]).T
    assert_same(np.stack([x, y, x + width, y + height], 1), boxes)
    label = np.loadtxt(folder / "labels" / "field.txt")
    np.testing.assert_allclose(label[:, 1] * 420, boxes[:, [0, 2]].mean(1), atol=2e-2)
    assert len((folder / "predictions.csv").read_text().splitlines()) == 1 + len(boxes)
    assert cv2.imread(str(folder / "field.jpg")).shape[1] == 840  # small pictures are enlarged
    features = json.loads((folder / "geojson" / "field.geojson").read_text())["features"]
    assert len(features) == len(boxes)
    pyproj = pytest.importorskip("pyproj")
    to_map = pyproj.Transformer.from_crs("EPSG:32632", "EPSG:4326", always_xy=True)
    for feature, (x1, y1, x2, y2) in zip(features, boxes, strict=True):
        ring = feature["geometry"]["coordinates"][0]
        assert ring[0] == ring[-1] and len(ring) == 5
        expected = {
            tuple(np.round(to_map.transform(500000 + 0.1 * px, 5300000 - 0.1 * py), 6))
            for px, py in ((x1, y1), (x1, y2), (x2, y2), (x2, y1))
        }  # fmt: skip
        for corner in ring:
            assert min(abs(corner[0] - lon) + abs(corner[1] - lat) for lon, lat in expected) < 2.1e-6
        assert feature["properties"]["box"] == pytest.approx([x1, y1, x2, y2], abs=2e-3)


def area(ring: list) -> float:
    x, y = np.array(ring).T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


def test_geojson__rings_run_anticlockwise_in_both_systems():
    """Outer rings are anticlockwise whichever way pixel rows run; the image's own reference system is named."""
    from rasterio.crs import CRS

    corners = np.array([[[10, 20], [30, 20], [30, 60], [10, 60]]], float)
    upwards = rasterio.transform.Affine(2, 0.5, 1000, -0.25, 2, 7000)  # rotated, with rows that run north
    for transform in (PLACE, upwards):
        for own in (False, True):
            document = to_geojson(corners, [{"class": "car"}], CRS.from_epsg(32632), transform, own)
            ring = document["features"][0]["geometry"]["coordinates"][0]
            assert area(ring) > 0
            assert ("crs" in document) == own
    assert document["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32632"
    assert sorted(map(tuple, ring[:4])) == sorted(
        (1000 + 2 * x + 0.5 * y, 7000 - 0.25 * x + 2 * y) for x, y in corners[0].tolist()
    )
    with pytest.raises(DataError, match="has no number"):
        to_geojson(corners, [{}], CRS.from_proj4("+proj=aeqd +lat_0=10 +lon_0=20"), PLACE, own=True)


def test_geojson__known_place():
    """Pixels on the central meridian of UTM zone 32 and on the equator map to longitude 9 and latitude 0."""
    from rasterio.crs import CRS

    corners = np.array([[[0, 0], [10, 0], [10, 10], [0, 10]]], float)
    at = rasterio.transform.Affine(1, 0, 500000, 0, -1, 0)
    document = to_geojson(corners, [{}], CRS.from_epsg(32632), at)
    assert [9.0, 0.0] in document["features"][0]["geometry"]["coordinates"][0]


@pytest.mark.parametrize(
    "kind, channels", [("uint8", 1), ("uint8", 3), ("uint16", 1), ("uint16", 3), ("float32", 3), ("int16", 1)]
)
@pytest.mark.parametrize("bands", [1, 3])
def test_read__equals_reading_it_whole(tmp_path, noise, kind, channels, bands):
    """Windows equal parts of the image read as a whole: channels, their order, and a stretch over all of it."""
    if bands == 3 and kind in ("float32", "int16") and channels == 1:
        pytest.skip("OpenCV reads no grey from colour of that depth")
    factor = 1 if kind == "uint8" else 37
    pixels = (noise[..., :bands].astype(np.float64) * factor + (0 if kind == "uint8" else 1000)).astype(kind)
    file = write(tmp_path / "a.tif", pixels)
    whole = read_pixels(file, channels, STRETCH)
    raster = open_raster(file, channels, STRETCH)
    for window in (Window(0, 0, 420, 300), Window(33, 70, 201, 299), Window(419, 299, 420, 300)):
        x1, y1, x2, y2 = window
        found, valid = raster.read(window)
        assert valid is None
        tolerance = 1 if channels == 1 and bands == 3 else 0  # OpenCV's decoder rounds grey differently
        assert np.abs(found.astype(int) - whole[y1:y2, x1:x2]).max() <= tolerance


def test_read__nodata_is_left_out_of_the_stretch(tmp_path, noise):
    """Nodata pixels become 0 and do not affect how the others are stretched."""
    deep = noise.astype(np.uint16) * 100 + 500
    plain = open_raster(write(tmp_path / "a.tif", deep), 3, STRETCH).read(Window(0, 0, 420, 200))[0]
    holed = np.concatenate([deep, np.full((200, 420, 3), 65535, np.uint16)])
    raster = open_raster(write(tmp_path / "b.tif", holed, nodata=65535), 3, STRETCH)
    shown, valid = raster.read(Window(0, 0, 420, 200))
    np.testing.assert_array_equal(shown, plain)
    assert valid.all()
    shown, valid = raster.read(Window(0, 290, 420, 310))
    assert valid[:10].all() and not valid[10:].any() and not shown[10:].any()


def test_nodata__tiles_are_left_out_and_counted(weights, noise, tmp_path, capfd):
    """Tiles without any data are skipped and counted; a tile with a single valid pixel is not skipped."""
    pixels = np.zeros((3 * SIDE, 4 * SIDE, 3), np.uint8)
    pixels[:SIDE, :SIDE] = np.maximum(noise[:SIDE, :SIDE, ::-1], 1)
    pixels[3 * SIDE - 1, 4 * SIDE - 1] = 1
    file = write(tmp_path / "a.tif", pixels, nodata=0)
    given = ["--weights", weights, "--source", file, "--tile", SIDE, "--overlap", 0, "--no-save", "--device", "cpu"]
    code, text, _ = call("detect", *given, "--json", "--project", tmp_path, capfd=capfd)
    assert code == 0 and json.loads(text)["rasters"][str(file)]["empty_tiles"] == 10
    code, text, _ = call("detect", *given, "--project", tmp_path, capfd=capfd)
    assert "10 tiles without data left out" in " ".join(text.split())
    detector = pixelkeep.TiledDetector(weights, tile=SIDE, overlap=0, device="cpu")
    corner, lone = np.ascontiguousarray(pixels[:SIDE, :SIDE, ::-1]), np.zeros((SIDE, SIDE, 3), np.uint8)
    lone[-1, -1] = 1
    assert len(detector(file)) == len(detector(corner)) + len(detector(lone))


def test_unmapped__detected_and_told_why(weights, noise, tmp_path, capfd, monkeypatch, caplog):
    """Detection runs on images without map coordinates, and a line says why they get no GeoJSON."""
    cv2.imwrite(str(tmp_path / "a.png"), noise)
    write(tmp_path / "b.tif", noise, crs=None)
    write(tmp_path / "c.tif", noise, crs=None, transform=None)
    common = [
        "--weights",
        weights,
        "--tile",
        SIDE,
        "--device",
        "cpu",
        "--no-save",
        "--save-geojson",
        "--project",
        tmp_path,
    ]
    monkeypatch.setattr(rasters, "LARGE", 1000)  # so that c.tif is also read in windows
    sources = [word for name in ("a.png", "b.tif", "c.tif") for word in ("--source", tmp_path / name)]
    code, _, _ = call("detect", *common, *sources, capfd=capfd)
    told = caplog.text
    assert code == 0
    assert "a.png: no GeoJSON: it does not say where on Earth it is" in told
    assert "b.tif: no GeoJSON: it does not say in which reference system" in told
    assert "c.tif: no GeoJSON: it does not say where on Earth it is" in told
    assert not (tmp_path / "exp" / "geojson").exists()


@pytest.mark.parametrize(
    "words, message",
    [
        (["--save-geojson"], "--save-geojson needs --tile 640"),
        (["--raster-crs", "--tile", "128"], "--raster-crs has no effect without --save-geojson"),
    ],
)
def test_options__refused_without_effect(weights, noise, tmp_path, capfd, words, message):
    """Options that would have no effect are refused in one line."""
    cv2.imwrite(str(tmp_path / "a.png"), noise)
    code, _, error = call("detect", "--weights", weights, "--source", tmp_path / "a.png", *words, capfd=capfd)
    assert code == 2 and message in " ".join(error.split())


def test_broken__left_out_and_named(weights, noise, tmp_path, capfd):
    """A truncated file is left out and named; detection runs on the others."""
    good = write(tmp_path / "good.tif", noise, compress="deflate")
    whole = good.read_bytes()
    with rasterio.open(good) as file:
        assert file.width == 420
    (tmp_path / "z.tif").write_bytes(whole[: len(whole) * 2 // 3])
    given = ["--weights", weights, "--tile", SIDE, "--device", "cpu", "--no-save", "--json", "--project", tmp_path]
    code, text, _ = call("detect", *given, "--source", good, "--source", tmp_path / "z.tif", capfd=capfd)
    summary = json.loads(text)
    assert code == 0 and summary["images"] == 1
    assert list(summary["unreadable"]) == [str(tmp_path / "z.tif")]


def test_open__what_cannot_be_used_is_refused(tmp_path, noise, monkeypatch):
    """Other channels, deep images without a stretch, and large ones without rasterio are refused with the reason."""
    five = np.dstack([noise, noise[..., :2]])
    with pytest.raises(DataError, match="has 5 channels, not the 3"):
        open_raster(write(tmp_path / "five.tif", five))
    assert open_raster(tmp_path / "five.tif", 5).read(Window(0, 0, 420, 300))[0].tolist() == five.tolist()
    with pytest.raises(DataError, match=r"16 bits a channel; declare 'stretch"):
        open_raster(write(tmp_path / "deep.tif", noise.astype(np.uint16)))
    monkeypatch.setitem(sys.modules, "rasterio", None)
    assert open_raster(tmp_path / "five.tif", 5) is None
    monkeypatch.setattr(rasters, "LARGE", 1000)
    with pytest.raises(OptionError, match=r"five.tif.*rasterio; install it: pip install 'pixelkeep\[geo\]'"):
        open_raster(tmp_path / "five.tif", 5)


def test_python__geojson_and_picture(weights, noise, tmp_path):
    """The Python interface returns the same GeoJSON, and plots an overview of the image."""
    file = write(tmp_path / "a.tif", noise[..., ::-1])
    detector = pixelkeep.TiledDetector(weights, tile=SIDE, device="cpu")
    found = detector(file)
    assert len(found.to_geojson()["features"]) == len(found) == len(found.to_geojson(own=True)["features"])
    assert found.plot().shape[1] == 840
    with pytest.raises(DataError, match="no GeoJSON of this image"):
        detector(noise).to_geojson()
    with pytest.raises(SourceError, match="not found"):
        detector(tmp_path / "gone.tif")


MEASURE = """
import resource, sys
from pixelkeep.cli.main import run
try:
    run(sys.argv[1:])
except SystemExit as ended:
    assert not ended.code, ended.code
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak(weights, file, folder, *words: str) -> int:
    """Return the peak memory in MB of detection in one image, run in a process of its own."""
    given = ["detect", "--weights", weights, "--source", file, "--tile", "640", "--device", "cpu", "--project", folder]
    command = [sys.executable, "-c", MEASURE, *map(str, given), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout.split()[-1])


def write_sparse(path, side: int):
    """Write an image of nodata with one square of noise; blocks without data take no disk space."""
    square = cv2.GaussianBlur(np.random.default_rng(0).integers(1, 255, (640, 640, 3), np.uint8), None, 3)
    how = dict(crs="EPSG:32632", transform=PLACE, tiled=True, blockxsize=512, blockysize=512, compress="deflate")
    with rasterio.open(
        path, "w", driver="GTiff", width=side, height=side, count=3, dtype="uint8", nodata=0, SPARSE_OK=True,
        BIGTIFF="YES", **how,
    ) as file:  # fmt: skip
        file.write(square.transpose(2, 0, 1), window=((side - 640, side), (side - 640, side)))
    return path


GROWTH = 300  # MB, as docs/tiling.md states


@pytest.mark.parametrize("side", [12_000, pytest.param(40_000, marks=pytest.mark.slow)])
def test_memory__does_not_grow_with_the_image(weights, tmp_path, side):
    """Images of 432 MB and 4.8 GB need less than GROWTH MB more memory than one of 1.2 MB."""
    small = peak(weights, write_sparse(tmp_path / "small.tif", 640), tmp_path / "runs")
    large = peak(
        weights, write_sparse(tmp_path / "large.tif", side), tmp_path / "runs", "--save-json", "--save-geojson"
    )
    print(f"{side} x {side} pixels: {large - small:.0f} MB more, in a process of {large:.0f} MB")
    assert large - small < GROWTH
