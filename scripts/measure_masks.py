"""Train a network with learned masks for a few steps, and measure what its masks hold in evaluation.

    python scripts/measure_masks.py MODEL [--steps 64] [--imgsz 128] [--without-boxes]

Prints for each mask the share of active cells, in the last steps of training and on the validation images, and the
recall: the share of active cells among those that a small box touches in the validation images. Masks that know nothing
have a recall as large as their share. Training uses 32 images of the demo data, batches of four and AdamW. BatchNorm's
momentum is 0.2, since so few steps would otherwise leave its statistics where they began.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pixelkeep.ultra.running import environment  # noqa: E402

environment.prepare()  # before Ultralytics is imported

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from ultralytics import YOLO  # noqa: E402

from pixelkeep.blocks import ObjectMask  # noqa: E402
from pixelkeep.blocks.object_mask import covered  # noqa: E402
from pixelkeep.datasets.definitions.spec import load_spec  # noqa: E402
from pixelkeep.datasets.demo import write_demo  # noqa: E402
from pixelkeep.ultra.data.resolving import write_resolved  # noqa: E402
from pixelkeep.ultra.trainers.boxes import Trainer  # noqa: E402

BATCH, IMAGES = 4, 32


def masks(model: nn.Module) -> list[ObjectMask]:
    """Return a network's masks in the order of its layers."""
    return [layer for layer in model.modules() if isinstance(layer, ObjectMask)]


def trained(model: str, steps: int, imgsz: int, data: Path, folder: Path) -> tuple[Trainer, list[list[float]]]:
    """Train a model, and return the trainer and the share of active cells of each mask in every step."""
    torch.manual_seed(0)
    yolo, shares = YOLO(f"{model}.yaml", verbose=False), []

    def settle(trainer: Trainer) -> None:
        for layer in trainer.model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = 0.2

    yolo.add_callback("on_train_start", settle)
    yolo.add_callback("on_train_batch_end", lambda t: shares.append([mask.fraction for mask in masks(t.model)]))
    options = {"imgsz": imgsz, "epochs": max(steps * BATCH // IMAGES, 1), "batch": BATCH, "nbs": BATCH, "workers": 0}
    options |= {"optimizer": "AdamW", "lr0": 0.002, "warmup_epochs": 0, "mosaic": 0.0, "scale": 0.0, "val": False}
    yolo.train(data=str(data), trainer=Trainer, device="cpu", plots=False, project=str(folder), name="run", **options)
    return yolo.trainer, shares


def held(mask: ObjectMask, batch: dict[str, Tensor], shape: torch.Size) -> Tensor:
    """Return the cells of a mask that a small box touches, bool (N, rows, columns)."""
    small = (batch["bboxes"][:, 2:] * torch.tensor(batch["img"].shape[2:][::-1])).amax(1) <= mask.largest
    cells = covered(batch["bboxes"][small], *shape[2:]).float()
    return torch.zeros(shape[0], *shape[2:]).index_add_(0, batch["batch_idx"][small].long(), cells) > 0


def measured(trainer: Trainer) -> list[Tensor]:
    """Count the cells of each mask on the validation images.

    Returns:
        For each mask (4,): active cells, all cells, active cells with small objects, cells with small objects.
    """
    model = trainer.ema.ema.eval()
    sums = [torch.zeros(4) for _ in masks(model)]
    for batch in trainer.get_dataloader(trainer.data["val"], BATCH, -1, "val"):
        batch = trainer.preprocess_batch(batch)
        outputs: dict[nn.Module, Tensor] = {}
        hooks = [m.register_forward_hook(lambda m, x, y, o=outputs: o.update({m: y})) for m in masks(model)]
        with torch.no_grad():
            model(batch["img"])
        for total, (mask, active) in zip(sums, outputs.items(), strict=True):
            objects = held(mask, batch, active.shape)
            both = active[:, 0][objects].sum()
            total += torch.stack([active.sum(), torch.tensor(float(active.numel())), both, objects.sum().float()])
        for hook in hooks:
            hook.remove()
    return sums


def main() -> None:
    """Print a table with a row for each mask."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--imgsz", type=int, default=128)
    parser.add_argument("--without-boxes", action="store_true", help="leave the loss from boxes out")
    args = parser.parse_args()
    if args.without_boxes:
        ObjectMask.loss_from_boxes = lambda *given: None
    with tempfile.TemporaryDirectory() as folder:
        demo = write_demo(Path(folder) / "demo", splits={"train": IMAGES, "val": 8, "test": 1})
        data = write_resolved(load_spec(demo))
        with contextlib.redirect_stdout(sys.stderr):  # keeps Ultralytics' output out of the table
            trainer, shares = trained(args.model, args.steps, args.imgsz, data, Path(folder))
            sums = measured(trainer)
    last = torch.tensor(shares[-8:]).mean(0)
    print("| Mask | Active in training | In evaluation | Recall | Cells with small objects |\n|---|---|---|---|---|")
    for index, (share, (active, cells, both, objects)) in enumerate(zip(last, sums, strict=True)):
        print(f"| {index} | {share:.3f} | {active / cells:.3f} | {both / objects:.3f} | {objects / cells:.3f} |")


if __name__ == "__main__":
    main()
