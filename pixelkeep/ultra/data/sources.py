"""Sources of detect: files, folders, globs, lists, videos, webcams and streams, checked before a model loads."""

from __future__ import annotations

import csv
import glob
from pathlib import Path
from urllib.parse import urlsplit

import cv2
from ultralytics.data.utils import IMG_FORMATS, VID_FORMATS
from ultralytics.utils.downloads import safe_download, url2file

from pixelkeep.errors import SourceError, choices, nearest

REMOTE = ("http://", "https://", "rtsp://", "rtmp://", "tcp://", "udp://")
LISTS = (".txt", ".csv")  # endings of lists of images and videos, one per line
STREAMS = ".streams"  # ending of a list of streams


def is_remote(source: str) -> bool:
    """Return whether a source is a network address."""
    return source.lower().startswith(REMOTE)


def is_live(source: str) -> bool:
    """Return whether a source never ends by itself, as a webcam index or a stream."""
    if is_remote(source):
        return not is_file_address(source)
    return source.isnumeric() or source.lower().endswith(STREAMS)


def is_file_address(source: str) -> bool:
    """Return whether a source is the web address of an image or video file, which is downloaded first."""
    ending = urlsplit(source.lower()).path.rpartition(".")[-1]
    return source.lower().startswith(REMOTE[:2]) and ending in IMG_FORMATS | VID_FORMATS


def images_in(source: str | list[str]) -> list[str]:
    """Return the images among the sources that :func:`resolve_sources` returned."""
    files = source if isinstance(source, list) else [urlsplit(source).path]
    return [file for file in files if Path(file).suffix.lower().lstrip(".") in IMG_FORMATS]


def download(address: str, folder: Path) -> str:
    """Download an image or video into a folder and return its path.

    Raises:
        SourceError: The file cannot be downloaded.
    """
    try:
        file = safe_download(address, file=folder / url2file(address), unzip=False, progress=False)
    except (ConnectionError, FileNotFoundError, MemoryError) as error:
        reason = " ".join(str(error).split())
        raise SourceError(f"source '{address}' cannot be downloaded ({reason}); is the address right?") from error
    return str(file)


def resolve_sources(sources: list[str], again: bool = False) -> str | list[str]:
    """Check sources and return what they stand for: a list of files, or a live or remote source as it was given.

    Args:
        sources: The sources as the user gave them.
        again: Whether existing files go unchecked, because an earlier call expanded folders and patterns to them.
            Damaged ones among them are skipped and named later.

    Raises:
        SourceError: No source is given, one is missing, or one is of a kind that cannot be read.
    """
    if not sources:
        raise SourceError("no source given: pass --source FILE, FOLDER, 'GLOB', a video, 0 for a webcam or a URL")
    if len(sources) == 1 and (is_remote(sources[0]) or is_live(sources[0])):
        _check(sources[0])
        return sources[0]
    files: list[str] = []
    for source in sources:
        if source.isnumeric() or is_remote(source) or is_live(source):
            raise SourceError(f"source '{source}': a webcam, an address or a .streams file must be the only source")
        if not (again and Path(source).is_file()):
            _check(source)
        files += _files(source)
    return files


def _check(source: str) -> None:
    path = Path(source)
    if source.isnumeric() or is_remote(source):
        return
    if path.is_file():
        _check_file(path, source)
    elif not path.is_dir() and not glob.has_magic(source):
        folder = path.parent if path.parent.is_dir() else Path()
        raise SourceError(f"source '{source}' not found{nearest(path.name, [p.name for p in folder.iterdir()])}")
    if not is_live(source) and not _files(source):
        raise SourceError(f"source '{source}': no images or videos there")


def _check_file(path: Path, source: str) -> None:
    suffix = path.suffix.lower()
    if suffix not in (*LISTS, STREAMS) and suffix.lstrip(".") not in IMG_FORMATS | VID_FORMATS:
        raise SourceError(
            f"source '{source}': '{suffix}' is neither an image ({choices(sorted(IMG_FORMATS), 20)}) "
            f"nor a video ({choices(sorted(VID_FORMATS), 20)})"
        )
    if path.stat().st_size == 0:
        raise SourceError(f"source '{source}': the file is empty")
    if suffix.lstrip(".") in VID_FORMATS and not cv2.VideoCapture(str(path)).isOpened():
        raise SourceError(f"source '{source}': cannot be opened as a video; it may be damaged")


def _files(source: str) -> list[str]:
    """Return the sorted paths of the images and videos that a file, folder, glob or list stands for."""
    path = Path(source)
    if path.is_file() and path.suffix.lower() in LISTS:
        found = [file for entry in _entries(path) for file in _files(entry)]
        return sorted(found)
    found = [path] if path.is_file() else path.iterdir() if path.is_dir() else map(Path, _glob(source))
    return sorted(str(p.resolve()) for p in found if p.suffix.lower().lstrip(".") in IMG_FORMATS | VID_FORMATS)


def _glob(pattern: str) -> list[str]:
    return glob.glob(pattern, recursive=True)


def _entries(path: Path) -> list[str]:
    """Return the entries of a list file; each is looked for in the current folder, then beside the list.

    Ultralytics does the same.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise SourceError(f"source '{path}': the list is not a text file") from error
    if path.suffix.lower() == ".csv":
        rows = list(csv.reader(lines))
        lines = [cell for row in (rows[1:] if rows[:1] == [["source"]] else rows) for cell in row]
    entries = []
    for entry in filter(None, map(str.strip, lines)):
        there = next((p for p in (entry, str(path.parent / entry)) if Path(p).exists() or _glob(p)), None)
        if there is None:
            raise SourceError(f"source '{path}': it lists '{entry}', which is neither here nor in {path.parent}")
        entries.append(there)
    return entries
