"""Records when val was scored for which contrast: once, unless the user insists, which is recorded too.

Every look at val that could still change a choice makes the figures on val too good for what was chosen. The ledger
lies with the kept results, so that it belongs to the project and not to one machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from pixelkeep.errors import DataError
from pixelkeep.experiments.evidence import Begun
from pixelkeep.writing import write_text

NAME = "ledger.json"


@dataclass
class Ledger:
    """The entries of the ledger, oldest first, and the files that they are written to."""

    entries: list[dict]
    files: list[Path]

    @classmethod
    def read(cls, folders: Iterable[Path]) -> Ledger:
        """Read and join the ledgers of several folders, such as those of the project and of the kept results.

        Raises:
            DataError: One of them is damaged.
        """
        files = list(dict.fromkeys(folder.resolve() / NAME for folder in folders))
        entries: list[dict] = []
        for path in files:
            if path.is_file():
                try:
                    found = json.loads(path.read_text(encoding="utf-8"))
                    found = [entry for entry in found if entry["contrast"] and entry["form"] and entry["when"]]
                except (ValueError, TypeError, KeyError) as error:
                    raise DataError(f"{path}: the ledger of val is damaged; restore it from version control") from error
                entries += [entry for entry in found if entry not in entries]
        return cls(sorted(entries, key=lambda entry: entry["when"]), files)

    def has(self, contrast: str, form: str) -> bool:
        """Return whether val has been scored for a form of a contrast."""
        return bool(self._of(contrast, form))

    def refusal(self, contrast: str, form: str, begun: Begun | None) -> str | None:
        """Return why val may not be scored for a contrast any more; None if it has not been, or for these trainings.

        Args:
            contrast, form: Names of the contrast and of its form.
            begun: The contrast with its trainings; None if they are not laid out yet.
        """
        before = self._of(contrast, form)
        if not before:
            return None
        scored, done = before[-1]["trainings"], begun.trainings() if begun else []
        covered = {*(name.rpartition(": ")[0] for name in scored), *before[-1].get("failed", ())}
        wanted = {str(cell) for cell in begun.grid.cells} if begun else set()
        if done == scored and wanted <= covered:
            return None
        return (
            f"val was scored for it on {before[-1]['when'][:10]}, for {len(scored)} trainings and not for "
            f"{f'these {len(wanted)}' if begun else 'any that are here'}; a second look flatters what was chosen after "
            "the first (--again scores it anyway, and records that)"
        )

    def open(self, begun: Begun, why: str) -> None:
        """Add to all files the entry that val is scored for a contrast.

        Args:
            begun: The contrast with the trainings that are scored.
            why: Reason for scoring val now, decided on dev.
        """
        entry = {
            "contrast": begun.contrast.name,
            "form": begun.form.name,
            "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "again": self.has(begun.contrast.name, begun.form.name),
            "why": why,
            "trainings": begun.trainings(),
            "failed": sorted(str(cell) for cell in begun.failed()),
        }
        self.entries.append(entry)
        for path in self.files:
            write_text(path, json.dumps(self.entries, indent=2) + "\n")

    def _of(self, contrast: str, form: str) -> list[dict]:
        return [entry for entry in self.entries if (entry["contrast"], entry["form"]) == (contrast, form)]
