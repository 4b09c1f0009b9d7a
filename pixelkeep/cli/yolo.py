"""pixelkeep yolo: Ultralytics' own command line with our blocks and model names registered."""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def yolo(
    arguments: Annotated[list[str] | None, typer.Argument(help="As Ultralytics' 'yolo' takes them.")] = None,
) -> None:
    """Run Ultralytics' own command line with our blocks registered, its defaults unchanged."""
    from ultralytics.cfg import entrypoint

    sys.argv = ["yolo", *(arguments or [])]
    entrypoint()


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("yolo", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(yolo)
