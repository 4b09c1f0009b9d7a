"""The only code that locates models/, configs/, data/ and weights/.

An installed wheel carries these folders inside ``pixelkeep/_assets``; a checkout (and an editable install) has them
beside the package.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
FOLDERS = ("models", "configs", "data", "weights")


def folder(kind: str) -> Path:
    """Return the path of the asset folder ``kind``, one of :data:`FOLDERS`.

    Raises:
        ValueError: There is no such kind.
        FileNotFoundError: The installation is incomplete.
    """
    if kind not in FOLDERS:
        raise ValueError(f"unknown asset folder '{kind}'; one of {', '.join(FOLDERS)}")
    for root in (_PACKAGE / "_assets", _PACKAGE.parent):
        if (root / kind).is_dir():
            return root / kind
    raise FileNotFoundError(f"pixelkeep's '{kind}' folder is missing beside {_PACKAGE}: reinstall pixelkeep")


def find(kind: str, name: str) -> Path | None:
    """Return the YAML file called ``name`` (with or without extension) in the folder ``kind``, or None."""
    path = folder(kind) / (name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")
    return path if len(path.name) < 256 and path.is_file() else None


def names(kind: str) -> list[str]:
    """Return the sorted names, without extension, of the YAML files in the folder ``kind``."""
    return sorted(path.stem for path in folder(kind).glob("*.yaml"))


def home() -> Path:
    """Return the folder for demo data and caches: $PIXELKEEP_HOME, else the platform's cache folder."""
    if chosen := os.environ.get("PIXELKEEP_HOME"):
        return Path(chosen).expanduser().resolve()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "pixelkeep"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "pixelkeep"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pixelkeep"
