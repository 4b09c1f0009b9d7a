"""Images and JSON on disk, with one clear error for whatever cannot be read."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pixelkeep.errors import DataError
from pixelkeep.writing import write_text


def write_image(path: Path, image: np.ndarray, quality: int = 95) -> None:
    """Write a BGR image, uint8 (H, W, 3), in the format of the path's ending; ``quality`` applies to JPEG only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if path.suffix.lower() in (".jpg", ".jpeg") else []
    _, data = cv2.imencode(path.suffix, image, options)
    path.write_bytes(data.tobytes())


def copy_image(source: Path, folder: Path, link: bool = False) -> Path:
    """Copy or link an image into ``folder``, unless it is there already, and return its path there.

    Raises:
        DataError: The image is missing, or the folder holds a different image of that name.
    """
    target = folder / source.name
    if source.resolve() == target.resolve():
        return target
    if not source.is_file():
        raise DataError(f"{source}: image not found")
    if target.exists() and not filecmp.cmp(source, target, shallow=False):
        raise DataError(f"{source}: {target} already exists and is a different image; rename one of them")
    folder.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        _link(source, target) if link else shutil.copyfile(source, target)
    return target


def _link(source: Path, target: Path) -> None:
    """Make a symbolic link, or a hard link if the system does not allow symbolic ones."""
    try:
        target.symlink_to(source.resolve())
    except (OSError, NotImplementedError):
        os.link(source.resolve(), target)


def check_stems(paths: Iterable[Path]) -> None:
    """Refuse two images whose annotation files would have the same name.

    Raises:
        DataError: Two paths have the same stem.
    """
    seen: dict[str, Path] = {}
    for path in paths:
        other = seen.setdefault(path.stem.casefold(), path)
        if other is not path:
            raise DataError(f"{path} and {other} would share one annotation file '{path.stem}'; rename one of them")


def read_json(path: Path) -> Any:
    """Return the document in a JSON file.

    Raises:
        DataError: The file cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error})") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: not valid JSON ({error.msg})") from error
    except (ValueError, RecursionError) as error:  # e.g. a number of thousands of digits, or endlessly nested brackets
        raise DataError(f"{path}: not valid JSON ({error})") from error


def write_json(path: Path, document: Any) -> None:
    """Write ``document`` as JSON on a single line."""
    write_text(path, json.dumps(document, separators=(",", ":")) + "\n")
