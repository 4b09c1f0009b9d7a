"""What was found out about files, kept in the cache folder by path, size and time of change."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pixelkeep import assets
from pixelkeep.writing import DAY, sweep, write_text

Stamp = tuple[int, int]  # what changes when a file does: its size and the time of its last change
MISSING: Stamp = (-1, -1)


def stamp(path: Path) -> Stamp:
    """Return the stamp of a file, `MISSING` if it is not there."""
    try:
        state = os.stat(path)
    except OSError:
        return MISSING
    return state.st_size, state.st_mtime_ns


class Memory:
    """Lists of plain values by path, in one JSON file for a set of folders; nothing in it is ever executed.

    Args:
        kind: The folder in the cache.
        version: Change it when something else is found out.
        paths: The files; those of the same folders share a memory.
        key: What else the values depend on.
    """

    def __init__(self, kind: str, version: int, paths: Iterable[Path], key: Iterable[str] = ()):
        folders = sorted({str(path.parent) for path in paths})
        text = "\n".join([str(version), *key, *folders])
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:24]
        self.path = assets.home() / "cache" / kind / f"{digest}.json"
        self.entries: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            content = json.loads(self.path.read_text(encoding="utf-8"))
            self.entries = content if isinstance(content, dict) else {}

    def get(self, path: Path, stamp: Stamp) -> list | None:
        """Return what is known of a file that has not changed."""
        entry = self.entries.get(str(path))
        with contextlib.suppress(TypeError, ValueError):  # an entry of another form
            size, changed, *values = entry
            if (size, changed) == stamp:
                return values
        return None

    def write(self, found: dict[Path, tuple[Stamp, list]]) -> None:
        """Keep values of files under their stamps, and forget all others."""
        entries = {str(path): [*stamp, *values] for path, (stamp, values) in found.items() if stamp != MISSING}
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time only
            sweep(self.path.parent, older_than=DAY)
            write_text(self.path, json.dumps(entries))
