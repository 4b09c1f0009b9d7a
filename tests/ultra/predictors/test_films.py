"""Videos that grow: playable after every part and a kill, gone on with without loss, at the times they were shown."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from pixelkeep.errors import StorageError
from pixelkeep.ultra.predictors import film as film_module
from pixelkeep.ultra.predictors.film import PART, Film
from pixelkeep.ultra.predictors.growing_mp4 import GrowingMp4
from pixelkeep.ultra.predictors.mp4 import boxes, find, read_samples

SIZE = (96, 64)  # width, height


def frame(number: int) -> np.ndarray:
    """Return a picture that its number can be read from: a bar as long as the number."""
    picture = np.full((SIZE[1], SIZE[0], 3), 20, np.uint8)
    picture[16:48, : number % 90 + 4] = 230
    return picture


def number_of(picture: np.ndarray) -> int:
    return int((picture[32, :, 1] > 125).sum()) - 4


def read(path: Path) -> tuple[list[int], list[float]]:
    """Return the numbers of the frames in a video and the seconds at which they are shown."""
    video, numbers, times = cv2.VideoCapture(str(path)), [], []
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    for _ in range(count):
        there, picture = video.read()
        assert there
        numbers.append(number_of(picture))
        times.append(video.get(cv2.CAP_PROP_POS_MSEC) / 1000)
    assert not video.read()[0]
    return numbers, times


def write(film: Film, numbers, fps: float = 10) -> None:
    for number in numbers:
        film.write(frame(number), number / fps)
        film.keep()


def test_film__playable_after_every_part(tmp_path):
    """After each part all frames up to it can be read, in their order; nothing is in the file that is not whole."""
    film = Film(tmp_path / "a.mp4", 10)
    for number in range(3 * PART):
        write(film, [number])
        whole = (number + 1) // PART * PART
        assert film.frames == whole
        if whole:
            assert read(tmp_path / "a.mp4")[0] == list(range(whole))
    film.finish()
    assert read(tmp_path / "a.mp4")[0] == list(range(3 * PART))


def test_film__is_what_opencv_wrote(tmp_path):
    """Samples, sizes and keys are those of the file that OpenCV writes, to the byte."""
    writer = cv2.VideoWriter(str(tmp_path / "b.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, SIZE)
    film = Film(tmp_path / "a.mp4", 10)
    for number in range(PART - 1):
        writer.write(frame(number))
        write(film, [number])
    writer.release()
    film.finish()
    (description, samples), (theirs, expected) = (read_samples((tmp_path / n).read_bytes()) for n in ("a.mp4", "b.mp4"))
    assert samples == expected and [s.key for s in samples].count(True) == 2 and description == theirs


def test_film__ends_as_an_ordinary_mp4(tmp_path):
    """At its end it is one description behind one block of data, and nothing else at the top."""
    film = Film(tmp_path / "a.mp4", 10)
    write(film, range(PART + 3))
    assert [box.kind for box in boxes((tmp_path / "a.mp4").read_bytes())] == [
        b"ftyp",
        b"free",
        b"moov",
        b"moof",
        b"mdat",
    ]
    film.finish()
    data = (tmp_path / "a.mp4").read_bytes()
    found = list(boxes(data))
    assert [box.kind for box in found] == [b"ftyp", b"mdat", b"moov"] and found[-1].end == len(data)
    assert find(data, b"moov", b"mvex", start=found[1].end) is None
    assert not (tmp_path / ".partial" / "a.mp4").exists()


def test_film__shown_at_their_times(tmp_path):
    """Frames that come late, or were left out, leave the others where they are."""
    film, times = Film(tmp_path / "a.mp4", 10), [0, 0.1, 0.2, 0.7, 0.8, 2.0]
    for number, at in enumerate(times):
        film.write(frame(number), at)
        film.keep()
    film.finish()
    assert read(tmp_path / "a.mp4")[1] == pytest.approx(times, abs=0.002)


def test_film__unusual_rates(tmp_path):
    """The rate of 29.97 frames a second, and one of seven, are what a player is told."""
    for fps in (30000 / 1001, 7.0):
        film = Film(tmp_path / f"{fps}.mp4", fps)
        write(film, range(PART), fps)
        film.finish()
        assert cv2.VideoCapture(str(tmp_path / f"{fps}.mp4")).get(cv2.CAP_PROP_FPS) == pytest.approx(fps, abs=1e-4)


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "cut off"])
def test_film__gone_on_with(finished, tmp_path):
    """A video goes on behind its last whole part, whether it was ended or not, as if nothing had happened."""
    film = Film(tmp_path / "a.mp4", 10)
    write(film, range(2 * PART + 5))
    if finished:
        film.finish()
    again = Film(tmp_path / "a.mp4", 10, resume=True)
    assert again.frames == 2 * PART + 5 * finished and again.end == pytest.approx(again.frames / 10)
    assert read(tmp_path / "a.mp4")[0] == list(range(again.frames))
    write(again, range(again.frames, 80))
    again.finish()
    numbers, times = read(tmp_path / "a.mp4")
    assert numbers == list(range(80)) and times == pytest.approx(np.arange(80) / 10, abs=0.002)


@pytest.mark.parametrize("missing", [1, 9, 200, 900, 1500])
def test_film__torn_end_is_left_out(missing, tmp_path):
    """Of a file that ends within a part, or within its index, the whole parts are kept."""
    film = Film(tmp_path / "a.mp4", 10)
    write(film, range(3 * PART))
    if missing == 9:
        film.finish()
    with (tmp_path / "a.mp4").open("r+b") as file:
        file.truncate((tmp_path / "a.mp4").stat().st_size - missing)
    again = Film(tmp_path / "a.mp4", 10, resume=True)
    kept = again.frames
    assert kept == 3 * PART if missing == 9 else kept in (PART, 2 * PART)
    again.finish()
    assert read(tmp_path / "a.mp4")[0] == list(range(kept))


@pytest.mark.parametrize("size", [0, 10, 40])
def test_film__nothing_there_yet(size, tmp_path):
    """A file without a description, as a kill right at the beginning leaves it, begins anew."""
    film = Film(tmp_path / "a.mp4", 10)
    write(film, range(PART))
    with (tmp_path / "a.mp4").open("r+b") as file:
        file.truncate(size)
    again = Film(tmp_path / "a.mp4", 10, resume=True)
    assert again.frames == 0
    write(again, range(3))
    again.finish()
    assert read(tmp_path / "a.mp4")[0] == [0, 1, 2]


def test_film__killed(tmp_path):
    """After kill -9 the file can be played up to its last part."""
    code = (
        f"import sys, time; sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path.cwd())!r}]\n"
        "import test_films as t; from pathlib import Path\n"
        f"film = t.Film(Path({str(tmp_path / 'a.mp4')!r}), 10)\n"
        "for number in range(10**6):\n    t.write(film, [number]); time.sleep(0.001)"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    path, until = tmp_path / "a.mp4", time.monotonic() + 60
    while (not path.exists() or path.stat().st_size < 40_000) and time.monotonic() < until:
        time.sleep(0.01)
    process.kill()
    process.wait()
    numbers, _ = read(path)
    assert numbers == [number % 90 for number in range(len(numbers))] and len(numbers) % PART == 0 < len(numbers)


def test_film__only_what_counts(tmp_path):
    """Frames that nobody has said count are left out at the end, as where a run ends before they are recorded."""
    film = Film(tmp_path / "a.mp4", 10)
    write(film, range(5))
    film.write(frame(5), 0.5)
    film.finish()
    assert read(tmp_path / "a.mp4")[0] == list(range(5))
    film = Film(tmp_path / "b.mp4", 10)
    film.write(frame(0), 0)
    film.finish()
    assert not (tmp_path / "b.mp4").exists()


def test_film__slow_work_is_kept_early(tmp_path, monkeypatch):
    """A part ends after some seconds of work too, however few frames it has."""
    monkeypatch.setattr(film_module, "LONGEST", 0.0)
    film = Film(tmp_path / "a.mp4", 10)
    write(film, range(3))
    assert film.frames == 3 and read(tmp_path / "a.mp4")[0] == [0, 1, 2]


def test_film__other_sizes_are_resized(tmp_path):
    """A stream that changes its resolution goes on in that of the first frame, after a resume too."""
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


def test_film__a_part_that_could_not_be_encoded(tmp_path):
    """A part with frames missing is told; what came before can be played and gone on with."""
    film = Film(tmp_path / "a.mp4", 10)
    write(film, range(PART + 2))
    film._times.append(9.0)  # one that OpenCV has not taken
    with pytest.raises(StorageError, match=r"a\.mp4: the video could not be written"):
        film.finish()
    assert read(tmp_path / "a.mp4")[0] == list(range(PART))


def test_film__disk_full(tmp_path, monkeypatch):
    """Where the disk takes no more, the parts before stay, and can be gone on with once there is room."""
    film = Film(tmp_path / "a.mp4", 10)
    write(film, range(PART))
    full = film._file._file
    inner = full._file
    short = type(
        "Full", (), {"write": lambda self, data: inner.write(data[:50]), "__getattr__": lambda s, n: getattr(inner, n)}
    )
    full._file = short()
    with pytest.raises(OSError, match="No space"):
        film.finish()
    assert read(tmp_path / "a.mp4")[0] == list(range(PART))
    again = GrowingMp4(tmp_path / "a.mp4", resume=True)
    assert again.frames == PART
    again.finish()
    assert read(tmp_path / "a.mp4")[0] == list(range(PART))
