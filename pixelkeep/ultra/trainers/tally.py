"""Counts of the objects that training shows and ignores, by epoch over all processes, and a summary of results.csv."""

from __future__ import annotations

import csv
from pathlib import Path

import torch

from pixelkeep.ultra.data.ignoring import REGION, is_shrunk
from pixelkeep.ultra.running import distributed

COLUMNS = ("train/objects", "train/ignored", "train/shrunk", "train/regions")


class Tally:
    """Counts of one epoch: objects, ignored objects that the data marks, ignored objects that shrank, and regions."""

    def __init__(self) -> None:
        self.counts = torch.zeros(len(COLUMNS), dtype=torch.int64)

    def add(self, batch: dict) -> None:
        """Add the counts of a batch, which is still in CPU memory."""
        codes = batch["ignored"][:, 1]
        regions, shrunk = (codes == REGION).sum(), is_shrunk(codes).sum()
        self.counts += torch.stack([torch.tensor(len(batch["cls"])), len(codes) - regions - shrunk, shrunk, regions])

    def gather(self) -> None:
        """Sum the counts of all processes in the first process."""
        self.counts = sum(distributed.merged({distributed.rank(): self.counts}).values())

    def columns(self) -> dict[str, int]:
        """Return the counts by column name."""
        return dict(zip(COLUMNS, self.counts.tolist(), strict=True))


def summary(results: Path) -> str:
    """Return one line on what was ignored over all epochs of results.csv, or an empty string if nothing was."""
    with results.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    objects, ignored, shrunk, regions = (round(sum(float(row.get(key) or 0) for row in rows)) for key in COLUMNS)
    if not ignored + shrunk + regions:
        return ""
    return (
        f"Over all epochs {objects:,} objects were shown; {ignored:,} that the data marks, "
        f"{shrunk:,} that augmentation shrank or cut too much, and {regions:,} regions were ignored"
    )
