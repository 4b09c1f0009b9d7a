"""Cache of what was found out about files, kept in the cache folder under path, size and modification time."""

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

Stamp = tuple[int, int]  # size in bytes and modification time in nanoseconds, which tell whether a file has changed
MISSING: Stamp = (-1, -1)


def stamp(path: Path) -> Stamp:
    """Return the stamp of a file, or `MISSING` if the file does not exist."""
    try:
        state = os.stat(path)
    except OSError:
        return MISSING
    return state.st_size, state.st_mtime_ns


class Memory:
    """A cache of lists of plain values by path, in one JSON file per set of folders; nothing in it is ever executed.

    Args:
        kind: Name of the folder in the cache.
        version: Version of the values, to be changed when something else is found out about files.
        paths: The files; files of the same set of folders share a cache file.
        key: Everything else that the values depend on.
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
        """Return the values of a file that has not changed since they were written; None if there are none."""
        entry = self.entries.get(str(path))
        with contextlib.suppress(TypeError, ValueError):  # the entry is missing or malformed
            size, changed, *values = entry
            if (size, changed) == stamp:
                return values
        return None

    def write(self, found: dict[Path, tuple[Stamp, list]]) -> None:
        """Store the values of files under their stamps, and forget all other entries."""
        entries = {str(path): [*stamp, *values] for path, (stamp, values) in found.items() if stamp != MISSING}
        with contextlib.suppress(OSError):  # if the cache cannot be written, that only costs time
            sweep(self.path.parent, older_than=DAY)
            write_text(self.path, json.dumps(entries))
