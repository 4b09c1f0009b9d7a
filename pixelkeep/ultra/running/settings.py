"""The settings of a command in one dictionary: defaults < recipe < flags < --set, checked before anything starts."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from pixelkeep import assets
from pixelkeep.errors import OptionError, choices, nearest
from pixelkeep.ultra.running import recipe as own
from pixelkeep.ultra.running import scope

# Settings for which pixelkeep's commands differ from Ultralytics' defaults.
DEFAULTS: dict[str, Any] = {"plots": True, "verbose": True}
# Settings that are pixelkeep's own; all others are Ultralytics'.
OWN = (*own.NAMES, "path")
# Settings that pixelkeep decides: they may only be given with Ultralytics' default value.
DECIDED = ("task", "mode", "resume", "source", "embed", "cfg")  # by the command
DECIDED += ("show_labels", "show_conf", "show_boxes", "save_frames")  # by pixelkeep's own drawing
# Parts of messages: why these settings have nothing to turn off, and what can be done instead.
OTHERWISE = "; to draw them differently, use predictions.json (detect --save-json)"
DRAWN = {
    "show_labels": f": objects carry no labels, as the legend below the picture names the classes{OTHERWISE}",
    "show_conf": f": a confidence stands beside its box, and only where it covers nothing{OTHERWISE}",
    "show_boxes": f": the boxes are drawn around the objects and cover nothing{OTHERWISE}",
}
OPTIMIZERS = ("auto", "SGD", "MuSGD", "Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSprop")
CACHES = ("ram", "disk")
# Other names by which people know a setting, but which resemble the name of a different setting more.
KNOWN_AS = {"lr": "lr0", "learning_rate": "lr0", "batch_size": "batch", "img": "imgsz", "img_size": "imgsz"}
KNOWN_AS |= {"image_size": "imgsz", "conf_thres": "conf", "iou_thres": "iou", "line_thickness": "line_width"}
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


def load_recipe(name: str) -> dict:
    """Return the settings of the recipe configs/<name>.yaml, or of a user's YAML file.

    Raises:
        OptionError: There is no such recipe, or it is not a YAML mapping.
    """
    path = Path(name) if Path(name).is_file() else assets.find("configs", name)
    if path is None:
        known = assets.names("configs")
        raise OptionError(f"--config {name}: no such recipe{nearest(name, known)} (recipes: {choices(known)})")
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"--config {path}: cannot be read as text ({error})") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that does not exist, brackets without end
        raise OptionError(f"--config {path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(recipe, dict):
        raise OptionError(f"--config {path}: a recipe is a mapping of settings, not {type(recipe).__name__}")
    return recipe


def parse_assignments(assignments: list[str]) -> dict:
    """Turn ``["mosaic=0.5", "cos_lr=true"]`` into a dictionary, reading the values as YAML."""
    settings = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise OptionError(f"--set {assignment}: write it as key=value, e.g. --set mosaic=0.5")
        try:
            settings[key.strip()] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise OptionError(f"--set {assignment}: the value is not valid YAML") from error
    return settings


def dataset_folder(assignments: list[str] | None, command: str) -> str | None:
    """Return the folder of ``path=FOLDER``, or None; for commands that take no other assignment with --set."""
    given = parse_assignments(assignments or [])
    if unknown := next((key for key in given if key != "path"), None):
        raise OptionError(
            f"--set {unknown}: has no effect in {command}; only path=FOLDER, the dataset's folder, has one"
        )
    return None if given.get("path") is None else str(given["path"])


def merge(flags: dict, *, command: str, recipe: str | None = None, assignments: list[str] | None = None) -> dict:
    """Merge defaults, recipe, flags and assignments, where later ones win, and check the result.

    Args:
        flags: Settings by name; a flag that is None was not given.
        command: The command that the settings are for: train, val or detect.
        recipe: A name in configs/, or a YAML file.
        assignments: Texts ``key=value``, as given to --set.

    Raises:
        OptionError: A setting is unknown or has no effect in this command, or a value is not allowed.
    """
    given = {key: value for key, value in flags.items() if value is not None} | parse_assignments(assignments or [])
    base = load_recipe(recipe) if recipe else {}
    base.pop("expected", None)
    _check_scope({**_unlike_defaults(base), **given}, command)
    merged = {key: _as_meant(key, value) for key, value in {**DEFAULTS, **base, **given}.items()}
    check(merged, command)
    return merged


def _as_meant(key: str, value: object) -> object:
    """Return a value in the type that was meant: a run may be called 5, and YAML reads 1e-3 as a string."""
    if key in ("project", "name"):
        return str(value) if isinstance(value, (int, float)) else value
    if isinstance(value, str) and _EXPONENT.fullmatch(value):
        number = float(value)
        return int(number) if number.is_integer() else number
    return value


def _unlike_defaults(recipe: dict) -> dict:
    """Return the settings of a recipe that differ from the defaults: it may be a copy of Ultralytics' whole file."""
    known = _defaults()
    return {key: value for key, value in recipe.items() if key not in known or value != known[key]}


