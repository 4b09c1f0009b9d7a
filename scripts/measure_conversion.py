"""Measure what conversion brings: a checkpoint trained on as it is and converted, and the target trained from scratch.

A strided network is trained first, unless a checkpoint is given. It is then trained further with the same data, epochs,
settings and seeds, both as it is and converted. :X behind a target's name adds an arm with noise in the weights that
start at zero. The targets of --scratch are trained from scratch for as many epochs as the checkpoint and its
continuation together. `pixelkeep compare` judges both. The last table says how far the zeros have moved: the root mean
square of the weights that the conversion sets to zero, divided by that of the layer's other weights, as the median over
the layers.

Finished trainings are not repeated and interrupted ones continue, so the same command completes what was interrupted:

    python scripts/measure_conversion.py --data hituav --path FOLDER --group '^(\\d_\\d+_\\d+)_'

summary.json holds the figures, and the last lines name the two reports.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pixelkeep.cli.session import session  # noqa: E402
from pixelkeep.errors import OptionError, PixelkeepError  # noqa: E402
from pixelkeep.report.tables import text_table  # noqa: E402
from pixelkeep.writing import write_text  # noqa: E402

if TYPE_CHECKING:
    from torch import Tensor

    from pixelkeep.experiments.compare import Outcome

SOURCE_SEED = 1000  # not a seed of the comparison
AGAINST_SCRATCH = "against-scratch"
SPARSE = 0.3  # share of zeros above which a layer counts as filled up; the least is half, if a part has no zeros


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="hituav", help="dataset YAML, or the name of one in data/")
    parser.add_argument("--path", help="folder of the dataset, in place of the YAML's own")
    parser.add_argument("--group", help="as of 'pixelkeep compare': what is drawn together")
    parser.add_argument("--stock", default="yolov5-n", help="the strided network")
    parser.add_argument(
        "--targets",
        nargs="+",
        type=target,
        default=["yolov5-spdconv-n:0.1", "yolov5-spd-n"],
        metavar="MODEL[:NOISE]",
        help="what it becomes; with noise given, with and without (default: yolov5-spdconv-n:0.1 yolov5-spd-n)",
    )
    parser.add_argument("--scratch", nargs="*", default=["yolov5-spdconv-n"], help="also trained from nothing")
    parser.add_argument("--checkpoint", type=Path, help="where all start; trained here by default")
    parser.add_argument("--source-epochs", type=int, default=20, help="of the training of that checkpoint")
    parser.add_argument("--epochs", type=int, default=10, help="of each continuation")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any other training setting")
    parser.add_argument("--project", type=Path, default=Path("runs/measure-conversion"))
    return parser.parse_args()


def target(word: str) -> str:
    """Return a word of --targets after checking its noise."""
    _, _, noise = word.partition(":")
    if noise and not float(noise) > 0:  # float raises ValueError as well; argparse reports it
        raise ValueError
    return word


def shared(options: argparse.Namespace) -> dict:
    """Return the settings that all trainings share; those of --set take precedence.

    Biases do not start at a learning rate of their own, which would forget what the checkpoint's biases have learnt.
    """
    own = {"data": options.data, "path": options.path, "imgsz": options.imgsz, "batch": options.batch}
    return {**own, "optimizer": "AdamW", "lr0": 0.001, "warmup_epochs": 1, "warmup_bias_lr": 0.0}


def assigned(options: argparse.Namespace, flags: dict) -> dict:
    from pixelkeep.ultra.running.settings import merge

    return merge(flags, command="train", assignments=options.set)


def source(options: argparse.Namespace) -> Path:
    """Return the checkpoint that all arms start from, after training it or resuming its training if necessary.

    Raises:
        OptionError: The folder holds a training with other settings.
    """
    from pixelkeep.ultra.commands import training
    from pixelkeep.ultra.running import runs

    if options.checkpoint is not None:
        return options.checkpoint
    folder, note = options.project / "source", options.project / "source.json"
    own = {"model": options.stock, "epochs": options.source_epochs, "seed": SOURCE_SEED, "pretrained": False}
    settings = assigned(options, shared(options) | own)
    told = json.dumps(settings, indent=2, sort_keys=True, default=str)
    if note.is_file() and note.read_text(encoding="utf-8") != told:
        raise OptionError(f"{folder} was trained with other settings ({note}); give another --project")
    write_text(note, told)
    if not runs.is_finished(folder):
        if (folder / "weights" / "last.pt").is_file():
            training.resume(str(folder), {}, requested=True, assignments=None)
        else:
            place = {"project": str(options.project), "name": "source", "exist_ok": True}
            training.train(settings | place)
    return folder / "weights" / "last.pt"


def converted(start: Path, options: argparse.Namespace) -> dict[Path, float]:
    """Write the checkpoint that each arm starts from, the strided one's too, and return the noise in each by its file.

    Raises:
        OptionError: A conversion without noise is not exact.
    """
    from pixelkeep.ultra.conversion.models import convert_model

    plain = [word.partition(":")[0] for word in options.targets]
    words = [options.stock, *dict.fromkeys(plain), *(word for word in options.targets if ":" in word)]
    found = {}
    for word in words:
        model, _, noise = word.partition(":")
        path = options.project / "starts" / f"{_arm(options, word)}.pt"
        if not _comes_from(path, start):
            path.parent.mkdir(parents=True, exist_ok=True)
            report = convert_model(start, model, path, noise=float(noise or 0))
            if not noise and not report.exact:
                raise OptionError(f"{word}: no exact conversion of {start}: {report.summary()}")
        found[path] = float(noise or 0)
    return found


def _arm(options: argparse.Namespace, word: str) -> str:
    """Return an arm's name, short enough for a table, such as spdconv-n-noise0.1 for yolov5-spdconv-n:0.1."""
    model, _, noise = word.partition(":")
    if model == options.stock:
        return f"{model}-continued"
    return (model.partition("-")[2] or model) + (f"-noise{float(noise):g}" if noise else "-converted")


