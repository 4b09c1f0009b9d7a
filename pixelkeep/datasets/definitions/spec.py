"""Find, read and check dataset YAMLs before anything is trained, with a one-line message for each mistake.

A file is read as Ultralytics reads it (``path``, ``train``, ``val``, ``test``, ``names``, ``channels``). Optional keys
of this project state the form of the data and the settings of that form (see ``forms.py``), classes to ignore (see
``naming.py``), ``extras``, one JSON file per split for what labels cannot hold (see ``extras.py``), and ``stretch``,
two percentiles that map images deeper than eight bits to eight (see ``pixels.py``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from pixelkeep.datasets.definitions.entries import (
    channel_count,
    extras_files,
    image_folders,
    stretch_percentiles,
    voc_pixels,
)
from pixelkeep.datasets.definitions.forms import COCO, INCLUSIVE, SPLITS, VISDRONE, VOC, YOLO, form_of, listed
from pixelkeep.datasets.definitions.naming import category_ids, class_names
from pixelkeep.errors import DataError, choices, nearest

IMAGE_ENDINGS = frozenset(".avif .bmp .dng .heic .heif .jp2 .jpeg .jpeg2000 .jpg .mpo .png .tif .tiff .webp".split())
OWN_KEYS = ("format", "images", "ignore", "label_names", "voc_pixels", "extras", "stretch", "category_ids")
KNOWN_KEYS = ("path", "names", "nc", "channels", "download", "source", *OWN_KEYS, *SPLITS)


@dataclass(frozen=True)
class DatasetSpec:
    """A checked dataset definition with absolute paths.

    Attributes:
        file: The YAML file.
        root: The dataset's folder.
        splits: The files and folders of each split, as the form requires them.
        names: Class index to class name, indices 0 to n-1.
        extras: The extras file (JSON with what labels cannot hold) of each split that has one.
        channels: Number of channels of the images as the network sees them.
        stretch: Percentiles that become 0 and 255 in images deeper than eight bits; None if none are declared.
        others: Other keys of the YAML, which are passed on unchanged.
        form: yolo, coco, voc or visdrone.
        folders: For COCO, the image folder of each split.
        voc_pixels: For VOC, whether corners count pixels from 1 (inclusive) or are used as edges unchanged (edges).
        ignore: Names of the classes whose objects become regions to ignore.
        labels: All label names in the order of their numbers, including the ignored ones; () if ``names`` are all.
        category_ids: The id of each class in COCO files; () for ids that count from 1.
    """

    file: Path
    root: Path
    splits: dict[str, list[Path]]
    names: dict[int, str]
    extras: dict[str, Path] = field(default_factory=dict)
    channels: int = 3
    stretch: tuple[float, float] | None = None
    others: dict = field(default_factory=dict)
    form: str = YOLO
    folders: dict[str, Path] = field(default_factory=dict)
    voc_pixels: str = INCLUSIVE
    ignore: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    category_ids: tuple[int, ...] = ()

    def classes(self) -> np.ndarray:
        """Return int (labels,), the class number of each label number, or -1 for a label to ignore."""
        numbers = {name: number for number, name in self.names.items()}
        if not self.ignore:  # names may repeat in forms whose labels are numbers, so they cannot serve as keys here
            return np.arange(len(self.names))
        return np.array([-1 if name in self.ignore else numbers[name] for name in self.labels])

    def sources(self, split: str) -> list[Path]:
        """Return the files and folders of ``split``.

        Raises:
            DataError: The YAML has no such split.
        """
        if split not in self.splits:
            raise DataError(f"{self.file}: no split '{split}'; it has {choices(self.splits)}")
        return self.splits[split]

    def count_images(self, split: str) -> int:
        """Return the number of images that a split of YOLO data lists, without opening them."""
        return sum(1 for _ in self.images(split))

    def images(self, split: str) -> Iterator[Path]:
        """Yield the image files of a split of YOLO data."""
        for source in self.sources(split):
            if source.is_dir():
                yield from images_below(source)
            else:
                yield from (
                    _line_path(line.strip(), source) for line in _read_text(source).splitlines() if line.strip()
                )

    def to_ultralytics(self) -> dict:
        """Return the dictionary for Ultralytics: absolute paths, no ``download``, and the YAML's path as ``source``."""
        d = {**self.others, "source": str(self.file), "path": str(self.root), "names": self.names}
        d["channels"] = self.channels
        if self.stretch:
            d["stretch"] = list(self.stretch)
        for split, sources in self.splits.items():
            paths = [str(s) for s in sources]
            d[split] = paths[0] if len(paths) == 1 else paths
        if self.extras:
            d["extras"] = {split: str(path) for split, path in self.extras.items()}
        return d | self._of_form()

    def _of_form(self) -> dict:
        """Return the keys that only some datasets need: those of the form, of ignored classes and of category ids."""
        d: dict = {} if self.form == YOLO else {"format": self.form}
        if self.form == COCO:
            d["images"] = {split: str(folder) for split, folder in self.folders.items()}
        if self.form == VOC:
            d["voc_pixels"] = self.voc_pixels
        if self.ignore:
            d |= {"ignore": list(self.ignore), "label_names": list(self.labels)}
        if self.category_ids:
            d["category_ids"] = list(self.category_ids)
        return d


