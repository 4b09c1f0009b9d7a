"""Growing videos: playable after every frame and after a kill, resumed without loss, with correct frame times."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from pixelkeep.errors import SourceError, StorageError
from pixelkeep.ultra.predictors import film as film_module
from pixelkeep.ultra.predictors.film import KEY_DISTANCE, Film
from pixelkeep.ultra.predictors.growing_mp4 import whole_frames
from pixelkeep.writing import Growing

SIZE = (96, 64)  # width, height
MANY = KEY_DISTANCE + 7  # number of frames, enough for more than one key frame


@pytest.fixture(params=["h264", "mpeg4"])
def coding(request, monkeypatch) -> str:
    """Run the test with both encoders; the second is that of an FFmpeg without x264."""
    if request.param == "mpeg4":
        monkeypatch.setattr(film_module, "ENCODERS", {"mpeg4": "mpeg4"})
    return request.param


def frame(number: int) -> np.ndarray:
    """Return a picture with a bar as long as the frame number, from which it can be read back."""
    picture = np.full((SIZE[1], SIZE[0], 3), 20, np.uint8)
    picture[16:48, : number % 90 + 4] = 230
    return picture


def number_of(picture: np.ndarray) -> int:
    return int((picture[32, :, 1] > 125).sum()) - 4


def read(path: Path) -> tuple[list[int], list[float]]:
    """Return the numbers and display times in seconds of the frames in a video, as OpenCV reads them."""
    video, numbers, times = cv2.VideoCapture(str(path)), [], []
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    for _ in range(count):
        there, picture = video.read()
        assert there
        numbers.append(number_of(picture))
        times.append(video.get(cv2.CAP_PROP_POS_MSEC) / 1000)
    assert not video.read()[0]
    return numbers, times


def read_strictly(path: Path) -> tuple[list[int], list[float], float]:
    """Return the frame numbers, display times and duration as PyAV reads them; any damage is an error."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"err_detect": "explode"}
        shown = [(number_of(picture.to_ndarray(format="bgr24")), picture.time) for picture in container.decode(stream)]
        lasts = float(stream.duration * stream.time_base)
    return [number for number, _ in shown], [at for _, at in shown], lasts


def boxes(data: bytes) -> list[tuple[str, int]]:
    """Return the type of each top-level box of a file (ISO/IEC 14496-12, 4.2) and the offset at which it ends."""
    found, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        at += size or len(data)
        found.append((data[at - size + 4 : at - size + 8].decode(), at))
    return found


def write(film: Film, numbers: Iterable[int], fps: float = 10) -> None:
    for number in numbers:
        film.write(frame(number), number / fps)
        film.keep()


def test_film__playable_after_every_frame(coding, tmp_path):
    """After each frame all earlier ones can be read, in order; after the end, all frames can."""
    film = Film(tmp_path / "a.mp4", 10)
    for number in range(MANY):
        write(film, [number])
        assert whole_frames(tmp_path / "a.mp4") == number
        assert (tmp_path / "a.mp4").exists() is (number > 0)
        if number:
            assert read(tmp_path / "a.mp4")[0] == list(range(number))
    film.finish()
    assert read(tmp_path / "a.mp4")[0] == list(range(MANY))
    numbers, times, lasts = read_strictly(tmp_path / "a.mp4")
    assert numbers == list(range(MANY)) and times == pytest.approx(np.arange(MANY) / 10) and lasts * 10 == MANY
    with av.open(str(tmp_path / "a.mp4")) as container:
        (stream,) = container.streams
        assert (stream.codec.canonical_name, stream.pix_fmt, stream.width, stream.height) == (coding, "yuv420p", *SIZE)
        keys = [number for number, packet in enumerate(p for p in container.demux() if p.size) if packet.is_keyframe]
    assert keys == [0, KEY_DISTANCE]


