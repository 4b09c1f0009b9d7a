"""Deep images with pixels without data read the same whole (for training) and in windows (for detection)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from pixelkeep.datasets.images import levels
from pixelkeep.datasets.images.pixels import read_pixels
from pixelkeep.datasets.images.rasters import Window, open_raster

HEIGHT, WIDTH = 40, 60
STRETCH = (2, 98)
EMPTY = (slice(5, 30), slice(0, 25))  # rows and columns without data


def write_grey(path: Path, nodata: str, orientation: int = 1) -> np.ndarray:
    """Write values of 7000 to 7599 with a hole of 60000, declare ``nodata`` in the file, and return the values."""
    values = (7000 + np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 600).astype(np.uint16)
    values[EMPTY] = 60000
    tags = ImageFileDirectory_v2()
    tags[42113], tags[274] = nodata, orientation
    Image.fromarray(values).save(path, "TIFF", tiffinfo=tags)
    return values


@pytest.mark.parametrize("nodata", ["60000", "60000.0 "])
def test_nodata__does_not_count_and_is_black(tmp_path, nodata):
    """The other pixels are stretched as if there were no hole, and the hole becomes 0."""
    values = write_grey(tmp_path / "a.tif", nodata)
    shown = read_pixels(tmp_path / "a.tif", 1, (0, 100))[..., 0]
    hole = values == 60000
    assert not shown[hole].any()
    assert np.abs(shown[~hole] - (values[~hole] - 7000.0) / 599 * 255).max() <= 0.51
    assert (read_pixels(tmp_path / "a.tif", 3, (0, 100)) == shown[..., None]).all()


@pytest.mark.parametrize("nodata", ["-9999", "nan", "none", "70000"])
def test_nodata__that_no_pixel_can_have(tmp_path, nodata):
    """A nodata value that the image's type cannot hold, or that is no number, marks no pixel."""
    values = write_grey(tmp_path / "a.tif", nodata)
    shown = read_pixels(tmp_path / "a.tif", 1, (0, 100))[..., 0]
    assert np.abs(shown - (values - 7000.0) / 53000 * 255).max() <= 0.51


def test_nodata__in_a_turned_image(tmp_path):
    """The hole turns with the image that EXIF turns."""
    values = write_grey(tmp_path / "a.tif", "60000", orientation=6)
    shown = read_pixels(tmp_path / "a.tif", 1, (0, 100))[..., 0]
    assert shown.shape == (WIDTH, HEIGHT)
    assert not shown[np.rot90(values, 3) == 60000].any() and shown.any()


def scene(kind: str, bands: int) -> np.ndarray:
    """Return (bands, H, W) of noise, brighter from band to band."""
    means = 3000 + 2000 * np.arange(bands)[:, None, None]
    return np.random.default_rng(0).normal(means, 300, (bands, HEIGHT, WIDTH)).astype(kind)


def write(path: Path, values: np.ndarray, **how) -> Path:
    rasterio = pytest.importorskip("rasterio")
    place = rasterio.transform.Affine(0.1, 0, 500000, 0, -0.1, 5300000)
    given = dict(count=len(values), height=HEIGHT, width=WIDTH, dtype=values.dtype, crs="EPSG:32632", transform=place)
    with rasterio.open(path, "w", driver="GTiff", **given | how) as file:
        file.write(values)
    return path


def assert_alike(path: Path, channels: int, tolerance: int = 0) -> np.ndarray:
    """Assert that an image reads the same whole and in windows, and return it."""
    raster = open_raster(path, channels, STRETCH)
    whole = read_pixels(path, channels, STRETCH)
    for window in (Window(0, 0, WIDTH, HEIGHT), Window(7, 11, 33, 40)):
        x1, y1, x2, y2 = window
        assert np.abs(raster.read(window)[0].astype(int) - whole[y1:y2, x1:x2]).max() <= tolerance
    raster.close()
    return whole


@pytest.mark.parametrize("kind, nodata", [("uint16", 0), ("int16", -9999), ("float32", -9999), ("float32", -3.4e38)])
@pytest.mark.parametrize("bands, channels", [(1, 1), (1, 3), (3, 3), (3, 1), (4, 3), (4, 4)])
def test_whole__equals_windows_with_nodata(tmp_path, kind, nodata, bands, channels):
    """As in GDAL, a pixel is empty if every band holds the nodata value, not if one band does."""
    if kind != "uint16" and (bands > max(channels, 2) or (kind, bands) == ("int16", 4)):
        pytest.skip("OpenCV does not read this")
    values = scene(kind, bands)
    values[(..., *EMPTY)] = nodata
    values[0, 33] = nodata
    photometric = {"photometric": "RGB"} if bands > 1 else {}
    file = write(tmp_path / "a.tif", values, nodata=nodata, **photometric)
    whole = assert_alike(
        file, channels, tolerance=1 if (bands, channels) == (3, 1) else 0
    )  # OpenCV rounds grey differently
    assert not whole[EMPTY].any() and whole[..., 0].mean() > 70


@pytest.mark.parametrize("channels", [3, 4])
def test_whole__equals_windows_with_alpha(tmp_path, channels):
    """Fully transparent pixels hold no data, partly transparent ones do."""
    values = scene("uint16", 4)
    values[3] = 65535
    values[3, 20:] = 300
    values[3][EMPTY] = 0
    values[(slice(3), *EMPTY)] = 60000
    file = write(tmp_path / "a.tif", values, photometric="RGB", alpha="yes")
    whole = assert_alike(file, channels)
    assert not whole[EMPTY].any() and whole[..., 0].mean() > 70


@pytest.mark.parametrize("bands", [1, 3])
def test_whole__equals_windows_where_values_are_not_finite(tmp_path, bands):
    """A pixel holds no data if one of its bands is NaN or infinite."""
    values = scene("float32", bands)
    values[(..., *EMPTY)] = np.nan
    values[0, 0, :9] = np.inf
    whole = assert_alike(write(tmp_path / "a.tif", values, photometric="RGB" if bands == 3 else "minisblack"), bands)
    assert not whole[EMPTY].any() and not whole[0, :9].any()


def test_whole__equals_windows_where_percentiles_are_of_a_sample(tmp_path, monkeypatch):
    """The percentiles of floats come from the same sample of pixels, whichever windows the file is read in."""
    from pixelkeep.datasets.images import rasters

    monkeypatch.setattr(levels, "SAMPLE", 100)  # every fifth pixel
    monkeypatch.setattr(rasters, "READ", 1)  # windows of one block
    assert_alike(write(tmp_path / "a.tif", scene("float32", 1), tiled=True, blockxsize=16, blockysize=16), 1)


def test_whole__equals_windows_where_a_fourth_band_is_no_alpha(tmp_path):
    """A fourth band that is no alpha, such as near infrared, does not say where data is."""
    values = scene("uint16", 4)
    values[3][EMPTY] = 0
    whole = assert_alike(write(tmp_path / "a.tif", values, photometric="RGB", alpha="no"), 3)
    assert whole[EMPTY].mean() > 70
