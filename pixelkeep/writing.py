"""Writing files so that each is complete or absent, however the process ends: written elsewhere, then moved."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

PARTIAL = ".partial"  # suffix of files, and suffix or whole name of folders, that are being written
DAY = 24 * 60 * 60.0  # seconds; writing a single file never takes this long


def sweep(folder: Path, older_than: float = 0) -> None:
    """Remove half-written files and folders from a folder and everything below it.

    Args:
        folder: Folder to clean; it need not exist.
        older_than: Age in seconds below which a file or folder is kept, as another process may still be writing it; 0
            removes all.
    """
    now = time.time()
    for path in list(folder.rglob(f".*{PARTIAL}")) + list(folder.rglob(PARTIAL)):
        with contextlib.suppress(OSError):  # another process has removed it meanwhile
            if older_than and now - path.stat().st_mtime < older_than:
                continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, and move the file there to ``path`` at the end; an error moves nothing."""
    folder = path.parent / f".{os.getpid()}{PARTIAL}"  # one per process, as several may write side by side
    partial = folder / path.name
    folder.mkdir(parents=True, exist_ok=True)
    partial.unlink(missing_ok=True)
    try:
        yield partial
        if partial.exists():
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty: other files are being written
            folder.rmdir()


@contextlib.contextmanager
def staged_tree(path: Path) -> Iterator[Path]:
    """Yield a temporary path for a file or a folder, which replaces ``path`` at the end.

    The temporary path has the same name and lies in a hidden folder of its own. Other files may be written beside it;
    they are deleted at the end. An error moves nothing. When a folder replaces a folder, a kill between the two renames
    leaves neither under the name, and the new one complete in the hidden folder.
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
    """Write bytes to a file that is either complete under its name or absent."""
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")  # a name per process, as caches are shared
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text to a UTF-8 file that is either complete under its name or absent."""
    write_bytes(path, text.encode("utf-8"))


class Growing:
    """A file that grows by whole records: a record that a full disk cuts off is removed again.

    Args:
        path: Path of the file; its parent folder is created.
        size: Number of bytes of an existing file to keep; None for all.
    """

    def __init__(self, path: Path, size: int | None = 0):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("r+b" if path.exists() else "w+b", buffering=0)
        if size is not None:
            self._file.truncate(size)
        self.size = self._file.seek(0, os.SEEK_END)

    def append(self, content: bytes) -> None:
        """Append a record.

        Raises:
            OSError: The record could not be written, for example to a full disk; the earlier records are intact.
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
        """Overwrite the bytes from offset ``at`` without changing the size of the file."""
        self._file.seek(at)
        self._file.write(content)
        self._file.seek(self.size)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _cut(self) -> None:
        self._file.truncate(self.size)
        self._file.seek(self.size)
