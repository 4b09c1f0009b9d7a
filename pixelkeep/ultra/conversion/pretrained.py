"""Pretrained weights for ``train --pretrained``, converted to the structure of the network to train, or refused.

Ultralytics loads tensors by row number and shape, and goes on with whatever fits. From a network of another size, task
or structure few tensors fit, and none of these end up in their place.
"""

from __future__ import annotations

from copy import copy, deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.nn import tasks
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER

from pixelkeep.errors import ModelError, WeightsError
from pixelkeep.report.conversion import Conversion
from pixelkeep.ultra.conversion.channels import with_channels
from pixelkeep.ultra.conversion.models import carried_over, usable
from pixelkeep.ultra.network.fusing import FUSED, was_fused
from pixelkeep.ultra.weights.class_branches import match_widths
from pixelkeep.ultra.weights.integrity import not_numbers

HEADS = ("Detect", "RegionDetect")  # heads of networks into which weights are carried by the role of a layer
WHAT = "the pretrained weights"


def adapted(
    weights: nn.Module | None, definition: Any, channels: int = 3, names: dict[int, str] | None = None
) -> tuple[nn.Module | None, Conversion | None]:
    """Return pretrained weights in the structure of the network to train.

    Args:
        weights: The pretrained network, or None.
        definition: Definition of the model to train, or its name.
        channels: Number of channels of the training images.
        names: Class names of the training data by number; those of the weights by default.

    Returns:
        The network, and a report of what became of its weights. If all tensors have their place in the network to
        train, apart from those of other classes, the first is ``weights`` itself, adapted to the channels, and the
        second is None. If the network to train has a width that no size of its family has, as those that `pixelkeep
        compare` makes for equal cost, possibly no weights can be taken; the report says so.

    Raises:
        PixelkeepError: The weights are for another task, fused, or do not fit; see `carried_over`.
    """
    if weights is None or definition is None:
        return weights, None
    definition = definition if isinstance(definition, dict) else tasks.yaml_model_load(definition)
    title = Path(str(definition.get("yaml_file") or "model")).stem
    _require_task(weights, definition, title)
    if problem := not_numbers(weights.state_dict()):
        raise WeightsError(f"{WHAT}: {problem}")
    if isinstance(weights, DetectionModel):
        weights = with_channels(weights, channels)
    lacking, total = _misfits(weights, definition)
    if not lacking:
        return _in_order(weights, names), None
    if was_fused(weights):
        raise WeightsError(f"{WHAT}: {FUSED}")
    same_rows, same_size = _rows(weights.yaml) == _rows(definition), _size(weights.yaml) == _size(definition)
    if isinstance(weights, DetectionModel) and definition["head"][-1][2] in HEADS:
        of_a_width = same_rows and same_size
        found, report = carried_over(usable(weights, WHAT), definition, title, names, nothing=of_a_width)
        return _in_order(found, names), report
    if same_rows and not same_size:
        raise ModelError(
            f"model '{title}' differs from {WHAT} in width or depth; they are of size {_size(weights.yaml)}"
        )
    if lacking == total:
        raise ModelError(f"model '{title}': nothing in {WHAT} fits it; give weights of its own family")
    LOGGER.warning(f"{WHAT} differ in structure from model '{title}': {lacking} of its {total} tensors start fresh")
    return weights, None


def _require_task(weights: nn.Module, definition: dict, title: str) -> None:
    given = getattr(weights, "task", None) or tasks.guess_model_task(weights)
    wanted = tasks.guess_model_task(definition)
    if given != wanted:
        raise WeightsError(
            f"{WHAT} are for task '{given}', but model '{title}' is for '{wanted}'; give weights for its task"
        )


def _rows(definition: dict) -> list[tuple]:
    """Return the source and the module of each row, which tell whether two networks have the same rows."""
    return [(str(row[0]), row[2]) for row in definition["backbone"] + definition["head"]]


def _size(definition: dict) -> str:
    """Return the letter of a definition's size; if it names none, the first, which Ultralytics takes."""
    return definition.get("scale") or next(iter(definition.get("scales") or ()), "")


def _misfits(weights: nn.Module, definition: dict) -> tuple[int, int]:
    """Return how many tensors of a network the weights do not fill, and how many tensors the network has.

    If the weights fill all tensors, the first number counts the parameters that only the weights have. The network is
    built from the definition for the weights' own classes and channels.
    """
    network, channels = tasks.BaseModel(), weights.yaml.get("channels", 3)
    definition = {**definition, "nc": weights.yaml.get("nc", len(weights.names)), "scale": _size(definition)}
    with torch.device("meta"):
        network.model, _ = tasks.parse_model(deepcopy(definition), channels, False)
    given = {name: list(value.shape) for name, value in weights.state_dict().items()}
    match_widths(network, definition, channels, given)
    expected = {name: list(value.shape) for name, value in network.state_dict().items()}
    unfilled = [name for name, shape in expected.items() if given.get(name) != shape]
    left = {name for name, _ in weights.named_parameters()} - expected.keys()  # int8 ranges are not parameters
    return len(unfilled) or len(left), len(expected)


def _in_order(weights: nn.Module, names: dict[int, str] | None) -> nn.Module:
    """Return weights whose classes Ultralytics takes in their order, if the data has the same classes in that order.

    Ultralytics looks classes up by name without regard to case, which mixes up names that differ in nothing else.
    """
    known = list(getattr(weights, "names", {}).values())
    if names is None or known != list(names.values()) or len({name.strip().lower() for name in known}) == len(known):
        return weights
    weights = copy(weights)
    weights.names = {number: str(number) for number in range(len(known))}  # Ultralytics leaves these alone
    return weights
