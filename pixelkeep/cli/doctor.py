"""pixelkeep doctor"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pixelkeep.cli import options as o
from pixelkeep.cli.session import session, show, show_json

EPILOG = "Example: pixelkeep doctor --data my.yaml --imgsz 640"


def doctor(
    data: o.Data = None,
    imgsz: Annotated[Any, o.image_size("640, or as the weights were trained")] = None,
    model: Annotated[
        str | None,
        o.option("--model", metavar="NAME|FILE", help="Model whose head the advice is for.", default="yolov5-spd-n"),
    ] = None,
    batch: Annotated[
        int, o.option("--batch", "--batch-size", metavar="N", help="Images per batch.", min=1, default="16")
    ] = 16,
    group: Annotated[
        str | None,
        o.option("--group", metavar="REGEX", help="Images whose names agree in this match must be in one split."),
    ] = None,
    weights: Annotated[
        str | None,
        o.option("--weights", metavar="FILE", help="Checkpoint to validate, to test the advice."),
    ] = None,
    device: o.Device = None,
    set_: o.DatasetFolder = None,
    project: o.Project = None,
    name: o.Name = None,
    exist_ok: o.ExistOk = None,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> None:
    """Say what is wrong with a dataset, and which image size, tiles and head suit it."""
    with session(verbose):
        from pixelkeep.report.doctor import doctor_text
        from pixelkeep.ultra.doctor.document import examine
        from pixelkeep.ultra.running.settings import dataset_folder

        document, folder = examine(
            data=data,
            path=dataset_folder(set_, "doctor"),
            imgsz=imgsz,
            model=model,
            batch=batch,
            group=group,
            weights=weights,
            device=device,
            project=project,
            name=name,
            exist_ok=bool(exist_ok),
        )
    if json:
        show_json(document)
    else:
        show(f"\n{doctor_text(document)}\n\nresults   {folder}")


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("doctor", epilog=EPILOG)(doctor)
