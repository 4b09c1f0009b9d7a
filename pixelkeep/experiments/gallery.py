"""Draws side by side the images on which two finished runs differ most, for better and for worse.

Each run uses the confidences of its own best F1 on these images. The difference of an image is the number of the
baseline's errors minus that of the other run. Errors are missed objects and false alarms, at IoU 0.5 by the evaluator's
rules.
"""

from __future__ import annotations

import io
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixelkeep.datasets.definitions.spec import DatasetSpec
from pixelkeep.datasets.images.pixels import read_pixels
from pixelkeep.errors import DataError, OptionError
from pixelkeep.evaluation import Detections
from pixelkeep.evaluation.areas import COCO_SIZES
from pixelkeep.evaluation.errors import IGNORED, MATCHED, Errors, find_errors
from pixelkeep.evaluation.operating import operating_point
from pixelkeep.evaluation.overlaps import Scene
from pixelkeep.experiments.arms import Run, check_alike, read_run, rebuild_truth
from pixelkeep.experiments.identity import FILE
from pixelkeep.report.gallery import Half, pair
from pixelkeep.ultra.data.resolving import resolve_data
from pixelkeep.ultra.predictors.base import viewable
from pixelkeep.ultra.running import runs
from pixelkeep.writing import write_bytes


@dataclass(frozen=True)
class Picked:
    """An image to show.

    Attributes:
        file: File name of the image.
        gained: Errors of the baseline minus errors of the other run.
        halves: What the baseline and the other run find in the image.
    """

    file: str
    gained: int
    halves: tuple[Half, Half]


def gallery(
    baseline: Path,
    other: Path,
    folder: Path,
    *,
    each: int = 6,
    data: str | None = None,
    small: bool = False,
    enlarge: bool = True,
) -> list[Path]:
    """Write the pictures and ``gallery.json``, which describes them; return the paths of the pictures, best first.

    Args:
        baseline, other: Folders of two runs that were scored alike.
        folder: Folder to write to.
        each: Maximum number of images on which the other run is better, and of those on which it is worse.
        data: Dataset YAML or name, to give if the dataset has moved since.
        small: Whether only objects and false alarms under 32 x 32 pixels count.
        enlarge: Whether small images are drawn larger than they are.

    Raises:
        PixelkeepError: The runs cannot be compared, or make as many errors on every image.
    """
    if each < 1:
        raise OptionError(f"--each {each}: give 1 or more")
    pair_of = read_run(baseline), read_run(other)
    check_alike(list(pair_of))
    truth = rebuild_truth(pair_of[0], data)
    picked = pick([found(run, truth) for run in pair_of], [_name(run) for run in pair_of], each, small=small)
    if not picked:
        raise DataError(f"{baseline} and {other} make equal numbers of errors on every image: there is nothing to show")
    spec, files = _spec(pair_of[0], data), []
    places = {"better": 0, "worse": 0}
    with runs.storage(folder):
        for image in picked:
            kind = "better" if image.gained > 0 else "worse"
            places[kind] += 1
            path = folder / f"{kind}-{places[kind]}.jpg"
            pixels = viewable(read_pixels(spec.root / image.file, spec.channels, spec.stretch))
            title = f"{Path(image.file).name}: {abs(image.gained)} {'fewer' if image.gained > 0 else 'more'} errors"
            content = io.BytesIO()
            pair(pixels, image.halves, title, enlarge=enlarge).save(content, "JPEG", quality=90)
            write_bytes(path, content.getvalue())
            files.append(path)
        told = [  # without the folder, as datasets with dev cut out call dev val
            {"picture": p.name, "image": Path(i.file).name, "errors_less": i.gained}
            for p, i in zip(files, picked, strict=True)
        ]
        names = {"baseline": _name(pair_of[0]), "other": _name(pair_of[1])}
        facts = {"small": small, "command": _told(baseline, other, each, small, enlarge), "images": told}
        runs.write_json(folder / "gallery.json", names | facts)
    return files


