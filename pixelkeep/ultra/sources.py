"""What detect can look at: files, folders, globs, lists, videos, webcams and streams, checked before a model loads."""

from __future__ import annotations

import glob
from pathlib import Path

from ultralytics.data.utils import IMG_FORMATS, VID_FORMATS

from pixelkeep.errors import SourceError, choices, nearest

REMOTE = ("http://", "https://", "rtsp://", "rtmp://", "tcp://", "udp://")
LISTS = (".txt", ".csv", ".streams")


def is_remote(source: str) -> bool:
    """Whether a source is an address on a network."""
    return source.lower().startswith(REMOTE)


def is_live(source: str) -> bool:
    """Whether a source never ends by itself: a webcam index or a stream."""
    return source.isnumeric() or source.lower().startswith(REMOTE[2:]) or source.endswith(".streams")


def resolve_sources(sources: list[str]) -> str | list[str]:
    """Check sources and return what they stand for: one source as it was given, or a list of files.

    Raises:
        SourceError: Nothing given, something is missing, or of a kind that cannot be read.
    """
    if not sources:
        raise SourceError("nothing to detect in: pass --source FILE, FOLDER, 'GLOB', a video, 0 for a webcam or a URL")
    if len(sources) == 1:
        _check(sources[0])
        return sources[0]
    files: list[str] = []
    for source in sources:
        if source.isnumeric() or is_remote(source):
            raise SourceError(f"source '{source}': a webcam or an address must be the only source; use a .streams file")
        _check(source)
        files += _files(source)
    return files


def _check(source: str) -> None:
    path = Path(source)
    if source.isnumeric() or is_remote(source) or (path.suffix.lower() in LISTS and path.is_file()):
        return
    if path.is_file():
        suffix = path.suffix.lower().lstrip(".")
        if suffix not in IMG_FORMATS | VID_FORMATS:
            raise SourceError(
                f"source '{source}': '.{suffix}' is neither an image ({choices(sorted(IMG_FORMATS), 20)}) "
                f"nor a video ({choices(sorted(VID_FORMATS), 20)})"
            )
        if path.stat().st_size == 0:
            raise SourceError(f"source '{source}': the file is empty")
        return
    if not path.is_dir() and not glob.has_magic(source):
        folder = path.parent if path.parent.is_dir() else Path()
        raise SourceError(f"source '{source}' not found{nearest(path.name, [p.name for p in folder.iterdir()])}")
    if not _files(source):
        raise SourceError(f"source '{source}': no images or videos there")


def _files(source: str) -> list[str]:
    """Return the images and videos that a file, folder or glob stands for."""
    path = Path(source)
    found = [path] if path.is_file() else path.iterdir() if path.is_dir() else map(Path, glob.glob(source))
    return sorted(str(p.resolve()) for p in found if p.suffix.lower().lstrip(".") in IMG_FORMATS | VID_FORMATS)
