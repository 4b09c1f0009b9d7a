"""results.png: the losses and metrics of a run by epoch, AP and AP_S included, plotted by Ultralytics from results.csv.

Ultralytics plots the columns whose names contain "loss" or "metric", and writes the picture beside the table.
"""

from __future__ import annotations

import csv
from pathlib import Path

from ultralytics.utils.plotting import plot_results

from pixelkeep.ultra.running.whole import require_whole
from pixelkeep.writing import staged

NAME = "results.png"
_OTHERS = ("epoch", "time")  # columns without a group prefix that are no metrics


def plot_epochs(table: Path) -> Path:
    """Plot results.csv, and return the path of the picture beside it.

    Raises:
        OSError: The disk is full.
    """
    path = table.with_name(NAME)
    with staged(path) as picture:
        copy = picture.with_name(table.name)
        try:
            _copy_for_plot(table, copy)
            plot_results(file=copy)
            require_whole(picture, path)
        finally:
            copy.unlink(missing_ok=True)
    return path


def _copy_for_plot(table: Path, copy: Path) -> None:
    """Copy the table with its metrics renamed to ``metrics/...``, without columns that hold no value in any row."""
    with table.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    columns = zip(header, *rows, strict=True)
    kept = [[_called(name), *values] for name, *values in columns if any(value != "nan" for value in values)]
    with copy.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(zip(*kept, strict=True))


def _called(column: str) -> str:
    return column if "/" in column or column in _OTHERS else f"metrics/{column}"
