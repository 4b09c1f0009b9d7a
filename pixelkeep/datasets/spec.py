"""Dataset YAMLs: found, read and checked before anything is trained, with one line for each thing that is wrong.

A file is read as Ultralytics reads it (``path``, ``train``, ``val``, ``test``, ``names``, ``channels``), with optional
keys of our own: ``extras``, a JSON file for each split that holds what YOLO labels cannot (see ``yolo.py``), and
``stretch``, two percentiles that bring images deeper than eight bits to eight (see ``pixels.py``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from pixelkeep.errors import DataError, choices, nearest

SPLITS = ("train", "val", "test")
IMAGE_ENDINGS = frozenset(".avif .bmp .dng .heic .heif .jp2 .jpeg .jpeg2000 .jpg .mpo .png .tif .tiff .webp".split())


@dataclass(frozen=True)
class DatasetSpec:
    """A checked dataset definition with absolute paths.

    Attributes:
        file: The YAML file.
        root: The dataset's folder.
        splits: For each split its image folders and image lists (.txt).
        names: Class index to class name, indices 0 to n-1.
        extras: For some splits the JSON file with what YOLO labels cannot hold.
        channels: Channels of the images as the network sees them.
        stretch: Percentiles that become 0 and 255 in images deeper than eight bits; None if there are none such.
        others: Keys of the YAML that are passed on as they are.
    """

    file: Path
    root: Path
    splits: dict[str, list[Path]]
    names: dict[int, str]
    extras: dict[str, Path] = field(default_factory=dict)
    channels: int = 3
    stretch: tuple[float, float] | None = None
    others: dict = field(default_factory=dict)

    def sources(self, split: str) -> list[Path]:
        """Return the image folders and lists of ``split``.

        Raises:
            DataError: The YAML has no such split.
        """
        if split not in self.splits:
            raise DataError(f"{self.file}: no split '{split}'; it has {choices(self.splits)}")
        return self.splits[split]

    def count_images(self, split: str) -> int:
        """Return how many images ``split`` has, by names alone."""
        return sum(1 for _ in self.images(split))

    def images(self, split: str) -> Iterator[Path]:
        """Yield the image files of ``split``."""
        for source in self.sources(split):
            if source.is_dir():
                yield from _images_below(source)
            else:
                yield from (
                    _line_path(line.strip(), source) for line in _read_text(source).splitlines() if line.strip()
                )

    def to_ultralytics(self) -> dict:
        """Return the dictionary that Ultralytics reads: paths absolute, nothing to download, its ``source`` named."""
        d = {**self.others, "source": str(self.file), "path": str(self.root), "names": self.names}
        d["channels"] = self.channels
        if self.stretch:
            d["stretch"] = list(self.stretch)
        for split, sources in self.splits.items():
            paths = [str(s) for s in sources]
            d[split] = paths[0] if len(paths) == 1 else paths
        if self.extras:
            d["extras"] = {split: str(path) for split, path in self.extras.items()}
        return d


def _images_below(folder: Path) -> list[Path]:
    """Return the image files in a folder and those below it, linked folders included, sorted by path."""
    found, seen = [], set()
    for where, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(where)
        if real in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        found += [Path(where, name) for name in files if os.path.splitext(name)[1].lower() in IMAGE_ENDINGS]
    return sorted(found)


def _line_path(line: str, file: Path) -> Path:
    """Return the image that a line of an image list means: relative to the current folder, else to the list."""
    path = Path(line)
    return path.absolute() if not line.startswith("./") and path.exists() else file.parent / path


def load_spec(file: Path) -> DatasetSpec:
    """Read and check a dataset YAML.

    Raises:
        DataError: It is no YAML mapping, or train, val or names are missing, or a split has no images.
    """
    d = read_mapping(file)
    if "val" not in d and "validation" in d:
        d["val"] = d.pop("validation")
    for key in ("train", "val"):
        if not d.get(key):
            raise DataError(f"{file}: no '{key}:'; a dataset YAML needs train, val and names{_near(key, d)}")
    names = _names(file, d)
    root = _root(file, d)
    splits = {split: _sources(file, root, split, d[split]) for split in SPLITS if d.get(split)}
    extras = _extras(file, root, d.get("extras"))
    taken = {"path", "names", "nc", "extras", "channels", "stretch", "download", "source", *SPLITS}
    others = {key: value for key, value in d.items() if key not in taken}
    channels, stretch = _channels(file, d.get("channels", 3)), _stretch(file, d.get("stretch"))
    return DatasetSpec(Path(d.get("source", file)), root, splits, names, extras, channels, stretch, others)


def read_mapping(file: Path) -> dict:
    """Return the mapping in a YAML file.

    Raises:
        DataError: The file cannot be read, is no YAML, or holds something else than a mapping.
    """
    try:
        d = yaml.safe_load(_read_text(file))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", error)).split())
        raise DataError(f"{file}{line}: not valid YAML ({problem})") from error
    except (ValueError, RecursionError) as error:  # a date that does not exist, brackets without end
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


def _names(file: Path, d: dict) -> dict[int, str]:
    names, count = d.get("names"), d.get("nc")
    if count is not None and (type(count) is not int or count < 1):
        raise DataError(f"{file}: 'nc: {count}' must be the number of classes, 1 or more; or leave it out")
    if names is None and count is not None:
        return {i: f"class_{i}" for i in range(count)}
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise DataError(f"{file}: no 'names:'; give the classes as a list or as 'index: name'{_near('names', d)}")
    for index, name in names.items():
        if not str(index).isdecimal():
            raise DataError(f"{file}: the keys of 'names:' must be class numbers, got {choices(names)}")
        if name is None or isinstance(name, (list, dict)):
            raise DataError(f"{file}: the name of class {index} in 'names:' must be a text, not {name!r}")
    if sorted(map(int, names)) != list(range(len(names))):
        raise DataError(f"{file}: class numbers in 'names:' must run from 0 to {len(names) - 1}, got {choices(names)}")
    if count is not None and count != len(names):
        raise DataError(f"{file}: 'nc: {count}' but {len(names)} names; leave nc out or make them equal")
    return {int(index): str(names[index]) for index in sorted(names, key=int)}


def _extras(file: Path, root: Path, value: object) -> dict[str, Path]:
    if value is not None and not (isinstance(value, dict) and all(isinstance(path, str) for path in value.values())):
        raise DataError(f"{file}: 'extras:' must be a JSON file by split, such as 'val: extras.json', not {value!r}")
    extras = {split: root / path for split, path in (value or {}).items()}
    for split, path in extras.items():
        if not path.is_file():
            raise DataError(f"{file}: extras of split '{split}' not found at {path}")
    return extras


def _channels(file: Path, value: object) -> int:
    if type(value) is not int or value < 1:
        raise DataError(f"{file}: 'channels: {value}' must be the number of channels of the images, 1 or more")
    return value


def _stretch(file: Path, value: object) -> tuple[float, float] | None:
    if value is None:
        return None
    numbers = isinstance(value, list) and len(value) == 2 and all(type(v) in (int, float) for v in value)
    if not numbers or not 0 <= value[0] < value[1] <= 100:
        raise DataError(f"{file}: 'stretch: {value}' must be two percentiles, such as [0.5, 99.5]")
    return float(value[0]), float(value[1])


def _root(file: Path, d: dict) -> Path:
    """Resolve ``path:`` in Ultralytics' order (as given, then its datasets folder), then beside the YAML.

    The first folder that holds every split is taken: ``path: .`` is a folder wherever the command runs.
    """
    given = Path(os.path.expanduser(str(d.get("path") or file.parent)))
    datasets = os.environ.get("PIXELKEEP_DATASETS_DIR")
    tried = [given, *([Path(datasets) / given] if datasets else []), file.parent / given]
    roots = [root for root in tried if root.is_dir()]
    if not roots:
        raise DataError(f"{file}: 'path: {d.get('path')}' is not a folder; looked at {choices(dict.fromkeys(tried))}")
    items = [item for split in SPLITS if d.get(split) for item in _listed(d[split]) if isinstance(item, str)]
    whole = (root for root in roots if all(_locate(root, item).exists() for item in items))
    return Path(os.path.abspath(next(whole, roots[0])))


def _listed(value: object) -> list:
    return value if isinstance(value, list) else [value]


def _locate(root: Path, item: str) -> Path:
    """Return where an entry of a split lies; a needless ``../`` is tolerated, as by Ultralytics."""
    path = Path(os.path.abspath(root / item))  # links are kept: labels are looked for beside the link first
    return Path(os.path.abspath(root / item[3:])) if not path.exists() and item.startswith("../") else path


def _sources(file: Path, root: Path, split: str, value: object) -> list[Path]:
    sources = []
    for item in _listed(value):
        if not isinstance(item, str):
            raise DataError(f"{file}: '{split}:' must be a folder, an image list or several of them, not {item!r}")
        path = _locate(root, item)
        if not path.exists():
            raise DataError(f"{file}: '{split}: {item}' not found at {path}")
        sources.append(path)
    for source in sources:
        if source.is_file() and source.suffix.lower() in IMAGE_ENDINGS:
            raise DataError(f"{file}: '{split}: {value}' is an image; give its folder, or an image list (.txt)")
    spec = DatasetSpec(file, root, {split: sources}, {})
    if next(spec.images(split), None) is None:
        raise DataError(f"{file}: '{split}: {value}' holds no images (endings: {choices(sorted(IMAGE_ENDINGS), 20)})")
    return sources
