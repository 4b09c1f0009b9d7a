"""An MP4 file that grows frame by frame and can be played at any moment, also after a kill.

FFmpeg's muxer makes the file, through PyAV. While the file grows, it is a fragmented MP4 (ISO/IEC 14496-12, movie
fragments) with a fragment for each frame. At the end the muxer appends an index of all frames and overwrites eight
bytes at the front. This turns the file into an ordinary MP4, which every player takes. This module puts the muxer's
output on the disk: fragment by fragment, so that a full disk leaves whole fragments, and the eight bytes only once the
index is on the disk.
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

SCALE = 90_000  # time units per second, so that frames at all usual rates last a whole number of units
_OPTIONS = {
    "movflags": "hybrid_fragmented+empty_moov+frag_every_frame+default_base_moof",
    "video_track_timescale": str(SCALE),
}


class _Written:
    """A file in memory for the muxer, which holds what has been written but not taken yet."""

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
        """Return the bytes after the first ``size`` ones, and the pieces that overwrite these, with their positions."""
        behind, over = bytearray(), []
        for at, data in self._pieces:
            if at < size:
                over.append((at, data))
            else:
                behind[at - size : at - size + len(data)] = data
        self._pieces.clear()
        return bytes(behind), over


class GrowingMp4:
    """An MP4 file with one video track.

    Args:
        path: Path of the file. An existing file is replaced when the first frame is written.

    Attributes:
        coding: FFmpeg's name of the coding of the frames; None before :meth:`begin`.
        size: Width and height in pixels.
    """

    def __init__(self, path: Path):
        self._path = path
        self._written = _Written()
        self._container = av.open(self._written, "w", format="mp4", options=_OPTIONS)
        self._file: Growing | None = None  # while it is open
        self._size = 0  # bytes on the disk
        self._frames = 0
        self._last = -1  # display time of the last frame, in time units
        self._stream: av.VideoStream | None = None
        self.coding: str | None = None
        self.size = (0, 0)

    @classmethod
    def continued(cls, path: Path, codings: Container[str]) -> GrowingMp4 | None:
        """Continue a file after its last whole frame, however the file ended; return None if it has no frame.

        The frames are copied, without encoding them again, into a new file, which then replaces the old one.

        Args:
            path: Path of the file.
            codings: Codings that the file may have.

        Raises:
            StorageError: The file has another coding.
            OSError: The disk is full. In both cases the file is unchanged.
        """
        with staged(path) as partial:
            grown = cls(partial)
            for source, packet in _whole(path):
                if grown.coding is None:
                    grown.coding, grown.size = source.codec.canonical_name, (source.width, source.height)
                    if grown.coding not in codings:
                        raise StorageError(f"{path}: a {grown.coding} video, not written by this command; move it away")
                    grown._stream = grown._container.add_stream_from_template(source)
                grown._append(packet)
            grown._close()
        grown._path = path
        return grown if grown.coding else None

    def begin(self, encoder: str, size: tuple[int, int]) -> av.VideoCodecContext:
        """Begin the track of a new file, and return the codec context to encode its frames with."""
        self._stream = self._container.add_stream(encoder)
        self.coding, self.size = self._stream.codec.canonical_name, size
        return self._stream.codec_context

    def append(self, packet: av.Packet, at: float, period: float) -> None:
        """Add a frame, which is on the disk when the next one has been added or the file is finished.

        Args:
            packet: The encoded frame; frames are shown in the order in which they are decoded.
            at: Time in seconds at which the frame is shown, later than the frame before. The first frame is shown from
                the beginning.
            period: Seconds for which the frame is shown if none follows.

        Raises:
            OSError: The disk is full; the earlier frames are on the disk.
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
        if self._frames > 1:  # the first frame is written with the second, when its duration is known
            self._put()

    def finish(self) -> None:
        """Turn the file into an ordinary MP4 and close it.

        Raises:
            OSError: The disk is full. The file stays a fragmented MP4, which can be played too.
        """
        if self._container is None:
            return
        self._container.close()
        self._container = self._stream = None  # frees the encoder and its threads too
        try:
            if self._frames:
                self._put()
        finally:
            self._close()

    def __del__(self) -> None:
        if self._container:
            self._container.close()  # writes to memory; later, PyAV might write to a destroyed object

    def _put(self) -> None:
        """Write the muxer's pending output to the disk."""
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
    """Return the number of whole frames after which a file can be continued; a missing file has none."""
    return sum(1 for _ in _whole(path))


def _whole(path: Path) -> Iterator[tuple[av.VideoStream, av.Packet]]:
    """Yield the whole frames of a file, each with its track, up to the first damaged one."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        # The second way reads without looking ahead. Looking ahead fails if a file ends within the head of a fragment.
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