def _comes_from(path: Path, start: Path) -> bool:
    """Return whether a file exists and is a conversion of this checkpoint."""
    from pixelkeep.ultra.weights.checkpoints import load

    digest = hashlib.sha256(start.read_bytes()).hexdigest()
    return path.is_file() and load(path).get("converted", {}).get("sha256") == digest


def from_scratch(options: argparse.Namespace) -> list[Path]:
    """Train the targets of --scratch, and return their run folders."""
    from pixelkeep.experiments.cells import train_missing
    from pixelkeep.experiments.grid import plan

    if not options.scratch:
        return []
    own = {"epochs": options.source_epochs + options.epochs, "project": str(options.project), "name": "scratch"}
    grid = plan(options.scratch, options.seeds, assigned(options, shared(options) | own))
    if failed := train_missing(grid):
        raise OptionError(f"{next(iter(failed))} failed: {next(iter(failed.values()))}; the same command tries again")
    return [cell.folder for cell in grid.cells]


def judged(options: argparse.Namespace, starts: dict[Path, float]) -> dict[str, Outcome]:
    """Train what is missing, and return the comparisons with the strided network and with training from scratch."""
    from pixelkeep.experiments.compare import compare_any, compare_runs

    flags = shared(options) | {"epochs": options.epochs, "project": str(options.project), "name": "continued"}
    continued = compare_any(
        list(map(str, starts)), flags, seeds=options.seeds, group=options.group, assignments=options.set
    )
    continued.require_all()
    found = {"continued from one checkpoint": continued}
    if scratch := from_scratch(options):
        folder = options.project / AGAINST_SCRATCH
        shutil.rmtree(folder, ignore_errors=True)  # left by an earlier call, perhaps with fewer seeds
        runs = [*scratch, *(folder for path in starts for folder in cells(options, path))]
        place = {"project": str(folder.parent), "name": folder.name, "baseline": options.scratch[0]}
        found["against training from scratch"] = compare_runs(list(map(str, runs)), group=options.group, **place)
    return found


def cells(options: argparse.Namespace, start: Path) -> list[Path]:
    """Return the run folders of one arm, in order of their seeds."""
    return sorted((options.project / "continued" / start.stem).glob("seed*"))


def zeros(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the places of zeros, by name, in the convolution weights that the conversion has filled up with zeros."""
    found = {name: weight == 0 for name, weight in state.items() if weight.ndim == 4}
    return {name: places for name, places in found.items() if places.float().mean() > SPARSE}


def moved(options: argparse.Namespace, starts: dict[Path, float]) -> list[list[str]]:
    """Return a row per converted arm: how large the weights that began as zero are, at the start and at the end."""
    from pixelkeep.ultra.weights.checkpoints import load, model_of

    def state(path: Path) -> dict[str, Tensor]:
        return model_of(load(path)).float().state_dict()

    def size(path: Path, places: dict[str, Tensor]) -> float:
        found, ratios = state(path), []
        for name, free in places.items():
            ratios.append(float(found[name][free].square().mean().sqrt() / found[name][~free].square().mean().sqrt()))
        return statistics.median(ratios)

    rows = []
    for path, noise in starts.items():
        plain = path.with_name(f"{path.stem.removesuffix(f'-noise{noise:g}')}-converted.pt") if noise else path
        if not (places := zeros(state(plain))):
            continue
        ends = [size(folder / "weights" / "last.pt", places) for folder in cells(options, path)]
        rows.append([path.stem, len(places), f"{size(path, places):.3f}", f"{statistics.mean(ends):.3f}"])
    return rows


def main() -> None:
    options = arguments()
    with session():
        start = source(options)
        starts = converted(start, options)
        outcomes = judged(options, starts)
        rows = moved(options, starts)
    figures = {"source": str(start), "zeros": rows} | {title: found.document for title, found in outcomes.items()}
    write_text(options.project / "summary.json", json.dumps(figures, indent=2))
    for title, outcome in outcomes.items():
        print(f"\n{title}\n\n{outcome.table}\n\npage      {outcome.page}")
    print(f"\n{text_table(['zeros by the other weights', 'layers', 'start', 'end'], rows)}")


if __name__ == "__main__":
    try:
        main()
    except PixelkeepError as error:
        sys.exit(str(error))
