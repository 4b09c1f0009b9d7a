"""A COCO detection JSON as columns: read once per process, with keys and values checked.

Half a million annotations are too many to look at one by one each time. Here they are arrays, and only the annotations
that have something wrong are looked at more closely.
"""

from __future__ import annotations

import gc
import math
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

from pixelkeep.datasets.files.disk import read_json
from pixelkeep.errors import DataError

KEPT = 4  # number of files held in memory: training and validation, and one of each to spare
SHOWN = 60  # number of characters that a message quotes of a value


@dataclass(frozen=True)
class CocoImage:
    """An image as a COCO file lists it; width or height is None where the file gives no usable value."""

    id: int | str
    file_name: str
    width: float | None
    height: float | None


@dataclass(frozen=True, eq=False)
class CocoFile:
    """The content of a COCO JSON, with annotations ordered by image and, within an image, as in the file.

    Attributes:
        path: The JSON file.
        categories: Category id to name, in the order of the ids.
        images: The images in the order of the file.
        owner: Int (n,), for each annotation the position of its image in ``images``; -1 for an image that is not there.
        category: Int (n,), for each annotation the position of its category in ``categories``; -1 for an unknown one.
        boxes: Float64 (n, 4), x y w h in pixels; NaN where the file does not give four finite numbers.
        areas: Float64 (n,), annotated areas; NaN where the file gives none or an unusable one.
        odd_areas: Bool (n,), annotations with an unusable area.
        crowd: Bool (n,), annotations that are regions to ignore.
        difficult: Bool (n,), difficult objects, from the key ``ignore``.
        ids: Int (n,), annotation ids; None unless every annotation has a whole number of its own.
        rows: Int (n,), position of each annotation in the file's list.
        values: Unusable values for messages to quote: (row in these columns, key) to the value's text.
        notes: Remarks on the file as kind and detail, such as a key that was read although it is spelt differently.
    """

    path: Path
    categories: dict[int | str, str]
    images: list[CocoImage]
    owner: np.ndarray
    category: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    odd_areas: np.ndarray
    crowd: np.ndarray
    difficult: np.ndarray
    ids: np.ndarray | None
    rows: np.ndarray
    values: dict[tuple[int, str], str]
    notes: list[tuple[str, str]]

    def where(self, row: int) -> str:
        """Return the name that messages use for the annotation in ``row`` of the columns."""
        place = f"annotations[{self.rows[row]}]"
        return place if self.ids is None else f"{place} (id {self.ids[row]})"


def read_coco_file(path: Path) -> CocoFile:
    """Read and check a COCO JSON; a file that this process has read and that has not changed comes from memory.

    Raises:
        DataError: The file is not a COCO JSON, or its images or categories cannot be told apart.
    """
    try:
        state = os.stat(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return _read(path, state.st_size, state.st_mtime_ns)


class _Section:
    """One of the lists of a COCO file, whose keys may be spelt differently from COCO's."""

    def __init__(self, path: Path, document: dict, name: str, notes: list[tuple[str, str]]):
        self.name, self.notes, self.path = name, notes, path
        spelt = self._spelling(name, [document])
        entries = document.get(spelt)
        if not isinstance(entries, list) or not set(map(type, entries)) <= {dict}:
            raise DataError(f"{path}: no list '{name}'; a COCO file has images, annotations and categories")
        self.entries: list[dict] = entries

    def column(self, key: str) -> list:
        """Return the value of ``key`` in every entry, with None for entries that lack it."""
        key = self._spelling(key, self.entries)
        return [entry.get(key) for entry in self.entries]

    def _spelling(self, key: str, entries: list[dict]) -> str:
        """Return how the file spells ``key``: exactly so, or in the only other spelling that can mean it."""
        if not entries or any(key in entry for entry in entries):
            return key
        found = [other for other in entries[0] if _plain(other) == _plain(key)]
        if len(found) != 1:
            return key
        self.notes.append(("key spelt differently, read as COCO's", f"'{found[0]}' as '{key}'"))
        return found[0]


def _plain(key: str) -> str:
    return re.sub("[^a-z]", "", key.lower()).rstrip("s")


@lru_cache(maxsize=KEPT)
def _read(path: Path, size: int, changed: int) -> CocoFile:
    collecting = gc.isenabled()
    gc.disable()  # the garbage collector would scan millions of new objects again and again
    try:
        return _parse(path, read_json(path))
    finally:
        if collecting:
            gc.enable()


def _parse(path: Path, document: Any) -> CocoFile:
    notes: list[tuple[str, str]] = []
    document = document if isinstance(document, dict) else {}
    images, annotations, categories = (
        _Section(path, document, name, notes) for name in ("images", "annotations", "categories")
    )
    names, listed = _categories(categories), _images(images)
    owner = _positions(annotations.column("image_id"), {image.id: place for place, image in enumerate(listed)})
    order = np.argsort(owner, kind="stable")
    values: dict[tuple[int, str], str] = {}

    def checked(key: str, convert: Callable[[list], np.ndarray]) -> np.ndarray:
        """Return a column in the order of the images, and store its unusable values in ``values``."""
        column = annotations.column(key)
        array = convert(column)[order]
        wrong = np.isnan(array).any(1) if array.ndim == 2 else array < 0
        values.update({(row, key): repr(column[order[row]])[:SHOWN] for row in np.flatnonzero(wrong).tolist()})
        return array

    areas, odd = _areas(annotations.column("area"))
    ids = _ids(annotations.column("id"), notes)
    index = {number: place for place, number in enumerate(names)}
    return CocoFile(
        path=path,
        categories=names,
        images=listed,
        owner=owner[order],
        category=checked("category_id", lambda column: _positions(column, index)),
        boxes=checked("bbox", _boxes),
        areas=areas[order],
        odd_areas=odd[order],
        crowd=_flags(annotations.column("iscrowd"))[order],
        difficult=_flags(annotations.column("ignore"))[order],
        ids=None if ids is None else ids[order],
        rows=order,
        values=values,
        notes=notes,
    )


def _categories(section: _Section) -> dict[int | str, str]:
    ids, names = section.column("id"), section.column("name")
    _check_ids(section, ids, names)
    for place, name in enumerate(names):
        if not isinstance(name, str) or not name:
            raise DataError(f"{section.path}: categories[{place}] (id {ids[place]}) has no name")
    for place, name in enumerate(names):
        if name in names[:place]:
            raise DataError(f"{section.path}: two categories are called '{name}'; names must be unique")
    return dict(sorted(zip(ids, names, strict=True), key=lambda pair: (isinstance(pair[0], str), pair[0])))


def _images(section: _Section) -> list[CocoImage]:
    names = section.column("file_name")
    for place, name in enumerate(names):
        if not isinstance(name, str) or not name:
            raise DataError(f"{section.path}: images[{place}] has file_name {name!r}; it must name an image file")
    ids = section.column("id")
    _check_ids(section, ids, names)
    if len(set(names)) < len(names):
        places: dict[str, int] = {}
        first, twice = next((places[n], p) for p, n in enumerate(names) if places.setdefault(n, p) != p)
        raise DataError(f"{section.path}: images[{first}] and images[{twice}] are both '{names[twice]}'; join them")
    sizes = ([_side(value) for value in section.column(key)] for key in ("width", "height"))
    return [CocoImage(*values) for values in zip(ids, names, *sizes, strict=True)]


def _check_ids(section: _Section, ids: list, names: list) -> None:
    """Refuse ids that are neither numbers nor texts, or that are given twice."""
    seen: dict[Any, int] = {}
    for place, value in enumerate(ids):
        where = f"{section.path}: {section.name}[{place}] ('{names[place]}')"
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise DataError(f"{where} has id {value!r}; it must be a number of its own")
        if seen.setdefault(value, place) != place:
            raise DataError(f"{where} has id {value}, which {section.name}[{seen[value]}] has; ids must be unique")


def _side(value: Any) -> float | None:
    """Return a width or height, or None if the file's value is not a positive number."""
    return value if _is_number(value) and value > 0 else None


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)