def images_below(folder: Path) -> list[Path]:
    """Return the image files in a folder and its subfolders, including linked folders, sorted by path."""
    found, seen = [], set()
    for where, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(where)
        if real in seen:  # a link that leads back to a folder visited before
            folders.clear()
            continue
        seen.add(real)
        found += [Path(where, name) for name in files if os.path.splitext(name)[1].lower() in IMAGE_ENDINGS]
    return sorted(found)


def _line_path(line: str, file: Path) -> Path:
    """Return the path that a line of an image list means: relative to the current folder, else to the list's folder."""
    path = Path(line)
    return path.absolute() if not line.startswith("./") and path.exists() else file.parent / path


def load_spec(file: Path, folder: str | None = None, needs: tuple[str, ...] = ("train", "val")) -> DatasetSpec:
    """Read and check a dataset YAML.

    Args:
        file: The YAML file.
        folder: The dataset's folder, in place of the file's own ``path:``.
        needs: The splits that the dataset must have.

    Raises:
        DataError: The file is not a YAML mapping, a split or the names are missing, or an entry cannot be used.
    """
    d = read_mapping(file)
    if "val" not in d and "validation" in d:
        d["val"] = d.pop("validation")
    for key in needs:
        if not d.get(key):
            raise DataError(f"{file}: no '{key}:'; a dataset YAML needs train, val and names{_near(key, d)}")
    form = form_of(file, d)
    root = dataset_root(file, d, folder)
    splits = {split: _sources(file, root, split, d[split], form) for split in SPLITS if d.get(split)}
    names, labels, ignore = class_names(file, d, form, splits)
    return DatasetSpec(
        file=Path(d.get("source", file)),
        root=root,
        splits=splits,
        names=names,
        extras=extras_files(file, root, d.get("extras")),
        channels=channel_count(file, d.get("channels", 3)),
        stretch=stretch_percentiles(file, d.get("stretch")),
        others={key: value for key, value in d.items() if key not in KNOWN_KEYS},
        form=form,
        folders=image_folders(file, root, d, splits) if form == COCO else {},
        voc_pixels=voc_pixels(file, d),
        ignore=ignore,
        labels=labels,
        category_ids=category_ids(file, d, form, splits, names),
    )


def read_mapping(file: Path) -> dict:
    """Return the mapping in a YAML file.

    Raises:
        DataError: The file cannot be read, is not YAML, or holds something other than a mapping.
    """
    try:
        d = yaml.safe_load(_read_text(file))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", error)).split())
        raise DataError(f"{file}{line}: not valid YAML ({problem})") from error
    except (ValueError, RecursionError) as error:  # e.g. a date that does not exist, or endlessly nested brackets
        if isinstance(error, DataError):
            raise
        raise DataError(f"{file}: not valid YAML ({error})") from error
    if not isinstance(d, dict):
        raise DataError(f"{file}: a dataset YAML is a mapping with train, val and names, not {type(d).__name__}")
    return d


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as text ({error})") from error


