"""Find images that are identical or nearly so: copies, and neighbouring frames of one film.

Two images are nearly the same if their difference hashes differ in at most 40 of 256 bits. The hash (dHash, after
N. Krawetz, "Kind of Like That", 2013) records which of two neighbouring pixels of a tiny grey copy is brighter. The
comparison survives recompression, resizing, changes of brightness, and a shift by one hundredth of the image, but not
mirroring or rotation.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pixelkeep.datasets.definitions.spec import DatasetSpec
from pixelkeep.datasets.images.inspection import silent_opencv, threads
from pixelkeep.datasets.images.pixels import read_pixels
from pixelkeep.datasets.images.remembering import Memory, stamp
from pixelkeep.errors import DataError

SIDE = 16  # pixels, side of the tiny copy; a hash has SIDE * SIDE bits
NEAR = 40  # bits in which two hashes may differ at most
FLAT = 2.0  # grey levels, standard deviation of the tiny copy below which there is nothing to compare
CHUNK = 2048  # images compared at once
FORMAT = 1  # version of the cached fingerprints


@dataclass(frozen=True)
class Fingerprint:
    """The hashes by which an image is recognised.

    Attributes:
        content: Hash of the file's bytes, equal for copies.
        bits: The difference hash in hexadecimal; '' if the image is too even to have one.
    """

    content: str
    bits: str


@dataclass(frozen=True)
class Pair:
    """Two nearly equal images of different splits, and the number of bits in which their hashes differ."""

    first: Path
    second: Path
    splits: tuple[str, str]
    distance: int


def fingerprints(
    spec: DatasetSpec, paths: Sequence[Path], progress: Callable[[int, int], None] | None = None
) -> dict[Path, Fingerprint]:
    """Return the fingerprints of images; those of unchanged images come from the cache.

    Args:
        spec: The dataset definition, which says how pixels are read.
        paths: The image files.
        progress: Called with the number of uncached images done so far and their total number.
    """
    memory = Memory("fingerprints", FORMAT, paths, [str(spec.channels), str(spec.stretch)])
    stamps = {path: stamp(path) for path in paths}
    known = {path: _remembered(memory.get(path, current)) for path, current in stamps.items()}
    todo = [path for path, found in known.items() if found is None]
    with silent_opencv(), ThreadPoolExecutor(threads()) as pool:
        found = pool.map(lambda path: fingerprint(path, spec), todo)
        for done, (path, value) in enumerate(zip(todo, found, strict=True), 1):
            known[path] = value
            if progress:
                progress(done, len(todo))
    if todo:
        memory.write({path: (stamps[path], [value.content, value.bits]) for path, value in known.items()})
    return known


def _remembered(values: list | None) -> Fingerprint | None:
    right = values is not None and len(values) == 2 and all(isinstance(value, str) for value in values)
    return Fingerprint(*values) if right else None


def fingerprint(path: Path, spec: DatasetSpec) -> Fingerprint:
    """Return the fingerprint of one image."""
    data = np.fromfile(path, np.uint8)
    content = hashlib.blake2b(data, digest_size=16).hexdigest()
    grey = _grey(path, data, spec)
    return Fingerprint(content, "" if grey is None else difference_hash(grey))


def _grey(path: Path, data: np.ndarray, spec: DatasetSpec) -> np.ndarray | None:
    """Return a grey picture (H, W), decoded at a quarter of its size where possible; None if it cannot be decoded."""
    if spec.channels in (1, 3) and spec.stretch is None:
        return cv2.imdecode(data, cv2.IMREAD_REDUCED_GRAYSCALE_4)
    try:
        return read_pixels(path, spec.channels, spec.stretch).mean(2, dtype=np.float32)
    except DataError:
        return None


def difference_hash(grey: np.ndarray) -> str:
    """Return the difference hash of a grey picture (H, W) in hexadecimal, '' if the picture is too even."""
    tiny = cv2.resize(grey.astype(np.float32), (SIDE + 1, SIDE), interpolation=cv2.INTER_AREA)
    if tiny.std() < FLAT:
        return ""
    return np.packbits(tiny[:, 1:] > tiny[:, :-1]).tobytes().hex()


def near_pairs(
    members: Mapping[str, Sequence[Path]], found: Mapping[Path, Fingerprint], limit: int = NEAR
) -> list[Pair]:
    """Return the pairs of images of different splits that are nearly or exactly the same, nearest first."""
    splits = list(members)
    pairs = []
    for number, first in enumerate(splits):
        for second in splits[number + 1 :]:
            pairs += [
                Pair(a, b, (first, second), distance)
                for a, b, distance in _between(members[first], members[second], found, limit)
            ]
    return sorted(pairs, key=lambda pair: (pair.distance, pair.splits, str(pair.first), str(pair.second)))


def copies(paths: Sequence[Path], found: Mapping[Path, Fingerprint]) -> list[list[Path]]:
    """Return the groups of different files with equal content."""
    groups = defaultdict(list)
    for path in dict.fromkeys(paths):
        groups[found[path].content].append(path)
    return [group for group in groups.values() if len(group) > 1]


def _between(
    firsts: Sequence[Path], seconds: Sequence[Path], found: Mapping[Path, Fingerprint], limit: int
) -> list[tuple[Path, Path, int]]:
    pairs = {}
    rights, right = _signs(seconds, found)
    lefts, left = _signs(firsts, found)
    for start in range(0, len(lefts), CHUNK):
        for other in range(0, len(rights), CHUNK):
            # The product of vectors of +1 and -1 is the bit count minus twice the differing bits: exact in float32.
            product = left[start : start + CHUNK] @ right[other : other + CHUNK].T
            distance = ((SIDE * SIDE - product) / 2).astype(int)
            for i, j in zip(*np.nonzero(distance <= limit), strict=True):
                pairs[lefts[start + i], rights[other + j]] = int(distance[i, j])
    by_content = defaultdict(list)
    for path in firsts:
        by_content[found[path].content].append(path)
    pairs |= {(a, b): 0 for b in seconds for a in by_content[found[b].content]}
    return [(a, b, distance) for (a, b), distance in pairs.items()]


def _signs(paths: Sequence[Path], found: Mapping[Path, Fingerprint]) -> tuple[list[Path], np.ndarray]:
    """Return the images that have a difference hash, and the bits of their hashes as float32 (n, 256) of +1 and -1."""
    hashed = [path for path in dict.fromkeys(paths) if found[path].bits]
    raw = b"".join(bytes.fromhex(found[path].bits) for path in hashed)
    bits = np.unpackbits(np.frombuffer(raw, np.uint8).reshape(len(hashed), SIDE * SIDE // 8), axis=1)
    return hashed, bits.astype(np.float32) * 2 - 1
