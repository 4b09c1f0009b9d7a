"""Semantic segmentation data: for each image a mask of the same size, one channel of class numbers, 255 for ignored.

As in Ultralytics, the mask of ``images/<split>/a.jpg`` is ``masks/<split>/a.png``. ``masks_dir`` names another folder
than masks, and ``label_mapping`` gives the class, or 255, for numbers that are not classes. In a mask with a palette
the indices are the numbers, unless the palette is grey: then the grey levels are. An image is left out if its mask is
missing, damaged or of another size, or holds a number that is neither a class nor 255.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pixelkeep.datasets.annotations.problems import Problems
from pixelkeep.datasets.definitions.spec import IMAGE_ENDINGS, DatasetSpec
from pixelkeep.datasets.images.inspection import Facts, inspect_all, threads
from pixelkeep.datasets.images.remembering import Memory, stamp
from pixelkeep.errors import DataError, choices

IGNORED = 255  # mask value of pixels where nothing is judged or learnt
UNKNOWN = -1  # table value of numbers that are neither a class nor 255
FORMAT = 1  # version of the cached results; change it when an inspection would find something else
_DEEP = ("I;16", "I;16B", "I;16L", "I")


@dataclass(frozen=True)
class MaskRecord:
    """An image and its mask.

    Attributes:
        path, mask: The image file and the mask file.
        width, height: Size of both in pixels.
        pixels: Int (classes,), number of pixels of each class in the mask.
    """

    path: Path
    mask: Path
    width: int
    height: int
    pixels: np.ndarray


@dataclass(frozen=True)
class Table:
    """The meaning of the numbers in masks.

    Attributes:
        values: Int (256,), for each number its class, `IGNORED` or `UNKNOWN`.
        classes: Number of classes.
    """

    values: np.ndarray
    classes: int

    def __getitem__(self, number: int) -> int:
        return int(self.values[number]) if 0 <= number < len(self.values) else UNKNOWN


@dataclass(frozen=True)
class Counts:
    """What an inspection found in a mask: its size, why it is unusable ('' if it is usable), pixel counts by number."""

    width: int
    height: int
    reason: str
    numbers: dict[int, int]


@dataclass
class MaskSplit:
    """The usable images of a split, ordered by path, and the problems of the others."""

    records: list[MaskRecord]
    problems: Problems

    def contents(self) -> str:
        """Return one line with the number of usable images and the share of their pixels that is labelled."""
        total = sum(record.width * record.height for record in self.records)
        judged = sum(int(record.pixels.sum()) for record in self.records)
        share = f"{judged / total:.1%} of the pixels labelled"
        return f"{self.problems.split}: {len(self.records):,} images with masks, {share}"


def class_table(spec: DatasetSpec) -> Table:
    """Return the table of what the numbers in a dataset's masks mean.

    Raises:
        DataError: ``label_mapping`` is not a mapping of numbers, or names a class that does not exist.
    """
    classes = len(spec.names)
    values = np.full(256, UNKNOWN)
    values[:classes] = np.arange(classes)
    values[IGNORED] = IGNORED
    mapping = spec.others.get("label_mapping") or {}
    if not isinstance(mapping, dict):
        raise DataError(f"{spec.file}: 'label_mapping:' must map numbers of the masks to classes, not {mapping!r}")
    for number, value in mapping.items():
        target = IGNORED if value in (None, "ignore_label") else value
        whole = type(number) is int and type(target) is int
        if not whole or not (0 <= target < classes or target == IGNORED):
            raise DataError(
                f"{spec.file}: 'label_mapping: {number}: {value}'; a number must map to a class (0 to {classes - 1}) "
                f"or {IGNORED}"
            )
        if 0 <= number < len(values):  # Cityscapes also maps -1, which a mask of eight bits cannot hold
            values[number] = target
    return Table(values, classes)


def read_numbers(path: Path) -> np.ndarray:
    """Return the numbers in a mask, int (H, W).

    Raises:
        DataError: The mask cannot be decoded, or is a colour image. The message does not name the file.
    """
    try:
        with Image.open(path) as picture:
            mode = picture.mode
            if mode == "P":  # a coloured palette only displays the indices, but in a grey one the greys are the numbers
                palette = np.array(picture.getpalette()).reshape(-1, 3)
                picture = picture.convert("L") if (palette == palette[:, :1]).all() else picture
            elif mode not in ("1", "L", *_DEEP):
                raise DataError(f"has colours (mode {mode}); a mask holds class numbers in one channel")
            return np.array(picture).astype(np.int64)
    except ImportError as error:  # once Ultralytics is loaded, Pillow asks for a HEIF reader when no format matches
        raise DataError("cannot be decoded (cannot identify image file)") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        reason = " ".join(str(error).split()).replace(f" '{path}'", "")
        raise DataError(f"cannot be decoded ({reason})") from error


def read_mask(path: Path, table: Table) -> np.ndarray:
    """Return the classes in a mask that was checked before, uint8 (H, W), 255 where nothing is judged.

    Args:
        path: The mask file.
        table: The meaning of its numbers, from :func:`class_table`.
    """
    numbers = read_numbers(path)
    return table.values[np.clip(numbers, 0, IGNORED)].astype(np.uint8)  # a checked mask holds known numbers only


def mask_file(image: Path, folder: str = "masks") -> Path:
    """Return the path of an image's mask: the last folder called images becomes ``folder``, the ending becomes .png.

    If there is no such file, a mask with another image ending is taken.
    """
    parts = list(image.parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = folder
    path = Path(*parts).with_suffix(".png")
    others = (path.with_suffix(ending) for ending in sorted(IMAGE_ENDINGS))
    there = path if path.is_file() else next((other for other in others if other.is_file()), path)
    return path if there == image else there


def load_mask_split(spec: DatasetSpec, split: str, progress: Callable[[int, int], None] | None = None) -> MaskSplit:
    """Inspect the images and masks of a split.

    Args:
        spec: The dataset definition.
        split: train, val or test.
        progress: Called with the number of images inspected so far and the number to inspect.

    Raises:
        DataError: There is no such split, the dataset has fewer than two classes, more than half of the images cannot
            be used, or no pixel is labelled.
    """
    if len(spec.names) < 2:
        raise DataError(f"{spec.file}: {len(spec.names)} class; semantic data needs two or more, with the background")
    table, folder = class_table(spec), str(spec.others.get("masks_dir") or "masks")
    images = sorted(set(spec.images(split)))
    problems = Problems(split)
    problems.images = len(images)
    facts = inspect_all(images, spec.channels, spec.stretch, progress)
    masks = {image: mask_file(image, folder) for image in images}
    counts = _count_all([mask for mask in masks.values() if mask.is_file()])
    found = (_record(image, mask, facts[image], counts.get(mask), table, problems) for image, mask in masks.items())
    records = [record for record in found if record]
    problems.refuse_if_systematic(spec.file)
    total = sum((record.pixels for record in records), np.zeros(len(spec.names), int))
    if not total.any():
        raise DataError(f"{spec.file}: no pixel of split '{split}' is labelled: its masks hold nothing but {IGNORED}")
    for name, count in zip(spec.names.values(), total, strict=True):
        if not count:
            problems.note("class without a pixel", spec.file, name)
    return MaskSplit(records, problems)


def _record(
    image: Path, mask: Path, facts: Facts, counts: Counts | None, table: Table, problems: Problems
) -> MaskRecord | None:
    """Return the record of an image; if it is left out, record why and return None."""
    if facts.reason:
        problems.leave_out(image, "image unusable", image, facts.reason)
        return None
    if wrong := _wrong(image, facts, counts, table):
        problems.leave_out(image, wrong[0], mask, wrong[1])
        return None
    if facts.frames:
        problems.mend("several frames or pages, the first is used", image, "")
    pixels = np.zeros(table.classes, int)
    for number, count in counts.numbers.items():
        if table[number] != IGNORED:
            pixels[table[number]] += count
    return MaskRecord(image, mask, facts.width, facts.height, pixels)


def _wrong(image: Path, facts: Facts, counts: Counts | None, table: Table) -> tuple[str, str] | None:
    """Return kind and detail of what is wrong with a mask; None if it can be used."""
    if counts is None:
        return "mask missing", f"the mask of {image.name} is not there"
    if counts.reason:
        return "mask unusable", counts.reason
    if (counts.width, counts.height) != (facts.width, facts.height):
        return "mask of another size", f"{counts.width}x{counts.height} pixels, its image {facts.width}x{facts.height}"
    if unknown := [number for number in sorted(counts.numbers) if table[number] == UNKNOWN]:
        return "mask unusable", f"{choices(unknown, 5)}: neither a class (0 to {table.classes - 1}) nor {IGNORED}"
    return None


def _count_all(masks: list[Path]) -> dict[Path, Counts]:
    """Count the pixels of each number in masks, with one thread per core; unchanged masks come from the cache."""
    memory = Memory("masks", FORMAT, masks)
    stamps = {path: stamp(path) for path in masks}
    known = {path: counts for path, now in stamps.items() if (counts := _remembered(memory.get(path, now)))}
    todo = [path for path in stamps if path not in known]
    with ThreadPoolExecutor(threads()) as pool:
        known.update(zip(todo, pool.map(_count, todo), strict=True))
    if todo:
        memory.write({path: (stamps[path], list(astuple(counts))) for path, counts in known.items()})
    return known


def _count(path: Path) -> Counts:
    try:
        numbers = read_numbers(path)
    except (DataError, MemoryError) as error:
        return Counts(0, 0, str(error) or "too large for the memory", {})
    values, counts = np.unique(numbers, return_counts=True)
    height, width = numbers.shape
    return Counts(width, height, "", dict(zip(values.tolist(), counts.tolist(), strict=True)))


def _remembered(values: list | None) -> Counts | None:
    """Return the counts from a cache entry; None, so that the mask is read again, if it is missing or malformed."""
    try:
        width, height, reason, numbers = values
        return Counts(int(width), int(height), str(reason), {int(key): int(value) for key, value in numbers.items()})
    except (TypeError, ValueError, AttributeError):
        return None
