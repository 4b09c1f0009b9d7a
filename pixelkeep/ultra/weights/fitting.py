"""Checks that weights, data and options fit each other."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from ultralytics.utils import LOGGER

from pixelkeep.errors import OptionError, choices
from pixelkeep.ultra.weights.checkpoints import load, model_of

OPTIONS = {"objective": "at", "store": "store-conf"}  # fields that have another name on the command line


def refuse_options(command: str, task: str, *asked: tuple[Any, Any]) -> None:
    """Refuse options that exist for detection only.

    Args:
        command: The command: val or detect.
        task: Ultralytics' name of the task that the weights are for.
        asked: Pairs of dataclass instances whose fields are options: the options given, and their defaults.

    Raises:
        OptionError: An option differs from its default.
    """
    for given, plain in asked:
        for field in fields(given):
            if getattr(given, field.name) != getattr(plain, field.name):
                refuse(command, task, {OPTIONS.get(field.name, field.name).replace("_", "-"): True})


def refuse(command: str, task: str, given: dict[str, Any]) -> None:
    """Refuse detection options that are set; ``given`` maps option names to values. See :func:`refuse_options`."""
    for option, value in given.items():
        if value:
            raise OptionError(f"--{option} has no effect in {command} for task '{task}'; it is for detection")


def trained_on(weights: Path) -> str | None:
    """Return the data file that weights were trained on, if it still exists, else None."""
    data = load(weights).get("train_args", {}).get("data")
    if isinstance(data, str) and Path(data).is_file():
        LOGGER.info(f"no data given: validating on {data}, which {weights.name} was trained on")
        return data
    return None


def check_classes(checkpoint: dict, spec: Any, weights: Path, single_cls: bool = False, task: str = "detect") -> None:
    """Refuse weights whose task, image channels or classes do not fit the data.

    Args:
        checkpoint: The loaded weights.
        spec: The data's description, with ``channels``, ``names`` and ``file``.
        weights: The weights file, for messages.
        single_cls: Whether classes are ignored, so that they need not fit.
        task: Ultralytics' name of the task.

    Raises:
        OptionError: The weights do not fit the data.
    """
    model = model_of(checkpoint)
    found = getattr(model, "task", "detect")
    if found != task:
        raise OptionError(f"weights '{weights}' are for task '{found}', not for '{task}'")
    channels = model.yaml.get("channels", 3)
    if channels != spec.channels:
        raise OptionError(
            f"weights '{weights}' take images of {channels} channels, but {spec.file} declares {spec.channels}; "
            "set 'channels:' there, or use weights trained on such data"
        )
    known, given = list(model.names.values()), list(spec.names.values())
    if single_cls or known == given:
        return
    if len(known) != len(given) or sorted(known) == sorted(given):
        raise OptionError(
            f"weights '{weights}' know {len(known)} classes ({choices(known, 5)}), but {spec.file} has {len(given)} "
            f"({choices(given, 5)}), and their order counts; give the data they were trained on"
        )
    LOGGER.warning(f"Class names differ: the weights call them {choices(known, 5)}, the data {choices(given, 5)}.")
