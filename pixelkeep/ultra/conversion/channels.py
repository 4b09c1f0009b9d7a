"""Adaptation of networks to images with another number of channels."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn
from ultralytics.nn.tasks import BaseModel


def with_channels(source: BaseModel, channels: int) -> BaseModel:
    """Return a network whose first convolution reads images with the given number of channels.

    For one channel the filters are summed over the channels, as Ultralytics does, so that a grey image gives the same
    output as it gave in colour. For several channels the filters of the first ones are kept, and those of new channels
    start at zero. If the convolution reads the four slices of a SpaceToDepth, this is done within each slice.

    Args:
        source: The network, which is not changed.
        channels: Number of channels of the images.

    Returns:
        A changed copy; the network itself if it already reads that many channels, or if it does not begin with a
        convolution over all of its channels.
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
