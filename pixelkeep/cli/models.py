"""pixelkeep models"""

from __future__ import annotations

from typing import Annotated

import typer

from pixelkeep.cli import options as o
from pixelkeep.cli.session import session, show, show_json

EPILOG = "Example: pixelkeep models yolov5-spd"


def models(
    pattern: Annotated[str | None, typer.Argument(help="Part of a name, or a glob such as 'yolov5*-n'.")] = None,
    json: o.Json = False,
) -> None:
    """List the models with parameters and GFLOPs at 640, the stock baselines beside them."""
    with session():
        from rich.progress import track

        from pixelkeep.report.tables import models_table
        from pixelkeep.ultra.costs import catalogue

        selected = catalogue.select(pattern)
        entries = list(track(catalogue.entries(selected), description="Counting", total=len(selected), transient=True))
    if json:
        show_json({"schema": 1, "imgsz": catalogue.IMGSZ, "models": [entry.to_dict() for entry in entries]})
    else:
        show(models_table(entries))


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("models", epilog=EPILOG)(models)