def _positions(column: list, known: dict[Any, int]) -> np.ndarray:
    """Return for each value its position among the known ones, -1 for an unknown value."""
    try:
        found = [known.get(value, -1) for value in column]
    except TypeError:  # an id is a list or a mapping, which cannot be looked up
        found = [known.get(value, -1) if isinstance(value, int | float | str) else -1 for value in column]
    return np.array(found, np.int64)


def _boxes(column: list) -> np.ndarray:
    """Return boxes (n, 4), with NaN where a value is anything other than four finite numbers."""
    whole = all(type(box) is list and len(box) == 4 for box in column)
    if whole and set(map(type, chain.from_iterable(column))) <= {int, float}:
        try:
            boxes = np.array(column, np.float64).reshape(-1, 4)
        except OverflowError:  # a number has hundreds of digits
            boxes = np.full((1, 4), np.nan)
        if np.isfinite(boxes).all():
            return boxes
    nothing = [math.nan] * 4
    return np.array([box if _is_box(box) else nothing for box in column], np.float64).reshape(-1, 4)


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


def _areas(column: list) -> tuple[np.ndarray, np.ndarray]:
    """Return areas (n,), NaN where there is no usable one, and bool (n,), whether an area is given but unusable."""
    if set(map(type, column)) <= {int, float}:
        with suppress(OverflowError):
            areas = np.array(column, np.float64)
            if (np.isfinite(areas) & (areas >= 0)).all():
                return areas, np.zeros(len(areas), bool)
    usable = [_is_number(value) and value >= 0 for value in column]
    areas = [value if good else math.nan for value, good in zip(column, usable, strict=True)]
    odd = [value is not None and not good for value, good in zip(column, usable, strict=True)]
    return np.array(areas, np.float64), np.array(odd, bool)


def _flags(column: list) -> np.ndarray:
    if set(map(type, column)) <= {int, bool, NoneType}:
        return np.array(list(map(bool, column)), bool)
    return np.array([value not in (None, 0, "0", "", [], {}) for value in column], bool)


def _ids(column: list, notes: list[tuple[str, str]]) -> np.ndarray | None:
    """Return annotation ids; None if there are none or if they do not tell the annotations apart."""
    kinds = set(map(type, column))
    if not kinds or kinds == {type(None)}:
        return None
    if kinds != {int} or len(set(column)) < len(column) or max(map(abs, column)) >= 2**63:
        notes.append(("annotation ids not used", "they must be whole numbers, each given once"))
        return None
    if 0 in column:
        notes.append(("annotation ids from 0", "pycocotools never matches the annotation with id 0; here it counts"))
    return np.array(column, np.int64)
