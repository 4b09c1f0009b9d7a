"""One dictionary of settings for a command: our defaults < a recipe < flags < --set, checked before anything starts."""

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

# Where our commands differ from Ultralytics' defaults.
DEFAULTS: dict[str, Any] = {"plots": True, "verbose": True}
# Settings that are ours; the rest are Ultralytics' settings.
OWN = (*own.NAMES, "path")
# Decided by the command itself: they may only be given as Ultralytics' defaults have them.
DECIDED = ("task", "mode", "resume", "source", "embed", "cfg")  # by the command
DECIDED += ("show_labels", "show_conf", "show_boxes", "save_frames")  # by our own drawing
# Why there is nothing to turn off, and what else can be done.
OTHERWISE = "; to draw them otherwise, take predictions.json (detect --save-json)"
DRAWN = {
    "show_labels": f": no object has a label on it, the legend below the picture names the classes{OTHERWISE}",
    "show_conf": f": a confidence stands beside its box, and only where it covers nothing{OTHERWISE}",
    "show_boxes": f": the boxes are drawn around the objects and cover nothing{OTHERWISE}",
}
OPTIMIZERS = ("auto", "SGD", "MuSGD", "Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSprop")
CACHES = ("ram", "disk")
# Other names that people know a setting by, and that resemble another one more.
KNOWN_AS = {"lr": "lr0", "learning_rate": "lr0", "batch_size": "batch", "img": "imgsz", "img_size": "imgsz"}
KNOWN_AS |= {"image_size": "imgsz", "conf_thres": "conf", "iou_thres": "iou", "line_thickness": "line_width"}
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


def load_recipe(name: str) -> dict:
    """Return the settings of configs/<name>.yaml, or of a YAML file of one's own.

    Raises:
        OptionError: There is no such recipe, or it is no YAML mapping.
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
    """Turn ``["mosaic=0.5", "cos_lr=true"]`` into a dictionary, values read as YAML."""
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
    """Return the folder of ``path=FOLDER``, the only assignment that commands take which have no other settings."""
    given = parse_assignments(assignments or [])
    if unknown := next((key for key in given if key != "path"), None):
        raise OptionError(
            f"--set {unknown}: has no effect in {command}; only path=FOLDER, the dataset's folder, has one"
        )
    return None if given.get("path") is None else str(given["path"])


def merge(flags: dict, *, command: str, recipe: str | None = None, assignments: list[str] | None = None) -> dict:
    """Merge defaults, recipe, flags and assignments, later ones winning, and check the outcome.

    Args:
        flags: Settings by name; those that are None were not given.
        command: train, val or detect: what the settings are for.
        recipe: A name in configs/, or a YAML file.
        assignments: ``key=value``, each as given to --set.

    Raises:
        OptionError: An unknown setting, one without effect in this command, or a value that is not allowed.
    """
    given = {key: value for key, value in flags.items() if value is not None} | parse_assignments(assignments or [])
    base = load_recipe(recipe) if recipe else {}
    base.pop("expected", None)
    _check_scope({**_unlike_defaults(base), **given}, command)
    merged = {key: _as_meant(key, value) for key, value in {**DEFAULTS, **base, **given}.items()}
    check(merged, command)
    return merged


def _as_meant(key: str, value: object) -> object:
    """Return a value of the kind that was meant: a run may be called 5, and YAML takes 1e-3 for a text."""
    if key in ("project", "name"):
        return str(value) if isinstance(value, (int, float)) else value
    if isinstance(value, str) and _EXPONENT.fullmatch(value):
        number = float(value)
        return int(number) if number.is_integer() else number
    return value


def _unlike_defaults(recipe: dict) -> dict:
    """Leave out what a recipe gives as the defaults have it: it may be a copy of Ultralytics' whole file."""
    known = _defaults()
    return {key: value for key, value in recipe.items() if key not in known or value != known[key]}


def default_of(key: str) -> object:
    """Return what a setting is where it is not given; None for one that is unknown, or left open."""
    return _defaults().get(key)


def _defaults() -> dict:
    from ultralytics.cfg import DEFAULT_CFG_DICT

    return DEFAULT_CFG_DICT | own.DEFAULTS


def _check_scope(settings: dict, command: str) -> None:
    """Refuse settings that would be passed over in silence: unknown ones, and those of other commands."""
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
        settings: As :func:`merge` gives them.
        command: train, val or detect.
        task: What the model is for, in Ultralytics' name.

    Raises:
        OptionError: One of them has none.
    """
    for key, value in _unlike_defaults(settings).items():
        users = scope.tasks_using(key)
        if value is not None and task not in users:
            only = f"; it is for {choices(users)}"
            raise OptionError(f"setting '{key}' has no effect in {command} for task '{task}'{only}")
    if task != "detect" and isinstance(settings.get("imgsz"), list):
        raise OptionError(f"imgsz: {settings['imgsz']} is a rectangle; task '{task}' takes one side in pixels")


def check(settings: dict, command: str = "train") -> None:
    """Check the values of settings against Ultralytics' rules and ours.

    Args:
        settings: By name.
        command: train, val or detect: what they are for.

    Raises:
        OptionError: A value that is not allowed.
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


# What Ultralytics would only stumble over later, or pass over in silence: a test of the value, and what is right.
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
    """Check that the device is there, without touching it."""
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
        here = f"here are {choices(range(gpus))}" if gpus else "PyTorch finds none here"
        raise OptionError(f"device: '{device}' is not there; give cpu, or GPUs by their numbers, such as 0 ({here})")


def for_ultralytics(settings: dict) -> dict:
    """Return the settings without the keys that are ours alone."""
    return {key: value for key, value in settings.items() if key not in OWN}


def half_precision() -> dict:
    """Return the setting for half-precision inference in this release's terms."""
    from ultralytics.cfg import DEFAULT_CFG_DICT

    return {"quantize": 16} if "quantize" in DEFAULT_CFG_DICT else {"half": True}
