"""pixelkeep val"""

from __future__ import annotations

from typing import Annotated

import typer

from pixelkeep.cli import options as o
from pixelkeep.cli.session import session, show, show_json

EPILOG = "Example: pixelkeep val --weights runs/train/exp/weights/best.pt --data my.yaml"


def val(
    weights: o.Weights = None,
    data: o.Data = None,
    imgsz: o.ImgSz = None,
    batch: Annotated[
        int | None, o.option("--batch", "--batch-size", metavar="N", help="Images a batch.", min=1, default="16")
    ] = None,
    device: o.Device = None,
    split: Annotated[str | None, o.option("--split", metavar="TEXT", help="train, val or test.", default="val")] = None,
    conf: Annotated[
        float | None,
        o.option(
            "--conf", "--conf-thres", metavar="X", help="Lowest confidence that counts.", min=0, max=1, default="0.001"
        ),
    ] = None,
    iou: o.Iou = None,
    max_det: Annotated[
        int | None,
        o.option(
            "--max-det",
            metavar="N",
            help="Detections kept an image.",
            min=1,
            default="3x the densest image, at least 300",
        ),
    ] = None,
    half: o.Half = False,
    workers: Annotated[
        int | None,
        o.option("--workers", metavar="N", help="Data loading processes, on a GPU.", min=0, panel=o.MORE, default="8"),
    ] = None,
    set_: o.Set = None,
    project: o.Project = None,
    name: o.Name = None,
    exist_ok: o.ExistOk = None,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> None:
    """Measure AP, AP_S, AP_M and AP_L of weights on a dataset."""
    flags = dict(data=data, imgsz=imgsz, batch=batch, device=device, split=split, conf=conf, iou=iou, max_det=max_det)
    flags |= dict(workers=workers, project=project, name=name, exist_ok=exist_ok)
    with session(verbose):
        from pixelkeep.report.tables import result_table
        from pixelkeep.ultra import settings, validation

        flags |= settings.half_precision() if half else {}
        merged = settings.merge(flags, command="val", assignments=set_)
        result, folder = validation.validate({**merged, "weights": weights})
    if json:
        show_json(result.to_dict())
    else:
        show(f"\n{result_table(result)}\n\nresults   {folder}")


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("val", epilog=EPILOG)(val)
