"""The classes of a dataset, taken from ``names:`` or from its files, without the classes to ignore.

One rule holds for every form: the network's classes are the names without those under ``ignore:``, in their order.
Where annotations give classes as numbers (YOLO, VisDrone), ``names:`` lists every class that the files count, including
the ignored ones. Where they give classes by name (COCO, VOC), ``names:`` may leave out ignored classes.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from pixelkeep.datasets.definitions.forms import COCO, VISDRONE, VOC
from pixelkeep.datasets.files.coco_file import read_coco_file
from pixelkeep.datasets.files.voc_file import names_in
from pixelkeep.errors import DataError, choices, nearest

VISDRONE_NAMES = "pedestrian people bicycle car van truck tricycle awning-tricycle bus motor".split()


def class_names(
    file: Path, d: dict, form: str, splits: dict[str, list[Path]]
) -> tuple[dict[int, str], tuple[str, ...], tuple[str, ...]]:
    """Return the network's classes by number, all label names in the order of their numbers, and the names to ignore.

    Args:
        file: The YAML file.
        d: The content of the YAML file.
        form: One of :data:`pixelkeep.datasets.definitions.forms.FORMS`.
        splits: The files of each split. If the YAML gives no names, they come from the files of train and val.

    Raises:
        DataError: The names cannot be used, or ``ignore:`` does not fit them.
    """
    ignore = _ignored(file, d.get("ignore"))
    labels, given = _labels(file, d, form, splits)
    twice = next((name for place, name in enumerate(labels) if name in labels[:place]), None)
    if twice is not None and (ignore or form in (COCO, VOC)):
        raise DataError(f"{file}: two classes are called '{twice}'; where classes go by name, each needs its own")
    for name in ignore:
        if name not in labels and not (given and form in (COCO, VOC)):
            raise DataError(f"{file}: 'ignore: {name}' is not one of the classes{_nearest(name, labels)}")
    names = [name for name in labels if name not in ignore]
    if not names:
        raise DataError(f"{file}: no class is left: all of {choices(labels)} are under 'ignore:'")
    labels += [name for name in ignore if name not in labels]
    return dict(enumerate(names)), tuple(labels), ignore


def category_ids(
    file: Path, d: dict, form: str, splits: dict[str, list[Path]], names: dict[int, str]
) -> tuple[int, ...]:
    """Return the id of each class in the dataset's COCO files, so that results can be compared with these files.

    Ids that do not rise with the class numbers are not used: the order of ids is the order of classes everywhere.

    Args:
        file, d, form, splits: The same as for :func:`class_names`.
        names: The network's classes by number.

    Returns:
        The ids, or () if the classes are to count from 1.

    Raises:
        DataError: The YAML gives ids that cannot be used.
    """
    if (given := d.get("category_ids")) is not None:
        numbers = given if isinstance(given, list) and all(type(number) is int for number in given) else []
        if len(numbers) != len(names) or not _rise(numbers):
            raise DataError(f"{file}: 'category_ids: {given}' must be {len(names)} rising numbers, one for each class")
        return tuple(numbers)
    if form != COCO:
        return ()
    path = next(splits[split][0] for split in ("val", "test", "train") if splits.get(split))
    known = {name: number for number, name in read_coco_file(path).categories.items()}
    found = [known.get(name) for name in names.values()]
    usable = all(type(number) is int for number in found) and _rise(found)
    return tuple(found) if usable and found != list(range(1, len(found) + 1)) else ()


def _rise(numbers: list[int]) -> bool:
    return all(one < other for one, other in pairwise(numbers))


def _nearest(name: str, labels: list[str]) -> str:
    return nearest(name, labels, f"they are {choices(labels)}")


def _labels(file: Path, d: dict, form: str, splits: dict[str, list[Path]]) -> tuple[list[str], bool]:
    """Return all label names in the order of their numbers, and whether the YAML gives them."""
    if d.get("label_names"):  # a YAML that pixelkeep wrote, in which 'names:' holds the network's classes only
        return [str(name) for name in d["label_names"]], True
    if d.get("names") is not None or d.get("nc") is not None or form not in (COCO, VOC, VISDRONE):
        labels = _names(file, d)
        if form == VISDRONE and len(labels) != len(VISDRONE_NAMES):
            raise DataError(
                f"{file}: {len(labels)} names; VisDrone has {len(VISDRONE_NAMES)} classes; name them in its order"
            )
        return labels, True
    if form == VISDRONE:
        return list(VISDRONE_NAMES), True
    files = [path for split in ("train", "val") for path in splits.get(split, [])]
    found = _coco_names(files) if form == COCO else sorted({name for path in files for name in names_in(path)})
    if not found:
        raise DataError(
            f"{file}: no 'names:', and none in {choices(dict.fromkeys(files))} either; give the classes as a list"
        )
    return found, False


def _coco_names(files: list[Path]) -> list[str]:
    """Return the category names of COCO files in the order of their ids, file by file and without repetition."""
    return list(dict.fromkeys(name for path in files for name in read_coco_file(path).categories.values()))


def _ignored(file: Path, value: object) -> tuple[str, ...]:
    names = [] if value is None else value if isinstance(value, list) else [value]
    if any(isinstance(name, (list, dict)) or name is None for name in names):
        raise DataError(f"{file}: 'ignore:' must be a list of class names, not {value!r}")
    return tuple(dict.fromkeys(str(name) for name in names))


def _names(file: Path, d: dict) -> list[str]:
    names, count = d.get("names"), d.get("nc")
    if count is not None and (type(count) is not int or count < 1):
        raise DataError(f"{file}: 'nc: {count}' must be the number of classes, 1 or more; or leave it out")
    if names is None and count is not None:
        return [f"class_{i}" for i in range(count)]
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        hint = nearest("names", [key for key in d if isinstance(key, str)]).replace("did you mean", "is it written as")
        raise DataError(f"{file}: no 'names:'; give the classes as a list or as 'index: name'{hint}")
    for index, name in names.items():
        if not str(index).isdecimal():
            raise DataError(f"{file}: the keys of 'names:' must be class numbers, got {choices(names)}")
        if name is None or isinstance(name, (list, dict)):
            raise DataError(f"{file}: the name of class {index} in 'names:' must be text, not {name!r}")
    if sorted(map(int, names)) != list(range(len(names))):
        raise DataError(f"{file}: class numbers in 'names:' must run from 0 to {len(names) - 1}, got {choices(names)}")
    if count is not None and count != len(names):
        raise DataError(f"{file}: 'nc: {count}' but {len(names)} names; leave nc out or make them equal")
    return [str(names[index]) for index in sorted(names, key=int)]
