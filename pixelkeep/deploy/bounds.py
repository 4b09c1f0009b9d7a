"""Parity bounds by task and precision, and the bounds that a user sets instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from pixelkeep.errors import OptionError, choices, nearest

from . import label_parity, parity

BOUNDS = {"detect": parity.BOUNDS, "classify": label_parity.BOUNDS, "semantic": label_parity.BOUNDS}


def bounds_for(task: str, precision: str, changes: Sequence[str] = ()) -> Any:
    """Return the bounds on how far an export may be from its network.

    Args:
        task: Ultralytics' name of the task: detect, classify or semantic.
        precision: Precision of the export, a key of the task's bounds such as fp16.
        changes: Bounds to set instead, ``NAME=VALUE`` each, as given to --bound; the names are the fields of the
            bounds.

    Raises:
        OptionError: A name or value is not allowed.
    """
    bounds = BOUNDS[task][precision]
    names = [field.name for field in fields(bounds)]
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals or name not in names:
            hint = nearest(name, names)
            raise OptionError(f"--bound {change}: write NAME=VALUE, NAME one of {choices(names)}{hint}")
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not 0 <= number < float("inf"):
            raise OptionError(f"--bound {change}: the value must be a number of at least 0")
        bounds = replace(bounds, **{name: number})
    return bounds
