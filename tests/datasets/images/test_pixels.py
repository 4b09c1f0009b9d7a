"""Every kind of image file is read as eight bits and the declared channels, or refused with its reason."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pixelkeep.datasets.images.pixels import read_pixels, stretch_to_bytes
from pixelkeep.errors import DataError

HEIGHT, WIDTH = 40, 60


@pytest.fixture
def picture() -> np.ndarray:
    """A smooth picture (H, W, 3) BGR, which compression changes little: blue to the right, red downwards."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.dstack([columns * 4, np.full_like(rows, 90), rows * 6]).astype(np.uint8)


def pillow(picture: np.ndarray, kind: str, mode: str = "RGB", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture[..., ::-1].copy()).convert(mode).save(file, kind, **options)
    return file.getvalue()


def read(folder: Path, ending: str, content: bytes, *arguments) -> np.ndarray:
    path = folder / f"picture{ending}"
    path.write_bytes(content)
    return read_pixels(path, *arguments)


@pytest.mark.parametrize("ending", [".jpg", ".JPG", ".png", ".bmp", ".webp", ".tif", ".jp2"])
def test_formats__same_pixels(tmp_path, picture, ending):
    """Each format gives the picture back, apart from what its compression changes."""
    found = read(tmp_path, ending, cv2.imencode(ending.lower(), picture)[1].tobytes())
    assert found.dtype == np.uint8 and np.abs(found.astype(int) - picture).max() < 40


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif__turned_upright(tmp_path, picture, kind, orientation):
    """A picture that EXIF turns is read as Pillow shows it."""
    exif = Image.Exif()
    exif[274] = orientation
    content = pillow(picture, kind, exif=exif)
    turns = {1: 0, 3: 2, 6: 3, 8: 1}[orientation]  # quarter turns to the left
    found = read(tmp_path, f".{kind.lower()}", content)
    assert np.abs(found.astype(int) - np.rot90(picture, turns)).mean() < 4


def test_cmyk__becomes_colour(tmp_path, picture):
    """A CMYK JPEG, as from a print shop, is read as the same colours."""
    assert np.abs(read(tmp_path, ".jpg", pillow(picture, "JPEG", "CMYK")).astype(int) - picture).mean() < 4


def test_animated__first_frame(tmp_path, picture):
    """The first frame of an animation is used."""
    more = Image.fromarray(255 - picture)
    content = pillow(picture, "WEBP", save_all=True, append_images=[more], lossless=True)
    assert np.abs(read(tmp_path, ".webp", content).astype(int) - picture).max() < 3


def test_channels__grey_alpha_and_several(tmp_path, picture):
    """Grey and colour convert both ways, alpha is kept only for four channels, and the pages of a TIFF are channels."""
    grey = cv2.imencode(".png", picture[..., 0])[1].tobytes()
    assert (read(tmp_path, ".png", grey) == picture[..., :1]).all()
    alpha = np.dstack([picture, picture[..., 0] // 2])
    content = cv2.imencode(".png", alpha)[1].tobytes()
    assert (read(tmp_path, ".png", content) == picture).all()
    assert (read(tmp_path, ".png", content, 4) == alpha).all()
    assert read(tmp_path, ".png", content, 1).shape == (HEIGHT, WIDTH, 1)
    pages = [np.roll(picture[..., 0], shift) for shift in range(5)]
    cv2.imwritemulti(str(tmp_path / "pages.tif"), pages)
    assert (read_pixels(tmp_path / "pages.tif", 5) == np.dstack(pages)).all()
    with pytest.raises(DataError, match="has 3 channels, not the 5 that the dataset declares"):
        read(tmp_path, ".png", cv2.imencode(".png", picture)[1].tobytes(), 5)


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_sixteen_bits__need_a_declared_stretch(tmp_path, ending):
    """16 bits without a declared stretch are refused with the line that declares it; with it they fill 0..255."""
    raw = np.linspace(7000, 7800, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16)  # a thermal camera's range
    content = cv2.imencode(ending, raw)[1].tobytes()
    with pytest.raises(DataError, match=r"16 bits a channel; declare 'stretch: \[0.5, 99.5\]'"):
        read(tmp_path, ending, content)
    found = read(tmp_path, ending, content, 1, (0, 100))
    assert np.abs(found[..., 0] - (raw - 7000.0) / 800 * 255).max() <= 0.51  # 0 and 100: a plain rescaling


def test_floats__are_stretched(tmp_path):
    """A floating-point TIFF, such as a height map, is stretched like integers; a NaN holds no data."""
    raw = np.linspace(-1, 1, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    content = cv2.imencode(".tif", raw)[1].tobytes()
    assert np.abs(read(tmp_path, ".tif", content, 1, (0, 100))[..., 0] - (raw + 1) / 2 * 255).max() <= 0.51
    raw[0, 0] = np.nan
    assert stretch_to_bytes(raw[..., None], (0, 100))[0, 0, 0] == 0


@pytest.mark.parametrize("percentiles", [(0.5, 99.5), (2, 98), (0, 100), (25, 75)])
def test_stretch__equals_sorting(percentiles):
    """Percentiles by counting map each channel as numpy's by sorting do, to within one of 255 levels."""
    rng = np.random.default_rng(0)
    image = np.stack([rng.normal(mean, 300, (90, 110)) for mean in (3000, 30000)], 2).clip(0, 65535).astype(np.uint16)
    expected = np.empty(image.shape)
    for channel in range(2):
        low, high = np.percentile(image[..., channel], percentiles, method="inverted_cdf")
        expected[..., channel] = np.clip((image[..., channel] - float(low)) / (float(high) - low), 0, 1) * 255
    assert np.abs(stretch_to_bytes(image, percentiles) - expected).max() <= 0.51


def test_stretch__flat_image_is_black():
    """An image of a single value has no range to stretch and becomes black."""
    assert not stretch_to_bytes(np.full((4, 4, 1), 5000, np.uint16), (0.5, 99.5)).any()


@pytest.mark.parametrize("ending", [".jpg", ".png", ".bmp", ".webp", ".tif", ".jp2"])
@pytest.mark.parametrize("share", [0, 0.02, 0.5, 0.9])
def test_damaged__refused_at_any_length(tmp_path, picture, ending, share):
    """A truncated file is refused rather than filled with grey."""
    content = cv2.imencode(ending, picture)[1].tobytes()
    with pytest.raises(DataError, match="empty" if share == 0 else "not an image that can be decoded whole"):
        read(tmp_path, ending, content[: int(len(content) * share)])


def test_missing_and_foreign__named(tmp_path):
    """A missing file, a folder, and text under an image's name are each refused with their reason."""
    with pytest.raises(DataError, match="No such file"):
        read_pixels(tmp_path / "none.png")
    with pytest.raises(DataError, match="cannot be read"):
        read_pixels(tmp_path)
    with pytest.raises(DataError, match="not an image"):
        read(tmp_path, ".jpg", b"<html>404</html>")