def test_film__ends_as_an_ordinary_mp4(tmp_path):
    """A growing file is a header and one fragment per frame; a finished one has one data block, then its index."""
    film = Film(tmp_path / "a.mp4", 10)
    write(film, range(MANY))
    kinds = [kind for kind, _ in boxes((tmp_path / "a.mp4").read_bytes())]
    assert [kind for kind in kinds if kind != "free"] == ["ftyp", "moov", *["moof", "mdat"] * (MANY - 1)]
    film.finish()
    kinds = [kind for kind, _ in boxes((tmp_path / "a.mp4").read_bytes())]
    assert [kind for kind in kinds if kind != "free"] == ["ftyp", "mdat", "moov"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_film__every_beginning_of_it(coding, tmp_path):
    """A film cut off at any byte, while growing or ending, has the frames that are whole and resumes with them."""
    written: list[tuple[int, bytes]] = []

    class Watched(Growing):
        def append(self, content: bytes) -> None:
            written.append((self.size, content))
            super().append(content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pixelkeep.ultra.predictors.growing_mp4.Growing", Watched)
        film = Film(tmp_path / "a.mp4", 10)
        write(film, range(6))
        film.finish()
    data = bytearray()
    for at, content in written:
        assert at == len(data)
        data += content  # without the eight bytes that are written after all the rest
    ends = [end for kind, end in boxes(bytes(data)) if kind == "mdat"]
    assert len(ends) == 6 and boxes(bytes(data))[-1] == ("moov", len(data))
    cut = tmp_path / "cut.mp4"
    for size in range(len(data) + 1):
        cut.write_bytes(data[:size])
        assert whole_frames(cut) == sum(end <= size for end in ends), size
    for size in range(0, len(data) + 1, 151):
        cut.write_bytes(data[:size])
        count = whole_frames(cut)
        again = Film(cut, 10, resume=True)
        write(again, range(count, 8))
        again.finish()
        assert read_strictly(cut)[0] == list(range(8)), size


def test_film__shown_at_their_times(tmp_path):
    """Late and skipped frames do not shift the times of the others, even after a resume."""
    times = [0, 0.1, 0.2, 0.7, 0.8, 2.0, 2.0, 2.5]
    film = Film(tmp_path / "a.mp4", 10)
    for number, at in enumerate(times):
        if number == 5:
            film.finish()
            film = Film(tmp_path / "a.mp4", 10, resume=True)
        film.write(frame(number), at)
        film.keep()
    film.finish()
    assert read(tmp_path / "a.mp4")[1] == pytest.approx(times, abs=0.002)
    _, exact, lasts = read_strictly(tmp_path / "a.mp4")
    times[6] += 1 / 90_000  # moved one time unit behind the frame before
    assert exact == pytest.approx(times, abs=1e-9) and lasts == pytest.approx(2.6)


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "cut off"])
def test_film__first_frame_later(finished, tmp_path):
    """If the first frame is late, it is shown from the start; all others keep their times."""
    film = Film(tmp_path / "a.mp4", 10)
    write(film, range(3, 7))
    if finished:
        film.finish()
    again = Film(tmp_path / "a.mp4", 10, resume=True)
    write(again, range(7 if finished else 6, 9))
    again.finish()
    numbers, times, _ = read_strictly(tmp_path / "a.mp4")
    assert numbers == [3, 4, 5, 6, 7, 8] and times == pytest.approx([0, 0.4, 0.5, 0.6, 0.7, 0.8])


