"""Check single entries of a dataset YAML."""

from __future__ import annotations

from pathlib import Path

from pixelkeep.datasets.definitions.forms import INCLUSIVE, VOC_PIXELS
from pixelkeep.errors import DataError, choices


def extras_files(file: Path, root: Path, value: object) -> dict[str, Path]:
    """Return the extras file of each split that has one.

    Raises:
        DataError: ``extras:`` is not a mapping from split to file, or a file does not exist.
    """
    if value is not None and not (isinstance(value, dict) and all(isinstance(path, str) for path in value.values())):
        raise DataError(f"{file}: 'extras:' must be a JSON file by split, such as 'val: extras.json', not {value!r}")
    extras = {split: root / path for split, path in (value or {}).items()}
    for split, path in extras.items():
        if not path.is_file():
            raise DataError(f"{file}: extras of split '{split}' not found at {path}")
    return extras


def channel_count(file: Path, value: object) -> int:
    """Return the number of image channels that ``channels:`` declares.

    Raises:
        DataError: ``channels:`` is not a positive whole number.
    """
    if type(value) is not int or value < 1:
        raise DataError(f"{file}: 'channels: {value}' must be the number of channels of the images, 1 or more")
    return value


def stretch_percentiles(file: Path, value: object) -> tuple[float, float] | None:
    """Return the percentiles that become 0 and 255; None if no stretch is declared.

    Raises:
        DataError: ``stretch:`` is anything other than two rising percentiles.
    """
    if value is None:
        return None
    numbers = isinstance(value, list) and len(value) == 2 and all(type(v) in (int, float) for v in value)
    if not numbers or not 0 <= value[0] < value[1] <= 100:
        raise DataError(f"{file}: 'stretch: {value}' must be two percentiles, such as [0.5, 99.5]")
    return float(value[0]), float(value[1])


def image_folders(file: Path, root: Path, d: dict, splits: dict) -> dict[str, Path]:
    """Return for each split the folder to which the file names in its COCO files are relative.

    Raises:
        DataError: ``images:`` names no folder for a split, or one that does not exist.
    """
    value = d.get("images")
    if isinstance(value, dict):
        chosen = {split: value.get(split) for split in splits}
    else:
        chosen = dict.fromkeys(splits, value)
    for split, folder in chosen.items():
        if not isinstance(folder, str):
            raise DataError(
                f"{file}: 'images:' must say where the images of split '{split}' are: one folder, or one by split"
            )
        if not (root / folder).is_dir():
            raise DataError(f"{file}: 'images: {folder}' is not a folder; looked at {root / folder}")
    return {split: root / folder for split, folder in chosen.items()}


def voc_pixels(file: Path, d: dict) -> str:
    """Return how the corners in VOC files are to be read, one of `VOC_PIXELS`.

    Raises:
        DataError: ``voc_pixels:`` is something else.
    """
    value = d.get("voc_pixels", INCLUSIVE)
    if value not in VOC_PIXELS:
        raise DataError(f"{file}: 'voc_pixels: {value}' is not one of {choices(VOC_PIXELS)}")
    return value
