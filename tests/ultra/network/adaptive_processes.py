"""The program that test_adaptive_networks.py runs in two processes: the train command, on masks that may be empty.

    torchrun --nproc-per-node 2 adaptive_processes.py MASKS FOLDER arguments of train ...

MASKS is ``drawn`` for masks that are drawn as always, or ``uneven`` for masks that are drawn in the first process and
empty in every step of the second. At the end each process writes its parameters and its masks' shares into FOLDER.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from pixelkeep.cli.main import run
from pixelkeep.ultra.running import environment

environment.prepare()  # before Ultralytics is imported

with contextlib.redirect_stdout(sys.stderr):  # the commands send Ultralytics' output there
    from ultralytics.utils.torch_utils import unwrap_model

from pixelkeep.blocks import LearnedMask, masks  # noqa: E402
from pixelkeep.ultra.running import distributed  # noqa: E402
from pixelkeep.ultra.trainers import base  # noqa: E402


def watch(folder: Path) -> None:
    """Have each process write its parameters and the shares of its masks after the last epoch."""
    end, remember, shares = base.RunTrainer.final_eval, LearnedMask._remember, []

    def note(mask: LearnedMask, cells: Tensor, loss: Tensor | None) -> Tensor:
        if mask.training and not cells.is_meta:
            shares.append(cells.detach().mean().item())
        return remember(mask, cells, loss)

    def final_eval(trainer: base.RunTrainer) -> None:
        network: nn.Module = unwrap_model(trainer.model)
        held = {"parameters": dict(network.named_parameters()), "shares": shares}
        torch.save(held, folder / f"{distributed.rank()}.pt")
        end(trainer)

    LearnedMask._remember, base.RunTrainer.final_eval = note, final_eval


def empty_in_the_second() -> None:
    """Draw no active cell in the second process."""
    if distributed.rank() == 1:
        masks.straight_through = torch.zeros_like


if __name__ == "__main__":
    if sys.argv[1] == "uneven":
        empty_in_the_second()
    watch(Path(sys.argv[2]))
    run(["train", *sys.argv[3:]])
