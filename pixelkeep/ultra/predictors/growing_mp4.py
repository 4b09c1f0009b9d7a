"""An MP4 file that grows by parts and can be played at any moment, also after a kill.

While it grows, it is a fragmented MP4 (ISO/IEC 14496-12, movie fragments): a description without samples, then one
``moof`` and ``mdat`` after the other, each of them whole or the last. At its end it becomes an ordinary one, which
every player takes, by one write: an index of all samples is appended, and 16 bytes in front of the description, which
were of no use so far, become the head of an ``mdat`` that has everything before the index inside it. The same bytes
written back make it grow again. Nothing is encoded here: samples come from files that OpenCV has written.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from pixelkeep.errors import StorageError
from pixelkeep.ultra.predictors.mp4 import Box, Sample, boxes, fields, find, numbers
from pixelkeep.writing import Growing

SCALE = 90_000  # units of time in a second: whole numbers for all usual frame rates
_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)  # the picture is not turned
_FREE = struct.pack(">I4sQ", 16, b"free", 0)
_HEAD = 28  # bytes, behind which these lie: the size of the ftyp box
_KEY, _OTHER = 0x02000000, 0x01010000  # sample flags: depends on no other sample; depends on others, is no start


@dataclass
class _Index:
    """What is in a file.

    Attributes:
        description: How samples are encoded, a box.
        picture: Width and height.
        sizes: Of the samples, in bytes.
        times: At which they are shown, in units of time.
        keys: Whether decoding can begin with them.
        parts: For each part where its data begins, in bytes, and how many samples it has.
        end: When the last sample ends, in units of time.
        whole: Bytes of the file up to the end of the last whole part; 0 for nothing of use.
    """

    description: bytes = b""
    picture: tuple[int, int] = (0, 0)
    sizes: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    keys: list[bool] = field(default_factory=list)
    parts: list[tuple[int, int]] = field(default_factory=list)
    end: int = 0
    whole: int = 0

    def add(self, data: int, sizes: list[int], times: list[int], keys: list[bool], end: int) -> None:
        """Add a part whose data begins at byte ``data``."""
        self.parts.append((data, len(sizes)))
        self.sizes += sizes
        self.times += times
        self.keys += keys
        self.end = end


def _box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _full(kind: bytes, version_flags: int, form: str = "", *values: int) -> bytes:
    return _box(kind, struct.pack(">I", version_flags), struct.pack(f">{form}", *values))


def _movie(description: bytes, size: tuple[int, int], length: int, tables: bytes, extra: bytes) -> bytes:
    """Return a ``moov``: one video track of ``length`` units of time, with the given tables of samples."""
    header = struct.pack(">IQQIQIHHQ", 1 << 24, 0, 0, SCALE, length, 0x10000, 0x100, 0, 0)
    header = _box(b"mvhd", header, _MATRIX, bytes(24), struct.pack(">I", 2))
    sides = struct.pack(">II", size[0] << 16, size[1] << 16)
    track = struct.pack(">IQQIIQQHHHH", 1 << 24 | 3, 0, 0, 1, 0, length, 0, 0, 0, 0, 0)
    media = _box(b"mdhd", struct.pack(">IQQIQHH", 1 << 24, 0, 0, SCALE, length, 0x55C4, 0))
    handler = _box(b"hdlr", struct.pack(">II4s12s", 0, 0, b"vide", b""), b"VideoHandler\0")
    reference = _box(b"dinf", _box(b"dref", struct.pack(">II", 0, 1), _full(b"url ", 1)))
    samples = _box(b"minf", _full(b"vmhd", 1, "Q", 0), reference, _box(b"stbl", description, tables))
    return _box(
        b"moov",
        header,
        _box(b"trak", _box(b"tkhd", track, _MATRIX, sides), _box(b"mdia", media, handler, samples)),
        extra,
    )


class GrowingMp4:
    """A file of one video track.

    Args:
        path: The file. What is there is gone on with, as far as it is whole.
        resume: Whether to do so; else the file begins anew.
    """

    def __init__(self, path: Path, resume: bool = False):
        self._index = _recover(path) if resume else _Index()
        self._path = path
        self._file: Growing | None = None  # until there is a frame in it
        if self._index.whole:
            self._file = Growing(path, self._index.whole)
            self._file.replace(_HEAD, _FREE)
        else:
            path.unlink(missing_ok=True)

    @property
    def frames(self) -> int:
        """How many frames are in the file."""
        return len(self._index.sizes)

    @property
    def end(self) -> float:
        """When the last frame ends, in seconds."""
        return self._index.end / SCALE

    @property
    def size(self) -> tuple[int, int]:
        """Width and height; zeros before the first part."""
        return self._index.picture

    def append(
        self, description: bytes, samples: list[Sample], size: tuple[int, int], times: list[float], period: float
    ) -> None:
        """Append a part.

        Args:
            description: How the samples are encoded; that of the first part counts.
            samples: The first of them is one that decoding can begin with.
            size: Width and height.
            times: For each sample the second at which it is shown, after that of the one before.
            period: Seconds that the last one is shown, if nothing follows.

        Raises:
            OSError: The disk is full; the parts before are there.
        """
        starts = self._ticks(times)
        stops = [*starts[1:], starts[-1] + max(1, round(period * SCALE))]
        first, file = self._file is None, self._file or Growing(self._path)
        head = self._head(description, size) if first else b""
        part = _fragment(len(self._index.parts) + 1, samples, starts, stops)
        data = file.size + len(head) + len(part) + 8
        try:
            file.append(head + part + _box(b"mdat", *(sample.data for sample in samples)))
        except OSError:
            if first:
                file.close()
                self._path.unlink()
            raise
        self._file = file
        self._index.add(data, [len(s.data) for s in samples], starts, [s.key for s in samples], stops[-1])

    def _head(self, description: bytes, size: tuple[int, int]) -> bytes:
        """Return what stands before the first part."""
        self._index.description, self._index.picture = description, size
        extra = _box(b"mvex", _full(b"mehd", 1 << 24, "Q", 0), _full(b"trex", 0, "5I", 1, 1, 0, 0, 0))
        empty = b"".join(_full(kind, 0, form, *[0] * len(form)) for kind, form in _EMPTY)
        kinds = b"isom" + struct.pack(">I", 512) + b"isomiso5mp41"
        return _box(b"ftyp", kinds) + _FREE + _movie(description, size, 0, empty, extra)

    def _ticks(self, times: list[float]) -> list[int]:
        """Return seconds in units of time, each at least one after the one before."""
        ticks, least = [], self._index.times[-1] + 1 if self.frames else 0
        for time in times:
            ticks.append(max(least, round(time * SCALE)))
            least = ticks[-1] + 1
        return ticks

    def finish(self) -> None:
        """Make it an ordinary MP4 and close it. On a full disk it stays one that grows, which can be played too.

        Raises:
            OSError: The disk is full.
        """
        if self._file is None:
            return
        try:
            if self.frames:
                start, index = self._file.size, self._index
                self._file.append(_movie(index.description, index.picture, index.end, self._tables(), b""))
                self._file.replace(_HEAD, struct.pack(">I4sQ", 1, b"mdat", start - _HEAD))
        finally:
            self._file.close()

    def _tables(self) -> bytes:
        index = self._index
        lengths = [stop - start for start, stop in pairwise([*index.times, index.end])]
        runs = [[1, lengths[0]]]
        for length in lengths[1:]:
            if length == runs[-1][1]:
                runs[-1][0] += 1
            else:
                runs.append([1, length])
        keys = [number for number, key in enumerate(index.keys, 1) if key]
        parts = [(number, samples, 1) for number, (_, samples) in enumerate(index.parts, 1)]
        return b"".join(
            (
                _table(b"stts", "I", [n for run in runs for n in run], len(runs)),
                _table(b"stss", "I", keys, len(keys)),
                _table(b"stsc", "I", [n for part in parts for n in part], len(parts)),
                _full(b"stsz", 0, f"{2 + len(index.sizes)}I", 0, len(index.sizes), *index.sizes),
                _table(b"co64", "Q", [offset for offset, _ in index.parts], len(parts)),
            )
        )


def whole_frames(path: Path) -> int:
    """Return how many frames of a file can be gone on with; a file that is not there has none."""
    return len(_recover(path).sizes)


def _recover(path: Path) -> _Index:
    """Return what is in a file, as far as it is whole."""
    if not path.is_file() or not path.stat().st_size:
        return _Index()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        movie = find(data, b"moov", start=_HEAD + len(_FREE))
        description = movie and find(data, b"trak", b"mdia", b"minf", b"stbl", b"stsd", start=movie.content)
        header = movie and find(data, b"trak", b"tkhd", start=movie.content)
        if not description or not header:
            return _Index()
        picture = tuple(side >> 16 for side in struct.unpack_from(">II", data, header.end - 8))
        index = _Index(data[description.start : description.end], picture, whole=movie.end)
        for part, content in pairwise(boxes(data, movie.end)):
            if (part.kind, content.kind) == (b"moof", b"mdat"):
                starts, end, sizes, keys = _read_fragment(data, part)
                index.add(content.content, sizes, starts, keys, end)
                index.whole = content.end
        return index


_EMPTY = ((b"stts", "I"), (b"stsc", "I"), (b"stsz", "II"), (b"stco", "I"))


def _table(kind: bytes, form: str, values: list[int], count: int) -> bytes:
    return _full(kind, 0, f"I{len(values)}{form}", count, *values)


def _fragment(number: int, samples: list[Sample], starts: list[int], stops: list[int]) -> bytes:
    """Return the ``moof`` of a part whose data begins 8 bytes behind it."""
    rows = [
        value
        for sample, start, stop in zip(samples, starts, stops, strict=True)
        for value in (stop - start, len(sample.data), _KEY if sample.key else _OTHER)
    ]

    def written(offset: int) -> bytes:
        run = _full(b"trun", 0x701, f"II{len(rows)}I", len(samples), offset, *rows)
        track = _box(b"traf", _full(b"tfhd", 0x020000, "I", 1), _full(b"tfdt", 1 << 24, "Q", starts[0]), run)
        return _box(b"moof", _full(b"mfhd", 0, "I", number), track)

    return written(len(written(0)) + 8)


def _read_fragment(data: bytes, part: Box) -> tuple[list[int], int, list[int], list[bool]]:
    """Return when the samples of a part start and the last one ends, their sizes and which are keys."""
    time = find(data, b"traf", b"tfdt", start=part.content, end=part.end)
    run = find(data, b"traf", b"trun", start=part.content, end=part.end)
    if time is None or run is None:
        raise StorageError("a video that was not written by this command")
    (now,), (count, _) = fields(data, time, ">Q"), fields(data, run, ">II")
    rows = numbers(data, run, 8, 3 * count)
    starts = []
    for length in rows[::3]:
        starts.append(now)
        now += length
    return starts, now, rows[1::3], [flags == _KEY for flags in rows[2::3]]
