"""How many objects training shows and ignores: counted by epoch over all processes, in results.csv, summed up last."""

from __future__ import annotations

import csv
from pathlib import Path

import torch

from pixelkeep.ultra.data.ignoring import REGION, is_shrunk
from pixelkeep.ultra.running import distributed

COLUMNS = ("train/objects", "train/ignored", "train/shrunk", "train/regions")


class Tally:
    """Counts one epoch's objects, those ignored as the data says, those ignored since they shrank, and regions."""

    def __init__(self) -> None:
        self.counts = torch.zeros(len(COLUMNS), dtype=torch.int64)

    def add(self, batch: dict) -> None:
        """Count a batch, which is still in the processor's memory."""
        codes = batch["ignored"][:, 1]
        regions, shrunk = (codes == REGION).sum(), is_shrunk(codes).sum()
        self.counts += torch.stack([torch.tensor(len(batch["cls"])), len(codes) - regions - shrunk, shrunk, regions])

    def gather(self) -> None:
        """Add up the counts of all processes on the first."""
        self.counts = sum(distributed.merged({distributed.rank(): self.counts}).values())

    def columns(self) -> dict[str, int]:
        """Return the counts by the names of their columns."""
        return dict(zip(COLUMNS, self.counts.tolist(), strict=True))


def summary(results: Path) -> str:
    """Return a line on what was ignored in all epochs of results.csv; empty if nothing was."""
    with results.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    objects, ignored, shrunk, regions = (round(sum(float(row.get(key) or 0) for row in rows)) for key in COLUMNS)
    if not ignored + shrunk + regions:
        return ""
    return (
        f"Over all epochs {objects:,} objects were shown; ignored were {ignored:,} that the data marks, "
        f"{shrunk:,} that augmentation shrank or cut too much, and {regions:,} regions"
    )
