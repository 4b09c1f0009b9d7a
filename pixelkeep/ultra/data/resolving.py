"""Resolve ``--data``: read a user's dataset YAML, a bundled one or ``demo``, and write a file for Ultralytics."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from ultralytics.utils import LOGGER

from pixelkeep import assets
from pixelkeep.datasets.annotations.problems import Problems, to_csv
from pixelkeep.datasets.definitions.forms import YOLO
from pixelkeep.datasets.definitions.spec import DatasetSpec, load_spec, read_mapping
from pixelkeep.datasets.demo import write_demo
from pixelkeep.datasets.demo.labels import write_class_demo, write_mask_demo
from pixelkeep.datasets.loading import Split, load_split
from pixelkeep.errors import DataError, choices, nearest
from pixelkeep.ultra.data.shrinking import warn_of_split
from pixelkeep.ultra.running.console import progress_bar
from pixelkeep.writing import write_text

# Generated dataset's name -> the task it is for, and the function that writes it into a folder and returns its YAML.
GENERATED: dict[str, tuple[str, Callable[..., Path]]] = {
    "demo": ("detect", write_demo),
    "demo-cls": ("classify", write_class_demo),
    "demo-sem": ("semantic", write_mask_demo),
}


def resolve_data(name: str | None, folder: str | None = None, needs: tuple[str, ...] = ("train", "val")) -> DatasetSpec:
    """Find and check a dataset.

    Args:
        name: Path of a YAML file, or the name of one in data/.
        folder: The dataset's folder, in place of the YAML's own ``path:``.
        needs: Names of the splits that the dataset must have.

    Raises:
        DataError: The dataset is missing or cannot be used.
    """
    file = find_data(name, folder, "detect")
    if file.is_dir():
        raise DataError(
            f"data '{name}' is a folder; detection takes a dataset YAML (folders of classes are for models whose names "
            "end in -cls)"
        )
    return load_spec(file, folder, needs)


def find_data(name: str | None, folder: str | None, task: str) -> Path:
    """Return the YAML file or the folder that a name stands for; write a generated dataset first if it is missing.

    Args:
        name: A path, or the name of a YAML in data/. A name in `GENERATED` always means the generated dataset, whatever
            the working directory holds; a folder called ``demo`` there is given as ``./demo``.
        folder: The dataset's folder, in place of the YAML's own ``path:``.
        task: The model's task, by Ultralytics' name.

    Raises:
        DataError: There is no such dataset, or it is generated for another task.
    """
    example = next(example for example, (made_for, _) in GENERATED.items() if made_for == task)
    if not name:
        raise DataError(f"no data given: pass --data YOUR.yaml, or --data {example} for the generated demo dataset")
    given = Path(os.path.expanduser(name))
    is_path = name not in GENERATED and len(given.name) < 256
    if is_path and given.is_dir():
        return given.resolve()
    if name in GENERATED and task != "detect" and given.is_dir():  # maybe meant; detection data is no folder
        LOGGER.warning(f"data '{name}' is the generated dataset; for the folder of that name here give ./{name}")
    file = given if is_path and given.is_file() else assets.find("data", name)
    if file is None:
        known = assets.names("data")
        raise DataError(
            f"data '{name}' not found{nearest(name, known, f'give a YAML file or one of {choices(known)}')}"
        )
    generator = read_mapping(file).get("generate")
    if generator is None:
        return file.resolve()
    if not isinstance(generator, str) or generator not in GENERATED:
        raise DataError(f"{file}: 'generate: {generator}' is unknown; give one of {choices(GENERATED)}")
    if folder is not None:
        raise DataError(f"--set path={folder}: has no effect on data '{name}', which is generated; leave it out")
    if GENERATED[generator][0] != task:
        raise DataError(f"data '{name}' is made for task '{GENERATED[generator][0]}', not for '{task}'; use {example}")
    return _generate(generator)


def _generate(name: str) -> Path:
    """Write a generated dataset unless it exists, while showing a progress bar, and return its YAML."""
    with progress_bar(f"writing {name} data") as progress:
        return GENERATED[name][1](assets.home() / "datasets" / name, progress=progress)


def read_split(spec: DatasetSpec, split: str, imgsz: int | list[int]) -> Split:
    """Read a split; log one summary of the problems in it and by how much its images shrink.

    Raises:
        DataError: None or too few of its images can be used.
    """
    loaded = told(load_split, spec, split)
    warn_of_split(loaded, imgsz)
    return loaded


def told(load: Callable[..., Any], spec: Any, split: str) -> Any:
    """Read a split with ``load`` while showing a progress bar, and log its contents and the problems in it."""
    with progress_bar(f"checking {split} images") as progress:
        loaded = load(spec, split, progress)
    LOGGER.info(loaded.contents())
    if summary := loaded.problems.summary(spec.root):
        LOGGER.warning(summary)
    return loaded


def list_problems(folder: Path, reports: list[Problems]) -> None:
    """Write the problems found in the data, if any, to a CSV file in the run folder, one line per case."""
    if any(report.found for report in reports):
        listing = folder / "data_problems.csv"
        write_text(listing, to_csv(reports))
        LOGGER.info(f"Every case is listed in {listing}")


def write_resolved(spec: DatasetSpec) -> Path:
    """Write the dataset YAML with absolute paths for Ultralytics, and return the path of that file.

    The file lies in the cache folder under a name derived from its content, so a run can be resumed from any working
    directory.
    """
    lists = {split: [_write_list(spec, split, source) for source in sources] for split, sources in spec.splits.items()}
    return write_mapping(replace(spec, splits=lists).to_ultralytics(), spec.file.stem)


def write_mapping(d: dict, stem: str) -> Path:
    """Write a mapping as YAML into the cache folder, under a name derived from its content, and return the path."""
    return _write_cached(yaml.safe_dump(d, sort_keys=False, allow_unicode=True), stem, ".yaml")


def _write_list(spec: DatasetSpec, split: str, source: Path) -> Path:
    """Write an image list with absolute paths and return its path; return folders and other formats as they are."""
    if source.is_dir() or spec.form != YOLO:
        return source
    images = replace(spec, splits={split: [source]}).images(split)
    return _write_cached("".join(f"{image}\n" for image in images), source.stem, ".txt")


def _write_cached(text: str, stem: str, ending: str) -> Path:
    path = assets.home() / "data" / f"{stem[:40]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}{ending}"
    if not path.is_file():
        write_text(path, text)
    return path
