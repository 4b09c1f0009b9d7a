"""``--data`` of classification and semantic segmentation: find it, check it, and write a file for Ultralytics.

Ultralytics would look for class folders itself, download what it does not find, split what is not split, and keep
pickles beside the images. Here it gets a file that lists what exists.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pixelkeep.datasets.class_folders import ClassFolders, ClassSplit, load_class_split, read_class_folders
from pixelkeep.datasets.definitions.spec import DatasetSpec, load_spec
from pixelkeep.datasets.mask_files import MaskSplit, load_mask_split
from pixelkeep.errors import DataError, OptionError, choices
from pixelkeep.ultra.data.resolving import find_data, told, write_mapping, write_resolved
from pixelkeep.ultra.data.shrinking import warn_of_split

NEEDS = ("train", "val")


def resolve_classes(name: str | None, folder: str | None = None, needs: tuple[str, ...] = NEEDS) -> ClassFolders:
    """Find and check classification data; see :func:`pixelkeep.ultra.data.resolving.resolve_data`."""
    file = find_data(name, folder, "classify")
    if file.is_dir() and folder is not None:
        raise OptionError(f"--set path={folder}: has no effect where --data is a folder itself; leave it out")
    return read_class_folders(file, folder, needs)


def resolve_masks(name: str | None, folder: str | None = None, needs: tuple[str, ...] = NEEDS) -> DatasetSpec:
    """Find and check semantic data; see :func:`.resolving.resolve_data`. A folder stands for the one YAML in it."""
    file = find_data(name, folder, "semantic")
    if file.is_dir():
        found = sorted([*file.glob("*.yaml"), *file.glob("*.yml")])
        if len(found) != 1:
            there = f"has {choices(path.name for path in found)}" if found else "has none"
            raise DataError(f"data '{name}': semantic data needs a YAML that names its classes, and the folder {there}")
        file = found[0]
    spec = load_spec(file, folder, needs)
    masks = str(spec.others.get("masks_dir") or "masks")  # Ultralytics' default
    return replace(spec, others={**spec.others, "masks_dir": masks})


def read_classes(spec: ClassFolders, split: str, imgsz: int) -> ClassSplit:
    """Read a split of classification data, and log one summary of the problems in it."""
    return told(load_class_split, spec, split)


def read_masks(spec: DatasetSpec, split: str, imgsz: int) -> MaskSplit:
    """Read a split of semantic data; log one summary of the problems in it and by how much its images shrink."""
    loaded = told(load_mask_split, spec, split)
    warn_of_split(loaded, imgsz, tiles=False)
    return loaded


def write_classes(spec: ClassFolders) -> Path:
    """Write classification data as a YAML with absolute paths, and return the path of that file."""
    return write_mapping(spec.to_ultralytics(), spec.file.stem)


def write_masks(spec: DatasetSpec) -> Path:
    """Write semantic data as a YAML with absolute paths, and return the path of that file."""
    return write_resolved(spec)


def class_data(file: str | Path, split: str = "") -> dict:
    """Return the dataset dictionary of classification data for Ultralytics' trainer and validator.

    Args:
        file: A YAML written by :func:`write_classes`.
        split: Passed by Ultralytics and not used; the dictionary names every split that exists.
    """
    spec = read_class_folders(Path(file), needs=())
    folders = {key: str(folder) for key, folder in spec.splits.items()}
    return {"train": None, "val": None, "test": None, **folders, "nc": len(spec.names), "names": spec.names,
            "channels": spec.channels, "stretch": spec.stretch, "yaml_file": str(file)}  # fmt: skip
