"""Fast training on a CPU: channels innermost in memory (channels_last), and bf16 if it is requested.

Ultralytics does both on CUDA only. On x86 CPUs, oneDNN's convolutions read and write feature maps with their channels
innermost without rearranging them; the results are the same. docs/speed.md has figures for both.
"""

from __future__ import annotations

import platform
from argparse import Namespace
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import torch
from torch import nn
from ultralytics.nn.tasks import BaseModel

from pixelkeep.errors import OptionError

BF16 = "bf16"


def innermost(args: Namespace) -> bool:
    """Return whether the network's weights and feature maps are to have their channels innermost.

    Args:
        args: Ultralytics' settings; ``channels_last`` decides unless it is None.
    """
    given = getattr(args, "channels_last", None)
    return (_is_supported() and platform.system() == "Linux") if given is None else bool(given)


def _is_supported() -> bool:
    mkldnn = torch.backends.mkldnn
    return platform.machine() in {"AMD64", "x86_64"} and mkldnn.is_available() and mkldnn.enabled


def has_bf16() -> bool:
    """Return whether this CPU has instructions to multiply in bf16; without them bf16 is slower than fp32."""
    known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in known)


def check_precision(settings: Mapping[str, Any]) -> None:
    """Refuse bf16 on a CPU that it would only slow down.

    Args:
        settings: Settings of a training, with ``amp`` and ``device``.

    Raises:
        OptionError: The training is on a CPU that has no instructions for bf16.
    """
    device = str(settings.get("device") or "")
    on_cpu = device.startswith("cpu") or not (device or torch.cuda.is_available())
    if str(settings.get("amp")).lower() == BF16 and on_cpu and not has_bf16():
        raise OptionError(
            "amp=bf16: this CPU does not multiply in bf16, so it would be slower; train without it, or on a CPU with "
            "AVX-512 BF16 or AMX"
        )


def in_bf16(predict: Callable) -> Callable:
    """Return a forward pass that computes in bf16 while the network trains.

    Convolutions read and write bf16, the weights stay in fp32, and the outputs are converted back to fp32. The loss,
    which compares pixels and takes logarithms, is therefore computed from fp32.

    Args:
        predict: Forward pass to wrap, ``BaseModel.predict``.
    """

    @wraps(predict)
    def forward(self: BaseModel, *args: Any, **keywords: Any) -> Any:
        if not self.training:
            return predict(self, *args, **keywords)
        with torch.autocast("cpu", torch.bfloat16):
            found = predict(self, *args, **keywords)
        return _in_float(found)

    return forward


def _in_float(found: Any) -> Any:
    """Return the output of a head with every bf16 tensor converted to fp32."""
    if isinstance(found, torch.Tensor):
        return found.float() if found.dtype is torch.bfloat16 else found
    if isinstance(found, dict):
        return {key: _in_float(value) for key, value in found.items()}
    if isinstance(found, (list, tuple)):
        return type(found)(_in_float(value) for value in found)
    return found


def with_channels_innermost(network: nn.Module) -> nn.Module:
    """Return the network with the channels of its weights innermost; its feature maps follow this layout."""
    return network.to(memory_format=torch.channels_last)
