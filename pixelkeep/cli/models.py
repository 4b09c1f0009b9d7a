"""pixelkeep models"""

from __future__ import annotations

from typing import Annotated

import typer

from pixelkeep.cli import options as o
from pixelkeep.cli.session import session, show, show_json

EVERY = 10.0  # seconds between progress lines when standard error is no terminal
EPILOG = "Example: pixelkeep models yolov5-spd"


def models(
    pattern: Annotated[str | None, typer.Argument(help="Part of a name, or a glob such as 'yolov5*-n'.")] = None,
    json: o.Json = False,
) -> None:
    """List the models with parameters and GFLOPs at 640, with Ultralytics' own as baselines."""
    with session():
        from pixelkeep.report.tables import models_table
        from pixelkeep.ultra.costs import catalogue
        from pixelkeep.ultra.running.console import progress_bar

        with progress_bar("counting parameters and GFLOPs, once", "model", every=EVERY) as progress:
            entries = list(catalogue.entries(catalogue.select(pattern), progress))
    if json:
        show_json({"schema": 1, "imgsz": catalogue.IMGSZ, "models": [entry.to_dict() for entry in entries]})
    else:
        show(models_table(entries))


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("models", epilog=EPILOG)(models)
