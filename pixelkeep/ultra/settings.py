"""One dictionary of settings for a command: our defaults < a recipe < flags < --set, checked before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pixelkeep import assets
from pixelkeep.errors import OptionError, choices, nearest

# Where our commands differ from Ultralytics' defaults.
DEFAULTS: dict[str, Any] = {"plots": True, "verbose": True}
# Keys of a recipe that are ours; the rest are Ultralytics' settings.
OWN = ("best", "expected")
BEST = ("AP", "AP_S")


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
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise OptionError(f"--config {path}: not valid YAML ({error})") from error
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
        except yaml.YAMLError as error:
            raise OptionError(f"--set {assignment}: the value is not valid YAML") from error
    return settings


def merge(flags: dict, *, recipe: str | None = None, assignments: list[str] | None = None) -> dict:
    """Merge defaults, recipe, flags and assignments, later ones winning; flags that are None were not given."""
    given = {key: value for key, value in flags.items() if value is not None}
    merged = {**DEFAULTS, **(load_recipe(recipe) if recipe else {}), **given, **parse_assignments(assignments or [])}
    merged.pop("expected", None)
    check(merged)
    return merged


def check(settings: dict) -> None:
    """Check names and values of settings against Ultralytics' own and ours.

    Raises:
        OptionError: An unknown setting, or a value that is not allowed.
    """
    from ultralytics.cfg import DEFAULT_CFG_DICT, get_cfg

    for key in settings:
        if key not in DEFAULT_CFG_DICT and key not in OWN:
            raise OptionError(f"unknown setting '{key}'{nearest(key, [*DEFAULT_CFG_DICT, *OWN])}")
    if settings.get("best", "AP") not in BEST:
        raise OptionError(f"best: '{settings['best']}' is not one of {choices(BEST)}")
    try:
        get_cfg(overrides=for_ultralytics(settings))
    except (TypeError, ValueError, SyntaxError) as error:
        raise OptionError(str(error).strip().splitlines()[0]) from error
    _check_positive(settings)


def _check_positive(settings: dict) -> None:
    """Check what Ultralytics would only stumble over later."""
    for key in ("epochs", "imgsz", "batch"):
        value = settings.get(key)
        if isinstance(value, (int, float)) and value <= 0 and not (key == "batch" and value == -1):
            raise OptionError(f"{key}: {value} is not a positive number")


def for_ultralytics(settings: dict) -> dict:
    """Return the settings without the keys that are ours alone."""
    return {key: value for key, value in settings.items() if key not in OWN}


def half_precision() -> dict:
    """Return the setting for half-precision inference in this release's terms."""
    from ultralytics.cfg import DEFAULT_CFG_DICT

    return {"quantize": 16} if "quantize" in DEFAULT_CFG_DICT else {"half": True}