def test_film__unusual_rates(coding, tmp_path):
    """Players are told the right frame rate, even where MPEG-4 cannot state it exactly."""
    for fps in (30000 / 1001, 24000 / 1001, 7.0, 1.0, 119.88, 1000.0, 90000.0):
        film = Film(tmp_path / f"{fps}.mp4", fps)
        write(film, range(24), fps)
        film.finish()
        assert cv2.VideoCapture(str(tmp_path / f"{fps}.mp4")).get(cv2.CAP_PROP_FPS) == pytest.approx(fps, rel=1e-4)


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "cut off"])
def test_film__gone_on_with(finished, coding, tmp_path, monkeypatch):
    """A video, finished or not, is resumed after its last frame with its own encoder, as if never interrupted."""
    film = Film(tmp_path / "a.mp4", 10)
    write(film, range(21))
    if finished:
        film.finish()
    monkeypatch.setattr(film_module, "ENCODERS", {"h264": "libx264", "mpeg4": "mpeg4"})  # x264 is available now
    for stop in (40, 80):
        count = whole_frames(tmp_path / "a.mp4")
        assert count == (21 if finished else 20) or stop == 80
        film = Film(tmp_path / "a.mp4", 10, resume=True)
        write(film, range(count, stop))
    film.finish()
    numbers, times, lasts = read_strictly(tmp_path / "a.mp4")
    assert numbers == list(range(80)) and times == pytest.approx(np.arange(80) / 10) and lasts == 8
    assert read(tmp_path / "a.mp4")[0] == numbers
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].codec.canonical_name == coding
        for packet in container.demux():
            data = bytes(packet)
            while data and coding == "h264":  # NAL units, each after its length (ISO/IEC 14496-15, 5.3.3)
                length = 4 + int.from_bytes(data[:4], "big")
                assert 4 < length <= len(data)
                data = data[length:]
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_film__gone_on_with_after_much(tmp_path):
    """A finished video whose index lies far behind its first frames can be resumed."""
    noise = np.random.default_rng(0).integers(0, 255, (20, 192, 256, 3), np.uint8)
    film = Film(tmp_path / "a.mp4", 10)
    for number in range(10):
        film.write(noise[number], number / 10)
        film.keep()
    film.finish()
    assert (tmp_path / "a.mp4").stat().st_size > 300_000 and whole_frames(tmp_path / "a.mp4") == 10
    again = Film(tmp_path / "a.mp4", 10, resume=True)
    for number in range(10, 20):
        again.write(noise[number], number / 10)
        again.keep()
    again.finish()
    with av.open(str(tmp_path / "a.mp4")) as container:
        shown = [cv2.blur(picture.to_ndarray(format="bgr24"), (8, 8)) for picture in container.decode(video=0)]
    far = [[np.abs(cv2.blur(given, (8, 8)).astype(int) - s).mean() for s in shown] for given in noise]
    assert np.argmin(far, axis=1).tolist() == list(range(20))


def test_film__gone_on_with_by_another_encoder(tmp_path, monkeypatch):
    """A video begun by another x264 release or with other settings can be resumed: its parts say how to read them."""
    film = Film(tmp_path / "a.mp4", 10)
    write(film, range(10))
    film.finish()
    settings = film_module.SETTINGS["libx264"] | {"preset": "medium", "profile": "high"}
    monkeypatch.setitem(film_module.SETTINGS, "libx264", settings)
    again = Film(tmp_path / "a.mp4", 10, resume=True)
    write(again, range(10, 20))
    again.finish()
    assert read_strictly(tmp_path / "a.mp4")[0] == read(tmp_path / "a.mp4")[0] == list(range(20))


@pytest.mark.parametrize("size", [None, 0, 10, 40, 700])
def test_film__nothing_there_yet(size, tmp_path):
    """A file that is missing or has no frame, as after a kill right at the start, is begun anew."""
    if size is not None:
        film = Film(tmp_path / "a.mp4", 10)
        write(film, range(3))
        os.truncate(tmp_path / "a.mp4", size)
    again = Film(tmp_path / "a.mp4", 10, resume=True)
    assert not (tmp_path / "a.mp4").exists()
    write(again, range(3))
    again.finish()
    assert read(tmp_path / "a.mp4")[0] == [0, 1, 2]


