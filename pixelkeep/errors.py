"""The exceptions users see. Each is one line that says what is wrong, where, and what would be right.

The command line turns them into exit status 2; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class PixelkeepError(ValueError):
    """Something the user can mend: the base of every error below."""


class ModelError(PixelkeepError):
    """A model name or model YAML that cannot be built."""


class WeightsError(PixelkeepError):
    """A weights file that is missing, damaged, foreign or unsafe."""


class DataError(PixelkeepError):
    """A dataset YAML, annotation file or image folder that cannot be used."""


class SourceError(PixelkeepError):
    """Something to detect in that cannot be found or opened."""


class OptionError(PixelkeepError):
    """An option, setting or argument with a value that is not allowed."""


def nearest(value: str, allowed: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the closest allowed name, or an empty string when none is close."""
    folded = {name.casefold(): name for name in map(str, allowed)}
    match = get_close_matches(str(value).casefold(), folded, n=1, cutoff=0.6)
    return f"; did you mean '{folded[match[0]]}'?" if match else ""


def choices(allowed: Iterable[object], limit: int = 12) -> str:
    """Return the allowed values as ``a, b, c`` and, past ``limit``, how many more there are."""
    values = [str(value) for value in allowed]
    more = f" and {len(values) - limit} more" if len(values) > limit else ""
    return ", ".join(values[:limit]) + more
