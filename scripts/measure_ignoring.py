"""Measure what ignoring is worth, by hiding some small training objects as background or as objects to ignore.

For each seed a random fifth of the training objects under 32x32 pixels is hidden. One network is trained on data in
which these objects have no labels, another on data in which they are marked as objects to ignore. Both are validated on
the same complete labels. Prints the AP_S of both and their difference for each seed, and writes them to summary.json.
Finished trainings are not repeated and interrupted ones continue, so the same command completes what was interrupted:

    python scripts/measure_ignoring.py --path FOLDER
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pixelkeep import assets  # noqa: E402
from pixelkeep.cli.session import session  # noqa: E402
from pixelkeep.datasets.annotations.record import ImageRecord  # noqa: E402
from pixelkeep.datasets.definitions.spec import DatasetSpec  # noqa: E402
from pixelkeep.datasets.loading import load_split  # noqa: E402
from pixelkeep.datasets.saving import save_split, save_yaml  # noqa: E402
from pixelkeep.report.tables import text_table  # noqa: E402
from pixelkeep.writing import write_text  # noqa: E402

SMALL = 32**2  # square pixels, the upper limit of COCO's small objects
ARMS = ("background", "ignored")  # what becomes of the hidden objects
RECIPE = "ignoring"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="dataset YAML, or the name of one in data/; that of the recipe by default")
    parser.add_argument("--path", help="folder of the dataset, in place of the YAML's own")
    parser.add_argument("--model", help="that of the recipe by default")
    parser.add_argument("--imgsz", type=int, help="pixels; that of the recipe by default")
    parser.add_argument("--epochs", type=int, help="those of the recipe by default")
    parser.add_argument("--fraction", type=float, default=0.33, help="of the training images, chosen at random")
    parser.add_argument("--share", type=float, default=0.2, help="of the small training objects that is hidden")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--project", type=Path, default=Path("runs/measure-ignoring"))
    return parser.parse_args()


def chosen(records: list[ImageRecord], fraction: float) -> list[ImageRecord]:
    """Return a random share of the images, the same images for all seeds."""
    order = np.random.default_rng(0).permutation(len(records))
    return [records[index] for index in sorted(order[: max(1, round(len(records) * fraction))])]


def hidden(record: ImageRecord, share: float, arm: str, rng: np.random.Generator) -> ImageRecord:
    """Return a record with some small objects hidden, the same ones in both arms if the generators agree."""
    away = (record.areas < SMALL) & (rng.random(len(record.boxes)) < share)
    kept = np.ones(len(away), bool) if arm == "ignored" else ~away
    return replace(
        record,
        boxes=record.boxes[kept],
        classes=record.classes[kept],
        areas=record.areas[kept],
        difficult=(record.difficult | away)[kept],
        polygons=None,
        ids=None,
    )


def write_data(spec: DatasetSpec, options: argparse.Namespace, seed: int, arm: str) -> Path:
    """Write the data of one training with links to the images, unless it exists, and return its YAML."""
    name = f"{spec.file.stem}-{options.fraction:g}-{options.share:g}-seed{seed}-{arm}"
    root = assets.home() / "datasets" / "measure-ignoring" / name
    if not (root / "data.yaml").is_file():
        rng = np.random.default_rng(seed)
        train = chosen(load_split(spec, "train").records, options.fraction)
        save_split("yolo", root, "train", [hidden(r, options.share, arm, rng) for r in train], spec.names, link=True)
        save_split("yolo", root, "val", load_split(spec, "val").records, spec.names, link=True)
        save_yaml(root / "data.yaml", ("train", "val"), spec.names)
    return root / "data.yaml"


def measure(data: Path, base: dict, folder: Path) -> float:
    """Return the AP_S of one training, which is trained or continued first unless it is finished."""
    from pixelkeep.ultra.commands import training
    from pixelkeep.ultra.running import settings

    metrics = folder / "metrics.json"
    if not metrics.is_file():
        if (folder / "weights" / "last.pt").is_file():
            training.resume(str(folder), {}, requested=True, assignments=None)
        else:
            own = {"data": str(data), "project": str(folder.parent), "name": folder.name, "exist_ok": True}
            training.train(settings.merge(base | own, command="train", recipe=RECIPE))
    return json.loads(metrics.read_text(encoding="utf-8"))["AP_S"]


def table(found: dict[int, dict[str, float]]) -> str:
    """Return a table of AP_S by seed, with the mean of the differences and its standard error."""
    rows = [
        [f"seed {seed}", *(f"{pair[arm]:.4f}" for arm in ARMS), f"{pair[ARMS[1]] - pair[ARMS[0]]:+.4f}"]
        for seed, pair in found.items()
    ]
    less = [pair[ARMS[1]] - pair[ARMS[0]] for pair in found.values()]
    error = f" ± {statistics.stdev(less) / math.sqrt(len(less)):.4f}" if len(less) > 1 else ""
    means = [f"{statistics.mean(pair[arm] for pair in found.values()):.4f}" for arm in ARMS]
    rows.append(["mean", *means, f"{statistics.mean(less):+.4f}{error}"])
    return text_table(["AP_S", *ARMS, "difference"], rows)


def main() -> int:
    options = arguments()
    with session():
        from pixelkeep.ultra.data.resolving import resolve_data
        from pixelkeep.ultra.running import settings

        recipe = settings.load_recipe(RECIPE)
        changes = {key: getattr(options, key) for key in ("model", "imgsz", "epochs")}
        used = recipe | {key: value for key, value in changes.items() if value is not None}
        spec = resolve_data(options.data or recipe["data"], options.path)
        setup = f"{spec.file.stem}-{used['model']}-{used['imgsz']}px-{used['epochs']}-epochs"
        project = options.project / f"{setup}-{options.fraction:g}-{options.share:g}"
        found: dict[int, dict[str, float]] = {}
        for seed in range(options.seeds):
            found[seed] = {
                arm: measure(
                    write_data(spec, options, seed, arm), changes | {"seed": seed}, project / f"seed{seed}-{arm}"
                )
                for arm in ARMS
            }
            write_text(project / "summary.json", json.dumps({"AP_S": found, "settings": used}, indent=2))
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
