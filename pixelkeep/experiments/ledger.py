"""When val was scored for which contrast: once, unless someone insists, and then that is written down too.

Every look at val that could still change something makes its figures flatter what was chosen. The ledger lies with the
results that are kept, so that it goes with the project and not with a machine.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from pixelkeep.errors import DataError, OptionError
from pixelkeep.experiments.evidence import Begun
from pixelkeep.writing import write_text

NAME = "ledger.json"


@dataclass
class Ledger:
    """The entries, oldest first, and the files that they are written to."""

    entries: list[dict]
    files: list[Path]

    @classmethod
    def read(cls, file: Path, out: Path | None) -> Ledger:
        """Read the ledger of a project's folder, and that of the kept results; entries of either count.

        Raises:
            DataError: One of them is damaged.
        """
        files = [file, *([out / NAME] if out else [])]
        entries: list[dict] = []
        for path in files:
            if path.is_file():
                try:
                    found = json.loads(path.read_text(encoding="utf-8"))
                    found = [entry for entry in found if entry["contrast"] and entry["when"]]
                except (ValueError, TypeError, KeyError) as error:
                    raise DataError(f"{path}: the ledger of val is damaged; mend it from version control") from error
                entries += [entry for entry in found if entry not in entries]
        return cls(sorted(entries, key=lambda entry: entry["when"]), files)

    def has(self, begun: Begun, trainings: list[str]) -> bool:
        """Whether val has been opened for just these trainings."""
        return any(entry["trainings"] == trainings for entry in self._of(begun))

    def open(self, begun: Begun, trainings: list[str], *, again: bool) -> None:
        """Note that val is scored for a contrast.

        Going on with the very same trainings, after an interruption, is no second time.

        Args:
            begun: The contrast.
            trainings: What is scored.
            again: Do it although it has been done.

        Raises:
            OptionError: It has been done with other trainings, and ``again`` is not given.
        """
        before = self._of(begun)
        if before and not again:
            if before[-1]["trainings"] == trainings:
                return
            raise OptionError(
                f"contrast {begun.contrast.name}: val was scored for it on {before[-1]['when'][:10]}, for "
                f"{len(before[-1]['trainings'])} trainings and not these {len(trainings)}; a second look flatters what "
                "is chosen after the first (--again does it, and notes that)"
            )
        entry = {
            "contrast": begun.contrast.name,
            "form": begun.form.name,
            "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "again": bool(before),
            "trainings": trainings,
        }
        self.entries.append(entry)
        for path in self.files:
            write_text(path, json.dumps(self.entries, indent=2) + "\n")

    def _of(self, begun: Begun) -> list[dict]:
        found = begun.contrast.name, begun.form.name
        return [entry for entry in self.entries if (entry["contrast"], entry["form"]) == found]
