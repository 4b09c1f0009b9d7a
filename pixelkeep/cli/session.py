"""What all commands share: process setup, progress on standard error, results on standard output."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from pixelkeep.errors import OptionError
from pixelkeep.ultra.running import environment


@contextlib.contextmanager
def session(verbose: bool = False, *, several: bool = False) -> Iterator[None]:
    """Prepare the process, and send whatever is printed inside the context to standard error.

    Ultralytics is imported inside the context too, so that its messages also go to standard error.

    Args:
        verbose: Whether to show everything that Ultralytics prints.
        several: Whether torchrun may run the command in several processes at once.

    Raises:
        OptionError: The command is run in several processes but does not support it.
    """
    environment.prepare()
    with contextlib.redirect_stdout(sys.stderr):
        _import_ultralytics()
        from pixelkeep.ultra.running import console, distributed

        if not several and distributed.rank() != -1:
            raise OptionError("only 'train' works in several processes; start this command once, without torchrun")
        console.plain()
        if not verbose:
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
    """Print a result to standard output."""
    print(text, file=_output())


def show_file(path: Path) -> None:
    """Print the content of a file, however large, to standard output."""
    with path.open(encoding="utf-8") as file:
        shutil.copyfileobj(file, _output())


def _output() -> TextIO:
    return sys.__stdout__ if sys.stdout is sys.stderr else sys.stdout


def show_json(document: dict) -> None:
    """Print the one JSON document that ``--json`` promises."""
    show(json.dumps(document, indent=2, allow_nan=False))
