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
    to: Annotated[
        str, o.option("--to", metavar="MODEL", help="Model name, as 'pixelkeep models' lists it, or model YAML.")
    ],
    output: Annotated[str, o.option("--output", "-o", metavar="FILE", help="What to write: .pt or .safetensors.")],
    data: o.Data = None,
    fit: Annotated[
        str | None,
        o.option("--fit", metavar="IMAGES", help="Fit layers that have no exact conversion, on some of these images."),
    ] = None,
    noise: Annotated[
        float,
        o.option(
            "--noise", metavar="X", help="Noise in weights that would start at zero; 0 keeps the function.", min=0
        ),
    ] = 0.0,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> None:
    """Convert weights to another model: exactly where that is possible, elsewhere by copying layers of the same role.

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
