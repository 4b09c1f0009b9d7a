"""The choice of which places of a network are folded: by rule, by measured time, or as an earlier run recorded.

A choice is a string, so that it can be given as an option and stored in a record. ``static`` folds whatever can be
folded exactly, ``none`` folds nothing, ``measured`` folds what is faster on this machine, and a list of row numbers
such as ``0,3,25`` folds just these rows. What was chosen by measuring is recorded as row numbers, so that another run
can be told to fold the same rows.
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
    """Return the choice by which ``model.fuse()`` folds at present."""
    return _current.get()


@contextlib.contextmanager
def folding_by(choice: str) -> Iterator[None]:
    """Let ``model.fuse()`` fold by another choice inside the context, since Ultralytics calls it without a choice."""
    token = _current.set(choice)
    try:
        yield
    finally:
        _current.reset(token)


def check_choice(choice: str) -> str:
    """Return ``choice`` after checking its form.

    Raises:
        OptionError: The choice is neither one of the three names nor a list of row numbers.
    """
    parts = choice.split(",")
    if choice not in CHOICES and not all(part.strip().isdecimal() for part in parts):
        advice = f"give one of {choices(CHOICES)}, or numbers of rows such as 0,3{nearest(choice, CHOICES)}"
        raise OptionError(f"fold: '{choice}' is unknown; {advice}")
    return choice


def rows_of(choice: str, there: list[int]) -> set[int]:
    """Return the numbers of the rows to fold.

    Args:
        choice: A choice as the module docstring describes it; ``measured`` returns all rows, as all are tried.
        there: Numbers of the rows that can be folded.

    Raises:
        OptionError: The form of the choice is wrong, or it names a row that cannot be folded.
    """
    if check_choice(choice) in CHOICES:
        return set() if choice == NONE else set(there)
    asked = {int(part) for part in choice.split(",")}
    if unknown := sorted(asked - set(there)):
        foldable = f"those that can are {choices(there, 20)}" if there else "none can in this network"
        raise OptionError(f"fold {choice}: row {unknown[0]} cannot be folded; {foldable}")
    return asked


def as_choice(folding: dict) -> str:
    """Return the choice that repeats the folding recorded in ``model.folding``."""
    rows = sorted(place["rows"][-1] for place in folding.get("places", []) if place["folded"])
    return ",".join(map(str, rows)) or NONE
