"""Measure how much objects of each size weigh in the losses before anything is learnt, for given `initial_box` values.

    python scripts/measure_beginning.py yolov5-n yolov5-p2-n --nwd 0.5

The figure is the sum of the assigner's target scores, which weight the class and box losses, for 32 squares at random
places in two images of 320 pixels. The boxes that a new head begins with are the setting ``initial_box``, described in
docs/recipe.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pixelkeep.cli.session import session, show  # noqa: E402
from pixelkeep.report.tables import text_table  # noqa: E402

SIDES = (4, 8, 12, 16, 24, 32, 64, 128, 256)  # pixels
IMAGE, OBJECTS = 320, 16  # side of an image in pixels, objects per image


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["yolov5-n", "yolov5-p2-n"], help="names, as of --model")
    parser.add_argument("--boxes", nargs="+", type=float, default=[1, 2, 4, 8], help="values of initial_box")
    parser.add_argument("--nwd", type=float, default=0.0, help="share of the Wasserstein distance")
    return parser.parse_args()


def counted(name: str, begin: float | None, side: int, nwd: float) -> float:
    """Return the sum of the assigner's target scores for squares of one size.

    Args:
        name: Name of the model.
        begin: Value of ``initial_box``; None for Ultralytics' own beginning.
        side: Side of the squares in pixels.
        nwd: Share of the Wasserstein distance.
    """
    import torch
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import DetectionModel

    from pixelkeep.ultra.running.recipe import Recipe
    from pixelkeep.ultra.trainers.beginning import begin_with
    from pixelkeep.ultra.trainers.loss import criterion

    torch.manual_seed(0)
    network = DetectionModel(f"{name}.yaml", verbose=False).train()
    network.args = get_cfg()
    begin_with(network, begin)
    count = 2 * OBJECTS
    boxes = torch.cat([0.1 + 0.8 * torch.rand(count, 2), torch.full((count, 2), side / IMAGE)], 1)
    batch = {"bboxes": boxes, "cls": torch.zeros(count, 1), "batch_idx": torch.arange(count) // OBJECTS}
    loss, seen = criterion(network, Recipe(nwd=nwd)), []
    loss = getattr(loss, "one2many", loss)
    loss.assigner.register_forward_hook(lambda assigner, inputs, outputs: seen.append(float(outputs[2].sum())))
    with torch.no_grad():
        found = network(torch.rand(2, 3, IMAGE, IMAGE))
        loss(found.get("one2many", found), batch)
    return seen[0]


def main() -> None:
    options = arguments()
    rows = []
    with session():
        for name in options.models:
            for begin in (None, *options.boxes):
                figures = [f"{counted(name, begin, side, options.nwd):.2g}" for side in SIDES]
                rows.append([name, "as Ultralytics" if begin is None else f"{begin:g}", *figures])
    show(text_table(["model", "initial_box", *(f"{side} px" for side in SIDES)], rows))


if __name__ == "__main__":
    main()
