"""Builds what a model definition describes on the meta device: whatever is wrong with it shows before memory is used.

A definition is a user's YAML or comes with a checkpoint; either may describe what no memory holds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from ultralytics.nn import tasks

from pixelkeep.errors import ModelError, PixelkeepError

PROBE = 256  # pixels a side, as Ultralytics takes to measure the strides of a network
MOST_MODULES = 12_000  # constructed while a network is parsed; those of the largest models here are 3,300
MOST_VALUES = 2**28  # in the feature maps of all rows, of two images; those of the largest models here are 2**25.4


def check_definition(
    definition: dict,
    shown: object,
    channels: int = 3,
    task: str = "detect",
    before_running: Callable[[nn.Module], None] | None = None,
) -> None:
    """Build a definition and run it, both on the meta device.

    Args:
        definition: With its scale filled in.
        shown: What messages call it.
        channels: Input channels.
        task: What it is to be for, in Ultralytics' name.
        before_running: Looks at the network that was built, and may refuse it.

    Raises:
        ModelError: It is no model definition, cannot be built, or is for another task.
        PixelkeepError: What ``before_running`` raises.
    """
    require_rows(definition, shown)
    _require_task(tasks.guess_model_task(definition), task, shown)
    _refuse_downloads(definition, shown)
    network = tasks.BaseModel()
    with _told(shown), torch.device("meta"), _bounded(shown):
        network.model, network.save = tasks.parse_model(deepcopy(definition), channels, False)
    if before_running is not None:
        before_running(network)
    with _told(shown), _bounded_maps(network, shown), torch.no_grad():
        # In training mode: decoding needs real anchors. Two images: one value cannot be normalised.
        network.train()(torch.empty(2, channels, PROBE, PROBE, device="meta"))
        yaml.safe_dump(definition)  # as the run folder will hold it


@contextlib.contextmanager
def _told(shown: object) -> Iterator[None]:
    """Tell in one line what Ultralytics' parser fails of; it does so in whatever way a wrong row makes it fail.

    Raises:
        ModelError: Where anything fails.
    """
    try:
        yield
    except PixelkeepError:
        raise
    except Exception as error:
        told = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ModelError(f"model '{shown}' cannot be built ({told}); check its rows and scales") from error


def require_rows(content: object, shown: object) -> dict:
    """Return the definition if it has the two lists of rows that make one."""
    rows = isinstance(content, dict) and [content.get(key) for key in ("backbone", "head")]
    if not rows or not all(isinstance(part, list) and all(isinstance(row, list) for row in part) for part in rows):
        raise ModelError(f"model '{shown}': not a model definition; it needs 'backbone' and 'head' with lists of rows")
    return content


def _require_task(found: str | None, task: str, shown: object) -> None:
    if found != task:
        what = "detection models" if task == "detect" else f"models for task '{task}'"
        raise ModelError(f"model '{shown}' is for task '{found}'; this command works with {what}")


def _refuse_downloads(definition: dict, shown: object) -> None:
    """Refuse a row for which Ultralytics would fetch pretrained weights while it builds the network."""
    for row in definition["backbone"] + definition["head"]:
        if row[2:3] == ["TorchVision"] and not (len(row) > 3 and row[3][2:3] in ([None], ["None"])):
            raise ModelError(
                f"model '{shown}': row {row} downloads weights; write None as third argument of TorchVision"
            )


@contextlib.contextmanager
def _bounded(shown: object) -> Iterator[None]:
    """Refuse to construct modules without end.

    Raises:
        ModelError: Inside, where there are too many.
    """
    construct, left = nn.Module.__init__, MOST_MODULES

    def counted(module: nn.Module, *args: Any, **keywords: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise ModelError(f"model '{shown}' has more than {MOST_MODULES} parts; check its repeats")
        construct(module, *args, **keywords)

    nn.Module.__init__ = counted
    try:
        yield
    finally:
        nn.Module.__init__ = construct


@contextlib.contextmanager
def _bounded_maps(network: nn.Module, shown: object) -> Iterator[None]:
    """Refuse to make feature maps that no memory holds, in one layer or in all rows.

    Raises:
        ModelError: Inside, where a network makes them.
    """
    total = 0

    def count(module: nn.Module, _: Any, output: Any) -> None:
        nonlocal total
        values = sum(part.numel() for part in flat(output))
        total += values if hasattr(module, "i") else 0  # which rows alone have
        if max(values, total) > MOST_VALUES:
            raise ModelError(f"model '{shown}' makes feature maps of more than {MOST_VALUES} values; check its rows")

    hooks = [module.register_forward_hook(count) for module in network.modules()]
    try:
        yield
    finally:
        for hook in hooks:  # all of Ultralytics' networks share one activation
            hook.remove()


def flat(output: Any) -> list[Tensor]:
    """Return the tensors in what a layer puts out."""
    parts = output.values() if isinstance(output, dict) else output if isinstance(output, (list, tuple)) else ()
    return [output] if isinstance(output, Tensor) else [tensor for part in parts for tensor in flat(part)]
