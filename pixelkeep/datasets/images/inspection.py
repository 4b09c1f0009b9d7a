"""Inspect every image file once before training, decoded as training decodes it, so that no epoch fails on one.

The results are kept in the cache folder under path, file size and modification time, so that a second start only has to
compare these.
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

SMALLEST = 10  # pixels, the shortest side of an image: Ultralytics' own limit
FORMAT = 1  # version of the cached results; change it when an inspection would find something else
_ANIMATED = {b"RIFF": b"ANIM", b"\x89PNG": b"acTL", b"GIF8": b"NETSCAPE"}  # first bytes of a file to its animation mark


@dataclass(frozen=True)
class Facts:
    """The result of inspecting an image: its size in pixels, or why it cannot be used.

    Attributes:
        width, height: Size in pixels of the upright image, as training sees it; 0 if the image cannot be used.
        reason: Why the image cannot be used; '' if it can.
        frames: Whether the file is an animation or has several pages, of which only the first is used.
    """

    width: int
    height: int
    reason: str = ""
    frames: bool = False


def inspect(path: Path, channels: int = 3, stretch: tuple[float, float] | None = None) -> Facts:
    """Decode one image and return its facts; :func:`pixelkeep.datasets.images.pixels.read_pixels` has the arguments."""
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
    """Return the facts of images, inspected with one thread per core; unchanged images come from the cache.

    Args:
        paths: The image files.
        channels: Number of channels that the dataset declares.
        stretch: Percentiles that the dataset declares; None if there are none.
        progress: Called with the number of uncached images inspected so far and their total number.
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
    """Return the facts from a cache entry; None, so that the image is inspected again, if there is no valid one."""
    with contextlib.suppress(TypeError, ValueError):
        width, height, reason, frames = values
        return Facts(int(width), int(height), str(reason), bool(frames))
    return None


def threads() -> int:
    """Return the number of threads to use: as many as this process may use cores."""
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
