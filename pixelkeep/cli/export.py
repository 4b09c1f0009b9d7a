"""pixelkeep export"""

from __future__ import annotations

from typing import Annotated

import typer

from pixelkeep.cli import options as o
from pixelkeep.cli.session import session, show, show_json

FORMATS = "onnx, openvino, torchscript, engine, ncnn; or of checkpoints safetensors, pt."
EPILOG = "Example: pixelkeep export --weights runs/train/exp/weights/best.pt --format onnx --data my.yaml"


def export(
    weights: o.Checkpoint = None,
    format: Annotated[str, o.option("--format", metavar="NAME", help=FORMATS, default="onnx")] = "onnx",
    imgsz: o.ImgSz = None,
    batch: Annotated[int, o.option("--batch", metavar="N", help="Images per call.", min=1, default="1")] = 1,
    dynamic: Annotated[bool, o.option("--dynamic", help="Take any image size, and any number of images.")] = False,
    precision: Annotated[
        str | None,
        o.option(
            "--precision",
            metavar="NAME",
            help="fp32, fp16; bf16 in openvino; int8 in onnx, openvino, engine.",
            default="fp32, and in checkpoints kept",
        ),
    ] = None,
    data: Annotated[
        str | None,
        o.option(
            "--data",
            metavar="FILE|NAME",
            help="Dataset whose val images check parity and AP, and whose train images calibrate int8.",
            default="generated images",
        ),
    ] = None,
    fold: o.Fold = "static",
    bound: Annotated[
        list[str] | None,
        o.option(
            "--bound", metavar="NAME=VALUE", help="Change a bound of the parity check, e.g. matched=0.95; repeatable."
        ),
    ] = None,
    device: o.Device = None,
    output: Annotated[
        str | None, o.option("--output", "-o", metavar="PATH", help="File or folder.", default="beside the weights")
    ] = None,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> None:
    """Export a folded network for another runtime, and keep the file only if it computes the same there."""
    with session(verbose):
        from pixelkeep.report.checkpoint import checkpoint_table
        from pixelkeep.report.export import export_table
        from pixelkeep.ultra.export import exporting, rewriting

        rewritten = rewriting.serves(format)
        request = exporting.Request(
            weights=weights,
            format=format,
            precision=precision or (rewriting.KEPT if rewritten else "fp32"),
            imgsz=imgsz,
            batch=batch,
            dynamic=dynamic,
            data=data,
            device=device,
            output=output,
            fold=fold,
            bounds=tuple(bound or ()),
        )
        report = rewriting.rewrite(request) if rewritten else exporting.export(request)
    if json:
        show_json(report.to_dict())
    else:
        table = checkpoint_table(report) if rewritten else export_table(report)
        show(f"{table}\n\nweights   {report.output}")


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("export", epilog=EPILOG)(export)