def _near(key: str, d: dict) -> str:
    hint = nearest(key, [k for k in d if isinstance(k, str)])
    return hint.replace("did you mean", "is it written as") if hint else ""


def dataset_root(file: Path, d: dict, folder: str | None = None) -> Path:
    """Return the dataset's folder: the one that a YAML with content ``d`` defines, or ``folder`` if that is given."""
    return _root(file, d if folder is None else {**d, "path": _folder(file, folder)})


def _folder(file: Path, folder: str) -> str:
    """Return the absolute path of the folder that was given in place of the YAML's own."""
    path = Path(os.path.abspath(os.path.expanduser(folder)))
    if not path.is_dir():
        raise DataError(f"--set path={folder}: not a folder; give the one that the entries of {file} are in")
    return str(path)


def _root(file: Path, d: dict) -> Path:
    """Resolve ``path:`` in Ultralytics' order (as given, then below the datasets folder), then beside the YAML.

    The first candidate that holds every split is taken. To exist is not enough, because ``path: .`` is a folder
    wherever the command runs.
    """
    given = Path(os.path.expanduser(str(d.get("path") or file.parent)))
    datasets = os.environ.get("PIXELKEEP_DATASETS_DIR")
    tried = [given, *([Path(datasets) / given] if datasets else []), file.parent / given]
    roots = [root for root in tried if root.is_dir()]
    if not roots:
        where = choices(dict.fromkeys(tried))
        raise DataError(
            f"{file}: 'path: {d.get('path')}' is not a folder; looked at {where}; give it with --set path=FOLDER"
        )
    items = [item for split in SPLITS if d.get(split) for item in listed(d[split]) if isinstance(item, str)]
    whole = (root for root in roots if all(_locate(root, item).exists() for item in items))
    return Path(os.path.abspath(next(whole, roots[0])))


def _locate(root: Path, item: str) -> Path:
    """Return the path of a split's entry; a superfluous leading ``../`` is tolerated, as in Ultralytics."""
    path = Path(os.path.abspath(root / item))  # links are not resolved: labels are looked for beside the link first
    return Path(os.path.abspath(root / item[3:])) if not path.exists() and item.startswith("../") else path


def _sources(file: Path, root: Path, split: str, value: object, form: str) -> list[Path]:
    sources = []
    for item in listed(value):
        if not isinstance(item, str):
            raise DataError(f"{file}: '{split}:' must be a folder, an image list or several of them, not {item!r}")
        path = _locate(root, item)
        if not path.exists():
            raise DataError(f"{file}: '{split}: {item}' not found at {path}")
        sources.append(path)
    for source in sources:
        if form == VISDRONE and not all((source / part).is_dir() for part in ("images", "annotations")):
            raise DataError(f"{file}: '{split}:' {source} lacks images/ or annotations/, which VisDrone's folders have")
        if form in (COCO, VOC) and source.is_dir():
            raise DataError(f"{file}: '{split}:' {source} is a folder, not a file of form {form}")
    if form == YOLO:
        _check_images(file, split, value, sources)
    return sources


def _check_images(file: Path, split: str, value: object, sources: list[Path]) -> None:
    for source in sources:
        if source.is_file() and source.suffix.lower() in IMAGE_ENDINGS:
            raise DataError(f"{file}: '{split}: {value}' is an image; give its folder, or an image list (.txt)")
    spec = DatasetSpec(file, file.parent, {split: sources}, {})
    if next(spec.images(split), None) is None:
        raise DataError(f"{file}: '{split}: {value}' holds no images (endings: {choices(sorted(IMAGE_ENDINGS), 20)})")
