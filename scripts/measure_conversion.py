"""Measure what conversion brings: the same checkpoint continued as it is and converted, with the same budget.

A stock network is trained first, unless a checkpoint is given. Then, with the same epochs and seeds: it is trained on
as it is; its conversions are trained on (`train --pretrained` converts by itself); and the targets are trained from
scratch. `pixelkeep compare` trains and judges. Trainings that are done are not repeated, and one that was cut off goes
on, so the same command finishes what was interrupted:

    python scripts/measure_conversion.py --data hituav --path FOLDER

The last lines name the two reports; summary.json holds the figures.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pixelkeep.cli.session import session  # noqa: E402
from pixelkeep.writing import write_text  # noqa: E402


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="hituav", help="dataset YAML, or the name of one in data/")
    parser.add_argument("--path", help="folder of the dataset, in place of the YAML's own")
    parser.add_argument("--stock", default="yolov5-n", help="the strided network")
    parser.add_argument("--targets", nargs="+", default=["yolov5-spdconv-n", "yolov5-spd-n"], help="what it becomes")
    parser.add_argument("--checkpoint", type=Path, help="where all start; trained here by default")
    parser.add_argument("--source-epochs", type=int, default=20, help="of the training of that checkpoint")
    parser.add_argument("--epochs", type=int, default=10, help="of everything else")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--fraction", type=float, default=1.0, help="of the training images")
    parser.add_argument("--optimizer", default="AdamW")
    parser.add_argument("--lr0", type=float, default=0.001)
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--project", type=Path, default=Path("runs/measure-conversion"))
    return parser.parse_args()


def source(options: argparse.Namespace, shared: dict) -> Path:
    """Return the checkpoint to start from; train it, or go on with it, where there is none."""
    from pixelkeep.ultra.commands import training
    from pixelkeep.ultra.running import runs
    from pixelkeep.ultra.running.settings import merge

    if options.checkpoint is not None:
        return options.checkpoint
    folder = options.project / "source"
    if runs.is_finished(folder):
        return folder / "weights" / "last.pt"
    if (folder / "weights" / "last.pt").is_file():
        training.resume(str(folder), {}, requested=True, assignments=None)
    else:
        own = {"model": options.stock, "epochs": options.source_epochs, "seed": 1000, "pretrained": False}
        place = {"project": str(options.project), "name": "source", "exist_ok": True}
        training.train(merge(shared | own | place, command="train", recipe=None, assignments=_path(options)))
    return folder / "weights" / "last.pt"


def _path(options: argparse.Namespace) -> list[str] | None:
    return None if options.path is None else [f"path={options.path}"]


def main() -> None:
    options = arguments()
    with session():
        from pixelkeep.experiments.compare import compare_any

        keys = ("data", "imgsz", "batch", "fraction", "optimizer", "lr0")
        shared = {key: getattr(options, key) for key in keys}
        start = source(options, shared)
        rest = dict(assignments=_path(options), seeds=options.seeds)
        place = {"project": str(options.project), "epochs": options.epochs}
        continued = compare_any(
            [options.stock, *options.targets], shared | place | {"pretrained": str(start), "name": "continued"}, **rest
        )
        scratch = compare_any([options.stock, *options.targets], shared | place | {"name": "scratch"}, **rest)
    figures = {"source": str(start), "continued": continued.document, "scratch": scratch.document}
    write_text(options.project / "summary.json", json.dumps(figures, indent=2))
    for title, outcome in (("continued from one checkpoint", continued), ("from scratch", scratch)):
        print(f"\n{title}\n\n{outcome.table}\n\npage      {outcome.page}")


if __name__ == "__main__":
    main()
