"""Reading JSON from users. A fault is one line that says what is wrong, in which record, and what would be right."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from reprlib import repr as shortened
from typing import Any

from pixelkeep.errors import DataError

INTEGERS, NUMBERS = (int, Integral), (float, int, Real)  # plain types first: checks of the abstract ones are slow


def load(source: Any, subject: str) -> tuple[Any, str]:
    """Return the JSON document in ``source``, a path or the document itself, and the name for it in error messages.

    Errors: DataError when the path cannot be read or does not hold JSON.
    """
    if not isinstance(source, str | os.PathLike):
        return source, subject
    path = os.fspath(source)
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file), path
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; expected a JSON file with the {subject}") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}; expected a JSON file with the {subject}") from error


def field(record: Any, key: str, accept: Callable[[Any], bool], expected: str, where: str) -> Any:
    """Return ``record[key]``, or raise DataError if it is missing or ``accept`` rejects it."""
    if not isinstance(record, Mapping):
        raise DataError(f"{where} is {shortened(record)}; expected an object with '{key}'")
    if key not in record:
        raise DataError(f"{where} has no '{key}'; expected {expected}")
    if not accept(record[key]):
        raise DataError(f"{where} has {key} {shortened(record[key])}; expected {expected}")
    return record[key]


def is_id(value: Any) -> bool:
    """Tell whether the value is an integer that fits into 64 bits."""
    return isinstance(value, INTEGERS) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def is_number(value: Any) -> bool:
    """Tell whether the value is a finite real number."""
    return isinstance(value, NUMBERS) and abs(value) <= sys.float_info.max


def is_box(value: Any) -> bool:
    """Tell whether the value is [x, y, width, height] with finite numbers and no negative side."""
    return hasattr(value, "__len__") and len(value) == 4 and all(map(is_number, value)) and min(value[2], value[3]) >= 0
