"""Finished runs, read back and sorted into arms: runs of one model with the same settings and different seeds."""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise, product
from operator import attrgetter
from pathlib import Path

from pixelkeep.datasets.definitions.spec import read_mapping
from pixelkeep.datasets.loading import load_split
from pixelkeep.errors import DataError, OptionError, choices, nearest
from pixelkeep.evaluation import Result, sha256
from pixelkeep.report.tiles import tile_words
from pixelkeep.ultra.commands import training
from pixelkeep.ultra.data.resolving import resolve_data
from pixelkeep.ultra.data.truth import build_truth

# What the figures of all runs must have in common; folding, device and the equal evaluators change none of them.
PROTOCOL = ("tile", "imgsz", "conf", "nms_iou", "max_dets", "area", "match", "bins", "precision")
# In which of its fields runs may differ where that is the question: each value makes an arm of its own.
ACROSS = ("imgsz", "tile", "precision", "format")
APART = ("seed", "plots", "verbose", *training.PLACE, *training.MACHINE)  # no part of what makes an arm
MODEL = "model definition"
SCORED = "val "  # begins the names of how a run was scored, beside the settings it was trained with


@dataclass(frozen=True, eq=False)
class Run:
    """A run folder with metrics.json and predictions.json.

    Attributes:
        folder, result: The folder and its figures.
        settings: Those it was trained with, if they are there.
        training: The folder of that training, if it is there.
    """

    folder: Path
    result: Result
    settings: dict
    training: Path | None = None

    @property
    def model(self) -> str:
        """Name of the model: as it was trained, as a run that was resumed names its last.pt in metrics.json."""
        name = Path(str(self.settings.get("model") or self.result.model or self.folder.name)).name
        return re.sub(r"\.(ya?ml|pt)$", "", name)  # yolov5-n w0.3203 has a point and no ending

    @property
    def seed(self) -> int | None:
        """What it was trained from; None where unknown."""
        return self.result.protocol.seed

    @property
    def predictions(self) -> Path:
        """Its detections, as COCO results."""
        return self.folder / "predictions.json"

    @property
    def checkpoint(self) -> Path:
        """What it was scored with: where its training is now, though metrics.json may name where that was."""
        named = Path(self.result.weights or "")
        home = trained_in(self.folder, named)
        there = home / "weights" / named.name if home else named
        return there if there.is_file() else named


Arms = dict[str, list[Run]]  # by name, in the order given; runs in order of their seeds


def read_run(folder: Path) -> Run:
    """Read a run folder of ``pixelkeep train`` or ``val``.

    Raises:
        DataError: It lacks a file, or one is damaged.
    """
    for name in ("metrics.json", "predictions.json"):
        if not (folder / name).is_file():
            raise DataError(f"{folder} has no {name}; give the folder of a finished 'pixelkeep train' or 'val'")
    try:
        document = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        task = document.get("task", "detect") if isinstance(document, dict) else "detect"
        result = Result.from_dict(document) if task == "detect" else None
    except ValueError as error:
        raise DataError(f"{folder / 'metrics.json'} is damaged: {error}; validate again") from error
    if result is None:
        raise DataError(f"{folder} is a run of task '{task}'; compare reads runs of detection")
    trained = trained_in(folder, Path(result.weights or ""))
    settings = {}
    if trained:
        settings = read_mapping(trained / "settings.yaml")
        if (trained / "model.yaml").is_file():
            settings[MODEL] = hashlib.sha256((trained / "model.yaml").read_bytes()).hexdigest()[:8]
    return Run(folder, result, settings, trained and trained.resolve())


def trained_in(folder: Path, weights: Path) -> Path | None:
    """Return the folder of the training that a run is of; None where it is not there.

    It is the run's own, or the one above it where that was scored, or wherever its weights are said to be.

    Args:
        folder: The run's.
        weights: As its metrics.json names them, ``TRAINING/weights/best.pt``.
    """
    said = weights.parent.parent
    above = [folder.parent] if folder.parent.name == said.name else []
    return next((place for place in (folder, *above, said) if (place / "settings.yaml").is_file()), None)


def sort_into_arms(runs: list[Run], across: Collection[str] = ()) -> Arms:
    """Sort runs by model and settings; models of several settings are named by what differs, ``a (epochs 50)``.

    Args:
        runs: Those to compare.
        across: Of `ACROSS`, how runs were scored that makes an arm too, ``a (tile 256)``.

    Raises:
        OptionError: Two runs have model, settings and seed in common, or all are of one arm.
    """
    by_kind: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs:
        by_kind[run.model, json.dumps(_settings(run, across), sort_keys=True, default=str)].append(run)
    same: dict[str, list[dict]] = defaultdict(list)
    for (model, _), members in by_kind.items():
        same[model].append(_settings(members[0], across))
    arms = {_arm_name(model, _settings(runs[0], across), same[model]): runs for (model, _), runs in by_kind.items()}
    for name, members in arms.items():
        members.sort(key=lambda run: (run.seed is None, run.seed or 0))
        for one, other in pairwise(members):
            if one.seed == other.seed:
                raise OptionError(
                    f"{one.folder} and {other.folder} are both {name} with seed {one.seed}; give one of each seed"
                )
    if len(arms) < 2:
        raise OptionError(f"all runs are of one model and settings, {next(iter(arms))}; give runs of another as well")
    return arms


