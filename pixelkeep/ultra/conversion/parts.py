"""The parts of a network by their place in its structure, so that networks with different row numbers can be compared.

A part is a row with weights, or the rows that together halve a feature map: a convolution and the SpaceToDepth that is
the only reader of its output. The part's role names its place: backbone or neck, the level of its output (P3 has an
eighth of the image's sides), and what the part does there. Parts with the same role are numbered in row order, so the
neck's downward path comes after its upward path.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn.modules import Concat, Conv

from pixelkeep.blocks import SpaceToDepth
from pixelkeep.ultra.network.rows import given, readers, run, sources

PROBE = 64  # side of the probe image in pixels: the deepest feature maps still have 2x2 or 1x1 cells
OWN_KIND = ("SPP", "SPPF", "C2PSA")  # rows beside the blocks of a stage, not to be taken for such a block


@dataclass(frozen=True)
class Part:
    """The rows of a network that share one role.

    Attributes:
        role: Name of the role, such as ``backbone P3 down`` or ``neck P4 block 2``.
        rows: One row, or a convolution and the SpaceToDepth after it.
        width: Number of output channels.
    """

    role: str
    rows: tuple[nn.Module, ...]
    width: int

    @property
    def block(self) -> str:
        """The class names of the rows, joined by ``+``."""
        return " + ".join(type(row).__name__ for row in self.rows)

    @property
    def parameters(self) -> int:
        """The number of parameters in the rows."""
        return sum(p.numel() for row in self.rows for p in row.parameters())

    @property
    def is_published(self) -> bool:
        """Whether the part has the published layering: a convolution at full resolution, then SpaceToDepth."""
        return len(self.rows) == 2


@torch.no_grad()
def probe(model: nn.Module) -> list[Tensor]:
    """Return an image of zeros and the output of every row but the head for it; ``model`` is in evaluation mode."""
    first = next(model.parameters())
    image = torch.zeros(1, model.yaml.get("channels", 3), PROBE, PROBE, device=first.device, dtype=first.dtype)
    return [image, *run(model.model, image, len(model.model) - 1)]


def parts(model: nn.Module) -> dict[str, Part]:
    """Return the parts of a detection model by role, in row order, without its head and its ``Concat`` rows."""
    rows, outputs = model.model, probe(model)
    read_by, split = readers(rows), len(model.yaml["backbone"])
    found: dict[str, Part] = {}
    counts: Counter[str] = Counter()
    for row in list(rows)[:-1]:
        together = _together(row, read_by[row.i])
        if isinstance(row, Concat) or (type(row) is SpaceToDepth and _ends_part(row, rows, read_by)):
            continue
        before, after = _first(given(row, outputs[1:], outputs[0])), outputs[1 + together[-1].i]
        place = f"{'backbone' if row.i < split else 'neck'} P{_level(after)} {_kind(row, before, after)}"
        counts[place] += 1
        role = place if counts[place] == 1 else f"{place} {counts[place]}"
        found[role] = Part(role, together, after.shape[1])
    return found


def _together(row: nn.Module, read_by: list[nn.Module]) -> tuple[nn.Module, ...]:
    """Return a row, together with the SpaceToDepth that belongs to it if there is one."""
    if type(row) is Conv and row.conv.stride == (1, 1) and [type(r) for r in read_by] == [SpaceToDepth]:
        return row, read_by[0]
    return (row,)


def _ends_part(row: nn.Module, rows: nn.Sequential, read_by: list[list[nn.Module]]) -> bool:
    source = sources(row)[0]
    return source >= 0 and len(_together(rows[source], read_by[source])) == 2


def _first(inputs: Any) -> Tensor:
    return inputs if isinstance(inputs, Tensor) else inputs[0]


def _level(output: Tensor) -> int:
    return round(math.log2(PROBE / output.shape[-1]))


def _kind(row: nn.Module, before: Tensor, after: Tensor) -> str:
    if after.shape[-1] != before.shape[-1]:
        return "down" if after.shape[-1] < before.shape[-1] else "up"
    name = type(row).__name__
    if name in OWN_KIND:
        return name
    return "conv" if isinstance(row, Conv) else "block"


def channel_map(row: nn.Module, rows: nn.Sequential, outputs: list[Tensor]) -> Tensor:
    """Map each input channel of a row to the corresponding channel in a network with strided convolutions.

    If a SpaceToDepth follows its own convolution, its first phase equals the output of a strided convolution. The other
    three phases have no counterpart and get -1.

    Args:
        row: A row of the network with SpaceToDepth.
        rows: All rows of that network.
        outputs: The image and row outputs that `probe` returns.

    Returns:
        Channel numbers (input channels,); where the row reads a Concat, those of its parts one after the other.
    """
    read_by = readers(rows)
    source = rows[sources(row)[0]]
    indices, start = [], 0
    for number in sources(source) if isinstance(source, Concat) else [source.i]:
        width = outputs[1 + number].shape[1]
        kept = width // 4 if type(rows[number]) is SpaceToDepth and _ends_part(rows[number], rows, read_by) else width
        indices += [torch.arange(start, start + kept), torch.full((width - kept,), -1)]
        start += kept
    return torch.cat(indices)
