"""The rows of a network of Ultralytics': what each reads, and what each puts out for an image."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

NOTES = ("i", "f", "type", "np")  # what Ultralytics notes on each row


def sources(row: nn.Module) -> list[int]:
    """Return the numbers of the rows that a row reads; -1 for the image. Negative ones in ``row.f`` count back."""
    return [row.i + j if j < 0 else j for j in ([row.f] if isinstance(row.f, int) else row.f)]


def readers(rows: nn.Sequential) -> list[list[nn.Module]]:
    """Return for each row those that read it."""
    return [[other for other in rows if row.i in sources(other)] for row in rows]


def given(row: nn.Module, outputs: list, image: Tensor) -> Any:
    """Return the input of a row: one output of the rows before, or a list of them."""
    found = [image if j < 0 else outputs[j] for j in sources(row)]
    return found[0] if isinstance(row.f, int) else found


def run(rows: nn.Sequential, image: Tensor, stop: int) -> list:
    """Return the outputs of the rows before ``stop``."""
    outputs: list = []
    for row in list(rows)[:stop]:
        outputs.append(row(given(row, outputs, image)))
    return outputs


def put(rows: nn.Sequential, number: int, module: nn.Module) -> None:
    """Put a module in the place of a row, with what Ultralytics notes on it."""
    for name in NOTES:
        setattr(module, name, getattr(rows[number], name))
    module.type = f"{type(module).__module__}.{type(module).__name__}"
    module.np = sum(p.numel() for p in module.parameters())
    rows[number] = module.train(rows[number].training)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Let a network evaluate inside: one that is in training would learn from whatever it is shown."""
    modes = {module: module.training for module in model.modules()}
    for module in modes:
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
