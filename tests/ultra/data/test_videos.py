"""Frames of videos: each has its number, broken ones are passed over, late ones skipped, videos resumed midway."""

from __future__ import annotations

import av
import cv2
import numpy as np
import pytest

from pixelkeep.tiling.schedule import Pace
from pixelkeep.ultra.data.videos import Passage, Videos

SIZE = (192, 96)


def write_video(path, count: int, encoding: str = "mp4v", noise: int = 0) -> None:
    """Write a video in which the length of a bar in each frame encodes the frame's number."""
    rng = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*encoding), 10, SIZE)
    for number in range(1, count + 1):
        picture = np.full((SIZE[1], SIZE[0], 3), 20, np.uint8)
        picture[:48, : 4 * number] = 230
        picture[48:] += rng.integers(0, noise + 1, (48, SIZE[0], 3), np.uint8)
        writer.write(picture)
    writer.release()


def number_in(image: np.ndarray) -> int:
    """Return the number that a frame shows."""
    return round(int((image[20, :, 1] > 125).sum()) / 4)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video("a.mp4", 20)
    write_video("b.avi", 7, "MJPG")
    cv2.imwrite("c.png", np.zeros((96, 192, 3), np.uint8))
    return tmp_path


def look(videos: Videos) -> list[tuple[str, int | None, int]]:
    """Return for each picture its file, its frame number, and the number that it shows."""
    seen = []
    for paths, images, _ in videos:
        assert len(paths) == len(images) == len(videos.numbers) == len(videos.times)
        assert len(images) == len(videos.skipped) == len(videos.broken)
        shown = [number_in(image) for image in images]
        seen += zip(paths, videos.numbers, shown, strict=True)
    return seen


@pytest.mark.parametrize("batch", [1, 3, 30])
def test_frames__each_by_its_number(batch, folder):
    """Images come first, then every frame of every video, with the number that it shows; no batch spans two videos."""
    videos = Videos(["b.avi", "c.png", "a.mp4"], batch=batch)
    seen = look(videos)
    assert [(name, number) for name, number, _ in seen if number is None] == [(str(folder / "c.png"), None)]
    for name, count in (("a.mp4", 20), ("b.avi", 7)):
        path = str(folder / name)
        assert [(number, shown) for file, number, shown in seen if file == path] == [
            (n, n) for n in range(1, count + 1)
        ]
        passage = videos.passages[path]
        assert (passage.frames, passage.passed, passage.listed, passage.ended) == (count, count, count, True)
        assert passage.damage() is None


def test_frames__stride(folder):
    """With a stride of 3 the last of every three frames is given, with its own number and time."""
    videos = Videos("a.mp4", vid_stride=3)
    numbers = [(videos.numbers[0], videos.times[0]) for _ in videos]
    assert numbers == [(n, pytest.approx((n - 1) / 10)) for n in (3, 6, 9, 12, 15, 18)]


def test_frames__gone_on_with(folder):
    """A video that was cut off continues with the frame after its last one, and its earlier counts are kept."""
    path = str(folder / "a.mp4")
    videos = Videos(["a.mp4", "b.avi"], begun={path: Passage(frames=9, skipped=3, broken=2, passed=12)})
    seen = look(videos)
    assert [(n, shown) for file, n, shown in seen if file == path] == [(n, n) for n in range(13, 21)]
    passage = videos.passages[path]
    assert (passage.frames, passage.skipped, passage.broken) == (17, 3, 2)
    assert [n for file, n, _ in seen if file != path] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("done", [20, 25])
def test_frames__nothing_left(done, folder):
    """If a video was cut off at its last frame, nothing of it is left, and the next video begins."""
    videos = Videos(["a.mp4", "b.avi"], begun={str(folder / "a.mp4"): Passage(frames=20, passed=done)})
    assert [n for _, n, _ in look(videos)] == [1, 2, 3, 4, 5, 6, 7]


def test_broken_frame__is_passed_over(folder):
    """Frames that cannot be decoded are counted, and the frames after them are given with their own numbers."""
    write_video("d.mp4", 40, noise=90)
    data = (folder / "d.mp4").read_bytes()
    with av.open("d.mp4") as video:
        encoded = [bytes(packet) for packet in video.demux() if packet.size]
    for frame in (encoded[9], encoded[20]):
        data = data.replace(frame, bytes(len(frame)))
    (folder / "d.mp4").write_bytes(data)
    videos = Videos("d.mp4")
    numbers = [n for _, n, _ in look(videos)]
    assert numbers == [n for n in range(1, 41) if n not in (10, 21)]
    passage = videos.passages[str(folder / "d.mp4")]
    assert (passage.broken, passage.frames, passage.passed) == (2, 38, 40)
    assert passage.damage() == "2 of 40 frames are broken and were passed over"


def test_early_end__is_told(folder):
    """A file that ends before its stated number of frames is reported, with both numbers."""
    data = (folder / "b.avi").read_bytes()
    write_video("e.avi", 30, "MJPG", noise=20)
    data = (folder / "e.avi").read_bytes()
    (folder / "e.avi").write_bytes(data[: len(data) // 2])
    videos = Videos("e.avi")
    count = len(look(videos))
    passage = videos.passages[str(folder / "e.avi")]
    assert 5 < count < 20 and passage.damage() == f"ends after {count} of 30 frames; it may be damaged"


def test_not_a_video__the_others_are_looked_at(folder):
    """A file that cannot be opened as a video has no frames; the next file is read all the same."""
    (folder / "0.mp4").write_bytes(b"no video")
    videos = Videos(["0.mp4", "b.avi"])
    assert {file for file, _, _ in look(videos)} == {str(folder / "b.avi")}
    assert videos.passages[str(folder / "0.mp4")].passed == 0


class Clock:
    now = 5.0

    def __call__(self) -> float:
        return self.now


def test_pace__frames_are_skipped_to_keep_up(folder):
    """If work on a frame takes 2.5 periods, one or two frames are skipped after it, and each video begins anew."""
    clock = Clock()
    videos = Videos(["a.mp4", "b.avi"], paces=lambda: Pace(10, clock))
    numbers: dict[str, list[int]] = {}
    for paths, images, _ in videos:
        assert number_in(images[0]) == videos.numbers[0]
        numbers.setdefault(paths[0][-5:], []).append(videos.numbers[0])
        videos.pace.begin()
        clock.now += 0.25
    assert numbers == {"a.mp4": [1, 3, 6, 8, 11, 13, 16, 18], "b.avi": [1, 3, 6]}
    passage = videos.passages[str(folder / "a.mp4")]
    assert (passage.frames, passage.skipped) == (8, 12)


def test_pace__nothing_is_skipped_in_time(folder):
    """If the work on each frame fits its period, no frame is skipped."""
    clock = Clock()
    videos = Videos("a.mp4", paces=lambda: Pace(10, clock))
    for number, _ in enumerate(videos, 1):
        assert videos.numbers == [number]
        videos.pace.begin()
        clock.now += 0.09
    assert videos.passages[str(folder / "a.mp4")].skipped == 0 and number == 20
