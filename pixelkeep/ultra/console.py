"""What the commands show while they work: one line an epoch and one for its figures, fit for 80 columns.

Ultralytics prints its whole configuration, a table of layers and several lines of housekeeping, wider than most
terminals. ``--verbose`` brings them back.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

from ultralytics.data import base, dataset
from ultralytics.engine import trainer, validator
from ultralytics.utils import LOGGER
from ultralytics.utils.tqdm import TQDM

VALIDATING = "validating"
_NOISE = (  # how the lines begin that say nothing about the user's data or training
    "engine/trainer:",
    "Overriding model.yaml",
    "Freezing layer",
    "train: Fast image access",
    "val: Fast image access",
    "train: New cache created",
    "val: New cache created",
    "albumentations:",
    "Closing dataloader mosaic",
    "Optimizer stripped",
    "Results saved to",
    "Speed:",
    "activation:",
)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_LAYER_ROW = re.compile(r"^\s*(from\s+n\s+params|\d+\s+(-?\d+|\[.*?\])\s+\d+\s+\d+\s+\S+\.)")
_EPOCH = re.compile(r"^\s*(\d+/\d+)\s+\S+\s+(.*)\s+\d+\s+\d+$")  # epoch, memory, losses, instances, size


class _Quiet(logging.Filter):
    """Lets through what a user wants to know."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = _COLOURS.sub("", record.getMessage()).strip()
        return record.levelno > logging.INFO or not (
            not text or text.startswith(_NOISE) or _LAYER_ROW.match(text) or "agnostic_nms=" in text
        )


class Bar(TQDM):
    """A progress bar with a short description, which writes whole lines only where there is no terminal."""

    def __init__(self, iterable: Any = None, desc: str | None = None, **kwargs: Any):
        terminal = sys.stdout.isatty()
        if desc and VALIDATING in desc:  # the line of figures that follows says it all
            kwargs |= {"leave": False, "disable": None if terminal else True}
        super().__init__(iterable, desc, file=sys.stdout, **kwargs)
        self.noninteractive = not terminal

    def set_description(self, desc: str | None) -> None:
        """Shorten what the trainer says of an epoch to the epoch and its losses."""
        if match := _EPOCH.match(desc or ""):
            losses = "  ".join(f"{float(loss):.3f}" for loss in match[2].split())
            desc = f"epoch {match[1]:>7}  loss  {losses}"
        super().set_description(desc)


def quiet() -> None:
    """Shorten what Ultralytics prints in this process."""
    if not any(isinstance(f, _Quiet) for f in LOGGER.filters):
        LOGGER.addFilter(_Quiet())
    for module in (trainer, validator, dataset, base):
        module.TQDM = Bar
