"""pixelkeep export"""

from __future__ import annotations

from typing import Annotated

import typer

from pixelkeep.cli import options as o
from pixelkeep.cli.session import session, show, show_json

EPILOG = "Example: pixelkeep export --weights runs/train/exp/weights/best.pt --format onnx --data my.yaml"


def export(
    weights: o.Weights = None,
    format: Annotated[
        str, o.option("--format", metavar="NAME", help="onnx, openvino, torchscript, engine or ncnn.", default="onnx")
    ] = "onnx",
    imgsz: o.ImgSz = None,
    batch: Annotated[int, o.option("--batch", metavar="N", help="Images at once.", min=1, default="1")] = 1,
    precision: Annotated[
        str, o.option("--precision", metavar="NAME", help="fp32, fp16, or bf16 in openvino.", default="fp32")
    ] = "fp32",
    data: Annotated[
        str | None,
        o.option(
            "--data", metavar="FILE|NAME", help="Compare on its val images, and AP too.", default="generated images"
        ),
    ] = None,
    device: o.Device = None,
    output: Annotated[
        str | None, o.option("--output", "-o", metavar="PATH", help="File or folder.", default="beside the weights")
    ] = None,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> None:
    """Write a detector for another runtime, folded; run it there, and keep it if it computes the same."""
    with session(verbose):
        from pixelkeep.report.export import export_table
        from pixelkeep.ultra.export import exporting

        request = exporting.Request(
            weights=weights,
            format=format,
            precision=precision,
            imgsz=imgsz,
            batch=batch,
            data=data,
            device=device,
            output=output,
        )
        report = exporting.export(request)
    if json:
        show_json(report.to_dict())
    else:
        show(f"{export_table(report)}\n\nweights   {report.output}")


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("export", epilog=EPILOG)(export)
