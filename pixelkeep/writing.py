"""Files that are whole under their names or not there, however a process ends: written elsewhere, then moved."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

PARTIAL = ".partial"  # ending of files, and name of folders, that are being written


def sweep(folder: Path) -> None:
    """Remove what was left half-written in a folder and below it."""
    for path in list(folder.rglob(f".*{PARTIAL}")) + list(folder.rglob(PARTIAL)):
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
