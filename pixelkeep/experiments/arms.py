"""Reads finished runs and sorts them into arms: runs of one model with the same settings and different seeds."""

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

# Protocol fields that all runs of a comparison must share. Folding, the device and the choice among the evaluators,
# which give equal results, are not among them because they change no figure.
PROTOCOL = ("tile", "imgsz", "conf", "nms_iou", "max_dets", "area", "match", "bins", "precision")
# Protocol fields in which runs may differ if that is what the comparison asks. Each value makes an arm of its own.
ACROSS = ("imgsz", "tile", "precision", "format")
APART = ("seed", "plots", "verbose", *training.PLACE, *training.MACHINE)  # settings that do not tell arms apart
MODEL = "model definition"
SCORED = "val "  # prefix for protocol fields, which stand beside the training settings


@dataclass(frozen=True, eq=False)
class Run:
    """A run folder with metrics.json and predictions.json.

    Attributes:
        folder: The run folder.
        result: The figures in its metrics.json.
        settings: Settings that the model was trained with; empty if the training's folder is not there.
        training: Folder of the training that the run belongs to; None if it is not there.
    """

    folder: Path
    result: Result
    settings: dict
    training: Path | None = None

    @property
    def model(self) -> str:
        """Name of the model, from the training's settings first: metrics.json of a resumed run names its last.pt."""
        name = Path(str(self.settings.get("model") or self.result.model or self.folder.name)).name
        return re.sub(r"\.(ya?ml|pt)$", "", name)  # not Path.stem: yolov5-n w0.3203 has a point but no suffix

    @property
    def seed(self) -> int | None:
        """Seed of the training; None if unknown."""
        return self.result.protocol.seed

    @property
    def predictions(self) -> Path:
        """File with the detections of the run, in COCO results format."""
        return self.folder / "predictions.json"

    @property
    def checkpoint(self) -> Path:
        """Checkpoint that was scored, looked for where its training is now: metrics.json may name an earlier place."""
        named = Path(self.result.weights or "")
        home = trained_in(self.folder, named)
        there = home / "weights" / named.name if home else named
        return there if there.is_file() else named


Arms = dict[str, list[Run]]  # by arm name in the order given; the runs of an arm in order of their seeds


def read_run(folder: Path) -> Run:
    """Read a run folder of ``pixelkeep train`` or ``val``.

    Raises:
        DataError: The folder lacks a file, a file is damaged, or the run is not of the task detect.
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
    """Return the folder of the training that a run belongs to; None if it is not there.

    This is the run's own folder, or the folder above it if that is the training that was scored, or the folder that the
    path of the weights names.

    Args:
        folder: Folder of the run.
        weights: Path of the weights as the run's metrics.json has it, ``TRAINING/weights/best.pt``.
    """
    said = weights.parent.parent
    above = [folder.parent] if folder.parent.name == said.name else []
    return next((place for place in (folder, *above, said) if (place / "settings.yaml").is_file()), None)


def sort_into_arms(runs: list[Run], across: Collection[str] = ()) -> Arms:
    """Sort runs into arms by model and settings.

    If a model has several settings, the names of its arms say what differs, such as ``a (epochs 50)``.

    Args:
        runs: The runs to compare.
        across: Fields in `ACROSS` whose values also make arms, such as ``a (tile 256)``.

    Raises:
        OptionError: Two runs share model, settings and seed, or all runs belong to one arm.
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
    """Return whether two arms are the same trainings, one for one, scored in different ways."""
    trainings = [run.training for run in runs]
    return None not in trainings and trainings == [other.training for other in others]


def _settings(run: Run, across: Collection[str]) -> dict:
    trained = {key: value for key, value in run.settings.items() if key not in APART}
    return trained | {SCORED + field: _scored(run, field) for field in across}


def _scored(run: Run, field: str) -> str:
    """Return the value of a protocol field of a run in words."""
    value = getattr(run.result.protocol, field)
    if field == "tile":
        return tile_words(value).removeprefix("tiles of ").replace(" px", "", 1) or "none"
    if field == "format":
        return value or "pytorch"  # results older than the other formats do not have the field
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)


def _arm_name(model: str, settings: dict, others: list[dict]) -> str:
    if len(others) == 1:
        return model
    values = {key: {str(other.get(key, "default")) for other in others} for other in others for key in other}
    varied = sorted(key for key, found in values.items() if len(found) > 1)
    shown = []
    for key in varied:
        name = key.removeprefix(SCORED)
        name = key if name in varied else name  # keep the prefix if the training setting of that name differs too
        shown.append(f"{name} {_told_apart(str(settings.get(key, 'default')), values[key])}")
    return f"{model} ({', '.join(shown)})"


def _told_apart(value: str, values: set[str]) -> str:
    """Return a short form of a value, such as a path's stem or the size of tiles, if it is unique among the values."""
    short = (lambda text: Path(text).stem) if "/" in value else (lambda text: re.split(" seen at|, overlap", text)[0])
    return short(value) if len(set(map(short, values))) == len(values) else value


def check_alike(runs: list[Run], sizes: Mapping[Path, list[int]] | None = None, across: Collection[str] = ()) -> None:
    """Check that the figures of runs can be compared: scored on the same ground truth and by the same protocol.

    Args:
        runs: The runs to compare.
        sizes: By run folder, the image size that this run must have instead of the common one.
        across: Protocol fields in which the runs are meant to differ.

    Raises:
        OptionError: Two runs differ in a field, or all runs have the same value of a field in ``across``.
    """
    first = runs[0]
    for field in across:
        if len({_scored(run, field) for run in runs}) == 1:
            raise OptionError(
                f"--across {field}: all runs were scored with {field} {_scored(first, field)}; leave it out"
            )
    fields = ["gt_sha256", *(f"protocol.{key}" for key in PROTOCOL if key not in across)]
    for other, field in product(runs[1:], fields):
        # Tiles have an image size of their own, so image sizes are compared only among runs with the same tiling.
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
    """Rebuild from the dataset the ground truth that a run was scored on, in COCO form.

    Args:
        run: Any of the runs that share the ground truth.
        data: Dataset YAML or name, to give if the dataset has moved since.

    Raises:
        DataError: The dataset is not there, or its ground truth has changed since.
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
    """Return the name of the baseline: the given one, or the first arm's if none is given.

    Raises:
        OptionError: There is no arm of that name.
    """
    if name is None:
        return next(iter(arms))
    if name not in arms:
        raise OptionError(f"--baseline {name}: not among {choices(arms)}{nearest(name, arms)}")
    return name
