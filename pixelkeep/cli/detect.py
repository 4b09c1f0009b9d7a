"""pixelkeep detect"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pixelkeep.cli import arguments
from pixelkeep.cli import options as o
from pixelkeep.cli.session import session, show, show_file

EPILOG = "Example: pixelkeep detect --source pictures/ --weights runs/train/exp/weights/best.pt --save-json"


def detect(
    source: Annotated[
        list[str] | None,
        o.option(
            "--source",
            "-s",
            metavar="TEXT",
            help="File, folder, 'glob', list (.txt), video, webcam index or URL; repeatable.",
        ),
    ] = None,
    weights: o.Weights = None,
    conf: Annotated[
        Any,
        o.option(
            "--conf",
            "--conf-thres",
            metavar="X|auto",
            help="Lowest confidence shown; auto: each class's own, as kept in the weights.",
            parser=arguments.confidence,
            default="0.25",
        ),
    ] = None,
    iou: o.Iou = None,
    imgsz: o.ImgSz = None,
    classes: Annotated[
        str | None, o.option("--classes", metavar="TEXT", help="Keep only these: car,truck or 0 2.", default="all")
    ] = None,
    max_det: Annotated[
        int | None, o.option("--max-det", metavar="N", help="Detections kept per image.", min=1, default="300")
    ] = None,
    device: o.Device = None,
    save: Annotated[
        bool | None, o.option("--save/--no-save", help="Save annotated copies.", panel=o.SAVE, default="save")
    ] = None,
    save_txt: Annotated[bool | None, o.option("--save-txt", help="Save YOLO label files.", panel=o.SAVE)] = None,
    save_crop: Annotated[
        bool | None, o.option("--save-crop", help="Save each detection as a picture.", panel=o.SAVE)
    ] = None,
    save_json: Annotated[
        bool, o.option("--save-json", help="Save predictions.json in COCO results form.", panel=o.SAVE)
    ] = False,
    save_csv: Annotated[
        bool, o.option("--save-csv", help="Save predictions.csv, one line per detection.", panel=o.SAVE)
    ] = False,
    save_geojson: Annotated[
        bool, o.option("--save-geojson", help="Save map coordinates of georeferenced images (--tile).", panel=o.SAVE)
    ] = False,
    raster_crs: Annotated[
        bool,
        o.option("--raster-crs", help="Write GeoJSON in the image's own reference system, not WGS 84.", panel=o.SAVE),
    ] = False,
    save_masks: Annotated[
        bool, o.option("--save-masks", help="Save segmentation (-sem) as PNGs of class numbers.", panel=o.SAVE)
    ] = False,
    show_regions: Annotated[
        bool, o.option("--show-regions", help="Darken what a model's mask leaves out (-cad, -select).", panel=o.SAVE)
    ] = False,
    save_video: Annotated[
        bool | None,
        o.option(
            "--save-video/--no-save-video",
            help="Save annotated video.",
            panel=o.SAVE,
            default="for video files, not streams",
        ),
    ] = None,
    tile: o.Tile = None,
    overlap: o.Overlap = None,
    full_image: o.FullImage = False,
    merge: o.Merge = None,
    track: Annotated[
        str | None,
        o.option(
            "--track",
            metavar="[NAME|FILE]",
            help="Track objects through videos with small-objects (if nothing is given), bytetrack, botsort ... or a "
            "tracker's YAML.",
            panel=o.TRACKS,
        ),
    ] = None,
    fps: Annotated[
        float | None,
        o.option(
            "--fps",
            metavar="X",
            help="Keep up with X frames per second by skipping frames, or tiles of them.",
            panel=o.TRACKS,
        ),
    ] = None,
    resume: Annotated[bool, o.option("--resume", help="Continue RUN, or the newest unfinished run.")] = False,
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="With --resume: a run folder.")] = None,
    show_: Annotated[bool | None, o.option("--show", "--view-img", help="Show the results in a window.")] = None,
    vid_stride: Annotated[
        int | None,
        o.option("--vid-stride", metavar="N", help="Read every n-th frame.", min=1, default="1", panel=o.MORE),
    ] = None,
    line_width: Annotated[
        int | None,
        o.option(
            "--line-width", metavar="N", help="Line width of boxes.", min=1, default="by image size", panel=o.MORE
        ),
    ] = None,
    fold: o.Fold = "static",
    half: o.Half = False,
    set_: o.Set = None,
    project: o.Project = None,
    name: o.Name = None,
    exist_ok: o.ExistOk = None,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> None:
    """Find objects in images, videos and streams; with weights of other tasks, classify (-cls) or segment (-sem)."""
    auto = conf == arguments.AUTO
    flags = dict(
        conf=None if auto else conf,
        iou=iou,
        imgsz=imgsz,
        max_det=max_det,
        device=device,
        save=True if save is None else save,
    )
    flags |= dict(save_txt=save_txt, save_crop=save_crop, show=show_, vid_stride=vid_stride, line_width=line_width)
    flags |= dict(project=project, name=name, exist_ok=exist_ok, verbose=verbose)
    with session(verbose):
        from pixelkeep.report.tables import detection_lines
        from pixelkeep.ultra.commands import detection
        from pixelkeep.ultra.commands.asked import Asked
        from pixelkeep.ultra.commands.results import FILE
        from pixelkeep.ultra.running import settings
        from pixelkeep.ultra.tiled.images import Request

        asked = Asked(
            sources=source or [],
            classes=classes,
            save_json=save_json,
            save_csv=save_csv,
            save_masks=save_masks,
            save_geojson=save_geojson,
            raster_crs=raster_crs,
            show_regions=show_regions,
            save_video=save_video,
            auto_conf=auto,
            tiling=Request(tile=tile, overlap=overlap, full_image=full_image, merge=merge),
            track=track,
            fps=fps,
            fold=fold,
        )
        if resume or run:
            given = flags | {"weights": weights, "save": save, "half": half}
            summary = detection.resume(run, given, asked, requested=resume, assignments=set_)
        else:
            flags |= settings.half_precision() if half else {}
            merged = settings.merge(flags, command="detect", assignments=set_)
            summary = detection.detect({**merged, "weights": weights}, asked)
    if json:
        show_file(summary.folder / FILE)
    else:
        show(detection_lines(summary))


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("detect", epilog=EPILOG)(detect)
