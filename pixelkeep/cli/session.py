"""What the commands share: the process set up, progress on standard error, results on standard output."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterator

from pixelkeep.ultra import environment


@contextlib.contextmanager
def session(verbose: bool = False) -> Iterator[None]:
    """Prepare the process and send whatever is printed inside to standard error.

    Ultralytics is imported inside, so that its messages go there too; ``verbose`` lets all of them through.
    """
    environment.prepare()
    with contextlib.redirect_stdout(sys.stderr):
        _import_ultralytics()
        if not verbose:
            from pixelkeep.ultra import console

            console.quiet()
        yield


def _import_ultralytics() -> None:
    """Import Ultralytics without its greeting about a new settings file."""
    logging.disable(logging.INFO)
    try:
        import ultralytics  # noqa: F401
    finally:
        logging.disable(logging.NOTSET)


def show(text: str) -> None:
    """Print a result."""
    print(text, file=sys.__stdout__ if sys.stdout is sys.stderr else sys.stdout)


def show_json(document: dict) -> None:
    """Print the one JSON document that ``--json`` promises."""
    show(json.dumps(document, indent=2, allow_nan=False))
