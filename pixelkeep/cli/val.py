"""pixelkeep val"""

from __future__ import annotations

from typing import Annotated

import typer

from pixelkeep.cli import options as o
from pixelkeep.cli.session import session, show, show_json

FIGURES, WHY = "More figures", "Confidences, errors, labels"
EPILOG = "Example: pixelkeep val --weights runs/train/exp/weights/best.pt --data my.yaml"


def val(
    weights: o.Weights = None,
    data: o.Data = None,
    imgsz: o.ImgSz = None,
    batch: Annotated[
        int | None, o.option("--batch", "--batch-size", metavar="N", help="Images per batch.", min=1, default="16")
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
            help="Detections kept per image.",
            min=1,
            default="3x the densest image, at least 300",
        ),
    ] = None,
    tile: o.Tile = None,
    overlap: o.Overlap = None,
    full_image: o.FullImage = False,
    merge: o.Merge = None,
    bins: Annotated[
        str | None,
        o.option(
            "--bins",
            metavar="TEXT",
            help="Finer sizes: aitod, visdrone, or sides in pixels such as 0,8,16,32,96.",
            panel=FIGURES,
        ),
    ] = None,
    match: Annotated[
        str,
        o.option("--match", metavar="TEXT", help="iou, nwd, or center:3 for 3 pixels.", panel=FIGURES, default="iou"),
    ] = "iou",
    by: Annotated[
        str | None,
        o.option("--by", metavar="REGEX", help="Break figures down by what this matches in file names.", panel=FIGURES),
    ] = None,
    voc: Annotated[bool, o.option("--voc", help="Pascal VOC's AP50 too.", panel=FIGURES)] = False,
    alarm_conf: Annotated[
        float,
        o.option(
            "--alarm-conf",
            metavar="X",
            help="Confidence at which Pd and false alarms are counted.",
            min=0,
            max=1,
            panel=FIGURES,
            default="0.25",
        ),
    ] = 0.25,
    evaluator: Annotated[
        str | None,
        o.option(
            "--evaluator",
            metavar="NAME",
            help="pycocotools, pixelkeep or faster-coco-eval.",
            panel=FIGURES,
            default="pycocotools; pixelkeep for other matches",
        ),
    ] = None,
    at: Annotated[
        str,
        o.option(
            "--at",
            metavar="TEXT",
            help="The operating point: f1, precision=0.9, recall=0.8 or conf=0.25.",
            panel=WHY,
            default="f1",
        ),
    ] = "f1",
    store_conf: Annotated[
        bool, o.option("--store-conf", help="Store its confidences in the weights, where detect finds them.", panel=WHY)
    ] = False,
    errors: Annotated[
        bool, o.option("--errors", help="Missed, misplaced, confused objects by size; misses.jpg.", panel=WHY)
    ] = False,
    audit: Annotated[
        bool, o.option("--audit", help="Labels that may be wrong or missing: label_audit.csv, .jpg.", panel=WHY)
    ] = False,
    half: o.Half = False,
    workers: Annotated[
        int | None,
        o.option(
            "--workers", metavar="N", help="Data loading processes, used with a GPU.", min=0, panel=o.MORE, default="8"
        ),
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
        from pixelkeep.evaluation import Scoring, judge_for
        from pixelkeep.evaluation.operating import Objective
        from pixelkeep.report.findings import findings
        from pixelkeep.report.label_tables import task_table
        from pixelkeep.ultra.commands import analysis, validation
        from pixelkeep.ultra.running import settings
        from pixelkeep.ultra.tiled.images import Request

        judge = evaluator or judge_for(match)
        scoring = Scoring(evaluator=judge, bins=bins, match=match, by=by, voc=voc, alarm_conf=alarm_conf)
        asked = analysis.Analysis(Objective.parse(at), store_conf, errors, audit)
        flags |= settings.half_precision() if half else {}
        merged = settings.merge(flags, command="val", assignments=set_)
        tiling = Request(tile=tile, overlap=overlap, full_image=full_image, merge=merge)
        chosen = {**merged, "weights": weights}
        result, folder = validation.validate(chosen, scoring=scoring, analysis=asked, tiling=tiling)
    if json:
        show_json(result.to_dict())
    else:
        show(f"\n{task_table(result)}{findings(asked)}\n\nweights   {result.weights}\nresults   {folder}")


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("val", epilog=EPILOG)(val)