def default_of(key: str) -> object:
    """Return the default of a setting; None if the setting is unknown or its default is left open."""
    return _defaults().get(key)


def _defaults() -> dict:
    from ultralytics.cfg import DEFAULT_CFG_DICT

    return DEFAULT_CFG_DICT | own.DEFAULTS


def _check_scope(settings: dict, command: str) -> None:
    """Refuse settings that would be silently ignored: unknown ones, and those of other commands."""
    from ultralytics.cfg import DEFAULT_CFG_DICT

    for key in settings:
        if key not in DEFAULT_CFG_DICT and key not in OWN:
            hint = nearest(KNOWN_AS.get(key, key), [*DEFAULT_CFG_DICT, *OWN])
            raise OptionError(f"unknown setting '{key}'{hint}")
        users = scope.commands_using(key)
        if key not in DECIDED and command not in users:
            instead = scope.INSTEAD.get(key) or (f"; it is for {' and '.join(users)}" if users else "")
            raise OptionError(f"setting '{key}' has no effect in {command}{instead}")


def check_task(settings: dict, command: str, task: str) -> None:
    """Refuse settings that have no effect for a task.

    Args:
        settings: Settings as :func:`merge` returns them.
        command: The command that they are for: train, val or detect.
        task: Ultralytics' name of the model's task.

    Raises:
        OptionError: A setting has no effect for this task, or the task does not take a rectangular image size.
    """
    for key, value in _unlike_defaults(settings).items():
        users = scope.tasks_using(key)
        if value is not None and task not in users:
            only = f"; it is for {choices(users)}"
            raise OptionError(f"setting '{key}' has no effect in {command} for task '{task}'{only}")
    if task != "detect" and isinstance(settings.get("imgsz"), list):
        raise OptionError(f"imgsz: {settings['imgsz']} is a rectangle; task '{task}' takes one side in pixels")


def check(settings: dict, command: str = "train") -> None:
    """Check the values of settings against Ultralytics' rules and pixelkeep's.

    Args:
        settings: Settings by name.
        command: The command that they are for: train, val or detect.

    Raises:
        OptionError: A value is not allowed.
    """
    from ultralytics.cfg import DEFAULT_CFG_DICT, get_cfg

    for key, value in settings.items():
        if key in DECIDED and value != DEFAULT_CFG_DICT[key]:
            raise OptionError(f"{key}: {value} cannot be set{DRAWN.get(key, '; the command decides it')}")
    own.check(settings)
    if settings.get("batch") == -1 and command != "train":
        raise OptionError(
            f"batch: '-1' is for train, where it takes what fits a GPU; {command} takes a positive number"
        )
    for key, (allowed, right) in RULES.items():
        if settings.get(key) is not None and not allowed(settings[key]):
            hint = nearest(settings[key], OPTIMIZERS) if key == "optimizer" else ""
            raise OptionError(f"{key}: '{settings[key]}' is not {right}{hint}")
    try:
        get_cfg(overrides=for_ultralytics(settings))
    except (TypeError, ValueError, SyntaxError) as error:
        raise OptionError(str(error).strip().splitlines()[0]) from error
    if "lr0" in settings and str(settings.get("optimizer", "auto")).lower() == "auto":
        raise OptionError(f"lr0: {settings['lr0']} has no effect with optimizer auto; name one, such as AdamW or SGD")
    _check_device(settings.get("device"))


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_number(value: object, low: float = 0) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= low


