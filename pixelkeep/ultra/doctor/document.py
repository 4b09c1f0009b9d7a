"""The doctor's document: what is wrong with a dataset and what would help, as far as it is known before training."""

from __future__ import annotations

import inspect
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ultralytics.cfg import DEFAULT_CFG_DICT
from ultralytics.data.augment import RandomPerspective
from ultralytics.utils import LOGGER

from pixelkeep.datasets.definitions.spec import DatasetSpec
from pixelkeep.datasets.doctor import advice, anchors, augmentation, duplicates, findings, report
from pixelkeep.datasets.doctor.sizes import Objects, Size, collect
from pixelkeep.datasets.doctor.splits import lopsided_classes, shared_groups
from pixelkeep.datasets.loading import Split
from pixelkeep.errors import DataError, OptionError
from pixelkeep.evaluation import detection_limit
from pixelkeep.ultra.commands.training import DEFAULT_MODEL
from pixelkeep.ultra.costs.memory import Probe
from pixelkeep.ultra.data.resolving import list_problems, read_split, resolve_data
from pixelkeep.ultra.data.truth import build_truth
from pixelkeep.ultra.doctor.advising import advise
from pixelkeep.ultra.doctor.pictures import draw
from pixelkeep.ultra.doctor.validation import bear_out
from pixelkeep.ultra.running import runs
from pixelkeep.ultra.running.console import progress_bar
from pixelkeep.ultra.weights.checkpoints import check_weights, load, trained_size
from pixelkeep.ultra.weights.definitions import check_model, resolve_model
from pixelkeep.ultra.weights.fitting import check_classes

FILES = ("doctor.json", "sizes.png", "duplicates.jpg", "smallest.jpg")
USUAL_LIMITS = (100, 300)  # detections per image: COCO's evaluator, Ultralytics' max_det


@dataclass
class Case:
    """The dataset and the model that are examined, and the sizes of the objects.

    Attributes:
        spec: Definition of the dataset.
        size: Height and width of the network's input in pixels.
        batch: Images per training step.
        model: Name of a model of this project, or path of a YAML file or a checkpoint.
        probe: The model on the meta device, which tells its strides and memory needs.
        splits: Splits that can be used, by name.
        refused: For each split that cannot be used, the reason.
        objects: Objects of each usable split.
    """

    spec: DatasetSpec
    size: Size
    batch: int
    model: str
    probe: Probe
    splits: dict[str, Split]
    refused: dict[str, str]
    objects: dict[str, Objects] = field(init=False)

    def __post_init__(self) -> None:
        self.strides = self.probe.strides()
        self.objects = {name: collect(split.records, self.size) for name, split in self.splits.items()}
        self.original = np.concatenate([own.original for own in self.objects.values()])
        self.shown = np.concatenate([own.shown for own in self.objects.values()])
        self.goal = advice.goal_for(self.strides[0])

    @property
    def trained(self) -> Objects:
        """The objects of train, or of the first usable split if train cannot be used."""
        return self.objects.get("train") or next(iter(self.objects.values()))


def examine(
    *,
    data: str | None,
    path: str | None = None,
    imgsz: int | list[int] | None = None,
    model: str | None = None,
    batch: int = 16,
    group: str | None = None,
    weights: str | None = None,
    device: str | None = None,
    project: str | None = None,
    name: str | None = None,
    exist_ok: bool = False,
) -> tuple[dict[str, Any], Path]:
    """Examine a dataset, and write a document and pictures about it into a run folder.

    Args:
        data, path: Dataset and folder, as :func:`pixelkeep.ultra.data.resolving.resolve_data` takes them.
        imgsz: Image size in pixels, or height and width; by default the size the weights were trained at, else 640.
        model: Model, as :func:`pixelkeep.ultra.weights.definitions.resolve_model` takes it; by default the weights,
            else the default model.
        batch: Images per training step, used to estimate the memory.
        group: Regular expression whose match in a file name, such as the video, must not occur in two splits.
        weights: Checkpoint that is validated to test the advice.
        device: Device on which this validation runs.
        project, name, exist_ok: Settings that decide where the run folder is.

    Returns:
        The document that docs/doctor.md describes, and the run folder that holds the document and the pictures.

    Raises:
        PixelkeepError: An option cannot be used, or no split of the data can.
    """
    if device is not None and weights is None:
        raise OptionError(f"--device {device} has no effect without --weights: only their validation uses a device")
    checked = None if weights is None else check_weights(weights)
    imgsz = imgsz or (640 if checked is None else trained_size(load(checked)))
    case = _open(resolve_data(data, path), imgsz, model, batch, checked)
    if checked is not None:
        check_classes(load(checked), case.spec, checked, single_cls=False)
        if "val" in case.refused:
            raise DataError(case.refused["val"])
    found, facts, pairs = _look(case, group)
    document = {
        "schema": 1,
        "task": "doctor",
        "data": str(case.spec.file),
        "imgsz": list(case.size),
        "model": case.model,
        "strides": list(case.strides),
        "batch": batch,
        "findings": [asdict(finding) for finding in findings.in_order(found)],
        **advise(case),
        **facts,
        "validation": None,
    }
    folder = runs.new_run(project, name, kind="doctor", exist_ok=exist_ok)
    with runs.storage(folder):
        runs.clear(folder, FILES)
        list_problems(folder, [split.problems for split in case.splits.values()])
        draw(folder, case.spec, case.objects, document, pairs)
        if checked is not None:
            settings = {"data": data, "path": path, "imgsz": _sides(case.size), "device": device}
            document["validation"], said = bear_out(checked, settings, case.objects["val"], case.goal, folder)
            document["advice"] += [asdict(item) for item in said]
        runs.write_json(folder / "doctor.json", document)
    return document, folder


