"""The ``pixelkeep`` command, and how every command starts and ends.

Standard output carries results only; progress and messages go to standard error. Exit status 0: done, or the reader
of standard output has gone; 1: a bug, with
its traceback; 2: an error that the user can mend, reported in one line; 130: interrupted.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from pixelkeep import __version__
from pixelkeep.cli import (
    arguments,
    compare,
    convert,
    convert_model,
    demo,
    detect,
    doctor,
    export,
    former,
    models,
    train,
    val,
    yolo,
)
from pixelkeep.errors import PixelkeepError, storage_error

app = typer.Typer(
    name="pixelkeep",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"pixelkeep {__version__}")
        raise typer.Exit


@app.callback()
def start(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True, metavar="")
    ] = False,
) -> None:
    """Train, validate and run detectors for small objects. Start with: pixelkeep demo"""


for module in (demo, doctor, train, val, detect, compare, convert, convert_model, export, models, yolo):
    module.add_to(app)


def run(args: list[str] | None = None) -> None:
    """Run the command line and exit."""
    args = sys.argv[1:] if args is None else args
    if args[:1] != ["yolo"]:  # the arguments of 'yolo' are Ultralytics' own
        args = arguments.respell(args)
    _guard(lambda: app(args=args or ["--help"], prog_name="pixelkeep", standalone_mode=False))


def run_script(name: str) -> None:
    """Run one command as a script of its own, such as ``python train.py``."""
    run([name, *sys.argv[1:]])


def _guard(call: Callable[[], int | None]) -> None:
    try:
        sys.exit(call() or 0)
    except PixelkeepError as error:
        print(f"pixelkeep: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        print("pixelkeep: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone, as in `pixelkeep models | head`
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if told := storage_error(error):
            print(f"pixelkeep: {told}", file=sys.stderr)
            sys.exit(2)
        if not hasattr(error, "format_message"):  # Click's errors about the command line have it
            raise
        told = _former(error) or " ".join(error.format_message().split())
        print(f"pixelkeep: {told}; see --help", file=sys.stderr)
        sys.exit(2)


def _former(error: Exception) -> str | None:
    """Return the message about an unknown option that YOLOv5 has; None for any other error."""
    option, context = getattr(error, "option_name", None), getattr(error, "ctx", None)
    return former.refusal(context.info_name, option) if option and context else None
