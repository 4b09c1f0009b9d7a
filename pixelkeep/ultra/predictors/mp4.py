"""The boxes of an MP4 file (ISO/IEC 14496-12), and the encoded frames in one of a single video track."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple


class Sample(NamedTuple):
    """One encoded frame, and whether decoding can begin with it."""

    data: bytes
    key: bool


class Box(NamedTuple):
    """A box of a file: its kind and where its content lies, in bytes."""

    kind: bytes
    start: int
    content: int
    end: int


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """Return the boxes that lie one after the other in ``data``, as far as they are whole."""
    end = len(data) if end is None else end
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1 and start + 16 <= end:
            size, head = struct.unpack_from(">Q", data, start + 8)[0], 16
        if size < head or start + size > end:
            return
        yield Box(kind, start, start + head, start + size)
        start += size


def find(data: bytes, *kinds: bytes, start: int = 0, end: int | None = None) -> Box | None:
    """Return the first box of a kind inside the first of another, and so on; None where there is none."""
    found = next((box for box in boxes(data, start, end) if box.kind == kinds[0]), None)
    if found is None or len(kinds) == 1:
        return found
    return find(data, *kinds[1:], start=found.content, end=found.end)


def read_samples(data: bytes) -> tuple[bytes, list[Sample]]:
    """Return how the samples of an ordinary MP4 of one video track are encoded, as ``stsd`` says, and the samples.

    Raises:
        ValueError: It is none, or not whole.
    """
    table = find(data, b"moov", b"trak", b"mdia", b"minf", b"stbl")
    if table is None:
        raise ValueError("no whole MP4 file")
    inside = {box.kind: box for box in boxes(data, table.content, table.end)}
    (uniform, count), sizes = fields(data, inside[b"stsz"], ">II"), []
    sizes = [uniform] * count if uniform else numbers(data, inside[b"stsz"], 8, count)
    wide = b"co64" in inside
    chunks = inside[b"co64" if wide else b"stco"]
    offsets = numbers(data, chunks, 4, *fields(data, chunks, ">I"), form="Q" if wide else "I")
    runs = numbers(data, inside[b"stsc"], 4, 3 * fields(data, inside[b"stsc"], ">I")[0])
    key = {*range(1, count + 1)}
    if b"stss" in inside:
        key = {*numbers(data, inside[b"stss"], 4, *fields(data, inside[b"stss"], ">I"))}
    samples: list[Sample] = []
    for chunk, offset in enumerate(offsets, 1):
        a_chunk = next(runs[i + 1] for i in range(len(runs) - 3, -1, -3) if runs[i] <= chunk)
        for size in sizes[len(samples) : len(samples) + a_chunk]:
            samples.append(Sample(data[offset : offset + size], len(samples) + 1 in key))
            offset += size
    description = inside[b"stsd"]
    return data[description.start : description.end], samples


def fields(data: bytes, box: Box, form: str) -> tuple[int, ...]:
    """Return what stands behind the version and flags of a box."""
    return struct.unpack_from(form, data, box.content + 4)


def numbers(data: bytes, box: Box, skipped: int, count: int, form: str = "I") -> list[int]:
    """Return the numbers of a table that begins ``skipped`` bytes behind the version and flags of a box."""
    return list(struct.unpack_from(f">{count}{form}", data, box.content + 4 + skipped))
