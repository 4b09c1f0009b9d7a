"""pixelkeep yolo: Ultralytics' own command line with our blocks and model names registered."""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def yolo(
    arguments: Annotated[list[str] | None, typer.Argument(help="As Ultralytics' 'yolo' takes them.")] = None,
) -> None:
    """Run Ultralytics' own command line with our blocks registered; its own defaults and network access apply."""
    sys.argv[:] = ["yolo", *(arguments or [])]  # in place: Ultralytics holds a reference to this list
    from ultralytics.cfg import entrypoint

    entrypoint()


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("yolo", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(yolo)
