"""Tracker settings: Ultralytics' trackers, this project's presets, or a user's own file."""

from __future__ import annotations

import importlib.util
from argparse import Namespace
from pathlib import Path
from typing import Any

import yaml
from ultralytics.utils import ROOT

from pixelkeep import assets
from pixelkeep.errors import OptionError, choices, nearest

PRESET = "small-objects"
OWN = {"buffer": 0.0, "least_side": 0.0}  # keys that this project adds to those of Ultralytics' trackers, with defaults
_STOCK = ROOT / "cfg" / "trackers"
_NEEDS = "lap"  # package that all of Ultralytics' trackers need and that Ultralytics would install without asking


def load_tracker(asked: str) -> Namespace:
    """Return the settings of a tracker.

    Args:
        asked: A name from :func:`names`, or a YAML file. Keys that the file leaves out are as in Ultralytics' own file.

    Returns:
        The settings of Ultralytics' tracker, those of :data:`OWN`, and ``name``.

    Raises:
        OptionError: There is no such tracker or file, a key or value is unknown, or a package is missing.
    """
    if importlib.util.find_spec(_NEEDS) is None:
        raise OptionError(f"--track needs the package '{_NEEDS}': pip install 'pixelkeep[track]'")
    path = _file(asked)
    given = _read(path)
    kinds = sorted(file.stem for file in _STOCK.glob("*.yaml"))
    kind = given.get("tracker_type")
    if kind not in kinds:
        raise OptionError(f"{path}: tracker_type {kind}: not one of {', '.join(kinds)}{nearest(str(kind), kinds)}")
    defaults = {**_read(_STOCK / f"{kind}.yaml"), **OWN}
    for key, value in given.items():
        _check(path, key, value, defaults)
    values = {**defaults, **given}
    if values.get("with_reid") and not Path(str(values["model"])).is_file():
        raise OptionError(f"{path}: with_reid needs model: FILE, weights of a classification model; not the detector's")
    return Namespace(**values, name=path.stem)


def names() -> list[str]:
    """Return the names of the available trackers: this project's presets, then Ultralytics' own."""
    own = (assets.folder("configs") / "trackers").glob("*.yaml")
    return [*sorted(file.stem for file in own), *sorted(file.stem for file in _STOCK.glob("*.yaml"))]


def _file(asked: str) -> Path:
    if asked.endswith((".yaml", ".yml")):
        if not Path(asked).is_file():
            raise OptionError(f"--track {asked}: no such file; the built-in trackers are {', '.join(names())}")
        return Path(asked)
    if asked not in names():
        raise OptionError(
            f"--track {asked}: give a file (.yaml) or one of {', '.join(names())}{nearest(asked, names())}"
        )
    own = assets.folder("configs") / "trackers" / f"{asked}.yaml"
    return own if own.is_file() else _STOCK / f"{asked}.yaml"


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise OptionError(f"{path}: not a YAML file ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise OptionError(f"{path}: not the settings of a tracker; give 'key: value' lines with tracker_type")
    return content


def _check(path: Path, key: str, value: Any, defaults: dict[str, Any]) -> None:
    """Raise an OptionError for a key that the tracker does not have, a value of the wrong type or one below 0."""
    if key not in defaults:
        raise OptionError(f"{path}: {key}: no such key{nearest(key, defaults)} ({choices(defaults, 30)})")
    default = defaults[key]
    if isinstance(default, bool) or isinstance(default, str):
        if not isinstance(value, type(default)):
            raise OptionError(f"{path}: {key}: give a {type(default).__name__} such as {default}; not {value!r}")
    elif isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise OptionError(f"{path}: {key}: give a number of at least 0, such as {default}; not {value!r}")
