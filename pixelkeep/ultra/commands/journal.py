"""frames.jsonl: the journal of detect, one line per image or frame, on disk before the next one is processed.

predictions.json and predictions.csv are made from it at the end, and an interrupted run is resumed after its last line.
A line that a kill has cut off does not count.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pixelkeep.ultra.data.videos import Passage
from pixelkeep.writing import Growing

NAME = "frames.jsonl"
LASTING = ("skipped", "broken", "passed", "listed")  # what is known about a video once it has ended


class Journal:
    """A journal that is being written.

    Args:
        path: Path of the file.
        size: Number of bytes of an existing file to keep.
    """

    def __init__(self, path: Path, size: int = 0):
        self.path = path
        self._file = Growing(path, size)

    def add(self, entry: dict[str, Any]) -> None:
        """Append a line.

        Raises:
            OSError: The disk is full; the earlier lines are intact.
        """
        self._file.append(json.dumps(entry, separators=(",", ":"), allow_nan=False).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def entries(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the complete lines of a journal, each preceded by the number of bytes of the file up to its end."""
    if not path.is_file():
        return
    size = 0
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            try:
                entry = json.loads(line)
            except ValueError:
                return
            size += len(line)
            yield size, entry


def objects(path: Path) -> Iterator[dict[str, Any]]:
    """Yield all objects found in a run, each with the image or frame it was found in."""
    for _, entry in entries(path):
        frame = {"frame": entry["frame"]} if entry.get("frame") else {}
        where = {"image_id": entry.get("image_id"), "file_name": Path(entry["file"]).name, **frame}
        for found in entry.get("objects", ()):
            yield {**where, **found}


@dataclass
class Done:
    """What has been done according to a journal.

    The place of a stream is its index among the streams.

    Attributes:
        size: Number of bytes of the file that count.
        images: Number of images and frames processed.
        detections: Number of objects found, by class.
        files: Images processed, and videos read to their end.
        passages: Progress through videos, by path, and through streams, by place.
        times: Time in seconds of the last frame of each stream, by place, and of each video.
        streams: Names of the streams, by place.
        names: Names of the results, by path, or by place of a stream.
        identities: Highest identity that a tracker has given, by path or place.
        known: Number of objects that the tracker has told apart, by path or place.
        seams: What became of the boxes of tiles: the sum of the counts in the lines.
        rasters: Facts on images that were read in windows, by path.
        turns: Number of tiles of a video or stream that were processed when time was short, by path or place.
    """

    size: int = 0
    images: int = 0
    detections: Counter = field(default_factory=Counter)
    files: set[str] = field(default_factory=set)
    passages: dict[Any, Passage] = field(default_factory=dict)
    times: dict[int, float] = field(default_factory=dict)
    streams: dict[int, str] = field(default_factory=dict)
    names: dict[Any, str] = field(default_factory=dict)
    identities: Counter = field(default_factory=Counter)
    known: Counter = field(default_factory=Counter)
    seams: Counter = field(default_factory=Counter)
    rasters: dict[str, dict[str, Any]] = field(default_factory=dict)
    turns: dict[Any, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, limits: dict[str, int] | None = None) -> Done:
        """Read a journal.

        Args:
            path: Path of the file; a missing file means that nothing is done.
            limits: Number of lines that count of a video, by its path; the next line of that video and everything after
                it do not count.
        """
        done, lines = cls(), Counter()
        for size, entry in entries(path):
            file = entry["file"]
            if "ended" not in entry:
                lines[file] += 1
                if limits and lines[file] > limits.get(file, lines[file]):
                    return done
            done._add(entry)
            done.size = size
        return done

    def _add(self, entry: dict[str, Any]) -> None:
        key = entry.get("place", entry["file"])
        if "ended" in entry:
            self.files.add(key)
            told = {name: entry[name] for name in LASTING if name in entry}
            self.passages[key] = replace(self.passages[key], ended=True, **told)
            return
        self.images = entry["image_id"]
        self.detections.update(entry["counts"])
        self.seams.update(entry.get("seams", {}))
        if raster := entry.get("raster"):
            self.rasters[entry["file"]] = raster
        if name := entry.get("name"):
            self.names[key] = name
        if "place" in entry:
            self.streams[key] = entry["file"]
        if not (frame := entry.get("frame")):
            self.files.add(entry["file"])
            return
        frames = self.passages[key].frames + 1 if key in self.passages else 1
        skipped, broken, lost = (entry.get(name, 0) for name in ("skipped", "broken", "lost"))
        self.passages[key] = Passage(frames, skipped, broken, passed=frame, lost=lost)
        if "turns" in entry:
            self.turns[key] = entry["turns"]
        self.times[key] = entry["at"]
        self.identities[key] = max(self.identities[key], entry.get("identities", 0))
        self.known[key] = entry.get("known", 0)

    def source(self, key: Any) -> Any:
        """Return the key of a video, its path, unchanged; for a stream, its place and its name."""
        return (key, self.streams[key]) if isinstance(key, int) else key

    def cut_off(self) -> dict[str, Passage]:
        """Return the progress through videos that have not been read to their end, by path."""
        return {key: p for key, p in self.passages.items() if isinstance(key, str) and key not in self.files}
