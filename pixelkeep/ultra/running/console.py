"""What the commands print while they work: one line for each epoch and one for its metrics, within 80 columns.

Ultralytics prints its whole configuration, a table of layers and several lines of housekeeping, wider than most
terminals. ``--verbose`` shows them again.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ultralytics.data import base, dataset
from ultralytics.engine import trainer, validator
from ultralytics.utils import LOGGER, RANK, tqdm
from ultralytics.utils.tqdm import TQDM

from pixelkeep.ultra.running.whole import replaced

VALIDATING = "validating"
A_MINUTE = 60.0  # seconds between two lines of a long progress bar where there is no terminal
_NOISE = (  # beginnings of lines that say nothing about the user's data or training
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
    "Logging results to",
    "Plotting labels to",
    "Speed:",
    "activation:",
)
_TOLD = "Image Read Error"  # detect lists these files and the reasons at its end
_WORKERS = re.compile(r"Using \d+ dataloader workers")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_LAYER_ROW = re.compile(r"^\s*(from\s+n\s+params|\d+\s+(-?\d+|\[.*?\])\s+\d+\s+\d+\s+\S+\.)")
_EPOCH = re.compile(r"^\s*(\d+/\d+)\s+\S+\s+(.*)\s+\d+\s+\d+$")  # epoch, memory, losses, instances, size
_ENDED = re.compile(r"\d+ epochs completed in ")  # pixelkeep's trainer reports this itself, in a fitting unit


class _Quiet(logging.Filter):
    """Lets through only the messages that a user wants to read."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno > logging.INFO:
            return _TOLD not in record.getMessage()
        lines = [line for line in record.getMessage().splitlines() if not _is_noise(line)]
        record.msg, record.args = "\n".join(lines), None
        return bool(lines)


class _Plain(logging.Filter):
    """Removes colour codes from messages that do not go to a terminal."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = _COLOURS.sub("", record.getMessage()), None
        return True


def _is_noise(line: str) -> bool:
    text = _COLOURS.sub("", line).strip()
    return (
        not text
        or text.startswith(_NOISE)
        or bool(_LAYER_ROW.match(text) or _WORKERS.match(text) or _ENDED.match(text))
        or "agnostic_nms=" in text
    )


class Bar(TQDM):
    """A progress bar with a short description; where there is no terminal, it writes whole lines only.

    Args:
        iterable: The iterable, as Ultralytics' own bar takes it.
        desc: Description shown before the bar.
        every: Seconds between two lines where there is no terminal; None for a single line at the end.
        kwargs: Further arguments of Ultralytics' own bar.

    Attributes:
        losses: Names of the losses that training shows, in the order in which they are shown.
    """

    losses: tuple[str, ...] = ()

    def __init__(self, iterable: Any = None, desc: str | None = None, every: float | None = None, **kwargs: Any):
        terminal = sys.stdout.isatty()
        if desc and VALIDATING in desc:  # the line of metrics that follows makes a finished bar redundant
            kwargs |= {"leave": False, "disable": None if terminal else True}
        if RANK > 0:  # of several processes that train together, only the first shows progress
            kwargs["disable"] = True
        with replaced(tqdm, "is_noninteractive_console", lambda: not terminal):
            super().__init__(iterable, desc, file=sys.stdout, **kwargs)
        self._every = every if self.noninteractive else None

    def update(self, n: float = 1) -> None:
        """Advance the bar by ``n``."""
        super().update(n)
        done = self.disable or self.closed or (self.total and self.n >= self.total)
        now = time.time()
        if self._every is not None and not done and now - self.last_print_t >= self._every:
            self.last_rate = self.n / (now - self.start_t)  # the smoothed rate would take several lines to reach that
            self._display(final=True)
            self.file.write("\n")
            self.file.flush()

    def _format_num(self, num: float) -> str:
        """Return a count as a whole number; the bar may be part of the way through an item."""
        return str(int(num))

    def _generate_bar(self, width: int = 8) -> str:
        """Return the bar, short enough to leave room for the names of the losses."""
        return super()._generate_bar(width)

    @property
    def desc(self) -> str:
        """Description, coloured on a terminal only; Ultralytics also sets it without calling ``set_description``."""
        return self._desc if sys.stdout.isatty() else _COLOURS.sub("", self._desc)

    @desc.setter
    def desc(self, text: str) -> None:
        self._desc = text

    def set_description(self, desc: str | None) -> None:
        """Set the description, shortening the trainer's text for an epoch to the epoch number and its losses."""
        if match := _EPOCH.match(desc or ""):
            losses = [float(loss) for loss in match[2].split()]
            names = self.losses if len(self.losses) == len(losses) else ["loss"] * len(losses)  # another trainer
            shown = (f"{name} {loss:.{2 if loss >= 1 else 3}f}" for name, loss in zip(names, losses, strict=True))
            desc = f"epoch {match[1]:>7} {' '.join(shown)}"
        super().set_description(desc)


def name_losses(names: Iterable[str]) -> None:
    """Set the names by which progress bars show the losses of training."""
    Bar.losses = tuple(name.removesuffix("_loss") for name in names)


def plain() -> None:
    """Remove colours from this process's messages if they do not go to a terminal."""
    if not sys.stdout.isatty() and not any(isinstance(f, _Plain) for f in LOGGER.filters):
        LOGGER.addFilter(_Plain())


def taken() -> list[Callable[[], None]]:
    """Return which of `plain` and `quiet` have been called in this process, so that another process can repeat them."""
    kinds = {type(f) for f in LOGGER.filters}
    return [step for step, kind in ((plain, _Plain), (quiet, _Quiet)) if kind in kinds]


def quiet() -> None:
    """Shorten what Ultralytics prints in this process."""
    if not any(isinstance(f, _Quiet) for f in LOGGER.filters):
        LOGGER.addFilter(_Quiet())
    # Ultralytics' default augmentations include ToGray, which warns about images of one channel.
    warnings.filterwarnings("ignore", message="The image is already gray")
    for module in (trainer, validator, dataset, base):
        module.TQDM = Bar


@contextlib.contextmanager
def progress_bar(what: str, unit: str = "img", every: float | None = None) -> Iterator[Callable[[int, int], None]]:
    """Yield a function ``show(done, total)`` that updates a progress bar; no bar appears if it is never called.

    Args:
        what: Description of the work.
        unit: Name of the items that are counted.
        every: Seconds between two lines where there is no terminal, as :class:`Bar` takes it.
    """
    bars: list[Bar] = []

    def show(done: int, total: int) -> None:
        if not bars:
            bars.append(Bar(desc=what, total=total, unit=unit, every=every))
        bars[0].update(done - bars[0].n)

    try:
        yield show
    finally:
        for bar in bars:
            bar.close()
