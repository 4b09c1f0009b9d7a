"""Pretrained weights for ``train --pretrained``: in the structure of the network that they are to start, or refused.

Ultralytics loads tensors by row number and shape, and goes on with whatever fits: of a network of another size, task or
structure that is little, and none of it is at its place.
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

HEADS = ("Detect", "RegionDetect")  # that weights go into by the role of a layer
WHAT = "the pretrained weights"


def adapted(
    weights: nn.Module | None, definition: Any, channels: int = 3, names: dict[int, str] | None = None
) -> tuple[nn.Module | None, Conversion | None]:
    """Return pretrained weights in the structure of the network that they are to start.

    Args:
        weights: The pretrained network, or None.
        definition: What is to be trained, or its name.
        channels: Of the images it is to be trained on.
        names: The classes it is to be trained on; those of the weights by default.

    Returns:
        The network, and what became of its weights. ``weights`` itself, for as many channels, and None where all of
        their tensors have their place in the network, but for those of other classes. Of another width than any size
        of its family has, as `pixelkeep compare` makes for equal cost, nothing may be taken; the report says so.

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
            f"model '{title}' has other widths or depths than {WHAT}; theirs is size {_size(weights.yaml)}"
        )
    if lacking == total:
        raise ModelError(f"model '{title}': nothing of {WHAT} fits it; give weights of its own family")
    LOGGER.warning(f"{WHAT} have another structure than model '{title}': {lacking} of its {total} tensors start fresh")
    return weights, None


def _require_task(weights: nn.Module, definition: dict, title: str) -> None:
    given = getattr(weights, "task", None) or tasks.guess_model_task(weights)
    wanted = tasks.guess_model_task(definition)
    if given != wanted:
        raise WeightsError(
            f"{WHAT}: for task '{given}', and model '{title}' is for '{wanted}'; give weights of its task"
        )


def _rows(definition: dict) -> list[tuple]:
    """Return what decides whether two networks have the same rows: sources and modules."""
    return [(str(row[0]), row[2]) for row in definition["backbone"] + definition["head"]]


def _size(definition: dict) -> str:
    """Return the letter of a definition's size; where none is given, Ultralytics takes the first."""
    return definition.get("scale") or next(iter(definition.get("scales") or ()), "")


def _misfits(weights: nn.Module, definition: dict) -> tuple[int, int]:
    """Return how many tensors of a network weights do not fill, or have more than it, and how many it has.

    The network is that of the definition for the weights' own classes and channels.
    """
    network, channels = tasks.BaseModel(), weights.yaml.get("channels", 3)
    definition = {**definition, "nc": weights.yaml.get("nc", len(weights.names)), "scale": _size(definition)}
    with torch.device("meta"):
        network.model, _ = tasks.parse_model(deepcopy(definition), channels, False)
    given = {name: list(value.shape) for name, value in weights.state_dict().items()}
    match_widths(network, definition, channels, given)
    expected = {name: list(value.shape) for name, value in network.state_dict().items()}
    unfilled = [name for name, shape in expected.items() if given.get(name) != shape]
    left = {name for name, _ in weights.named_parameters()} - expected.keys()  # ranges for int8 are no parameters
    return len(unfilled) or len(left), len(expected)


def _in_order(weights: nn.Module, names: dict[int, str] | None) -> nn.Module:
    """Return weights whose classes Ultralytics takes in their order, where that is the data's.

    It looks them up by name without regard to case, which mixes up those that differ in nothing else.
    """
    known = list(getattr(weights, "names", {}).values())
    if names is None or known != list(names.values()) or len({name.strip().lower() for name in known}) == len(known):
        return weights
    weights = copy(weights)
    weights.names = {number: str(number) for number in range(len(known))}  # which it leaves alone
    return weights
