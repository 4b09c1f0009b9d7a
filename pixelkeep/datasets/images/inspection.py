"""Looks at every image file once, before training: decoded as training decodes it, so that no epoch stumbles over one.

What was found is kept in the cache folder by path, size and time of change; a second start only asks for those.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path

import cv2

from pixelkeep.datasets.images.pixels import read_pixels
from pixelkeep.datasets.images.remembering import Memory, stamp
from pixelkeep.errors import DataError

SMALLEST = 10  # pixels: Ultralytics' own limit; less holds no object
FORMAT = 1  # of what is remembered; change it when an inspection finds something else
_ANIMATED = {b"RIFF": b"ANIM", b"\x89PNG": b"acTL", b"GIF8": b"NETSCAPE"}  # a file's start, and its mark of animation


@dataclass(frozen=True)
class Facts:
    """What an inspection found: the size in pixels, or why the image cannot be used.

    Attributes:
        width, height: Upright, as training sees the image; 0 where it cannot be used.
        reason: Why it cannot be used, or ''.
        frames: Whether it is an animation or has several pages, of which the first is used.
    """

    width: int
    height: int
    reason: str = ""
    frames: bool = False


def inspect(path: Path, channels: int = 3, stretch: tuple[float, float] | None = None) -> Facts:
    """Decode one image; see :func:`pixelkeep.datasets.images.pixels.read_pixels` for the arguments."""
    try:
        str(path).encode("utf-8")
        height, width = read_pixels(path, channels, stretch).shape[:2]
    except UnicodeEncodeError:
        return Facts(0, 0, "the file's name is not valid UTF-8; rename it")
    except (DataError, MemoryError) as error:
        return Facts(0, 0, str(error) or "too large for the memory")
    if min(height, width) < SMALLEST:
        return Facts(0, 0, f"{width}x{height} pixels; at least {SMALLEST} on each side are needed")
    return Facts(width, height, frames=_has_frames(path, channels))


def inspect_all(
    paths: Sequence[Path],
    channels: int = 3,
    stretch: tuple[float, float] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[Path, Facts]:
    """Inspect images, in as many threads as there are cores; those that have not changed come from the cache.

    Args:
        paths: The image files.
        channels: As declared by the data.
        stretch: As declared by the data.
        progress: Called with how many of the uncached images are done, and how many there are.
    """
    memory = Memory("images", FORMAT, paths, [str(channels), str(stretch)])
    stamps = {path: stamp(path) for path in paths}
    known = {path: facts for path, current in stamps.items() if (facts := _remembered(memory.get(path, current)))}
    todo = [path for path in stamps if path not in known]
    with silent_opencv(), ThreadPoolExecutor(threads()) as pool:
        found = pool.map(lambda path: inspect(path, channels, stretch), todo)
        for done, (path, facts) in enumerate(zip(todo, found, strict=True), 1):
            known[path] = facts
            if progress:
                progress(done, len(todo))
    if todo:
        memory.write({path: (stamps[path], list(astuple(facts))) for path, facts in known.items()})
    return known


def _has_frames(path: Path, channels: int) -> bool:
    with path.open("rb") as file:
        head = file.read(4096)
    mark = next((mark for start, mark in _ANIMATED.items() if head.startswith(start)), None)
    if mark:
        return mark in head
    return channels in (1, 3) and path.suffix.lower() in (".tif", ".tiff") and cv2.imcount(str(path)) > 1


def _remembered(values: list | None) -> Facts | None:
    """Return what a memory holds, None if that is nothing or of another form: then the image is looked at again."""
    with contextlib.suppress(TypeError, ValueError):
        width, height, reason, frames = values
        return Facts(int(width), int(height), str(reason), bool(frames))
    return None


def threads() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def silent_opencv() -> Iterator[None]:
    """Keep OpenCV from writing a line of its own for each damaged file."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(0)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