def _is_count(value: object, low: int = 0) -> bool:
    return _is_number(value, low) and float(value).is_integer()


def _is_imgsz(value: object) -> bool:
    sides = value if isinstance(value, list) and len(value) == 2 else [value]
    return all(isinstance(side, int) and _is_count(side, 1) for side in sides)


def _are_counts(value: object) -> bool:
    return all(_is_count(item) for item in (value if isinstance(value, list) else [value]))


# Rules for values on which Ultralytics would fail only later, or which it would silently ignore: a test of the value,
# and a description of allowed values.
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "model": (_is_text, "the name or path of a model"),
    "data": (_is_text, "the name or path of a dataset"),
    "path": (_is_text, "the folder of the dataset"),
    "project": (_is_text, "a folder"),
    "name": (_is_text, "a name"),
    "pretrained": (lambda value: isinstance(value, (str, bool)), "a checkpoint (.pt or .safetensors)"),
    "epochs": (lambda value: _is_count(value, 1), "a positive whole number"),
    "lr0": (lambda value: not isinstance(value, (int, float)) or 0 <= value <= 1, "between 0.0 and 1.0"),
    "batch": (lambda value: value == -1 or _is_count(value, 1), "a positive whole number, or -1 for what fits a GPU"),
    "imgsz": (_is_imgsz, "a positive number of pixels, or [height, width]"),
    "workers": (_is_count, "a number of processes, 0 or more"),
    "close_mosaic": (_is_count, "a number of epochs, 0 or more"),
    "warmup_epochs": (_is_number, "a number of epochs, 0 or more"),
    "time": (_is_number, "a number of hours, 0 or more"),
    "freeze": (_are_counts, "a number of layers, or a list of layer numbers"),
    "classes": (_are_counts, "a class number, or a list of them"),
    "optimizer": (lambda value: str(value).lower() in map(str.lower, OPTIMIZERS), f"one of {choices(OPTIMIZERS)}"),
    "cache": (lambda value: isinstance(value, bool) or str(value).lower() in CACHES, f"one of {choices(CACHES)}"),
}


def _check_device(device: object) -> None:
    """Check that the device exists, without initialising it."""
    import torch
    from ultralytics.utils.torch_utils import parse_device

    if device is None:
        return
    name = parse_device(device)
    kind = name.split(":")[0]
    if kind == "mps":
        there = torch.backends.mps.is_available()
    elif kind in {"npu", "xpu"}:
        there = hasattr(torch, kind) and getattr(torch, kind).is_available()
    else:
        numbers = name.split(",")
        gpus = torch.cuda.device_count()
        there = kind in {"", "cpu"} or all(number.isdecimal() and int(number) < gpus for number in numbers)
    if not there:
        gpus = torch.cuda.device_count()
        here = f"this machine has {choices(range(gpus))}" if gpus else "PyTorch finds none here"
        raise OptionError(f"device: '{device}' is not there; give cpu, or GPUs by their numbers, such as 0 ({here})")


def for_ultralytics(settings: dict) -> dict:
    """Return the settings without the keys that Ultralytics does not have."""
    return {key: value for key, value in settings.items() if key not in OWN}


def half_precision() -> dict:
    """Return the setting for half-precision inference under the name that the installed Ultralytics uses."""
    from ultralytics.cfg import DEFAULT_CFG_DICT

    return {"quantize": 16} if "quantize" in DEFAULT_CFG_DICT else {"half": True}
