"""Measure how far networks with masks differ between training mode and evaluation, on the same images.

    python scripts/measure_modes.py [MODEL ...] [--steps 16] [--imgsz 256]

Each network is trained for a few steps on the generated demo data, then runs on its validation images in evaluation and
in training mode. BatchNorm always runs as in evaluation, since its statistics are not in question. The class logits of
the anchor points that exist in both modes (detection) or the features that the last layer reads (segmentation) are
compared: the root of the sum of squared differences, relative to that of the values in evaluation. Masks are drawn with
Gumbel noise, as in training, or by the threshold, as in evaluation; the latter leaves only the stages' own difference.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pixelkeep.ultra.running import environment  # noqa: E402

environment.prepare()  # before Ultralytics is imported

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

with contextlib.redirect_stdout(sys.stderr):  # keeps Ultralytics' output out of the table
    from ultralytics import YOLO

from pixelkeep.blocks import LearnedMask  # noqa: E402
from pixelkeep.datasets.demo import write_demo  # noqa: E402
from pixelkeep.datasets.demo.labels import write_mask_demo  # noqa: E402
from pixelkeep.ultra.commands import tasks  # noqa: E402
from pixelkeep.ultra.running.recipe import Recipe  # noqa: E402

MODELS = ("yolov5-cad-n", "yolov5-select-n", "resnet18-cad-sem", "resnet18-select-sem")
BATCH, SPLITS = 4, {"train": 32, "val": 8, "test": 1}


def trained(name: str, steps: int, imgsz: int, folder: Path) -> tuple[nn.Module, list[Tensor]]:
    """Train a network, and return it with the batches of validation images."""
    torch.manual_seed(0)
    task = tasks.SEMANTIC if name.endswith("-sem") else tasks.DETECT
    write = write_mask_demo if task is tasks.SEMANTIC else write_demo
    data = task.write(task.resolve(str(write(folder / "data", splits=SPLITS))))
    yolo = YOLO(f"{name}.yaml", verbose=False)

    def settle(trainer: Any) -> None:  # else so few steps leave the statistics as they began
        for layer in trainer.model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = 0.2

    yolo.add_callback("on_train_start", settle)
    options = {"imgsz": imgsz, "epochs": max(steps * BATCH // SPLITS["train"], 1), "batch": BATCH, "nbs": BATCH}
    options |= {"optimizer": "AdamW", "lr0": 0.002, "warmup_epochs": 0, "val": False, "workers": 0, "device": "cpu"}
    trainer = partial(task.trainer, recipe=Recipe(best=task.best[0]))
    yolo.train(data=str(data), trainer=trainer, plots=False, project=str(folder), name="run", **options)
    trainer = yolo.trainer
    loader = trainer.get_dataloader(trainer.data["val"], BATCH, -1, "val")
    return trainer.ema.ema.eval(), [trainer.preprocess_batch(batch)["img"] for batch in loader]


def learning(model: nn.Module, *, noise: bool) -> nn.Module:
    """Return a copy in training mode, with BatchNorm, and without noise the masks too, as in evaluation."""
    twin = deepcopy(model).train()
    for layer in twin.modules():
        if isinstance(layer, nn.BatchNorm2d) or (isinstance(layer, LearnedMask) and not noise):
            layer.eval()
    return twin


def run(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Run a network on images and return what is compared.

    Returns:
        The logits or features, (N, C, M); which of their M places exist, bool (N, M); and the masks.
    """
    masks, read = [], []
    hooks = [m.register_forward_hook(lambda *seen: masks.append(seen[2])) for m in model.modules() if is_mask(m)]
    hooks.append(model.model[-1].register_forward_pre_hook(lambda _, inputs: read.append(inputs[0])))
    with torch.no_grad():
        found = model(images)
    for hook in hooks:
        hook.remove()
    raw = found[1] if isinstance(found, tuple) else found
    if isinstance(raw, dict) and raw.get("scores") is not None:
        values = raw["scores"]
        existing = raw.get("active")
    else:
        values, existing = read[0][0].flatten(2), None
    return values, torch.ones_like(values[:, 0], dtype=torch.bool) if existing is None else existing, masks


def is_mask(layer: nn.Module) -> bool:
    """Return whether a layer decides which cells are active."""
    return isinstance(layer, LearnedMask)


def rows(name: str, steps: int, imgsz: int, folder: Path) -> Iterator[tuple[str, str, float, float, float]]:
    """Yield model, noise, share of active cells in evaluation, share of mask cells that differ, relative difference."""
    model, batches = trained(name, steps, imgsz, folder)
    for noise in (False, True):
        twin = learning(model, noise=noise)
        error = size = other = cells = active = 0.0
        for images in batches:
            expected, exists, masks = run(model, images)
            got, there, drawn = run(twin, images)
            both = (exists & there)[:, None]
            error += ((got - expected) * both).square().sum().item()
            size += (expected * both).square().sum().item()
            other += sum((a != b).sum().item() for a, b in zip(masks, drawn, strict=True))
            active += sum(a.sum().item() for a in masks)
            cells += sum(a.numel() for a in masks)
        yield name, "on" if noise else "off", active / cells, other / cells, (error / size) ** 0.5


def main() -> None:
    """Print a row for each network, with Gumbel noise off and on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--imgsz", type=int, default=256)
    args = parser.parse_args()
    print(
        "| Model | Gumbel noise | Active in evaluation | Mask cells that differ | Difference |\n|---|---|---|---|---|"
    )
    for name in args.models:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
            found = list(rows(name, args.steps, args.imgsz, Path(folder)))
        for model, noise, active, other, difference in found:
            print(f"| {model} | {noise} | {active:.3f} | {other:.3f} | {difference:.2g} |", flush=True)


if __name__ == "__main__":
    main()
