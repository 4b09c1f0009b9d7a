"""pixelkeep compare"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pixelkeep.cli import options as o
from pixelkeep.cli.session import session, show, show_json

EPILOG = "Example: pixelkeep compare yolov5-n yolov5-spd-n --data my.yaml --seeds 3"


def compare(
    what: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL|RUN ...", help="Models to train, or existing run folders to compare."),
    ] = None,
    data: o.Data = None,
    seeds: Annotated[
        int | None, o.option("--seeds", metavar="N", help="Trainings of each model, one per seed.", min=1, default="3")
    ] = None,
    baseline: Annotated[
        str | None,
        o.option("--baseline", metavar="NAME", help="Model that the others are compared with.", default="the first"),
    ] = None,
    epochs: Annotated[
        int | None, o.option("--epochs", metavar="N", help="Epochs to train.", min=1, default="100")
    ] = None,
    imgsz: Annotated[Any, o.image_size("640")] = None,
    batch: Annotated[
        int | None,
        o.option(
            "--batch", "--batch-size", metavar="N", help="Images per batch; -1 finds what fits the GPU.", default="16"
        ),
    ] = None,
    device: o.Device = None,
    group: Annotated[
        str | None,
        o.option(
            "--group",
            metavar="REGEX",
            help="Images whose names agree in this match, such as the video, are resampled together.",
        ),
    ] = None,
    arm: Annotated[
        list[str] | None,
        o.option("--arm", metavar="NAME:MODEL:KEY=VALUE", help="A model with its own settings; repeatable."),
    ] = None,
    across: Annotated[
        list[str] | None,
        o.option(
            "--across",
            metavar="FIELD",
            help="What the runs may have been scored with differently: imgsz, tile, precision or format; repeatable.",
        ),
    ] = None,
    match_gflops: Annotated[
        bool,
        o.option("--match-gflops", help="Also train the baseline, wider and on larger images, at each model's GFLOPs."),
    ] = False,
    match_latency: Annotated[
        bool, o.option("--match-latency", help="The same at each model's latency, measured on the device.")
    ] = False,
    config: Annotated[
        str | None, o.option("--config", metavar="TEXT", help="Recipe: a name in configs/ or a YAML.", panel=o.MORE)
    ] = None,
    set_: o.Set = None,
    project: o.Project = None,
    name: Annotated[
        str | None,
        o.option(
            "--name",
            metavar="TEXT",
            help="Name of this comparison.",
            panel=o.RUN,
            default="exp, exp2, ...; the one of the same settings",
        ),
    ] = None,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> None:
    """Train models with the same settings and several seeds, and say which is better by AP and AP_S."""
    flags = dict(data=data, epochs=epochs, imgsz=imgsz, batch=batch, device=device, project=project, name=name)
    with session(verbose):
        from pixelkeep.experiments.compare import compare_any, one_match

        match = one_match(match_gflops, match_latency)
        rest = dict(seeds=seeds, baseline=baseline, group=group, match=match, arms=arm or (), across=across or ())
        outcome = compare_any(what or [], flags, recipe=config, assignments=set_, **rest)
    if json:
        show_json(outcome.document)
    else:
        show(f"\n{outcome.table}\n\npage      {outcome.page}\nresults   {outcome.folder}")
    outcome.require_all()


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("compare", epilog=EPILOG)(compare)
