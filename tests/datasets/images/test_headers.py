"""Large PNG, JPEG, JPEG 2000 and TIFF: headers are read without decoding, and windows equal the whole image."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from pixelkeep.datasets.images import rasters
from pixelkeep.datasets.images.headers import is_turned, read_header
from pixelkeep.datasets.images.pixels import read_pixels
from pixelkeep.datasets.images.rasters import Window, open_raster
from pixelkeep.errors import DataError

HEIGHT, WIDTH = 90, 140
KINDS = {".png": "PNG", ".jpg": "JPEG", ".jp2": "JPEG2000", ".tif": "TIFF"}


def write(path: Path, **options) -> Path:
    """Write a picture whose channels differ, as do neighbouring pixels."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    picture = np.dstack([columns * 11, columns * 5 + rows * 7, rows * 13]).astype(np.uint8)
    options |= {"subsampling": 0} if path.suffix == ".jpg" else {}
    Image.fromarray(picture).save(path, KINDS[path.suffix], **options)
    return path


def turn(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[274] = orientation
    return exif


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def undecoded(monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)


@pytest.mark.parametrize("ending", KINDS)
def test_header__decodes_no_pixel(tmp_path, monkeypatch, ending):
    """Size and orientation are read without decoding an image; a file cut to a few bytes has neither."""
    file = write(tmp_path / f"a{ending}")
    undecoded(monkeypatch)
    assert read_header(file) == (HEIGHT * WIDTH, False) and not is_turned(file)
    file.write_bytes(file.read_bytes()[:5])
    assert read_header(file) == (0, False) and not is_turned(file)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_header__turned(tmp_path, monkeypatch, ending, orientation):
    """The orientation in EXIF is read without decoding the image."""
    file = write(tmp_path / f"a{ending}", exif=turn(orientation))
    undecoded(monkeypatch)
    assert is_turned(file) == (orientation != 1)


def test_header__turned_behind_the_pixels(tmp_path, monkeypatch):
    """A PNG whose EXIF follows its pixels is turned when read whole, and recognised as turned without decoding."""
    content = write(tmp_path / "a.png").read_bytes()
    end = content.index(b"IEND") - 4
    late = tmp_path / "late.png"
    late.write_bytes(content[:end] + chunk(b"eXIf", turn(6).tobytes()[6:]) + content[end:])
    assert read_pixels(late).shape == (WIDTH, HEIGHT, 3)
    undecoded(monkeypatch)
    assert is_turned(late) and not is_turned(tmp_path / "a.png")


@pytest.mark.parametrize("ending", KINDS)
def test_window__equals_reading_it_whole(tmp_path, monkeypatch, ending):
    """Every kind of file that is read in windows gives the same pixels as when it is read whole."""
    pytest.importorskip("rasterio")
    file = write(tmp_path / f"a{ending}")
    assert open_raster(file) is None  # the file is small and has no georeference
    monkeypatch.setattr(rasters, "LARGE", HEIGHT * WIDTH)
    whole = read_pixels(file)
    raster = open_raster(file)
    for window in (Window(0, 0, WIDTH, HEIGHT), Window(31, 20, 77, 89), Window(WIDTH - 1, HEIGHT - 1, WIDTH, HEIGHT)):
        x1, y1, x2, y2 = window
        found, valid = raster.read(window)
        assert valid is None
        assert np.abs(found.astype(int) - whole[y1:y2, x1:x2]).max() <= (2 if ending == ".jpg" else 0)  # two decoders
    raster.close()
    if ending != ".jp2":
        with pytest.raises(DataError, match="stored rotated"):
            open_raster(write(file, exif=turn(6)))


MEASURE = """
import sys
from pathlib import Path
import numpy, PIL.Image, rasterio
from pixelkeep.datasets.images.rasters import Window, open_raster
peak = lambda: int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024  # MB
before = peak()
raster = open_raster(Path(sys.argv[1]))
opened = peak()
pixels, _ = raster.read(Window(0, 0, 640, 64))
print(opened - before, peak() - before, *pixels[5, 6])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory of one process is Linux's to tell")
def test_memory__a_large_png_stays_on_disk(tmp_path):
    """Opening a PNG of 20,000 x 20,000 pixels (1.2 GB) and reading a window takes less than a tenth of that memory."""
    pytest.importorskip("rasterio")
    side, file = 20_000, tmp_path / "a.png"
    packer, row = zlib.compressobj(1), b"\0" + bytes((30, 20, 10)) * side
    packed = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", packed) + chunk(b"IEND", b""))
    done = subprocess.run([sys.executable, "-c", MEASURE, file], capture_output=True, text=True, check=True)
    opened, read, *pixel = map(int, done.stdout.split())
    assert pixel == [10, 20, 30]
    assert opened < 120 and read < 120  # MB; decoding the whole image takes 1200
