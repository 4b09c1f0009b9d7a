"""What a resumed detection run reports: only damaged files are called damaged, and counts cover the whole run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from test_resuming import FRAMES, content, detect, frames_of, snapshots, write_film
from ultralytics.engine import predictor as engine

from pixelkeep.tiling.schedule import Pace
from pixelkeep.ultra.commands.journal import Done, Journal
from pixelkeep.ultra.tiled import auto

pytest.importorskip("lap")


@pytest.fixture(scope="module")
def weights(noise_weights):
    return noise_weights


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> list[Path]:
    """Two videos."""
    folder = tmp_path_factory.mktemp("films")
    for number, name in enumerate("ab"):
        write_film(folder / f"{name}.mp4", number)
    return [folder / "a.mp4", folder / "b.mp4"]


def told(folder: Path) -> dict:
    return json.loads((folder / "detections.json").read_text())


@pytest.fixture
def window(monkeypatch) -> list[int]:
    """Replace the screen's window with one in which q is pressed at the fifth picture; list the calls of waitKey."""
    asked: list[int] = []

    def key(_: int) -> int:
        asked.append(1)
        return ord("q") if len(asked) == 5 else -1

    monkeypatch.setattr(engine, "check_imshow", lambda warn=False: True)
    for name in ("namedWindow", "resizeWindow", "imshow", "destroyAllWindows"):
        monkeypatch.setattr(cv2, name, lambda *_: None)
    monkeypatch.setattr(cv2, "waitKey", key)
    return asked


@pytest.mark.parametrize("extra", [("--set", "batch=3"), ("--tile", "96")], ids=["whole", "tiles"])
def test_q__ends_as_ctrl_c_does(extra, weights, films, window, tmp_path, capsys):
    """Pressing q under --show ends the run after its batch: nothing is called damaged, and --resume continues."""
    sources = [part for film in films for part in ("--source", film)]
    arguments = [*sources, "--weights", weights, "--project", tmp_path, "--name", "a", "--imgsz", "96", *extra]
    code, out, err = detect(capsys, *arguments, "--show", "--save-json", "--device", "cpu")
    seen = 6 if "batch=3" in extra else 5
    assert code == 0, err
    found = told(tmp_path / "a")
    assert found["interrupted"] is True and found["unreadable"] == {} and "damaged" not in out + err
    assert len(window) == 5 and found["images"] == seen == frames_of(tmp_path / "a/a.mp4")
    assert (tmp_path / "a/frames.jsonl").exists() and found["videos"][str(films[0])]["frames"] == seen
    assert detect(capsys, "--resume", tmp_path / "a")[0] == 0
    found = told(tmp_path / "a")
    assert found["interrupted"] is False and found["images"] == 2 * FRAMES and found["unreadable"] == {}


@pytest.mark.parametrize("count", [1, 2])
def test_nothing_left_of_a_video__it_has_been_gone_through(count, weights, films, tmp_path, capsys, monkeypatch):
    """A run killed between a video's last frame and its entry as done resumes to the result of an uninterrupted run."""
    sources = [part for film in films[:count] for part in ("--source", film)]
    arguments = [*sources, "--weights", weights, "--project", tmp_path, "--name", "run", "--imgsz", "96"]
    with monkeypatch.context() as patch:
        snapshots(patch, tmp_path / "run", tmp_path, {FRAMES})
        code, _, err = detect(capsys, *arguments, "--no-save", "--save-csv", "--set", "batch=1", "--device", "cpu")
    assert code == 0, err
    code, out, err = detect(capsys, "--resume", tmp_path / str(FRAMES))
    assert code == 0 and "damaged" not in out + err
    assert content(tmp_path / str(FRAMES)) == content(tmp_path / "run")


def test_stride_longer_than_a_video__is_no_damage(weights, films, tmp_path, capsys):
    """A video of which --vid-stride leaves no frame is listed as unreadable for that reason."""
    write_film(tmp_path / "short.mp4", 0, count=2)
    arguments = ["--source", tmp_path / "short.mp4", "--source", films[0], "--weights", weights, "--vid-stride", "3"]
    code, _, err = detect(capsys, *arguments, "--project", tmp_path, "--name", "a", "--imgsz", "96", "--device", "cpu")
    assert code == 0, err
    reasons = {Path(file).name: reason for file, reason in told(tmp_path / "a")["unreadable"].items()}
    assert reasons == {"short.mp4": "it has fewer frames than --vid-stride 3"}


def test_tile_auto__is_what_it_was(weights, films, tmp_path, capsys, monkeypatch):
    """A resumed run keeps the tiles that --tile auto chose for it, although the training data has moved since."""
    arguments = ["--source", films[0], "--weights", weights, "--project", tmp_path, "--name", "run", "--imgsz", "64"]
    arguments += ["--tile", "auto", "--track", "--save-json", "--fps", "0.001", "--device", "cpu"]
    with monkeypatch.context() as patch:
        patch.setattr(auto, "_training_images", lambda _: (960.0, 12.0))  # for a network trained at 640
        snapshots(patch, tmp_path / "run", tmp_path, {9})
        assert detect(capsys, *arguments)[0] == 0
    assert told(tmp_path / "run")["tile"]["size"] == 96
    code, _, err = detect(capsys, "--resume", tmp_path / "9")
    assert code == 0, err
    assert told(tmp_path / "9")["tile"] == told(tmp_path / "run")["tile"]
    tracks, expected = (
        np.loadtxt(folder / "tracks/a.txt", delimiter=",") for folder in (tmp_path / "9", tmp_path / "run")
    )
    np.testing.assert_allclose(tracks, expected, atol=0.02)  # the first frame's tiles are batched differently


