"""pixelkeep train"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pixelkeep.cli import arguments
from pixelkeep.cli import options as o
from pixelkeep.cli.session import session, show, show_json

EPILOG = "Example: pixelkeep train --model yolov5-spd-n --data my.yaml --epochs 100 --imgsz 640"


def train(
    model: Annotated[
        str | None,
        o.option("--model", "-m", metavar="TEXT", help="Model name, YAML or checkpoint.", default="yolov5-spd-n"),
    ] = None,
    data: o.Data = None,
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
    weights: Annotated[
        Any,
        o.option(
            "--weights",
            "--pretrained",
            help="Start from this checkpoint; its network is trained unless --model is given. False: random weights.",
            metavar="FILE",
            parser=arguments.checkpoint,
        ),
    ] = None,
    tile: Annotated[
        int | None,
        o.option(
            "--tile",
            metavar="N",
            help="Train and validate on tiles of N pixels, cut on the fly; --imgsz is N by default.",
            min=32,
            panel=o.TILES,
        ),
    ] = None,
    best: Annotated[
        str | None,
        o.option(
            "--best",
            metavar="TEXT",
            help="Keep the best epoch by AP or AP_S; top1 or top5; mIoU or pixel_accuracy.",
            default="the task's first",
        ),
    ] = None,
    patience: Annotated[
        int | None,
        o.option("--patience", metavar="N", help="Stop after N epochs without improvement.", min=0, default="100"),
    ] = None,
    resume: Annotated[bool, o.option("--resume", help="Continue RUN, or the newest unfinished run.")] = False,
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="With --resume: a run folder or last.pt.")] = None,
    optimizer: Annotated[
        str | None,
        o.option("--optimizer", metavar="TEXT", help="SGD, AdamW, MuSGD ... or auto.", panel=o.MORE, default="auto"),
    ] = None,
    lr0: Annotated[
        float | None,
        o.option(
            "--lr0", metavar="X", help="Initial learning rate; needs --optimizer.", min=0, panel=o.MORE, default="0.01"
        ),
    ] = None,
    seed: Annotated[int | None, o.option("--seed", metavar="N", help="Random seed.", panel=o.MORE, default="0")] = None,
    workers: Annotated[
        int | None,
        o.option(
            "--workers", metavar="N", help="Data loading processes, used with a GPU.", min=0, panel=o.MORE, default="8"
        ),
    ] = None,
    freeze: Annotated[
        Any,
        o.option(
            "--freeze",
            metavar="N ...",
            help="Freeze the first N layers, or the layers with these numbers.",
            panel=o.MORE,
            default="none",
            parser=arguments.layers,
        ),
    ] = None,
    cache: Annotated[
        str | None,
        o.option(
            "--cache",
            metavar="[ram|disk]",
            help="Cache images, in ram unless disk is given.",
            panel=o.MORE,
            default="off",
        ),
    ] = None,
    config: Annotated[
        str | None, o.option("--config", metavar="TEXT", help="Recipe: a name in configs/ or a YAML.", panel=o.MORE)
    ] = None,
    set_: o.Set = None,
    project: o.Project = None,
    name: o.Name = None,
    exist_ok: o.ExistOk = None,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> None:
    """Train a model for detection, classification (-cls) or segmentation (-sem), and validate it."""
    flags = dict(model=model, data=data, epochs=epochs, imgsz=imgsz, batch=batch, device=device, pretrained=weights)
    flags |= dict(best=best, patience=patience, optimizer=optimizer, lr0=lr0, seed=seed, workers=workers)
    flags |= dict(tile=tile, freeze=freeze, cache=cache, project=project, name=name, exist_ok=exist_ok)
    with session(verbose, several=True):
        from pixelkeep.report.label_tables import task_table
        from pixelkeep.ultra.commands import training
        from pixelkeep.ultra.running import settings

        if resume or run:
            result, folder = training.resume(run, flags, requested=resume, assignments=set_)
        else:
            result, folder = training.train(settings.merge(flags, command="train", recipe=config, assignments=set_))
    if json:
        show_json(result.to_dict())
    else:
        show(f"\n{task_table(result)}\n\nweights   {folder / 'weights' / 'best.pt'}\nresults   {folder}")


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("train", epilog=EPILOG)(train)
