"""The tasks that the commands serve: how the data of each is read, trained on and measured.

The task of a run follows from its model: the last row of a definition is a head for one task, and a checkpoint knows
its own. The package is made for detection; classification and semantic segmentation share what is not specific to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pixelkeep.datasets.definitions.spec import DatasetSpec
from pixelkeep.datasets.loading import Split
from pixelkeep.errors import DataError, ModelError, OptionError, choices
from pixelkeep.ultra.data import label_data
from pixelkeep.ultra.data.resolving import read_split, resolve_data, write_resolved
from pixelkeep.ultra.trainers.base import RunTrainer
from pixelkeep.ultra.trainers.boxes import Trainer
from pixelkeep.ultra.trainers.classes import ClassTrainer
from pixelkeep.ultra.trainers.masks import MaskTrainer
from pixelkeep.ultra.weights.definitions import task_of

SMALL_AREA = 32**2  # square pixels, upper end of COCO's small objects


@dataclass(frozen=True, kw_only=True)
class Task:
    """What the commands need to know of a task.

    Attributes:
        name: Ultralytics' name of the task.
        noun: Name of the task in messages.
        best: Metrics that may decide which epoch is the best, the default first.
        imgsz: Default image size in pixels; None for Ultralytics' own, 640.
        resolve: Function that returns a checked dataset, from ``--data`` and a folder that replaces the dataset's own.
        read: Function that returns the records of a split and their problems, from a dataset, a split and an image
            size.
        write: Function that writes a dataset's definition where Ultralytics can read it, and returns the path.
        require: Function that refuses records of train and val that cannot be used with the settings.
        trainer: Class of the trainer.
    """

    name: str
    noun: str
    best: tuple[str, ...]
    imgsz: int | None = None
    resolve: Callable[..., Any]
    read: Callable[..., Any]
    write: Callable[[Any], Path]
    require: Callable[[Any, Any, dict, Any], None]
    trainer: type[RunTrainer]

    def best_of(self, settings: dict) -> str:
        """Return the metric that decides which epoch is the best.

        Raises:
            OptionError: The metric in the settings is not measured in this task.
        """
        best = settings.get("best") or self.best[0]
        if best not in self.best:
            raise OptionError(f"best: '{best}' is not measured in {self.noun}; give one of {choices(self.best)}")
        return best


def of_model(model: str | Path, *, oriented: bool = False) -> Task:
    """Return the task of a model.

    Args:
        model: Model as :func:`pixelkeep.ultra.weights.definitions.resolve_model` returns it.
        oriented: Whether oriented detection is served too, as it is by detect.

    Raises:
        ModelError: The model is for a task that is not served.
    """
    name = task_of(model)
    if name == ORIENTED.name and oriented:
        return ORIENTED
    if name == ORIENTED.name:
        others = "detect takes it; train and validate it with 'pixelkeep yolo obb train' and 'pixelkeep yolo obb val'"
        raise ModelError(f"model '{model}' is for oriented boxes (task 'obb'), not supported here; {others}")
    if name not in TASKS:
        served = [task.noun for task in TASKS.values()]
        what = f"is for task '{name}'" if name else "has a head of another kind"  # such as RT-DETR's
        others = f"; use 'pixelkeep yolo {name}'" if name else ""
        raise ModelError(
            f"model '{model}' {what}; these commands support {', '.join(served[:-1])} and {served[-1]}{others}"
        )
    return TASKS[name]


def require_objects(train: Split, val: Split, settings: dict, spec: DatasetSpec) -> None:
    """Refuse to train without an object to learn, or to choose the best epoch by AP_S without a small object."""
    classes = settings.get("classes")
    chosen = [
        record.difficult | (False if classes is None else ~np.isin(record.classes, classes)) for record in train.records
    ]
    if all(left_out.all() for left_out in chosen):
        of = "" if classes is None else f" of classes {classes}"
        raise DataError(
            f"{spec.file}: split 'train' has no object{of} to learn: it needs at least one not marked difficult"
        )
    small = any((r.areas[~r.difficult] <= SMALL_AREA).any() for r in val.records)
    if settings.get("best", "AP") == "AP_S" and not small:
        raise OptionError(
            f"best: AP_S needs validation objects smaller than 32x32 pixels, and {spec.file} has none; use --best AP"
        )


def require_images(train: Any, val: Any, settings: dict, spec: Any) -> None:
    """Refuse an empty val split; everything else that is needed has been checked while reading."""
    if not val.records:
        raise DataError(f"{spec.file}: split 'val' has no image that can be used")


DETECT = Task(
    name="detect",
    noun="detection",
    best=("AP", "AP_S"),
    resolve=resolve_data,
    read=read_split,
    write=write_resolved,
    require=require_objects,
    trainer=Trainer,
)
ORIENTED = replace(DETECT, name="obb", noun="oriented detection")
CLASSIFY = Task(
    name="classify",
    noun="classification",
    best=("top1", "top5"),
    imgsz=224,
    resolve=label_data.resolve_classes,
    read=label_data.read_classes,
    write=label_data.write_classes,
    require=require_images,
    trainer=ClassTrainer,
)
SEMANTIC = Task(
    name="semantic",
    noun="semantic segmentation",
    best=("mIoU", "pixel_accuracy"),
    resolve=label_data.resolve_masks,
    read=label_data.read_masks,
    write=label_data.write_masks,
    require=require_images,
    trainer=MaskTrainer,
)
TASKS = {task.name: task for task in (DETECT, CLASSIFY, SEMANTIC)}
