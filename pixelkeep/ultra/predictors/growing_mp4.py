"""An MP4 file that grows frame by frame and can be played at any moment, also after a kill.

FFmpeg's muxer makes it, through PyAV. While the file grows, it is a fragmented MP4 (ISO/IEC 14496-12, movie
fragments), a fragment for each frame. At its end the muxer appends an index of all frames and overwrites eight bytes at
the front, and it is an ordinary MP4, which every player takes. What the muxer writes is put on the disk here: fragment
by fragment, so that a full disk leaves whole ones, and the eight bytes once the index is there.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av

from pixelkeep.errors import StorageError
from pixelkeep.writing import Growing, staged

SCALE = 90_000  # units of time in a second: whole numbers for all usual frame rates
_OPTIONS = {
    "movflags": "hybrid_fragmented+empty_moov+frag_every_frame+default_base_moof",
    "video_track_timescale": str(SCALE),
}


class _Written:
    """A file in memory for the muxer: holds what has been written and not been taken yet."""

    def __init__(self) -> None:
        self._at = self._end = 0
        self._pieces: list[tuple[int, bytes]] = []

    def write(self, data: bytes) -> int:
        self._pieces.append((self._at, bytes(data)))
        self._at += len(data)
        self._end = max(self._end, self._at)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def take(self, size: int) -> tuple[bytes, list[tuple[int, bytes]]]:
        """Return what comes behind the first ``size`` bytes, and what is written over these, with its places."""
        behind, over = bytearray(), []
        for at, data in self._pieces:
            if at < size:
                over.append((at, data))
            else:
                behind[at - size : at - size + len(data)] = data
        self._pieces.clear()
        return bytes(behind), over


class GrowingMp4:
    """A file of one video track.

    Args:
        path: The file. It is replaced when the first frame is written.

    Attributes:
        coding: How the frames are encoded, by FFmpeg's name; None before :meth:`begin`.
        size: Width and height.
    """

    def __init__(self, path: Path):
        self._path = path
        self._written = _Written()
        self._container = av.open(self._written, "w", format="mp4", options=_OPTIONS)
        self._file: Growing | None = None  # while it is open
        self._size = 0  # bytes on the disk
        self._frames = 0
        self._last = -1  # when the last of them is shown, in units of time
        self._stream: av.VideoStream | None = None
        self.coding: str | None = None
        self.size = (0, 0)

    @classmethod
    def continued(cls, path: Path, codings: Container[str]) -> GrowingMp4 | None:
        """Go on behind the last whole frame of a file, however it ended; None where there is no frame.

        The frames are moved over into a new file, as they are encoded, which then takes the place of the old one.

        Args:
            path: The file.
            codings: In which of them it may be.

        Raises:
            StorageError: It is in another one.
            OSError: The disk is full. Either way the file is as it was.
        """
        with staged(path) as partial:
            grown = cls(partial)
            for source, packet in _whole(path):
                if grown.coding is None:
                    grown.coding, grown.size = source.codec.canonical_name, (source.width, source.height)
                    if grown.coding not in codings:
                        raise StorageError(f"{path}: a {grown.coding} video, which is not this command's; move it away")
                    grown._stream = grown._container.add_stream_from_template(source)
                grown._append(packet)
            grown._close()
        grown._path = path
        return grown if grown.coding else None

    def begin(self, encoder: str, size: tuple[int, int]) -> av.VideoCodecContext:
        """Begin the track of a new file, and return what its frames are to be encoded with."""
        self._stream = self._container.add_stream(encoder)
        self.coding, self.size = self._stream.codec.canonical_name, size
        return self._stream.codec_context

    def append(self, packet: av.Packet, at: float, period: float) -> None:
        """Add a frame. It is on the disk when the next one has been added, or at the end.

        Args:
            packet: The encoded frame; frames are shown in the order in which they are decoded.
            at: The second at which it is shown, after the one before. The first frame is shown from the beginning.
            period: Seconds that it is shown, if nothing follows.

        Raises:
            OSError: The disk is full; the frames before are there.
        """
        packet.time_base = Fraction(1, SCALE)
        packet.pts = packet.dts = max(self._last + 1, round(at * SCALE)) if self._frames else 0
        packet.duration = max(1, round(period * SCALE))
        self._append(packet)

    def _append(self, packet: av.Packet) -> None:
        packet.stream = self._stream
        self._last = round(packet.pts * packet.time_base * SCALE)
        self._container.mux(packet)
        self._frames += 1
        if self._frames > 1:  # the first comes with the second, when how long it is shown is known
            self._put()

    def finish(self) -> None:
        """Make it an ordinary MP4 and close it. On a full disk it stays one that grows, which can be played too.

        Raises:
            OSError: The disk is full.
        """
        if self._container is None:
            return
        self._container.close()
        self._container = self._stream = None  # with the encoder and its threads
        try:
            if self._frames:
                self._put()
        finally:
            self._close()

    def __del__(self) -> None:
        if self._container:
            self._container.close()  # in memory; left to itself, PyAV may write to what is already taken apart

    def _put(self) -> None:
        """Put on the disk what the muxer has written."""
        behind, over = self._written.take(self._size)
        self._file = self._file or Growing(self._path, self._size)
        try:
            self._file.append(behind)
            for at, data in over:
                self._file.replace(at, data)
        except OSError:
            self._frames = 0  # nothing more can follow
            self._close()
            if not self._size:
                self._path.unlink()
            raise
        self._size = self._file.size

    def _close(self) -> None:
        if self._file:
            self._file.close()
        self._file = None


def whole_frames(path: Path) -> int:
    """Return how many frames of a file can be gone on with; a file that is not there has none."""
    return sum(1 for _ in _whole(path))


def _whole(path: Path) -> Iterator[tuple[av.VideoStream, av.Packet]]:
    """Return the frames of a file, each with its track, as far as they are whole."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        # The second way is without a look ahead, which fails where a file ends within the head of a fragment.
        for source in (str(path), SimpleNamespace(read=file.read)):
            packet = None
            with suppress(av.FFmpegError), av.open(source) as container:
                if not container.streams.video:
                    continue
                for packet in container.demux(video=0):
                    if not packet.size or packet.is_corrupt:
                        return
                    yield packet.stream, packet
            if packet:
                return
