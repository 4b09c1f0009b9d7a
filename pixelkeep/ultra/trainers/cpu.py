"""What makes a training on a CPU fast: channels innermost in memory, and half the bits where they are asked for.

Ultralytics does both on CUDA alone. On x86 CPUs oneDNN's convolutions read and write maps with their channels innermost
without rearranging them; what is computed is the same (docs/speed.md has both figures).
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
    """Return whether the network's weights and maps have their channels innermost.

    Args:
        args: Ultralytics' settings; ``channels_last`` decides unless it is None.
    """
    given = getattr(args, "channels_last", None)
    return (_is_supported() and platform.system() == "Linux") if given is None else bool(given)


def _is_supported() -> bool:
    mkldnn = torch.backends.mkldnn
    return platform.machine() in {"AMD64", "x86_64"} and mkldnn.is_available() and mkldnn.enabled


def has_bf16() -> bool:
    """Return whether this CPU multiplies in bf16; without that it would be slower than fp32."""
    known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in known)


def check_precision(settings: Mapping[str, Any]) -> None:
    """Refuse bf16 where it only costs.

    Args:
        settings: Of a training, with ``amp`` and ``device``.

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
    """Return the forward pass of networks, in bf16 where they train.

    Convolutions read and write bf16, the weights stay in fp32, and what comes out is fp32 again: so the loss, which
    compares pixels and takes logarithms, does not know of it.

    Args:
        predict: ``BaseModel.predict``.
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
    """Return what a head puts out, each tensor of less than fp32 in fp32."""
    if isinstance(found, torch.Tensor):
        return found.float() if found.dtype is torch.bfloat16 else found
    if isinstance(found, dict):
        return {key: _in_float(value) for key, value in found.items()}
    if isinstance(found, (list, tuple)):
        return type(found)(_in_float(value) for value in found)
    return found


def with_channels_innermost(network: nn.Module) -> nn.Module:
    """Return the network with the channels of its weights innermost, which its maps follow."""
    return network.to(memory_format=torch.channels_last)
