"""Whether weights, data and options fit each other."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from ultralytics.utils import LOGGER

from pixelkeep.errors import OptionError, choices
from pixelkeep.ultra.weights.checkpoints import load, model_of

OPTIONS = {"objective": "at", "store": "store-conf"}  # fields that are called otherwise on the command line


def refuse_options(command: str, task: str, *asked: tuple[Any, Any]) -> None:
    """Refuse what is asked of detection alone.

    Args:
        command: val or detect.
        task: What the weights are for, in Ultralytics' name.
        asked: Dataclasses whose fields are options, each with what it is where nothing is asked.

    Raises:
        OptionError: A field is not as it is there.
    """
    for given, plain in asked:
        for field in fields(given):
            if getattr(given, field.name) != getattr(plain, field.name):
                refuse(command, task, {OPTIONS.get(field.name, field.name).replace("_", "-"): True})


def refuse(command: str, task: str, given: dict[str, Any]) -> None:
    """Refuse options of detection that are given, by name; see :func:`refuse_options`."""
    for option, value in given.items():
        if value:
            raise OptionError(f"--{option} has no effect in {command} for task '{task}'; it is for detection")


def trained_on(weights: Path) -> str | None:
    """Return the data that weights were trained on, where it still is there."""
    data = load(weights).get("train_args", {}).get("data")
    if isinstance(data, str) and Path(data).is_file():
        LOGGER.info(f"no data given: validating on {data}, which {weights.name} was trained on")
        return data
    return None


def check_classes(checkpoint: dict, spec: Any, weights: Path, single_cls: bool = False, task: str = "detect") -> None:
    """Refuse weights for another task, other channels or other classes than the data's.

    Raises:
        OptionError: They do not fit.
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
