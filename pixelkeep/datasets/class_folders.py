"""Classification data: one folder of images per class, named after it, as ``train/<class>/`` and ``val/<class>/``.

A dataset is given as its folder, or as a YAML with ``path``, ``train``, ``val`` and ``test``. In the YAML, ``names``
may put the classes in another order, and ``stretch`` maps images deeper than eight bits to eight (see ``pixels.py``).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pixelkeep.datasets.annotations.problems import Problems
from pixelkeep.datasets.definitions.entries import stretch_percentiles
from pixelkeep.datasets.definitions.forms import SPLITS, YOLO
from pixelkeep.datasets.definitions.naming import class_names
from pixelkeep.datasets.definitions.spec import IMAGE_ENDINGS, dataset_root, images_below, read_mapping
from pixelkeep.datasets.images.inspection import Facts, inspect_all
from pixelkeep.errors import DataError, choices, nearest

OTHER_NAMES = {"val": ("val", "validation", "valid")}  # names that a split's folder may have


@dataclass(frozen=True)
class ClassFolders:
    """A checked definition of classification data with absolute paths.

    Attributes:
        file: The YAML file, or the folder itself if there is no YAML.
        root: The dataset's folder.
        splits: For each split the folder that holds its class folders.
        names: Class index to class name, indices 0 to n-1.
        stretch: Percentiles that become 0 and 255 in images deeper than eight bits; None if none is declared.
    """

    file: Path
    root: Path
    splits: dict[str, Path]
    names: dict[int, str]
    stretch: tuple[float, float] | None = None
    channels: int = field(default=3, init=False)  # the number that Ultralytics' classification transforms expect

    def sources(self, split: str) -> Path:
        """Return the folder of ``split``.

        Raises:
            DataError: There is no such split.
        """
        if split not in self.splits:
            raise DataError(f"{self.file}: no split '{split}'; it has {choices(self.splits)}")
        return self.splits[split]

    def to_ultralytics(self) -> dict:
        """Return the content of a YAML, with absolute paths, that :func:`read_class_folders` can read back."""
        d = {"source": str(self.file), "path": str(self.root), "names": self.names}
        if self.stretch:
            d["stretch"] = list(self.stretch)
        return d | {split: str(folder) for split, folder in self.splits.items()}


@dataclass(frozen=True)
class ClassRecord:
    """An image file, its width and height in pixels, and the index of its class."""

    path: Path
    width: int
    height: int
    label: int


@dataclass
class ClassSplit:
    """The images of a split: records of the usable ones, ordered by class and path, and the problems of the others."""

    records: list[ClassRecord]
    problems: Problems

    def contents(self) -> str:
        """Return one line with the number of usable images and of their classes."""
        classes = len({record.label for record in self.records})
        return f"{self.problems.split}: {len(self.records):,} images of {classes:,} classes"


def read_class_folders(
    file: Path, folder: str | None = None, needs: tuple[str, ...] = ("train", "val")
) -> ClassFolders:
    """Read and check a definition of classification data.

    Args:
        file: A YAML file, or the dataset's folder.
        folder: The dataset's folder, in place of the YAML's own ``path:``.
        needs: The splits that the dataset must have.

    Raises:
        DataError: A split is missing, there are no class folders, or ``names:`` do not match the folders.
    """
    file = file.absolute()
    given = {"path": str(file)} if file.is_dir() else read_mapping(file)
    root = file if file.is_dir() else dataset_root(file, given, folder)
    splits = {split: path for split in SPLITS if (path := _split_folder(file, root, split, given))}
    for split in needs:
        if split not in splits:
            raise DataError(f"{file}: no folder '{split}'; classification data has train/<class>/ and val/<class>/")
    found = _classes_in(splits.get("train") or next(iter(splits.values())))
    if not found:
        raise DataError(
            f"{file}: {splits.get('train', root)} has no class folders; classification data has a folder of images for "
            "each class, such as train/cat/ and val/cat/"
        )
    names = dict(enumerate(found))
    if given.get("names") is not None:
        names = class_names(file, given, YOLO, {})[0]
        _require_same(file, list(names.values()), found)
    if given.get("channels", 3) != 3:
        raise DataError(f"{file}: 'channels: {given['channels']}'; classification takes images of 3 channels")
    source = Path(given.get("source", file))
    return ClassFolders(source, root, splits, names, stretch_percentiles(file, given.get("stretch")))


def _split_folder(file: Path, root: Path, split: str, given: dict) -> Path | None:
    """Return the folder of a split: the one that the YAML gives, else the folder named after the split."""
    entry = given.get(split)
    if entry is None:
        return next((root / n for n in OTHER_NAMES.get(split, (split,)) if (root / n).is_dir()), None)
    path = Path(os.path.abspath(root / str(entry)))
    if not isinstance(entry, str) or not path.is_dir():
        raise DataError(f"{file}: '{split}: {entry}' is not a folder; classification data has a folder for each split")
    return path


def _classes_in(folder: Path) -> list[str]:
    """Return the names of the folders in a split's folder, sorted."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _require_same(file: Path, names: list[str], found: list[str]) -> None:
    for name in names:
        if name not in found:
            raise DataError(f"{file}: class '{name}' of 'names:' has no folder{nearest(name, found)}")
    if extra := [name for name in found if name not in names]:
        raise DataError(f"{file}: folder '{extra[0]}' is not among 'names:'; add it there, or remove the folder")


