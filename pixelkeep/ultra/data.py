"""``--data``: a dataset YAML of one's own, the name of a bundled one, or ``demo``, made into a file for Ultralytics."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import yaml

from pixelkeep import assets
from pixelkeep.datasets.demo import write_demo
from pixelkeep.datasets.spec import DatasetSpec, load_spec, read_mapping
from pixelkeep.errors import DataError, choices, nearest
from pixelkeep.ultra.console import Bar
from pixelkeep.ultra.runs import write_text

GENERATED: dict[str, Callable[..., Path]] = {"demo": write_demo}  # name -> writes it into a folder, gives its YAML


def resolve_data(name: str | None) -> DatasetSpec:
    """Find and check a dataset.

    Args:
        name: A path of a YAML file, or the name of one in data/.

    Raises:
        DataError: It is missing or not usable.
    """
    if not name:
        raise DataError("no data given: pass --data YOUR.yaml, or --data demo for the generated demo dataset")
    file = Path(os.path.expanduser(name))
    if len(file.name) > 255 or not file.is_file():
        file = assets.find("data", name)
    if file is None:
        known = assets.names("data")
        raise DataError(f"data '{name}' not found{nearest(name, known)}; give a YAML file or one of {choices(known)}")
    generator = read_mapping(file).get("generate")
    if generator is None:
        return load_spec(file.resolve())
    if not isinstance(generator, str) or generator not in GENERATED:
        raise DataError(f"{file}: 'generate: {generator}' is unknown; one of {choices(GENERATED)}")
    return load_spec(_generate(generator))


def _generate(name: str) -> Path:
    """Write a generated dataset unless it is there, with a progress bar."""
    bar = None

    def progress(done: int, total: int) -> None:
        nonlocal bar
        bar = bar or Bar(desc=f"writing {name} data", total=total, unit="img")
        bar.update(done - bar.n)

    file = GENERATED[name](assets.home() / "datasets" / name, progress=progress)
    if bar is not None:
        bar.close()
    return file


def write_resolved(spec: DatasetSpec) -> Path:
    """Write the dataset with absolute paths where Ultralytics can read it, and return that file.

    It lies in the cache folder under a name made of its content, so a run can be resumed from any working directory.
    """
    lists = {split: [_write_list(spec, split, source) for source in sources] for split, sources in spec.splits.items()}
    d = replace(spec, splits=lists).to_ultralytics()
    return _write_cached(yaml.safe_dump(d, sort_keys=False, allow_unicode=True), spec.file.stem, ".yaml")


def _write_list(spec: DatasetSpec, split: str, source: Path) -> Path:
    """Write an image list with absolute paths; folders are returned as they are."""
    if source.is_dir():
        return source
    images = replace(spec, splits={split: [source]}).images(split)
    return _write_cached("".join(f"{image}\n" for image in images), source.stem, ".txt")


def _write_cached(text: str, stem: str, ending: str) -> Path:
    path = assets.home() / "data" / f"{stem[:40]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}{ending}"
    if not path.is_file():
        write_text(path, text)
    return path
