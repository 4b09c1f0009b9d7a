"""Behaviour shared by the validators of all tasks: use of all cores, plots written atomically, one line per epoch."""

from __future__ import annotations

from typing import Any

import torch
from ultralytics.utils import LOGGER

from pixelkeep.ultra.costs.measure import Watch
from pixelkeep.ultra.running.console import VALIDATING
from pixelkeep.ultra.running.environment import use_all_cores, warn_without_half
from pixelkeep.ultra.running.whole import WholePlots


class RunValidator(WholePlots):
    """Mixin for Ultralytics' validators.

    Attributes:
        best: Name of the figure that decides which epoch is the best.
        watch: Follows which share of each image the network's adaptive layers work on; None in training.
    """

    def __init__(self, *args: Any, best: str, **keywords: Any):
        super().__init__(*args, **keywords)
        self._half = self.args.quantize == 16
        self.best = best
        self.watch: Watch | None = None

    def init_metrics(self, model: torch.nn.Module) -> None:
        """Use all cores on a CPU, and warn if half precision was asked for and is not available."""
        if self.device.type == "cpu":
            use_all_cores()
        if self._half and not self.training and self.args.quantize != 16:
            warn_without_half(self.device)
        if not self.training:
            self.watch = Watch(model)
        super().init_metrics(model)

    def plot_val_samples(self, batch: dict[str, Any], ni: int) -> None:
        """Draw a batch with its labels."""
        with self.plotting():
            super().plot_val_samples(batch, ni)

    def plot_predictions(self, batch: dict[str, Any], preds: Any, ni: int) -> None:
        """Draw a batch with its predictions."""
        with self.plotting():
            super().plot_predictions(batch, preds, ni)

    def finalize_metrics(self) -> None:
        """Draw the confusion matrix."""
        with self.plotting():
            super().finalize_metrics()

    def figures(self) -> dict[str, float | None]:
        """Return the figures for the line printed at the end of an epoch, by name."""
        raise NotImplementedError

    def get_desc(self) -> str:
        """Return the description of the progress bar."""
        return f"{'':14}{VALIDATING}"

    def print_results(self) -> None:
        """Print the figures on one line; the table by class is printed at the end of the run."""
        shown = (f"{key} {'n/a' if value is None else f'{value:.3f}'}" for key, value in self.figures().items())
        LOGGER.info(f"{'':14}" + "  ".join(shown))
