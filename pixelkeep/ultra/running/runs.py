"""Run folders: creating them, finding them again, and describing a run so that it can be repeated.

The folders are ``runs/train/exp``, ``exp2``, ..., as YOLOv5 users know them. Next to what Ultralytics writes
(args.yaml, results.csv, weights/), a run holds settings.yaml, environment.json, data.yaml, model.yaml, metrics.json and
predictions.json.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from pixelkeep.errors import OptionError, SourceError, WeightsError, storage_error
from pixelkeep.writing import sweep, write_text

RUNS = Path("runs")
ASKED = "settings.yaml"  # the settings that a run was started with
RESULTS = ("metrics.json", "predictions.json", "results.csv", "conversion.json", "weights/last.pt", "weights/best.pt")
PACKAGES = (
    "pixelkeep",
    "ultralytics",
    "torch",
    "torchvision",
    "numpy",
    "opencv-python",
    "pycocotools",
    "albumentations",
)


def new_run(project: str | None, name: str | None, *, kind: str, exist_ok: bool = False) -> Path:
    """Create and return the folder of a new run.

    Args:
        project: The folder that holds the runs; ``runs/<kind>`` by default.
        name: The run's name; ``exp`` by default, with a number appended if it is taken.
        kind: The kind of run: train, val or detect.
        exist_ok: Whether to use a folder that exists already.

    Raises:
        OptionError: The folder cannot be created.
    """
    base = (Path(project) if project else RUNS / kind) / (name or "exp")
    for number in range(1, 100_000):
        folder = base if number == 1 else base.with_name(f"{base.name}{number}")
        try:
            folder.mkdir(parents=True, exist_ok=exist_ok)
        except FileExistsError:
            continue
        except OSError as error:
            raise OptionError(f"cannot create the run folder {folder}: {error.strerror}") from error
        return folder.resolve()
    raise OptionError(f"cannot create a run folder {base}: all numbers up to 99999 are taken")


def newest_weights(project: str | None = None) -> Path:
    """Return the newest best.pt among the training runs.

    Args:
        project: The folder that holds the runs; ``runs``, with those of demo, by default.

    Raises:
        WeightsError: There is no trained run there.
    """
    folder = Path(project) if project else RUNS
    patterns = ["*/weights/best.pt"] if project else ["train/*/weights/best.pt", "demo/*/train/weights/best.pt"]
    found = sorted((p for pattern in patterns for p in folder.glob(pattern)), key=lambda p: p.stat().st_mtime)
    if not found:
        raise WeightsError(
            f"no weights given and no trained run in {folder}: pass --weights FILE, or train first with "
            "'pixelkeep train --data YOUR.yaml' ('pixelkeep demo' makes one in minutes)"
        )
    return found[-1]


def run_to_resume(run: str | None, project: str | None = None, name: str | None = None) -> Path:
    """Return the folder of the training run to resume: the one named, else the newest unfinished one.

    Args:
        run: A run folder or its last.pt.
        project: The folder to search if ``run`` is None; ``runs/train`` by default.
        name: The only run of ``project`` to consider.

    Raises:
        WeightsError: There is no such run, it is finished, or its last.pt is missing.
    """
    if run is not None:
        path = Path(run)
        folder = path.parent.parent if path.suffix == ".pt" else path
        if not folder.is_dir():
            raise WeightsError(f"--resume {run}: no such run; give a run folder or its weights/last.pt")
        if not (folder / "weights" / "last.pt").is_file():
            raise WeightsError(
                f"--resume {run}: {folder / 'weights' / 'last.pt'} is missing, so nothing can be resumed"
            )
        if is_finished(folder):
            raise WeightsError(f"--resume {run}: this run is finished (metrics.json is there); start a new one")
        return folder.resolve()
    base = Path(project) if project else RUNS / "train"
    runs = [p.parent.parent for p in base.glob(f"{name or '*'}/weights/last.pt")]
    unfinished = [r for r in runs if not is_finished(r)]
    if not unfinished:
        raise WeightsError(f"--resume: no unfinished run in {base / (name or '')}; name one: --resume RUN_FOLDER")
    return max(unfinished, key=lambda r: (r / "weights" / "last.pt").stat().st_mtime).resolve()


def detection_to_resume(run: str | None, summary: str, project: str | None = None, name: str | None = None) -> Path:
    """Return the folder of the detection run to resume: the one named, else the newest unfinished one.

    Args:
        run: A run folder.
        summary: Name of the file in which a run records whether it was interrupted.
        project: The folder to search if ``run`` is None; ``runs/detect`` by default.
        name: The only run of ``project`` to consider.

    Raises:
        SourceError: There is no such run, it is finished, or its settings.yaml is missing.
    """
    if run is not None:
        folder = Path(run)
        if not folder.is_dir():
            raise SourceError(f"--resume {run}: no such run; give a run folder")
        if not (folder / ASKED).is_file():
            raise SourceError(f"--resume {run}: {folder / ASKED} is missing, so nothing can be resumed")
        if not _is_unfinished(folder, summary):
            raise SourceError(f"--resume {run}: this run is finished ({summary} says so); start a new one")
        return folder.resolve()
    base = Path(project) if project else RUNS / "detect"
    unfinished = [p.parent for p in base.glob(f"{name or '*'}/{ASKED}") if _is_unfinished(p.parent, summary)]
    if not unfinished:
        raise SourceError(f"--resume: no unfinished run in {base / (name or '')}; name one: --resume RUN_FOLDER")
    return max(unfinished, key=lambda folder: (folder / ASKED).stat().st_mtime).resolve()


def _is_unfinished(folder: Path, summary: str) -> bool:
    """Return whether a detection run was interrupted or killed."""
    try:
        return json.loads((folder / summary).read_text(encoding="utf-8"))["interrupted"]
    except (OSError, ValueError, KeyError, TypeError):  # not there, or nothing that a finished run leaves
        return True


def clear(folder: Path, names: tuple[str, ...] = RESULTS) -> None:
    """Remove the results of an earlier run from a folder that is used again, so that none of them is taken for new."""
    for name in names:
        (folder / name).unlink(missing_ok=True)


def is_finished(folder: Path) -> bool:
    """Return whether a training run has completed its final validation."""
    return (folder / "metrics.json").is_file()


@contextlib.contextmanager
def storage(folder: Path) -> Iterator[None]:
    """Use a run folder, leaving no half-written files in it and reporting write failures of the disk in one line.

    Half-written files that a killed run left in the folder are removed first.

    Raises:
        StorageError: The disk is full, or may not be written to.
    """
    sweep(folder)
    try:
        yield
    except (OSError, RuntimeError) as error:
        if told := storage_error(error, folder):
            raise told from error
        raise
    finally:
        sweep(folder)


def write_yaml(path: Path, value: dict) -> None:
    """Write a mapping as YAML, keeping the order of its keys."""
    write_text(path, yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON."""
    write_text(path, json.dumps(value, indent=None if isinstance(value, list) else 2, allow_nan=False) + "\n")


def write_environment(folder: Path) -> None:
    """Write the hardware, the software versions and the command line of a run into environment.json."""
    import torch

    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None  # a checkout that runs without being installed
    write_json(
        folder / "environment.json",
        {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cpus": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
            "packages": versions,
            "command": sys.argv,
        },
    )
