"""Files that are whole under their names or not there, however a process ends: written elsewhere, then moved."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

PARTIAL = ".partial"  # ending of files, and name of folders, that are being written
DAY = 24 * 60 * 60.0  # seconds; no single file takes as long to write


def sweep(folder: Path, older_than: float = 0) -> None:
    """Remove what was left half-written in a folder and below it.

    Args:
        folder: The folder; it need not exist.
        older_than: Keep what was written in the last so many seconds: other processes may be writing there.
    """
    now = time.time()
    for path in list(folder.rglob(f".*{PARTIAL}")) + list(folder.rglob(PARTIAL)):
        with contextlib.suppress(OSError):  # gone meanwhile
            if older_than and now - path.stat().st_mtime < older_than:
                continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Give a path to write to, and move what is there to ``path`` at the end; an error moves nothing."""
    folder = path.parent / f".{os.getpid()}{PARTIAL}"  # of this process alone: several may write side by side
    partial = folder / path.name
    folder.mkdir(parents=True, exist_ok=True)
    partial.unlink(missing_ok=True)
    try:
        yield partial
        if partial.exists():
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # other files are being written
            folder.rmdir()


@contextlib.contextmanager
def staged_tree(path: Path) -> Iterator[Path]:
    """Give a path of the same name, in a folder of its own, for a file or a folder; at the end it replaces ``path``.

    An error moves nothing. Other files may be written beside it meanwhile; they go. Where a folder is replaced by a
    folder, a kill between two renames leaves neither under the name, and the new one whole in the hidden folder.
    """
    folder = path.parent / f".{path.name}.{os.getpid()}{PARTIAL}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    partial = folder / path.name
    try:
        yield partial
        if path.is_dir():
            path.rename(folder / "replaced")
        os.replace(partial, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that it is either whole under its name or not there."""
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")  # caches are shared between processes
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text so that it is either whole under its name or not there."""
    write_bytes(path, text.encode("utf-8"))


class Growing:
    """A file that grows by whole pieces: what a full disk cuts off is taken away again.

    Args:
        path: The file; its folder is made.
        size: How much of what is there is kept, in bytes; None for all.
    """

    def __init__(self, path: Path, size: int | None = 0):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("r+b" if path.exists() else "w+b", buffering=0)
        if size is not None:
            self._file.truncate(size)
        self.size = self._file.seek(0, os.SEEK_END)

    def append(self, content: bytes) -> None:
        """Add a piece.

        Raises:
            OSError: The disk is full; the pieces before are there.
        """
        try:
            if self._file.write(content) == len(content):
                self.size += len(content)
                return
        except OSError:
            self._cut()
            raise
        self._cut()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def replace(self, at: int, content: bytes) -> None:
        """Write over what is there, without changing the size."""
        self._file.seek(at)
        self._file.write(content)
        self._file.seek(self.size)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _cut(self) -> None:
        self._file.truncate(self.size)
        self._file.seek(self.size)
