"""Builds the network of a model definition on the meta device, so that errors in it show before memory is used.

A definition is a user's YAML or comes with a checkpoint; either may describe a network too large for any memory.
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

PROBE = 256  # side in pixels of the image that is run; Ultralytics uses the same to measure a network's strides
MOST_MODULES = 12_000  # modules that parsing a network may construct; the largest models here have 3,300
MOST_VALUES = 2**28  # values in the feature maps of all rows, for two images; the largest models here have 2**25.4


def check_definition(
    definition: dict,
    shown: object,
    channels: int = 3,
    task: str = "detect",
    before_running: Callable[[nn.Module], None] | None = None,
) -> None:
    """Check a definition by building its network and running it, both on the meta device.

    Args:
        definition: The model definition, with its scale filled in.
        shown: The name of the model in messages.
        channels: Number of input channels.
        task: Ultralytics' name of the task that the model must be for.
        before_running: Called with the network that was built; may refuse it by raising an error.

    Raises:
        ModelError: The content is not a model definition, cannot be built, or is for another task.
        PixelkeepError: Any error that ``before_running`` raises.
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
        # In training mode, since decoding needs real anchors. Two images, since BatchNorm cannot normalise one value.
        network.train()(torch.empty(2, channels, PROBE, PROBE, device="meta"))
        yaml.safe_dump(definition)  # the run folder will hold the definition in this form


@contextlib.contextmanager
def _told(shown: object) -> Iterator[None]:
    """Turn any error inside into a one-line ModelError, as a wrong row can make Ultralytics' parser raise anything.

    Raises:
        ModelError: Anything inside fails, unless with an error of pixelkeep's own.
    """
    try:
        yield
    except PixelkeepError:
        raise
    except Exception as error:
        told = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ModelError(f"model '{shown}' cannot be built ({told}); check its rows and scales") from error


def require_rows(content: object, shown: object) -> dict:
    """Return the definition after checking that it has the lists of rows ``backbone`` and ``head``.

    Raises:
        ModelError: The content is not a model definition.
    """
    rows = isinstance(content, dict) and [content.get(key) for key in ("backbone", "head")]
    if not rows or not all(isinstance(part, list) and all(isinstance(row, list) for row in part) for part in rows):
        raise ModelError(f"model '{shown}': not a model definition; it needs 'backbone' and 'head' with lists of rows")
    return content


def _require_task(found: str | None, task: str, shown: object) -> None:
    if found != task:
        what = "detection models" if task == "detect" else f"models for task '{task}'"
        raise ModelError(f"model '{shown}' is for task '{found}'; this command works with {what}")


def _refuse_downloads(definition: dict, shown: object) -> None:
    """Refuse a row for which Ultralytics would download pretrained weights while it builds the network."""
    for row in definition["backbone"] + definition["head"]:
        if row[2:3] == ["TorchVision"] and not (len(row) > 3 and row[3][2:3] in ([None], ["None"])):
            raise ModelError(
                f"model '{shown}': row {row} downloads weights; write None as third argument of TorchVision"
            )


@contextlib.contextmanager
def _bounded(shown: object) -> Iterator[None]:
    """Limit the number of modules that are constructed inside the context.

    Raises:
        ModelError: Raised inside the context when there are too many modules.
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
    """Limit the size of the feature maps that a network computes inside the context, of one layer or of all rows.

    Raises:
        ModelError: Raised inside the context when the feature maps are too large.
    """
    total = 0

    def count(module: nn.Module, _: Any, output: Any) -> None:
        nonlocal total
        values = sum(part.numel() for part in flat(output))
        total += values if hasattr(module, "i") else 0  # only rows have this attribute
        if max(values, total) > MOST_VALUES:
            raise ModelError(f"model '{shown}' makes feature maps of more than {MOST_VALUES} values; check its rows")

    hooks = [module.register_forward_hook(count) for module in network.modules()]
    try:
        yield
    finally:
        for hook in hooks:  # necessary, as all of Ultralytics' networks share one activation module
            hook.remove()


def flat(output: Any) -> list[Tensor]:
    """Return all tensors in the output of a layer, which may be nested."""
    parts = output.values() if isinstance(output, dict) else output if isinstance(output, (list, tuple)) else ()
    return [output] if isinstance(output, Tensor) else [tensor for part in parts for tensor in flat(part)]
