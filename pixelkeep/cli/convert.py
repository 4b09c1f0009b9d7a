"""pixelkeep convert"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pixelkeep.cli import options as o
from pixelkeep.cli.session import session, show, show_json
from pixelkeep.errors import OptionError

DIVIDE = "Dividing anew"
EPILOG = "Example: pixelkeep convert my.yaml --to coco --output my-coco"


def convert(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Dataset YAML, or the name of a bundled one.")],
    to: Annotated[str, o.option("--to", metavar="FORM", help="yolo, coco or voc.")],
    output: Annotated[str, o.option("--output", "-o", metavar="FOLDER", help="Folder to write, new or empty.")],
    link: Annotated[bool, o.option("--link", help="Link images instead of copying them.")] = False,
    split: Annotated[
        float | None,
        o.option(
            "--split",
            metavar="X",
            help="Divide the images of train and val anew: this share goes to train.",
            panel=DIVIDE,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        o.option("--seed", metavar="N", help="Random seed of the division.", panel=DIVIDE, default="0"),
    ] = None,
    group: Annotated[
        str | None,
        o.option(
            "--group",
            metavar="REGEX",
            help="Images whose names agree in this regex's first group stay together.",
            panel=DIVIDE,
        ),
    ] = None,
    set_: o.DatasetFolder = None,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> None:
    """Write a dataset in another form: YOLO, COCO or Pascal VOC."""
    if split is None and (seed is not None or group is not None):
        raise OptionError("--seed and --group say how to divide images; give --split as well, such as --split 0.8")
    with session(verbose):
        from pixelkeep.datasets.convert import Division
        from pixelkeep.report.tables import text_table
        from pixelkeep.ultra.data.converting import convert_data

        division = None if split is None else Division(split, seed or 0, group)
        outcome = convert_data(source, to, Path(output), link=link, division=division, assignments=set_)
    if json:
        show_json(outcome.to_dict())
    else:
        show(f"{text_table(*outcome.table())}\n\ndata      {outcome.yaml}")


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("convert", epilog=EPILOG)(convert)
