"""The train command, watched from inside, which test_distributed.py runs in several processes.

    torchrun --nproc-per-node 2 several_processes.py SCENARIO FOLDER arguments of train ...

SCENARIO is ``watch``, which writes what each process holds at the end into FOLDER, or ``fail``, in which the second
process fails in its second epoch.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import torch
from torch.utils.data.distributed import DistributedSampler

from pixelkeep.cli.main import run
from pixelkeep.ultra.running import environment

environment.prepare()  # before Ultralytics is imported

with contextlib.redirect_stdout(sys.stderr):  # where the commands send Ultralytics' messages
    from ultralytics.data import build
    from ultralytics.utils.torch_utils import unwrap_model

from pixelkeep.ultra.running import distributed  # noqa: E402
from pixelkeep.ultra.trainers import boxes as module  # noqa: E402
from pixelkeep.ultra.trainers.boxes import Trainer  # noqa: E402
from pixelkeep.ultra.validators.boxes import Validator  # noqa: E402


class Knowing(Validator):
    """Adds each label, shifted by a sixth of its width, to the network's detections, so that AP is neither 0 nor 1."""

    def update_metrics(self, preds: list[dict], batch: dict) -> None:
        more = []
        for index, pred in enumerate(preds):
            labelled = self._prepare_batch(index, batch)
            boxes = labelled["bboxes"].clone().reshape(-1, 4)
            boxes[:, [0, 2]] += (boxes[:, 2:3] - boxes[:, 0:1]) / 6
            found = {"bboxes": boxes, "conf": torch.linspace(0.9, 0.5, len(boxes)), "cls": labelled["cls"]}
            more.append({key: torch.cat([found[key], pred[key]]) for key in found} | {"extra": pred["extra"][:0]})
        super().update_metrics(more, batch)


def validated(trainer: Trainer) -> dict | None:
    """Validate once more with the averaged weights, and return the first process's figures and detections."""
    trainer.validate()
    validator = trainer.validator
    if validator.result is None:
        return None
    found = validator.detections()
    return {"stats": validator.result.to_dict(), "images": found.image_ids, "categories": found.category_ids} | {
        "boxes": found.boxes_xywh,
        "scores": found.scores,
    }


def watch(folder: Path) -> None:
    """Write what each process holds after the last epoch: counts, weights, its share of the images, and validations."""
    module.Validator = Knowing
    end, gather, own = Trainer.final_eval, module.Tally.gather, []

    def counted(tally: module.Tally) -> None:
        own.append(tally.counts)
        gather(tally)

    def final_eval(self: Trainer) -> None:
        shared = validated(self)
        share = list(self.test_loader.sampler)
        build.ContiguousDistributedSampler = lambda dataset: DistributedSampler(dataset, shuffle=False)
        self.validator.dataloader = self.get_dataloader(self.data["val"], len(share), distributed.rank(), "val")
        padded = list(self.validator.dataloader.sampler)
        held = {"tallies": own, "weights": unwrap_model(self.model).state_dict(), "average": self.ema.ema.state_dict()}
        held |= {"share": share, "shared": shared, "padded_share": padded, "padded": validated(self)}
        torch.save(held, folder / f"{distributed.rank()}.pt")
        end(self)

    Trainer.final_eval, module.Tally.gather = final_eval, counted


def fail(folder: Path) -> None:
    """Make the second process fail in its second epoch."""
    prepare = Trainer.preprocess_batch

    def preprocess_batch(self: Trainer, batch: dict) -> dict:
        if distributed.rank() == 1 and self.epoch == 1:
            raise RuntimeError("the second process fails")
        return prepare(self, batch)

    Trainer.preprocess_batch = preprocess_batch


if __name__ == "__main__":
    {"watch": watch, "fail": fail}[sys.argv[1]](Path(sys.argv[2]))
    run(["train", *sys.argv[3:]])
