"""Read the headers of image files without decoding a pixel, however large the image is."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2

TIFF = (".tif", ".tiff")
# Images are opened by these classes because Image.open refuses large images before it tells their size.
_CLASSES = {".jp2": Jpeg2KImageFile, ".png": PngImageFile, ".jpg": JpegImageFile, ".jpeg": JpegImageFile}
_ORIENTATION = 274  # EXIF tag, 1 if the image is not rotated
_EXTRA_SAMPLES, _NODATA = 338, 42113  # TIFF tags: meaning of the bands beyond the colours; GDAL's value without data
_GEO_TAGS = (33550, 34264, 33922, 34735)  # TIFF tags: scale, transformation, tie points, keys of a coordinate system


class Header(NamedTuple):
    """Number of pixels of an image, and whether it may have map coordinates."""

    pixels: int
    mapped: bool = False


class Gaps(NamedTuple):
    """What marks pixels without data: the value ``nodata``, or, if that is None and ``alpha`` is set, alpha of 0."""

    nodata: float | None = None
    alpha: bool = False


def read_header(path: Path) -> Header:
    """Return the header of a TIFF, JPEG 2000, PNG or JPEG; one of 0 pixels if the file is damaged."""
    with _forgiving():
        if path.suffix.lower() in TIFF:
            tags = _tiff_tags(path)
            return Header(int(tags[256]) * int(tags[257]), any(tag in tags for tag in _GEO_TAGS))
        with _CLASSES[path.suffix.lower()](path) as image:
            return Header(image.width * image.height)
    return Header(0)


def read_gaps(path: Path) -> Gaps:
    """Return how a TIFF marks pixels without data, as far as its own tags say so; other formats mark none."""
    if path.suffix.lower() in TIFF:
        with _forgiving():
            tags = _tiff_tags(path)
            if _NODATA in tags:
                return Gaps(nodata=float(tags[_NODATA]))
            return Gaps(alpha=tags.get(_EXTRA_SAMPLES, (0,))[-1] in (1, 2))  # associated or unassociated alpha
    return Gaps()


def is_turned(path: Path) -> bool:
    """Return whether EXIF rotates or mirrors a TIFF, JPEG 2000, PNG or JPEG; False if the file is damaged."""
    with _forgiving():
        if path.suffix.lower() in TIFF:
            return _tiff_tags(path).get(_ORIENTATION, 1) != 1
        with _CLASSES[path.suffix.lower()](path) as image:
            said = [Image.Image.getexif(image)]  # PngImageFile's own method decodes the pixels
            said += [_png_exif(path)] if isinstance(image, PngImageFile) else []
            return any(exif.get(_ORIENTATION, 1) != 1 for exif in said)
    return False


def _png_exif(path: Path) -> Image.Exif:
    """Return the EXIF data of a PNG's eXIf chunk, which may also stand after the pixels; these are skipped."""
    exif = Image.Exif()
    with path.open("rb") as file:
        file.seek(8)  # signature
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"eXIf":
                exif.load(file.read(length))
                break
            file.seek(length + 4, 1)  # the chunk's content and its checksum
    return exif


def _tiff_tags(path: Path) -> ImageFileDirectory_v2:
    """Return the tags of a TIFF's first page without opening it as an image: Pillow refuses many kinds of pixels."""
    with path.open("rb") as file:
        start = file.read(8)
        start += file.read(8) if start[2:3] == b"+" or start[3:4] == b"+" else b""  # "+" is 43, the version of BigTIFF
        tags = ImageFileDirectory_v2(start)
        file.seek(tags.next)
        tags.load(file)
        return tags


def _forgiving() -> contextlib.AbstractContextManager:
    """Suppress what the readers raise at damaged files; the code that decodes them reports what is wrong."""
    return contextlib.suppress(OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error)