def load_class_split(spec: ClassFolders, split: str, progress: Callable[[int, int], None] | None = None) -> ClassSplit:
    """Inspect the images of a split.

    Args:
        spec: The dataset definition.
        split: train, val or test.
        progress: Called with the number of images inspected so far and the number to inspect.

    Raises:
        DataError: There is no such split, it has a class that train lacks, it has no images, more than half of them
            cannot be used, or a class of train has no usable image.
    """
    folder = spec.sources(split)
    numbers = {name: number for number, name in spec.names.items()}
    for name in _classes_in(folder):
        if name not in numbers and images_below(folder / name):
            hint = nearest(name, numbers, f"they are {choices(numbers)}")
            raise DataError(f"{spec.file}: split '{split}' has a class '{name}' that train lacks{hint}")
    labels = {path: number for name, number in numbers.items() for path in images_below(folder / name)}
    problems = Problems(split)
    stray = sorted(p for p in folder.iterdir() if p.is_file() and p.suffix.lower() in IMAGE_ENDINGS)
    problems.images = len(labels) + len(stray)
    for path in stray:
        problems.leave_out(path, "image outside class folders", path, f"move it into a class folder of {folder}")
    facts = inspect_all(list(labels), spec.channels, spec.stretch, progress)
    records = [r for path, label in labels.items() if (r := _record(path, label, facts[path], problems))]
    _check_classes(spec, split, labels, records, problems)
    return ClassSplit(records, problems)


def _record(path: Path, label: int, facts: Facts, problems: Problems) -> ClassRecord | None:
    if facts.reason:
        problems.leave_out(path, "image unusable", path, facts.reason)
        return None
    if facts.frames:
        problems.mend("several frames or pages, the first is used", path, "")
    return ClassRecord(path, facts.width, facts.height, label)


def _check_classes(
    spec: ClassFolders, split: str, labels: dict[Path, int], records: list[ClassRecord], problems: Problems
) -> None:
    """Refuse a split without images or with too few usable ones and, in train, a class without a usable image."""
    folder = spec.sources(split)
    if not labels:
        raise DataError(f"{spec.file}: the class folders in {folder} hold no images")
    problems.refuse_if_systematic(spec.file)
    there, used = set(labels.values()), {record.label for record in records}
    for number, name in spec.names.items():
        if number in used:
            continue
        why = f"all {sum(label == number for label in labels.values())} images are left out" if number in there else ""
        if split == "train":
            raise DataError(
                f"{spec.file}: class '{name}' has no image to learn from in {folder / name}"
                f"{f' ({why})' if why else ''}; add some, or remove the folder"
            )
        problems.note("class without an image", folder / name, why)
