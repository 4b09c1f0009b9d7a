"""Progress of detection in tiles: time left within one image, plain lines without a terminal, right totals."""

from __future__ import annotations

import contextlib
import re
import time

import cv2
import numpy as np
import pytest
from screens import Screen

from pixelkeep.cli.main import run
from pixelkeep.tiling.schedule import Pace
from pixelkeep.ultra.commands.journal import Journal
from pixelkeep.ultra.tiled.progress import TileBar

FRAMES = 14


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def shown(monkeypatch, terminal: bool, tiles: int, images: int, total: int | None) -> str:
    """Return the screen output for images in which each tile takes ten seconds and contains two objects."""
    clock, screen = Clock(), Screen(terminal)
    monkeypatch.setattr(time, "time", clock)
    with contextlib.redirect_stdout(screen):
        bar = TileBar()
        bar.start(total)
        for _ in range(images):
            for done in range(1, tiles + 1):
                clock.now += 10
                bar.tile(done, tiles)
            bar.image(2 * tiles)
        bar.close()
    return screen.getvalue()


def test_one_image__shows_time_left(monkeypatch):
    """On a terminal each tile moves a single image's bar; the time left falls until only merging remains."""
    states = shown(monkeypatch, True, tiles=99, images=1, total=1).split("\r")
    middle = next(state for state in states if "tile 50/99" in state)
    left = re.search(r" 50% .* 0/1 .* 8:20<(\d+):(\d+)$", middle)
    assert left and abs(60 * int(left[1]) + int(left[2]) - 500) < 15, middle
    assert "100%" in states[-1] and " 1/1 " in states[-1] and "99 tiles  198 found" in states[-1]
    assert all("100%" not in state for state in states[:-1] if "tile 99/99" in state)


def test_no_terminal__a_line_a_minute(monkeypatch):
    """Without a terminal, one line a minute shows the time left at the speed so far, and one more comes at the end."""
    lines = shown(monkeypatch, False, tiles=29, images=2, total=2).splitlines()
    assert len(lines) == 10 and all(line.startswith("detecting  ") for line in lines), lines
    places = [int(re.search(r"tile (\d+)/29", line)[1]) for line in lines[:-1]]
    assert places == [7, 13, 19, 25, 2, 8, 14, 20, 26]  # one minute after the first tile, then every minute
    half = lines[4]
    assert " 53% " in half and " 1/2 " in half and "58 found" in half
    left = re.search(r" 5:10<(\d+):(\d+)$", half)
    assert left and abs(60 * int(left[1]) + int(left[2]) - 270) < 20, half
    assert " 100% " in lines[-1] and " 2/2 " in lines[-1] and "29 tiles  116 found" in lines[-1]


def test_no_end__no_time_left(monkeypatch):
    """For a source of unknown length, only what is done is shown."""
    lines = shown(monkeypatch, False, tiles=10, images=3, total=None).splitlines()
    assert len(lines) == 5 and all("%" not in line and "<" not in line for line in lines)
    assert re.search(r"10 tiles  60 found: ━+ 3 ", lines[-1])


@pytest.fixture
def film(tmp_path):
    """Write a video of noise."""
    writer = cv2.VideoWriter(str(tmp_path / "film.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 64))
    for _ in range(FRAMES):
        writer.write(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    writer.release()
    return tmp_path / "film.mp4"


def last(capsys) -> list[int]:
    """Return how much is done according to the last state of the bar, and the total."""
    return [int(count) for count in re.findall(r"(\d+)/(\d+) ", capsys.readouterr().err.split("detecting ")[-1])[0]]


@pytest.mark.parametrize(
    ("extra", "total"),
    [((), FRAMES), (("--vid-stride", "2"), FRAMES // 2), (("--fps", "5"), FRAMES)],
    ids=["all", "stride", "skipped"],
)
def test_videos__frames_left_out_have_gone_by(extra, total, noise_weights, film, tmp_path, capsys, monkeypatch):
    """Skipped frames count as done in the bar, and the total of a resumed run is what remains."""
    add, count = Journal.add, [0]

    def added(self: Journal, entry: dict) -> None:
        add(self, entry)
        count[0] += 1
        if count[0] in (3, 5):
            raise KeyboardInterrupt

    if "--fps" in extra:
        monkeypatch.setattr(Pace, "missed", lambda self: 1)  # skips one frame before each frame
    arguments = ["--source", film, "--weights", noise_weights, "--project", tmp_path, "--name", "a", "--no-save"]
    words = ["detect", *map(str, arguments), "--tile", "64", "--device", "cpu", *extra]
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", added)
        gone, each = 0, 2 if "--fps" in extra else 1
        for frames in (3, 2):
            with pytest.raises(SystemExit):
                run(words)
            assert last(capsys) == [each * frames, total - gone]
            gone += each * frames
            words = ["detect", "--resume", str(tmp_path / "a")]
    with pytest.raises(SystemExit):
        run(words)
    assert last(capsys) == [total - gone, total - gone]
