"""Read image files as training and detection see them: in eight bits, with as many channels as the data declares.

OpenCV decodes the file and turns it upright as EXIF says. CMYK becomes BGR, and an alpha channel is dropped if three
channels are wanted. Of several pages or frames the first is taken; but if more than three channels are declared, the
equally large pages of a TIFF are its channels. Images deeper than eight bits need a declared percentile stretch,
because the upper eight bits of thermal and satellite images alone are nearly black. Pixels that a TIFF's own tags mark
as without data do not count towards the percentiles and become 0.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from pixelkeep.datasets.images.headers import TIFF, read_gaps
from pixelkeep.datasets.images.levels import meaning, measure_levels
from pixelkeep.errors import DataError

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_TAIL = 1 << 16  # bytes at the end that are searched: cameras append previews and notes after the end of a JPEG


def read_pixels(path: Path, channels: int = 3, stretch: tuple[float, float] | None = None) -> np.ndarray:
    """Return an image as uint8 (H, W, channels); three channels are BGR.

    Args:
        path: The image file.
        channels: 1 (colours become grey), 3 (grey becomes colour) or the exact number of channels.
        stretch: For images deeper than eight bits the percentiles of each channel that become 0 and 255.

    Raises:
        DataError: The file cannot be decoded whole, has another number of channels, or is deeper than eight bits
            without a ``stretch``. The message does not name the file.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from error
    image = _decode(data, path.suffix.lower(), channels)
    if image is None:
        size = f"{data.size:,} bytes"
        raise DataError(f"not an image that can be decoded whole ({size})" if data.size else "the file is empty")
    image = image[..., None] if image.ndim == 2 else image
    if image.shape[2] != channels:
        raise DataError(f"has {image.shape[2]} channels, not the {channels} that the dataset declares (channels:)")
    if image.dtype == np.uint8:
        return image
    if stretch is None:
        bits = 8 * image.dtype.itemsize
        raise DataError(
            f"has {bits} bits a channel; declare 'stretch: [0.5, 99.5]' in the dataset YAML to train on it and use it"
        )
    return stretch_to_bytes(image, stretch, _filled(path, data, image))


def stretch_to_bytes(
    image: np.ndarray, percentiles: tuple[float, float], valid: np.ndarray | None = None
) -> np.ndarray:
    """Map each channel's range between two percentiles to 0..255.

    Args:
        image: (H, W, C) of integers or floats deeper than eight bits.
        percentiles: The lower and the upper percentile, 0 to 100; values beyond the range are clipped.
        valid: Bool (H, W), where the image holds data; None for everywhere. A pixel with a channel that is not finite
            holds no data in any case.

    Returns:
        Uint8 (H, W, C), 0 where there is no data.
    """
    valid = meaning(image, valid)
    return measure_levels([(image, valid, (0, 0))], percentiles, image.shape[:2], image.shape[2]).apply(image, valid)


def _filled(path: Path, data: np.ndarray, image: np.ndarray) -> np.ndarray | None:
    """Return bool (H, W), where a deep image holds data by GDAL's rules; None for everywhere."""
    nodata, alpha = read_gaps(path)
    if nodata is None and not alpha:
        return None
    stored = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if image.shape[2] in (1, 3) else image  # before any conversion
    same = stored is not None and stored.shape[:2] == image.shape[:2]
    stored = stored.reshape(*stored.shape[:2], -1) if same else image
    if alpha:
        return stored[..., 3] > 0 if stored.shape[2] == 4 and stored.dtype == np.uint16 else None
    limits = None if stored.dtype.kind == "f" else np.iinfo(stored.dtype)
    if limits and not limits.min <= nodata <= limits.max:
        return None
    return (stored != stored.dtype.type(nodata)).any(2)


def _decode(data: np.ndarray, ending: str, channels: int) -> np.ndarray | None:
    """Decode a file's bytes with OpenCV at the image's own depth; return None if they cannot be decoded whole."""
    if not data.size or _is_cut_jpeg(data):
        return None
    try:
        if channels in (1, 3):
            colour = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR
            image = cv2.imdecode(data, colour | cv2.IMREAD_ANYDEPTH)
            return image if image is not None else _floats(data, channels)
        if ending in TIFF:
            _, pages = cv2.imdecodemulti(data, cv2.IMREAD_UNCHANGED)
            if len(pages) > 1 and all(page.ndim == 2 and page.shape == pages[0].shape for page in pages):
                return np.stack(pages, axis=2)
        return cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error:  # the image is too large, or damaged in a way that makes the decoder fail an assertion
        return None


def _floats(data: np.ndarray, channels: int) -> np.ndarray | None:
    """Decode a floating-point image, which OpenCV does not convert to colour while decoding."""
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 2 or channels == 1:
        return image
    return cv2.merge([image] * 3)


def _is_cut_jpeg(data: np.ndarray) -> bool:
    """Return whether a JPEG ends too early; older releases of OpenCV would fill the missing rest with grey."""
    return data[:2].tobytes() == _JPEG_START and _JPEG_END not in data[-_TAIL:].tobytes()
