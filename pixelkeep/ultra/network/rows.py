"""The rows of an Ultralytics network: which rows each one reads, and what it outputs for an image."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

NOTES = ("i", "f", "type", "np")  # the attributes that Ultralytics sets on each row


def sources(row: nn.Module) -> list[int]:
    """Return the numbers of the rows that a row reads; -1 stands for the image.

    Negative numbers in ``row.f`` count back from the row itself.
    """
    return [row.i + j if j < 0 else j for j in ([row.f] if isinstance(row.f, int) else row.f)]


def readers(rows: nn.Sequential) -> list[list[nn.Module]]:
    """Return, for each row, the rows that read it."""
    return [[other for other in rows if row.i in sources(other)] for row in rows]


def given(row: nn.Module, outputs: list, image: Tensor) -> Any:
    """Return the input of a row: the image or the output of an earlier row, or a list of these."""
    found = [image if j < 0 else outputs[j] for j in sources(row)]
    return found[0] if isinstance(row.f, int) else found


def run(rows: nn.Sequential, image: Tensor, stop: int) -> list:
    """Return the outputs of the rows before ``stop``."""
    outputs: list = []
    for row in list(rows)[:stop]:
        outputs.append(row(given(row, outputs, image)))
    return outputs


def put(rows: nn.Sequential, number: int, module: nn.Module) -> None:
    """Put a module in the place of a row, with the attributes that Ultralytics sets on rows."""
    for name in NOTES:
        setattr(module, name, getattr(rows[number], name))
    module.type = f"{type(module).__module__}.{type(module).__name__}"
    module.np = sum(p.numel() for p in module.parameters())
    rows[number] = module.train(rows[number].training)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode inside the context: in training mode it would learn from any input."""
    modes = {module: module.training for module in model.modules()}
    for module in modes:
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
