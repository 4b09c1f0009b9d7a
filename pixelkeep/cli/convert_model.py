"""pixelkeep convert-model"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pixelkeep.cli import options as o
from pixelkeep.cli.session import session, show, show_json

EPILOG = "Example: pixelkeep convert-model yolov5su.pt --to yolov5-spdconv-s --output spd.pt"


def convert_model(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Checkpoint, or a published name.")],
    to: Annotated[str, o.option("--to", metavar="MODEL", help="Name, as 'pixelkeep models' lists, or model YAML.")],
    output: Annotated[str, o.option("--output", "-o", metavar="FILE", help="What to write: .pt or .safetensors.")],
    data: o.Data = None,
    fit: Annotated[
        str | None,
        o.option("--fit", metavar="IMAGES", help="Fit layers without an exact conversion on some images of these."),
    ] = None,
    noise: Annotated[
        float,
        o.option("--noise", metavar="X", help="Noise in weights that start as zero; 0 keeps the function.", min=0),
    ] = 0.0,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> None:
    """Write weights as those of another model: the same function where that is possible, layers by role elsewhere.

    With --data the classes become those of a dataset; what the source knows by name is kept.
    """
    with session(verbose):
        from pixelkeep.report.conversion import conversion_table
        from pixelkeep.ultra.conversion.models import convert_model as convert

        report = convert(source, to, Path(output), data=data, fit=fit, noise=noise)
    if json:
        show_json(report.to_dict())
    else:
        show(f"{conversion_table(report)}\n\nweights   {report.output}")


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("convert-model", epilog=EPILOG)(convert_model)