def of_same_trainings(runs: list[Run], others: list[Run]) -> bool:
    """Whether two arms are the same trainings, one for one, scored in different ways."""
    trainings = [run.training for run in runs]
    return None not in trainings and trainings == [other.training for other in others]


def _settings(run: Run, across: Collection[str]) -> dict:
    trained = {key: value for key, value in run.settings.items() if key not in APART}
    return trained | {SCORED + field: _scored(run, field) for field in across}


def _scored(run: Run, field: str) -> str:
    """Return in words how a run was scored."""
    value = getattr(run.result.protocol, field)
    if field == "tile":
        return tile_words(value).removeprefix("tiles of ").replace(" px", "", 1) or "none"
    if field == "format":
        return value or "pytorch"  # results of before there were other formats do not say so
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)


def _arm_name(model: str, settings: dict, others: list[dict]) -> str:
    if len(others) == 1:
        return model
    values = {key: {str(other.get(key, "default")) for other in others} for other in others for key in other}
    varied = sorted(key for key, found in values.items() if len(found) > 1)
    shown = []
    for key in varied:
        name = key.removeprefix(SCORED)
        name = key if name in varied else name  # where it was trained with other values of that, too
        shown.append(f"{name} {_told_apart(str(settings.get(key, 'default')), values[key])}")
    return f"{model} ({', '.join(shown)})"


def _told_apart(value: str, values: set[str]) -> str:
    """Return a value in short, where that tells it from the others: a path's stem, the size of tiles."""
    short = (lambda text: Path(text).stem) if "/" in value else (lambda text: re.split(" seen at|, overlap", text)[0])
    return short(value) if len(set(map(short, values))) == len(values) else value


def check_alike(runs: list[Run], sizes: Mapping[Path, list[int]] | None = None, across: Collection[str] = ()) -> None:
    """Refuse runs whose figures cannot be compared: scored on other ground truth, or by another protocol.

    Args:
        runs: Those to compare.
        sizes: By folder, the image size of those that were meant to have one of their own, and must have that.
        across: Fields of the protocol in which they are to differ.

    Raises:
        OptionError: Names two runs and the field in which they differ, or a field in which none do and some should.
    """
    first = runs[0]
    for field in across:
        if len({_scored(run, field) for run in runs}) == 1:
            raise OptionError(
                f"--across {field}: all runs were scored with {field} {_scored(first, field)}; leave it out"
            )
    fields = ["gt_sha256", *(f"protocol.{key}" for key in PROTOCOL if key not in across)]
    for other, field in product(runs[1:], fields):
        # Tiles have an image size of their own, which is none of their difference from whole images.
        free = field == "protocol.imgsz" and "tile" in across
        one = next(run for run in runs if not free or run.result.protocol.tile == other.result.protocol.tile)
        expected, found = (attrgetter(field)(run.result) for run in (one, other))
        if field == "protocol.imgsz":
            expected = (sizes or {}).get(other.folder, expected)
        if expected != found:
            name = field.removeprefix("protocol.")
            asked = f", or give --across {name} where that is the question" if name in ACROSS else ""
            raise OptionError(
                f"{one.folder} and {other.folder} differ in {field} ({_short(expected)} and {_short(found)}): validate "
                f"both alike with 'pixelkeep val', then compare those runs{asked}"
            )


def _short(value: object) -> str:
    return f"{value[:8]}..." if isinstance(value, str) and len(value) == 64 else str(value)


def rebuild_truth(run: Run, data: str | None = None) -> dict:
    """Return the ground truth in COCO form that a run was scored on, made from its data again.

    Args:
        run: Any of those that share it.
        data: The dataset, where it is no longer where it was.

    Raises:
        DataError: The data is not there, or no longer what it was.
    """
    kept = run.folder / "data.yaml"
    source = data or (str(kept) if kept.is_file() else run.result.data)
    split = run.result.split or "val"
    spec = resolve_data(source, needs=(split,))
    only = {key: run.settings[key] for key in ("classes", "single_cls") if run.settings.get(key) is not None}
    truth, _ = build_truth(load_split(spec, split).records, spec, **only)
    if sha256(truth) != run.result.gt_sha256:
        raise DataError(
            f"{spec.file}: split '{split}' is not what {run.folder} was scored on (gt_sha256 {_short(sha256(truth))}, "
            f"not {_short(run.result.gt_sha256)}); name the data with --data, or validate again with 'pixelkeep val'"
        )
    return truth


def require_baseline(name: str | None, arms: Mapping[str, object]) -> str:
    """Return the baseline's name: the first arm's where none is given.

    Raises:
        OptionError: There is no such arm.
    """
    if name is None:
        return next(iter(arms))
    if name not in arms:
        raise OptionError(f"--baseline {name}: not among {choices(arms)}{nearest(name, arms)}")
    return name
