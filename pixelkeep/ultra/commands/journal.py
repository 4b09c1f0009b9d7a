"""frames.jsonl: what detect has done, a line for each picture, on the disk before the next one is looked at.

predictions.json and predictions.csv are made of it at the end, and a run that was cut off goes on behind its last line.
A line that a kill has torn is none.
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
LASTING = ("skipped", "broken", "passed", "listed")  # what is known of a video when it has ended


class Journal:
    """The file, to be written.

    Args:
        path: The file.
        size: How many bytes of what is there are kept.
    """

    def __init__(self, path: Path, size: int = 0):
        self.path = path
        self._file = Growing(path, size)

    def add(self, entry: dict[str, Any]) -> None:
        """Append a line.

        Raises:
            OSError: The disk is full; the lines before are there.
        """
        self._file.append(json.dumps(entry, separators=(",", ":"), allow_nan=False).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def entries(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Return the whole lines of a file, each with the number of bytes up to its end."""
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
    """Return all that was found in a run, each with the image or frame it is from."""
    for _, entry in entries(path):
        frame = {"frame": entry["frame"]} if entry.get("frame") else {}
        where = {"image_id": entry.get("image_id"), "file_name": Path(entry["file"]).name, **frame}
        for found in entry.get("objects", ()):
            yield {**where, **found}


@dataclass
class Done:
    """What a journal says is done.

    Attributes:
        size: Bytes of the file that count.
        images: How many images and frames have been looked at.
        detections: By class, how many objects have been found.
        files: Images, and videos that have been gone through.
        passages: How videos, by path, and streams, by place, went by.
        times: The second of the last frame of each stream, by place.
        streams: Names of the streams, by place.
        names: Of results, by path, or place of a stream.
        identities: The highest identity that a tracker has given, by path or place.
        known: How many objects it has told apart, by path or place.
        seams: What became of the boxes of tiles: the sum of the lines' counts.
        rasters: How images that were read in windows went by, by path.
        turns: How many tiles of a video or stream were looked at where time was short, by path or place.
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
            path: The file; nothing is done where there is none.
            limits: How many lines of a video count, by its path: its later ones, and all that follow, do not.
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
        """Return a video's path for itself, and for a stream's place both that and its name."""
        return (key, self.streams[key]) if isinstance(key, int) else key

    def cut_off(self) -> dict[str, Passage]:
        """Return the videos that have not been gone through, by path."""
        return {key: p for key, p in self.passages.items() if isinstance(key, str) and key not in self.files}