def _sides(size: Size) -> int | list[int]:
    return size[0] if size[0] == size[1] else list(size)


def _open(spec: DatasetSpec, imgsz: int | list[int], model: str | None, batch: int, weights: Path | None) -> Case:
    """Load the model and read the splits, and return the case to examine."""
    resolved = resolve_model(model or (DEFAULT_MODEL if weights is None else str(weights)))
    probe = Probe(check_model(resolved, spec.channels), spec.channels, len(spec.names))
    step = max(probe.strides())
    sides = [imgsz] * 2 if isinstance(imgsz, int) else [imgsz[0], imgsz[-1]]
    size = tuple(-(-side // step) * step for side in sides)
    if list(size) != sides:
        LOGGER.warning(f"imgsz: rounded up to {size[0]} x {size[1]}, whole cells of {step} pixels, as training does")
    splits, refused = {}, {}
    for name in spec.splits:
        try:
            splits[name] = read_split(spec, name, _sides(size))
        except DataError as error:
            refused[name] = str(error)
    if not splits:
        raise DataError(next(iter(refused.values())))
    shown = str(resolved) if isinstance(resolved, Path) else resolved.removesuffix(".yaml")
    return Case(spec, size, batch, shown, probe, splits, refused)


def _look(case: Case, group: str | None) -> tuple[list, dict[str, Any], list[duplicates.Pair]]:
    """Return the findings, the facts of the document and the pairs of near-duplicates."""
    spec, splits = case.spec, case.splits
    members = {name: [record.path for record in split.records] for name, split in splits.items()}
    shared, unmatched = shared_groups(members, group) if group is not None else ({}, 0)
    everything = list(dict.fromkeys(path for paths in members.values() for path in paths))
    with progress_bar("comparing images") as progress:
        prints = duplicates.fingerprints(spec, everything, progress)
    pairs = duplicates.near_pairs(members, prints)
    copied = {name: duplicates.copies(paths, prints) for name, paths in members.items()}
    facts = {
        "splits": {name: report.split_facts(splits[name], own, spec.names) for name, own in case.objects.items()},
        "sizes": report.size_facts(case.original, case.shown, case.strides, case.goal),
        **_losses(case),
        "density": _density(case),
        "duplicates": report.duplicate_facts(pairs, copied, prints, spec.root),
        "groups": None if group is None else {"pattern": group, "shared": shared, "unmatched": unmatched},
    }
    counts = {name: own["classes"] for name, own in facts["splits"].items()}
    found = [findings.of_refused(name, reason) for name, reason in case.refused.items()]
    found += findings.of_duplicates(pairs, {name: len(set(paths)) for name, paths in members.items()})
    found += findings.of_groups(shared, unmatched)
    for split in splits.values():
        found += findings.of_problems(split.problems, spec.root)
    found += findings.of_classes(lopsided_classes(counts), list(counts))
    found += findings.of_copies(copied)
    found += _of_numbers(case, facts)
    return found, facts, pairs


def _of_numbers(case: Case, facts: dict[str, Any]) -> list[findings.Finding]:
    """Return findings about sizes, anchor points, augmentation, density and images too even to compare."""
    lost, density, total = facts["augmentation"], facts["density"], len(case.trained.image)
    under = facts["sizes"]["network"]["under"][f"{case.strides[0]:g}"]
    over = {int(limit): count for limit, count in density["images_over"].items()}
    return [
        *findings.of_sizes(under, case.strides[0], len(case.shown)),
        *findings.of_anchors(facts["anchors"]["unassigned"], total),
        *findings.of_augmentation(lost["ever"], lost["views"], lost["scale"], lost["limit"], total),
        *findings.of_density(density["densest"], over, density["limit"]),
        *findings.of_flat(facts["duplicates"]["too_even"]),
    ]


def _losses(case: Case) -> dict[str, Any]:
    """Return how many training objects get no anchor point, and which share of their views random scaling drops."""
    objects = case.trained
    missing = anchors.unassigned(objects, case.size, case.strides)
    scale = float(DEFAULT_CFG_DICT["scale"])
    limit = inspect.signature(RandomPerspective.box_candidates).parameters["wh_thr"].default
    lost = augmentation.lost_share(objects.shown_sides, scale, limit)
    total = max(len(lost), 1)
    return {
        "anchors": {"unassigned": int(missing.sum()), "share": float(missing.sum() / total)},
        "augmentation": {
            "scale": scale,
            "limit": limit,
            "views": float(lost.sum() / total),
            "ever": float((lost > 0).sum() / total),
            "unscaled": float((objects.shown_sides <= limit).any(1).sum() / total),
        },
    }


def _density(case: Case) -> dict[str, Any]:
    """Return how many objects images hold, compared with limits on detections per image; all labelled boxes count."""
    counts = np.array([len(record.boxes) for split in case.splits.values() for record in split.records])
    judged = case.splits.get("val") or next(iter(case.splits.values()))
    return {
        "densest": int(counts.max()),
        "limit": detection_limit(build_truth(judged.records, case.spec)[0]),
        "images_over": {str(limit): int((counts > limit).sum()) for limit in USUAL_LIMITS},
    }
