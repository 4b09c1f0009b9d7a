"""The table of blocks that a model YAML may name, one row for each block, with its channel rule.

There are three rules. By default the first argument of a YAML row is the block's output channels, which the model's
width scales as it does for a ``Conv`` row. For a head, whose outputs are classes, that argument is not scaled. A block
whose output channels follow from its input alone gives a function instead, and its row has no channel argument.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from pixelkeep import blocks
from pixelkeep.errors import OptionError


@dataclass(frozen=True)
class BlockSpec:
    """How the parser builds one registered block.

    Attributes:
        block: The module class.
        out_channels: None where a row's first argument gives the output channels, else a function from input
            channels to output channels.
        scaled: Whether the model's width scales that first argument.
        constructor_channels: How many leading channel arguments the constructor takes: 2 (in, out), 1 (in) or 0.
        activation: Whether the constructor takes a keyword ``activation`` that follows the YAML's ``activation:``.
        sources: How many rows the block may take its input from: "one"; "first" for one or several, where the
            constructor receives the channels of the first; "all" for several, where it receives the channels of all.
        repeats_inside: Whether the constructor takes the (depth-scaled) repeats after the channels.
        head: Whether the block is a Detect head with a mask as its last input; ``block.of`` makes it from Ultralytics'
            Detect.
        version: Version of the block's arguments and tensor names; portable checkpoints record it.
    """

    block: type[nn.Module]
    out_channels: Callable[[int], int] | None
    scaled: bool
    constructor_channels: int
    activation: bool
    sources: str = "one"
    repeats_inside: bool = False
    head: bool = False
    version: int = 1

    @property
    def repeatable(self) -> bool:
        """Whether the model's width and depth scale a row of this block, as they scale a ``Conv`` row."""
        return self.out_channels is None and self.scaled

    def build(self, in_channels: int | list[int], out_channels: int, args: list, activation: nn.Module) -> nn.Module:
        """Construct the block; ``args`` are the row's arguments after the output channels."""
        channels = (in_channels, out_channels)[: self.constructor_channels]
        keywords = {"activation": activation} if self.activation else {}
        return self.block(*channels, *args, **keywords)


REGISTRY: dict[str, BlockSpec] = {}


def register(
    block: type[nn.Module],
    *,
    name: str | None = None,
    out_channels: Callable[[int], int] | None = None,
    scaled: bool = True,
    version: int = 1,
) -> type[nn.Module]:
    """Make a block of your own usable in any Ultralytics model YAML.

    The block's constructor takes ``(in_channels, out_channels, *the row's further arguments)``; if ``out_channels`` is
    given here, it takes ``(in_channels, *the row's arguments)``. If it has a keyword-only parameter ``activation``,
    that receives the activation module of the YAML.

    Args:
        block: A class derived from ``torch.nn.Module``, importable from a module (checkpoints name its path).
        name: The name in the YAML; the class name by default.
        out_channels: None where the row's first argument gives the output channels; else a function from input
            channels to output channels, e.g. ``lambda c: 4 * c``; it may reject its input by raising ValueError.
        scaled: Whether the model's width scales that first argument. False suits a head: its outputs are classes.
        version: Version of the block, to be raised when the row's arguments or the names of its tensors change. A
            portable checkpoint of a newer version is refused, and one of an older version is migrated by
            :mod:`pixelkeep.ultra.weights.migration`.

    Returns:
        ``block``, so that the call also works as a decorator.

    Raises:
        OptionError: ``block`` is not a module class, the name is taken by another class, ``scaled=False`` is combined
            with a channel rule, or ``version`` is not a whole number from 0 on.

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
    if out_channels is not None and not scaled:
        raise OptionError(f"register: '{name}' has a rule for its output channels, so scaled=False has no effect")
    parameters = inspect.signature(block).parameters
    activation = "activation" in parameters and parameters["activation"].kind is inspect.Parameter.KEYWORD_ONLY
    positional = [p for p in parameters.values() if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    channels = 2 if out_channels is None else min(1, len(positional))  # a block without parameters takes none
    if type(version) is not int or version < 0:
        raise OptionError(f"register: version={version!r} of '{name}': give a whole number, 0 or more")
    REGISTRY[name] = BlockSpec(block, out_channels, scaled, channels, activation, version=version)
    torch.serialization.add_safe_globals([block])  # checkpoints that hold it load without executing code
    return block


def adopt(name: str, spec: BlockSpec) -> None:
    """Register a block with the spec that it has in another process."""
    REGISTRY[name] = spec
    torch.serialization.add_safe_globals([spec.block])


def adjust(name: str, **fields: Any) -> None:
    """Set fields of a registered block that its constructor does not show."""
    REGISTRY[name] = replace(REGISTRY[name], **fields)


def _quarter(channels: int) -> int:
    """Return a quarter of the channels; raise ValueError unless they are a multiple of 4."""
    if channels % 4:
        raise ValueError(f"input channels must be a multiple of 4, got {channels}")
    return channels // 4


register(blocks.SpaceToDepth, out_channels=lambda c: 4 * c)
register(blocks.DepthToSpace, out_channels=_quarter)
register(blocks.SPDConv)
register(blocks.SliceSamp)
register(blocks.SliceUpsamp)
register(blocks.LIP)
register(blocks.SimplifiedLIP, out_channels=lambda c: c)
register(blocks.BottleneckLIP, out_channels=lambda c: c)
register(blocks.ConvNorm)
register(blocks.ResNetStage)
register(blocks.DenseBlock)
register(blocks.DenseTransition)
register(blocks.Swin, scaled=False)  # the size of the Swin network determines its channels
register(blocks.Classifier, scaled=False)
register(blocks.SelectiveStage)
register(blocks.ContentAdaptiveStage)
register(blocks.PlainStage)
register(blocks.ASPP)
register(blocks.LearnedMask, out_channels=lambda c: 1)
register(blocks.ObjectMask, out_channels=lambda c: 1)
register(blocks.EdgeMask, out_channels=lambda c: 1)
adjust("ContentAdaptiveStage", sources="first")
adjust("EdgeMask", constructor_channels=0)
# Checkpoints also name the classes of the layers inside these blocks.
torch.serialization.add_safe_globals([c for c in map(vars(blocks).get, blocks.__all__) if isinstance(c, type)])