def _told(baseline: Path, other: Path, each: int, small: bool, enlarge: bool) -> str:
    """Return the command that repeats the gallery; RUNS stands for the folder with the runs of a contrast's form."""
    runs_of = [shlex.quote(Path("RUNS", *path.resolve().parts[-3:]).as_posix()) for path in (baseline, other)]
    flags = [*(["--small"] if small else []), *([] if enlarge else ["--own-size"])]
    return " ".join(["python scripts/gallery.py", *runs_of, "--output FOLDER", f"--each {each}", *flags])


def found(run: Run, truth: dict) -> Errors:
    """Return the matches and errors of a run at the confidences of its best F1."""
    detections = Detections.from_json(run.predictions)
    point, scene = operating_point(truth, detections), Scene.of(truth, detections)
    confidences = point.confidences()
    return find_errors(scene, np.full(len(scene.categories), np.inf) if confidences is None else confidences)


def pick(both: Sequence[Errors], names: Sequence[str], each: int, *, small: bool = False) -> list[Picked]:
    """Return the images with the largest differences.

    Args:
        both: Errors of the baseline and of the other run.
        names: Names of the two runs, for the captions.
        each: Maximum number of images of each kind.
        small: Whether only objects and false alarms under 32 x 32 pixels count.

    Returns:
        Images on which the other run is better, the largest difference first, then those on which it is worse.
    """
    counts = [_errors(errors, small) for errors in both]
    gained = counts[0] - counts[1]
    order = np.argsort(-gained, kind="stable")
    better = [image for image in order[:each] if gained[image] > 0]
    worse = [image for image in order[::-1][:each] if gained[image] < 0]
    images = both[0].scene.images
    return [
        Picked(
            images[image]["file_name"],
            int(gained[image]),
            tuple(_half(errors, name, image, small) for errors, name in zip(both, names, strict=True)),
        )
        for image in (*better, *worse)
    ]


def _kinds(errors: Errors, small: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return three masks: objects found (G,), objects missed (G,) and detections that are false alarms (N,)."""
    boxes = errors.scene.found.boxes
    objects, detections = np.ones(len(errors.objects), bool), np.ones(len(errors.detections), bool)
    if small:
        objects = COCO_SIZES[0].contains(errors.scene.truth.areas)
        detections = COCO_SIZES[0].contains(boxes[:, 2] * boxes[:, 3])
    matched = errors.objects == MATCHED
    return (
        matched & objects,
        ~matched & (errors.objects != IGNORED) & objects,
        ~np.isin(errors.detections, (MATCHED, IGNORED)) & detections,
    )


def _errors(errors: Errors, small: bool) -> np.ndarray:
    """Return (I,) the number of errors in each image: missed objects plus false alarms."""
    _, missed, false = _kinds(errors, small)
    count = len(errors.scene.images)
    return np.bincount(errors.scene.truth_image[missed], minlength=count) + np.bincount(
        errors.scene.found_image[false], minlength=count
    )


def _half(errors: Errors, name: str, image: int, small: bool) -> Half:
    scene = errors.scene
    matched, missed, false = _kinds(errors, small)
    here, there = scene.truth_image == image, scene.found_image == image
    return Half(
        name, scene.truth.boxes[matched & here], scene.truth.boxes[missed & here], scene.found.boxes[false & there]
    )


def _name(run: Run) -> str:
    """Return the name of a run's arm, if it is one of a comparison, with its model and seed."""
    arm = run.folder.resolve().parent
    own = (arm.parent / FILE).is_file() and arm.name != run.model
    name = f"{arm.name} ({run.model})" if own else run.model
    return name if run.seed is None else f"{name} seed {run.seed}"


def _spec(run: Run, data: str | None) -> DatasetSpec:
    kept = run.folder / "data.yaml"
    return resolve_data(data or (str(kept) if kept.is_file() else run.result.data), needs=(run.result.split or "val",))
