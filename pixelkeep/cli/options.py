"""Options that several commands share, under Ultralytics' names."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pixelkeep.cli import arguments

SAVE, RUN, MORE = "What is saved", "Run folder", "More"
TILES = "Large images"
TRACKS = "Videos"


def option(*names: str, help: str, metavar: str = "", panel: str | None = None, default: str = "", **keywords):
    """Return a typer option.

    Args:
        names: Spellings of the option on the command line.
        help: Help text, one short sentence.
        metavar: Placeholder for the value in the help; empty for a flag.
        panel: Title of the help panel that lists the option; None for the general one.
        default: Default shown in the help; the value itself is decided by settings, recipe and Ultralytics.
        keywords: Further arguments of ``typer.Option``, such as limits.
    """
    shown = f"{help} (default: {default})" if default else help
    return typer.Option(*names, help=shown, metavar=metavar, rich_help_panel=panel, show_default=False, **keywords)


def image_size(default: str):
    """Return the option for the image size, with ``default`` as the default shown in the help."""
    shown = "Image size in pixels, or height and width."
    return option("--imgsz", "--img", metavar="N [N]", help=shown, default=default, parser=arguments.image_size)


Data = Annotated[
    str | None, option("--data", help="Dataset YAML, or the name of a bundled one, such as demo.", metavar="FILE|NAME")
]
Checkpoint = Annotated[
    str | None,
    option(
        "--weights",
        help="Checkpoint (.pt or .safetensors), or the name of a published one.",
        metavar="FILE|NAME",
        default="best.pt of the newest trained run",
    ),
]
Weights = Annotated[
    str | None,
    option(
        "--weights",
        help="Checkpoint (.pt or .safetensors), exported file, or the name of published weights.",
        metavar="FILE|NAME",
        default="best.pt of the newest trained run",
    ),
]
ImgSz = Annotated[Any, image_size("as trained")]
Device = Annotated[
    str | None,
    option("--device", metavar="TEXT", help="cpu, or GPU numbers such as 0.", default="GPU 0 if there is one"),
]
Iou = Annotated[
    float | None,
    option("--iou", "--iou-thres", metavar="X", help="IoU above which NMS drops a box.", min=0, max=1, default="0.7"),
]
Half = Annotated[bool, option("--half", help="Half precision (fp16), on a GPU.", panel=MORE)]
Set = Annotated[
    list[str] | None,
    option("--set", help="Any other Ultralytics setting; repeatable.", metavar="KEY=VALUE", panel=MORE),
]
DatasetFolder = Annotated[
    list[str] | None,
    option("--set", help="path=FOLDER: the folder of the dataset.", metavar="KEY=VALUE", panel=MORE),
]
Project = Annotated[
    str | None, option("--project", metavar="TEXT", help="Folder for runs.", panel=RUN, default="runs/COMMAND")
]
Name = Annotated[
    str | None, option("--name", metavar="TEXT", help="Name of this run.", panel=RUN, default="exp, exp2, ...")
]
ExistOk = Annotated[bool | None, option("--exist-ok", help="Reuse the folder if it is there.", panel=RUN)]
Fold = Annotated[
    str,
    option(
        "--fold",
        metavar="NAME|ROWS",
        help="Fold SpaceToDepth into convolutions: static (all), none, measured (where faster), or rows such as 0,3.",
        panel=MORE,
        default="static",
    ),
]
Json = Annotated[bool, option("--json", help="Print one JSON document on standard output.")]
Verbose = Annotated[bool, option("--verbose", "-v", help="Show everything that Ultralytics prints.")]
Tile = Annotated[
    Any,
    option(
        "--tile",
        metavar="N|auto",
        help="Process images in tiles of N pixels; auto: at the scale of training.",
        panel=TILES,
        parser=arguments.tile,
    ),
]
Overlap = Annotated[
    float | None,
    option("--overlap", metavar="X", help="Share of a tile that overlaps its neighbour.", panel=TILES, default="0.2"),
]
FullImage = Annotated[bool, option("--full-image", help="Process the whole image as well.", panel=TILES)]
Merge = Annotated[
    str | None,
    option("--merge", metavar="NAME", help="Merge boxes by border, nms or ios.", panel=TILES, default="border"),
]
