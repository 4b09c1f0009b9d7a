"""The exceptions that users see: one line each that says what is wrong, where, and what would be right.

The command line turns them into exit status 2; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)
_TORCH = ("PytorchStreamWriter", "unexpected pos", "iostream error")  # in PyTorch's messages when a file cannot grow
_DENIED = (errno.EROFS, errno.EACCES, errno.EPERM)
_NO_PLACE = (errno.ENOTDIR, errno.ENAMETOOLONG)


class PixelkeepError(ValueError):
    """An error that the user can mend: the base class of every error below."""


class ModelError(PixelkeepError):
    """A model name or model YAML that cannot be built."""


class WeightsError(PixelkeepError):
    """A weights file that is missing, damaged, foreign or unsafe."""


class ExportError(PixelkeepError):
    """A network that cannot be exported, or an export that does not compute the same as its network."""


class DataError(PixelkeepError):
    """A dataset YAML, annotation file or image folder that cannot be used."""


class SourceError(PixelkeepError):
    """A source of images or video for detection that cannot be found or opened."""


class OptionError(PixelkeepError):
    """An option, setting or argument with a value that is not allowed."""


class StorageError(PixelkeepError):
    """A full disk, or a file or folder that cannot be used."""


def storage_error(error: BaseException, folder: Path | None = None) -> StorageError | None:
    """Return an exception that explains a storage failure to the user, or None if ``error`` is something else.

    Args:
        error: The exception that was raised. PyTorch raises RuntimeError when it cannot write a checkpoint.
        folder: Folder that was being written to, used if ``error`` names no file: the system names a file that it
            cannot open, but not one that it cannot continue to write.
    """
    if isinstance(error, OSError) and (error.errno in (*_FULL, *_DENIED, *_NO_PLACE, errno.EFBIG) or _no_folder(error)):
        number, file = error.errno, error.filename2 or error.filename or folder
    elif isinstance(error, RuntimeError) and any(sign in str(error) for sign in _TORCH):
        number, file = errno.ENOSPC, folder
    else:
        return None
    where = f"{file or 'a file'}: {os.strerror(number)}"
    if number in _DENIED:
        return StorageError(f"{where}; allow it, or choose other folders with --project and PIXELKEEP_HOME")
    if number in (*_NO_PLACE, errno.ENOENT):
        name = Path(file or "")
        named = name.parent if name.name.endswith(".partial") else name  # the place asked for, not the temporary one
        return StorageError(f"{named}: {os.strerror(number)}; choose another name")
    if number == errno.EFBIG:
        return StorageError(f"{where}; raise the limit (ulimit -f), or use a file system that takes larger files")
    return StorageError(
        f"{where}{_free(Path(file)) if file else ''}; make room there, or use another disk (--project, PIXELKEEP_HOME)"
    )


def _no_folder(error: OSError) -> bool:
    """Return whether the temporary folder or file for writing cannot be created, as in /proc."""
    return error.errno == errno.ENOENT and str(error.filename).endswith(".partial")


def _free(path: Path) -> str:
    """Return, as text, how much space is free on the disk that holds a path."""
    there = next((p for p in (path, *path.parents) if p.exists()), Path())
    return f" ({shutil.disk_usage(there).free / 1e6:.1f} MB free)"


def nearest(value: str, allowed: Iterable[str], otherwise: str = "") -> str:
    """Return ``; did you mean 'x'?`` for the closest allowed name.

    If no name is close, return ``; `` and the advice in ``otherwise``, or an empty string without advice.
    """
    folded = {name.casefold(): name for name in map(str, allowed)}
    match = get_close_matches(str(value).casefold(), folded, n=1, cutoff=0.6)
    if match:
        return f"; did you mean '{folded[match[0]]}'?"
    return f"; {otherwise}" if otherwise else ""


def choices(allowed: Iterable[object], limit: int = 12) -> str:
    """Return the first ``limit`` allowed values as ``a, b, c``, and how many more there are, if any."""
    values = [str(value) for value in allowed]
    more = f" and {len(values) - limit} more" if len(values) > limit else ""
    return ", ".join(values[:limit]) + more
