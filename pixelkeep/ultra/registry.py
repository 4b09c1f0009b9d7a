"""The table of blocks that a model YAML may name: one row a block, with its channel rule.

Two rules exist. By default a row's first argument is the block's output channels, scaled by the model's width like a
``Conv`` row's. A block whose output channels follow from its input alone gives a function instead, and its row has no
channel argument.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from pixelkeep import blocks
from pixelkeep.errors import OptionError


@dataclass(frozen=True)
class BlockSpec:
    """How the parser builds one registered block.

    Attributes:
        block: The module class.
        out_channels: None where a row's first argument gives the (width-scaled) output channels, else a function
            from input channels to output channels.
        constructor_channels: How many leading channel arguments the constructor takes: 2 (in, out), 1 (in) or 0.
        activation: Whether the constructor takes a keyword ``activation`` that follows the YAML's ``activation:``.
    """

    block: type[nn.Module]
    out_channels: Callable[[int], int] | None
    constructor_channels: int
    activation: bool

    def build(self, in_channels: int, out_channels: int, args: list, activation: nn.Module) -> nn.Module:
        """Construct the block; ``args`` are the row's arguments after the output channels."""
        channels = (in_channels, out_channels)[: self.constructor_channels]
        keywords = {"activation": activation} if self.activation else {}
        return self.block(*channels, *args, **keywords)


REGISTRY: dict[str, BlockSpec] = {}


def register(
    block: type[nn.Module], *, name: str | None = None, out_channels: Callable[[int], int] | None = None
) -> type[nn.Module]:
    """Make a block of your own usable in any Ultralytics model YAML.

    The constructor takes ``(in_channels, out_channels, *the row's further arguments)``; with ``out_channels`` given
    it takes ``(in_channels, *the row's arguments)``. A keyword-only parameter ``activation`` receives the activation
    module of the YAML.

    Args:
        block: A class derived from ``torch.nn.Module``, importable from a module (checkpoints name its path).
        name: The name in the YAML; the class name by default.
        out_channels: None where the row's first argument gives the output channels, which the model's width scales;
            else a function from input channels to output channels, e.g. ``lambda c: 4 * c``; it may refuse its
            input by ValueError.

    Returns:
        ``block``, so that the call also works as a decorator.

    Raises:
        OptionError: ``block`` is no module class, or the name is taken by another class.

    Example:
        >>> import torch, pixelkeep
        >>> class Halve(torch.nn.Module):
        ...     def __init__(self, in_channels, out_channels, kernel_size=2):
        ...         super().__init__()
        ...         self.conv = torch.nn.Conv2d(in_channels, out_channels, kernel_size, stride=2)
        ...     def forward(self, x):
        ...         return self.conv(x)
        >>> pixelkeep.register(Halve).__name__
        'Halve'
    """
    if not (isinstance(block, type) and issubclass(block, nn.Module)):
        raise OptionError(f"register: {block!r} is not a class derived from torch.nn.Module")
    name = name or block.__name__
    known = REGISTRY.get(name)
    if known and known.block is not block and known.block.__qualname__ != block.__qualname__:
        raise OptionError(f"register: the name '{name}' is taken by {known.block}; pass another name=")
    parameters = inspect.signature(block).parameters
    activation = "activation" in parameters and parameters["activation"].kind is inspect.Parameter.KEYWORD_ONLY
    positional = [p for p in parameters.values() if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    channels = 2 if out_channels is None else min(1, len(positional))  # a block without parameters takes none
    REGISTRY[name] = BlockSpec(block, out_channels, channels, activation)
    torch.serialization.add_safe_globals([block])  # checkpoints that hold it load without executing code
    return block


def _quarter(channels: int) -> int:
    """Return a quarter of the channels; ValueError unless they are a multiple of 4."""
    if channels % 4:
        raise ValueError(f"input channels must be a multiple of 4, got {channels}")
    return channels // 4


register(blocks.SpaceToDepth, out_channels=lambda c: 4 * c)
register(blocks.DepthToSpace, out_channels=_quarter)
register(blocks.SPDConv)
register(blocks.SliceSamp)
register(blocks.SliceUpsamp)
