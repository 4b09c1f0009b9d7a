"""Networks made to read images of another number of channels."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn
from ultralytics.nn.tasks import BaseModel


def with_channels(source: BaseModel, channels: int) -> BaseModel:
    """Return a network whose first convolution reads images of so many channels.

    For one channel its filters are summed, as Ultralytics does, so that grey images give what they gave as colour. Of
    several channels the first are taken, and those that are new begin at zero. Where the convolution reads the four
    slices of SpaceToDepth, that is done in each slice.

    Args:
        source: The network; it stays as it is.
        channels: Of the images.

    Returns:
        A copy; the network itself where it has as many, or begins with no convolution of all its channels.
    """
    given = source.yaml.get("channels", 3)
    first = next((m for m in source.model[0].modules() if isinstance(m, nn.Conv2d)), None)
    if given == channels or first is None or first.groups != 1 or first.in_channels % given:
        return source
    source = deepcopy(source)
    first = next(m for m in source.model[0].modules() if isinstance(m, nn.Conv2d))
    weight = first.weight.detach().unflatten(1, (-1, given))  # (outputs, slices, channels, k, k)
    if channels == 1:
        made = weight.sum(2, keepdim=True)
    else:
        made = weight.new_zeros(weight.shape[0], weight.shape[1], channels, *weight.shape[3:])
        same = min(given, channels)
        made[:, :, :same] = weight[:, :, :same]
    with torch.no_grad():
        first.weight = nn.Parameter(made.flatten(1, 2), requires_grad=first.weight.requires_grad)
    first.in_channels = first.weight.shape[1]
    source.yaml["channels"] = channels
    return source
