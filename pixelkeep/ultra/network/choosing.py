"""Which places of a network are folded: by rule, by measured time, or as an earlier run noted.

A choice is a text, so that it can be an option and stand in a record: ``static`` folds whatever can be folded exactly,
``none`` nothing, ``measured`` what is faster here, and numbers of rows, ``0,3,25``, just these. What was chosen by
measuring is noted in the last form, so that another run can be told to do the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from pixelkeep.errors import OptionError, choices, nearest

STATIC, NONE, MEASURED = "static", "none", "measured"
CHOICES = (STATIC, NONE, MEASURED)
_current: ContextVar[str] = ContextVar("folding", default=STATIC)


def current() -> str:
    """Return the choice by which ``model.fuse()`` folds now."""
    return _current.get()


@contextlib.contextmanager
def folding_by(choice: str) -> Iterator[None]:
    """Let ``model.fuse()`` fold by another choice inside: Ultralytics calls it without telling of any."""
    token = _current.set(choice)
    try:
        yield
    finally:
        _current.reset(token)


def check_choice(choice: str) -> str:
    """Return a choice whose form is right.

    Raises:
        OptionError: It is none of the three, and no list of row numbers.
    """
    parts = choice.split(",")
    if choice not in CHOICES and not all(part.strip().isdecimal() for part in parts):
        advice = f"one of {choices(CHOICES)}, or numbers of rows such as 0,3{nearest(choice, CHOICES)}"
        raise OptionError(f"fold: '{choice}' is unknown; {advice}")
    return choice


def rows_of(choice: str, there: list[int]) -> set[int]:
    """Return the rows to fold.

    Args:
        choice: See above; of ``measured`` all are tried.
        there: The rows that can be folded.

    Raises:
        OptionError: It names a row that cannot be folded.
    """
    if check_choice(choice) in CHOICES:
        return set() if choice == NONE else set(there)
    asked = {int(part) for part in choice.split(",")}
    if unknown := sorted(asked - set(there)):
        foldable = f"those that can are {choices(there, 20)}" if there else "none can in this network"
        raise OptionError(f"fold {choice}: row {unknown[0]} cannot be folded; {foldable}")
    return asked


def as_choice(folding: dict) -> str:
    """Return the choice that repeats what ``model.folding`` notes."""
    rows = sorted(place["rows"][-1] for place in folding.get("places", []) if place["folded"])
    return ",".join(map(str, rows)) or NONE