def test_another_video_in_its_place__one_line(weights, tmp_path, capsys, monkeypatch):
    """Resuming with a video of other tiles in place of the original one fails in one line, and loses nothing."""
    write_film(tmp_path / "film.mp4", 0)
    arguments = ["--source", tmp_path / "film.mp4", "--weights", weights, "--project", tmp_path, "--name", "run"]
    with monkeypatch.context() as patch:
        snapshots(patch, tmp_path / "run", tmp_path, {5})
        assert detect(capsys, *arguments, "--tile", "64", "--track", "--fps", "0.001", "--device", "cpu")[0] == 0
    writer = cv2.VideoWriter(str(tmp_path / "film.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 64))
    for _ in range(FRAMES):
        writer.write(np.zeros((64, 64, 3), np.uint8))
    writer.release()
    kept = [tmp_path / "5" / name for name in ("frames.jsonl", "settings.yaml", "film.mp4")]
    before = [file.read_bytes() for file in kept]
    code, _, err = detect(capsys, "--resume", tmp_path / "5")
    assert code == 2 and "frame 1 had more tiles when the run began" in " ".join(err.split()) and "Trace" not in err
    assert [file.read_bytes() for file in kept] == before


def break_frames(path: Path, *numbers: int) -> None:
    """Corrupt frames of a video so that they can be passed over but not decoded."""
    with av.open(str(path)) as video:
        encoded = [bytes(packet) for packet in video.demux() if packet.size]
    data = path.read_bytes()
    for number in numbers:
        data = data.replace(encoded[number - 1], bytes(len(encoded[number - 1])))
    path.write_bytes(data)


@pytest.mark.parametrize("extra", [("--fps", "0.001"), ("--fps", "1000"), ()], ids=["time", "no time", "no rate"])
def test_counts__are_of_the_whole_run(extra, weights, films, tmp_path, capsys, monkeypatch):
    """Counts of broken frames, damage and tiles cover all parts of a run, wherever it was killed."""
    shutil.copy(films[0], tmp_path / "broken.mp4")
    break_frames(tmp_path / "broken.mp4", 3, 10)
    sources = ["--source", tmp_path / "broken.mp4", "--source", films[1]]
    arguments = [*sources, "--weights", weights, "--project", tmp_path, "--name", "run", "--tile", "64", "--no-save"]
    with monkeypatch.context() as patch:
        if "1000" in extra:  # one tile per frame, and no frame is skipped
            patch.setattr(Pace, "missed", lambda self: 0)
        snapshots(patch, tmp_path / "run", tmp_path, {2, 6, FRAMES - 2, FRAMES - 1, FRAMES + 4})
        assert detect(capsys, *arguments, "--save-csv", "--device", "cpu", *extra)[0] == 0
        expected = told(tmp_path / "run")["videos"]
        first, second = expected[str(tmp_path / "broken.mp4")], expected[str(films[1])]
        assert (first["frames"], first["broken"], second["frames"], second["broken"]) == (FRAMES - 2, 2, FRAMES, 0)
        assert first["damage"] == f"2 of {FRAMES} frames are broken and were passed over" and second["damage"] is None
        if extra:
            looked = 8 if "0.001" in extra else 1
            assert first["tiles_looked_at"] == looked * (FRAMES - 2) and second["tiles_looked_at"] == looked * FRAMES
        for line in (2, 6, FRAMES - 2, FRAMES - 1, FRAMES + 4):
            assert detect(capsys, "--resume", tmp_path / str(line))[0] == 0
            found = told(tmp_path / str(line))["videos"]
            for video in (*found.values(), *(expected.values())):
                video.pop("longest_unseen_s", None), video.pop("longest_unseen_frames", None)
            assert found == expected, line


def test_journal__what_is_known_of_a_video(tmp_path):
    """The damage of a video that has ended is known; of an unfinished one, and of a stream, what its frames report."""
    journal = Journal(tmp_path / "frames.jsonl")
    for number, file in enumerate(("a.mp4", "a.mp4", "b.mp4"), 1):
        line = {"image_id": number, "counts": {}, "frame": number, "at": 0.0, "skipped": number, "broken": 1}
        journal.add({"file": file, **line, "turns": {"tiles": number}})
        if number == 2:
            journal.add({"file": file, "ended": True, "skipped": 3, "broken": 1, "passed": 4, "listed": 9})
    journal.add({"file": "http://c", "place": 1, "lost": 2, **line})
    journal.close()
    done = Done.read(tmp_path / "frames.jsonl")
    first, second, stream = (done.passages[key] for key in ("a.mp4", "b.mp4", 1))
    assert (first.frames, first.skipped, first.passed, first.ended) == (2, 3, 4, True)
    assert first.damage() == "ends after 4 of 9 frames; it may be damaged"
    assert (second.frames, second.skipped, second.broken, second.ended) == (1, 3, 1, False)
    assert (stream.lost, stream.broken, done.source(1), done.source("b.mp4")) == (2, 1, (1, "http://c"), "b.mp4")
    assert done.turns == {"a.mp4": {"tiles": 2}, "b.mp4": {"tiles": 3}} and list(done.cut_off()) == ["b.mp4"]