def test_film__not_ours(tmp_path):
    """A foreign video under the same name is reported and left as it is; a file that is no video is replaced."""
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuvj420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(frame(0), format="bgr24").reformat(format="yuvj420p")))
        container.mux(stream.encode(None))
    before = (tmp_path / "a.mp4").read_bytes()
    with pytest.raises(StorageError, match=r"a\.mp4: a mjpeg video, not written by this command; move it away"):
        Film(tmp_path / "a.mp4", 10, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"] and (tmp_path / "a.mp4").read_bytes() == before
    (tmp_path / "b.mp4").write_bytes(b"no video" * 999)
    with av.open(str(tmp_path / "c.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48_000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.rate = 48_000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    for name in ("b.mp4", "c.mp4"):
        assert whole_frames(tmp_path / name) == 0
        again = Film(tmp_path / name, 10, resume=True)
        write(again, range(3))
        again.finish()
        assert read_strictly(tmp_path / name)[0] == [0, 1, 2]


def test_film__killed(tmp_path):
    """After kill -9 at any moment the file is playable up to the frame before the last one kept."""
    code = (
        f"import sys; sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path.cwd())!r}]\n"
        "import test_films as t; from pathlib import Path\n"
        f"film = t.Film(Path({str(tmp_path / 'a.mp4')!r}), 10)\n"
        "for number in range(10**6):\n    t.write(film, [number]); print(number, flush=True)"
    )
    for wait in (0.3, 0.05, 0.11):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        counted = [process.stdout.readline() for _ in range(30)]
        time.sleep(wait)
        process.kill()
        counted = int((counted + process.communicate()[0].splitlines())[-1])
        numbers, _ = read(tmp_path / "a.mp4")
        assert numbers == [number % 90 for number in range(len(numbers))] and len(numbers) in (counted, counted + 1)
        assert read_strictly(tmp_path / "a.mp4")[0] == numbers and whole_frames(tmp_path / "a.mp4") == len(numbers)
        (tmp_path / "a.mp4").unlink()


def test_film__only_what_counts(tmp_path):
    """Frames that were not kept are left out at the end, as when a run ends before it records them."""
    film = Film(tmp_path / "a.mp4", 10)
    write(film, range(5))
    film.write(frame(5), 0.5)
    film.finish()
    assert read(tmp_path / "a.mp4")[0] == list(range(5))
    film = Film(tmp_path / "b.mp4", 10)
    film.write(frame(0), 0)
    film.finish()
    assert not (tmp_path / "b.mp4").exists()
    write(Film(tmp_path / "a.mp4", 10), [])
    assert not (tmp_path / "a.mp4").exists()  # left by an earlier run


def test_film__one_frame(tmp_path):
    """A video of one frame lasts one frame period."""
    film = Film(tmp_path / "a.mp4", 4)
    write(film, [7])
    film.finish()
    assert read_strictly(tmp_path / "a.mp4") == ([7], [0.0], 0.25)


def test_film__other_sizes_are_resized(tmp_path):
    """Frames of another size are resized to that of the first frame, after a resume too."""
    film = Film(tmp_path / "a.mp4", 10)
    write(film, [3])
    film.write(cv2.resize(frame(7), (48, 32)), 0.7)
    film.keep()
    film.finish()
    again = Film(tmp_path / "a.mp4", 10, resume=True)
    again.write(cv2.resize(frame(9), (192, 128)), 0.9)
    again.keep()
    again.finish()
    assert read(tmp_path / "a.mp4")[0] == pytest.approx([3, 7, 9], abs=1)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert {(picture.width, picture.height) for picture in container.decode(video=0)} == {SIZE}


@pytest.mark.parametrize("size", [(95, 63), (95, 64), (96, 63), (1, 1), (3, 200)])
def test_film__odd_sizes(size, coding, tmp_path):
    """A side of odd length is padded by repeating its last line, so nothing of the frame is lost."""
    film = Film(tmp_path / "a.mp4", 10)
    gradient = np.linspace(40, 200, size[0])[None, :, None] + np.linspace(0, 50, size[1])[:, None, None]
    picture = np.broadcast_to(gradient, (*size[::-1], 3)).astype(np.uint8)
    for number in range(3):
        film.write(picture, number / 10)
        film.keep()
    film.finish()
    _, shown = cv2.VideoCapture(str(tmp_path / "a.mp4")).read()
    assert shown.shape[1::-1] == (size[0] + size[0] % 2, size[1] + size[1] % 2)
    padded = np.pad(picture, ((0, size[1] % 2), (0, size[0] % 2), (0, 0)), "edge").astype(int)
    assert np.abs(shown - padded).max() <= 12


def test_film__colours(coding, tmp_path):
    """Colours are preserved, and players are told how they are stored."""
    colours = [(0, 0, 255), (0, 255, 0), (255, 0, 0), (255, 255, 255), (0, 0, 0), (200, 120, 40)]
    film = Film(tmp_path / "a.mp4", 10)
    picture = np.zeros((64, 96, 3), np.uint8)
    for number, colour in enumerate(colours):
        picture[:, 16 * number : 16 * number + 16] = colour
    film.write(picture, 0)
    film.keep()
    film.finish()
    _, shown = cv2.VideoCapture(str(tmp_path / "a.mp4")).read()
    for number, colour in enumerate(colours):
        assert np.abs(shown[32, 16 * number + 8].astype(int) - colour).max() <= 4
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        if coding == "h264":  # MPEG-4 does not store this, and players assume it
            assert (context.colorspace, context.color_range) == (6, 1)  # SMPTE 170M (BT.601), studio range


def test_film__too_large(tmp_path):
    """Frames larger than H.264 allows are reported in one line, and no file is left."""
    film = Film(tmp_path / "a.mp4", 10)
    with pytest.raises(SourceError, match=r"a\.mp4: a video of 20000 x 8 pixels cannot be written; use --no-sa"):
        film.write(np.zeros((8, 20_000, 3), np.uint8), 0)
    film.finish()
    assert not list(tmp_path.iterdir())


class Full(Growing):
    """A file on a disk with room for a limited number of bytes."""

    room = 0

    def __init__(self, *args: object):
        super().__init__(*args)
        inner = self._file

        class Short:
            def write(self, data: bytes) -> int:
                return inner.write(data[: max(0, Full.room - inner.tell())])

            def __getattr__(self, name: str) -> object:
                return getattr(inner, name)

        self._file = Short()


@pytest.fixture
def full(monkeypatch) -> type[Full]:
    monkeypatch.setattr("pixelkeep.ultra.predictors.growing_mp4.Growing", Full)
    return Full


@pytest.mark.parametrize("room", [0, 700, 1600, 1700, 2500, 3600, 3900])
def test_film__disk_full(room, full, tmp_path):
    """When the disk fills, while growing or ending, whole frames stay; with room again, the video is resumed."""
    full.room = room
    film = Film(tmp_path / "a.mp4", 10)
    with pytest.raises(OSError, match="No space"):
        for number in range(20):
            write(film, [number])
        film.finish()
    film.finish()  # as a run does at its end, even after an error
    count = whole_frames(tmp_path / "a.mp4")
    assert (tmp_path / "a.mp4").exists() is (count > 0) is (room >= 1600)
    if count:
        assert read(tmp_path / "a.mp4")[0] == list(range(count)) and (tmp_path / "a.mp4").stat().st_size <= room
        assert boxes((tmp_path / "a.mp4").read_bytes())[-1][0] == "mdat"
    full.room = 10**9
    again = Film(tmp_path / "a.mp4", 10, resume=True)
    write(again, range(count, 20))
    again.finish()
    assert read_strictly(tmp_path / "a.mp4")[0] == list(range(20))


def test_film__no_room_to_go_on(full, tmp_path):
    """If there is no room to resume a video, it stays unchanged."""
    full.room = 10**9
    film = Film(tmp_path / "a.mp4", 10)
    write(film, range(20))
    film.finish()
    before = (tmp_path / "a.mp4").read_bytes()
    full.room = 2000
    with pytest.raises(OSError, match="No space"):
        Film(tmp_path / "a.mp4", 10, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"] and (tmp_path / "a.mp4").read_bytes() == before


def test_film__leaves_no_thread(tmp_path):
    """The encoder's threads end with the film."""
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        pytest.skip("threads are counted in /proc")
    film = Film(tmp_path / "a.mp4", 10)
    before = len(list(tasks.iterdir()))
    for number in range(3):
        film.write(np.full((1080, 1920, 3), number, np.uint8), number)
        film.keep()
    during = len(list(tasks.iterdir()))
    film.finish()
    assert len(list(tasks.iterdir())) <= before and (during > before or os.cpu_count() == 1)


def test_pyav__loaded_for_videos_only_and_behind_opencv(tmp_path):
    """PyAV is loaded only for videos and only after OpenCV; otherwise --show freezes on Linux."""
    code = (
        "import sys; import pixelkeep.ultra.commands.detection; assert 'av' not in sys.modules\n"
        "from pixelkeep.ultra.predictors.film import Film; names = list(sys.modules)\n"
        "assert names.index('cv2') < names.index('av')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[3])
