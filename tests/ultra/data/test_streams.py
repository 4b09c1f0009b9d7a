"""Streams from a local camera: newest frames, a pace that is kept, and what happens when the camera is unplugged."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from camera import Camera

from pixelkeep.tiling.schedule import Pace
from pixelkeep.ultra.data import streams as module
from pixelkeep.ultra.data.streams import MISSING, Streams
from pixelkeep.ultra.data.videos import Passage


@pytest.fixture
def camera() -> Iterator[Camera]:
    camera = Camera()
    yield camera
    camera.server.plugged = False


@pytest.fixture
def impatient(monkeypatch) -> None:
    """Shorten the waits between attempts to reconnect, and the time after which they stop."""
    monkeypatch.setattr(module, "FIRST_WAIT", 0.05)
    monkeypatch.setattr(module, "LONGEST_WAIT", 0.1)
    monkeypatch.setattr(module, "PATIENCE", 1.0)


@pytest.fixture
def said(monkeypatch) -> list[str]:
    """The messages that are logged for the user."""
    lines: list[str] = []
    for level in ("info", "warning"):
        monkeypatch.setattr(module.LOGGER, level, lines.append)
    return lines


def test_frames__have_their_numbers(camera):
    """Frames come in order with rising numbers and times; frames not taken in time are counted as skipped."""
    streams = Streams(camera.address)
    numbers, times = [], []
    for _, (image,), _ in streams:
        assert image.shape == (96, 192, 3)
        numbers.append(streams.numbers[0])
        times.append(streams.times[0])
        time.sleep(0.05)
        if len(numbers) == 6:
            break
    streams.close()
    assert numbers == sorted(set(numbers)) and times == sorted(times) and times[0] == 0
    passage = streams.passages[0]
    assert passage.skipped == numbers[-1] - 6 and passage.frames == 6
    assert numbers[-1] > 6


def test_pace__is_kept(camera):
    """Frames are given one period apart, each time the newest, whatever work is done in between."""
    now = [100.0]

    class Waiting(Pace):
        def ahead(self) -> float:  # moves the clock on instead of sleeping
            now[0] += super().ahead()
            return 0.0

    streams = Streams(camera.address, pace=Waiting(10, lambda: now[0]))
    began = []
    for _ in streams:
        began.append(now[0])
        streams.pace.begin()
        now[0] += 0.03
        if len(began) == 5:
            break
    streams.close()
    assert [b - began[0] for b in began] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_lost__comes_back(camera, impatient, said):
    """A camera that is unplugged and plugged in again continues: one message when it is lost, one when it is back."""
    streams = Streams(camera.address)
    said.clear()
    seen: list[int] = []
    for _ in streams:
        seen.append(streams.numbers[0])
        if len(seen) == 5:
            camera.pull_out()
            threading.Timer(0.3, camera.plug_in).start()
        if streams.passages[0].lost and len(seen) > 12:
            break
    streams.close()
    assert seen == sorted(set(seen)) and streams.passages[0].lost == 1
    assert len(said) == 2, said
    assert "lost after" in said[0] and "trying again for 1 s" in said[0] and "back after" in said[1]


def test_lost__for_good(camera, impatient, said):
    """A camera that stays away ends the stream after the stated time; all earlier frames have been given."""
    streams = Streams(camera.address)
    said.clear()
    seen = 0
    for _ in streams:
        seen += 1
        if seen == 5:
            camera.pull_out()
    assert seen >= 5 and streams.passages[0].ended
    assert len(said) == 2 and "not back within 1 s; it ends here" in said[1], said


def test_side_by_side__the_others_go_on(camera, impatient, said, tmp_path):
    """If one of two cameras is lost, the other's frames are still given, and the place of the lost one is empty."""
    other = Camera()
    listed = tmp_path / "cameras.streams"
    listed.write_text(f"{camera.address}\n{other.address}\n")
    streams = Streams(str(listed))
    rounds = missing = 0
    for _, images, _ in streams:
        rounds += 1
        assert len(images) == 2 and images[0].shape == images[1].shape
        if rounds == 3:
            camera.pull_out()
        if streams.numbers[0] == MISSING:
            assert streams.numbers[1] > 0 and not images[0].any()
            missing += 1
        if missing == 5:
            break
    streams.close()
    other.server.plugged = False
    assert missing == 5 and streams.passages[1].lost == 0


def test_gone_on_with__numbers_and_times(camera):
    """A resumed stream is counted on from its last frame number and time."""
    before = Passage(frames=40, skipped=7, passed=90)
    streams = Streams(camera.address, begun={0: (before, 12.5)})
    next(iter(streams))
    streams.close()
    assert streams.numbers[0] > 90 and streams.times[0] == 12.5
    passage = streams.passages[0]
    assert passage.frames == 41 and passage.skipped == 7 + streams.numbers[0] - 91


def test_none_there__is_a_connection_error():
    """An address at which nothing answers is an error at once."""
    camera = Camera()
    camera.pull_out()
    with pytest.raises(ConnectionError):
        Streams(camera.address)


def test_buffer__leaves_out_nothing(camera):
    """With a buffer every frame is given, even to a slow reader."""
    streams = Streams(camera.address, buffer=True)
    numbers = []
    for _ in streams:
        numbers.append(streams.numbers[0])
        time.sleep(0.03)
        if len(numbers) == 10:
            break
    streams.close()
    assert numbers == list(range(1, 11)) and streams.passages[0].skipped == 0


def test_stride__every_third(camera):
    """With a stride the frame numbers are its multiples."""
    streams = Streams(camera.address, vid_stride=3, buffer=True)
    numbers = []
    for _ in streams:
        numbers.append(streams.numbers[0])
        if len(numbers) == 5:
            break
    streams.close()
    assert numbers == [3, 6, 9, 12, 15] and streams.passages[0].skipped == 0
