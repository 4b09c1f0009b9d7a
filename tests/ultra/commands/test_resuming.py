"""Detection runs that are cut off at any moment and resumed: in the end all files are as if nothing had happened."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import shutil
import signal
import socket
from pathlib import Path

import cv2
import numpy as np
import pytest
from camera import LOOK_UP, Camera

from pixelkeep.cli.main import run
from pixelkeep.ultra.commands import journal as journal_module
from pixelkeep.ultra.commands.asked import Asked, option
from pixelkeep.ultra.commands.journal import Done, Journal, entries
from pixelkeep.ultra.commands.resuming import what_is_done
from pixelkeep.ultra.predictors.growing_mp4 import whole_frames
from pixelkeep.ultra.tiled.images import Request

pytest.importorskip("lap")
rasterio = pytest.importorskip("rasterio")
FRAMES = 14  # in a video


@pytest.fixture(scope="module")
def weights(noise_weights):
    return noise_weights


ASKED = [each.name for each in dataclasses.fields(Asked)]


@pytest.fixture
def frozen() -> set[str]:
    """The names of detect's options, from the file that lists them."""
    path = Path(__file__).parents[2] / "frozen_options.json"
    return set(json.loads(path.read_text())["detect"])


def write_film(path: Path, seed: int, count: int = FRAMES) -> None:
    scene = np.random.default_rng(seed).integers(0, 255, (96, 192 + 2 * count, 3), np.uint8)
    scene = cv2.GaussianBlur(scene, None, 3)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (192, 96))
    for left in range(count):
        writer.write(np.ascontiguousarray(scene[:, 2 * left : 2 * left + 192]))
    writer.release()


def write_map(path: Path, seed: int) -> None:
    """Write a georeferenced picture of noise."""
    picture = np.random.default_rng(20 + seed).integers(0, 255, (150, 200, 3), np.uint8)
    place = rasterio.transform.Affine(0.1, 0, 500000, 0, -0.1, 5300000)
    how = dict(driver="GTiff", width=200, height=150, count=3, dtype="uint8", crs="EPSG:32632", transform=place)
    with rasterio.open(path, "w", **how) as file:
        file.write(cv2.GaussianBlur(picture, None, 3).transpose(2, 0, 1))


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> Path:
    """Two folders with a video, a picture and a map each, under the same names in both."""
    folder = tmp_path_factory.mktemp("material")
    for number, name in enumerate(("x", "y")):
        (folder / name).mkdir()
        write_film(folder / name / "film.mp4", number)
        picture = np.random.default_rng(9 + number).integers(0, 255, (96, 96, 3), np.uint8)
        cv2.imwrite(str(folder / name / "still.png"), cv2.GaussianBlur(picture, None, 3))
        write_map(folder / name / "field.tif", number)
    return folder


def detect(capsys, *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    try:
        code = run(["detect", *map(str, arguments)])
    except SystemExit as end:
        code = end.code
    out = capsys.readouterr()
    return code or 0, out.out, out.err


def snapshots(monkeypatch, folder: Path, to: Path, lines: set[int]) -> None:
    """Copy the run folder as a kill would leave it right after each of the given lines of the journal."""
    add, count = Journal.add, [0]

    def added(self: Journal, entry: dict) -> None:
        add(self, entry)
        count[0] += 1
        if count[0] in lines:
            shutil.copytree(folder, to / str(count[0]))

    monkeypatch.setattr(Journal, "add", added)


def pictures_of(path: Path) -> np.ndarray:
    video, pictures = cv2.VideoCapture(str(path)), []
    while (read := video.read())[0]:
        pictures.append(read[1])
    return np.array(pictures, float)


def frames_of(path: Path) -> int:
    return len(pictures_of(path))


def content(folder: Path) -> dict[str, object]:
    """Return a run folder's content by file: of videos the frame count, of the summary all but times and folder."""
    found: dict[str, object] = {}
    for path in (path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        if path.suffix == ".mp4":
            found[name] = frames_of(path)
        elif path.name == "detections.json":
            told = json.loads(path.read_text())
            told.pop("speed_ms"), told.pop("folder")
            if told["track"]:
                told["track"].pop("ms")
            found[name] = told
        elif path.name != "settings.yaml":
            found[name] = path.read_bytes()
    return found


WHOLE = ("--imgsz", "96", "--set", "batch=1", "--save-txt", "--save-crop")
TILED = ("--tile", "96", "--save-txt", "--conf", "0.3")
MAPS = ("--tile", "64", "--save-txt", "--save-crop", "--save-geojson")


@pytest.mark.parametrize(
    ("extra", "sources", "lines"),
    [
        (WHOLE, ("x/still.png", "y/still.png", "x/film.mp4", "y/film.mp4"), {1, 8, 17, 31}),
        ((*TILED, "--track", "--save-crop"), ("x/film.mp4", "y/film.mp4"), {6, 15, 22, 30}),
        ((*TILED, "--vid-stride", "2"), ("x/film.mp4",), {3}),
        (MAPS, ("x/field.tif", "y/field.tif", "x/still.png"), {1, 2}),
    ],
    ids=["whole", "tiles and tracks", "stride", "maps of one name"],
)
def test_killed_and_resumed__as_if_nothing_had_happened(
    extra, sources, lines, weights, material, tmp_path, capsys, monkeypatch
):
    """A run killed after any line leaves readable files; once resumed, its files are those of an uninterrupted run."""
    project = tmp_path / "runs"
    arguments = [part for source in sources for part in ("--source", material / source)]
    arguments += ["--weights", weights, "--project", project, "--name", "a", "--save-json", "--save-csv", *extra]
    with monkeypatch.context() as patch:
        snapshots(patch, project / "a", tmp_path, lines)
        assert detect(capsys, *arguments, "--device", "cpu")[0] == 0
    expected = content(project / "a")
    assert len(expected["predictions.json"]) > 1000 and "frames.jsonl" not in expected
    for line in sorted(lines):
        cut = tmp_path / str(line)
        assert len(list(entries(cut / "frames.jsonl"))) == line
        for film in cut.glob("*.mp4"):
            frames_of(film)  # readable to its end
        code, _, err = detect(capsys, "--resume", cut)
        assert code == 0, err
        found = content(cut)
        assert found.keys() == expected.keys(), line
        assert {name for name in found if found[name] != expected[name]} == set(), line
        for film in cut.glob("*.mp4"):  # re-encoded after a different frame, so only nearly the same
            far = np.abs(pictures_of(film) - pictures_of(project / "a" / film.name)).mean((1, 2, 3))
            neighbours = np.abs(np.diff(pictures_of(film), axis=0)).mean((1, 2, 3))
            assert far.max() < neighbours.min() / 2, line


@pytest.mark.parametrize("batch", [1, 3])
def test_films__hold_what_the_journal_has(batch, weights, material, tmp_path, capsys, monkeypatch):
    """After a kill a video holds all frames of the earlier batches except one, and none that the journal lacks."""
    arguments = ["--source", material / "x/film.mp4", "--weights", weights, "--project", tmp_path, "--name", "a"]
    lines = range(1, FRAMES + 1)
    with monkeypatch.context() as patch:
        snapshots(patch, tmp_path / "a", tmp_path, {*lines})
        assert detect(capsys, *arguments, "--imgsz", "96", "--set", f"batch={batch}", "--device", "cpu")[0] == 0
    for line in lines:
        kept = (line - 1) // batch * batch
        film = tmp_path / str(line) / "film.mp4"
        assert whole_frames(film) == max(0, kept - 1) == (frames_of(film) if kept > 1 else 0)
        assert film.exists() is (kept > 1)
        done = Done.read(tmp_path / str(line) / "frames.jsonl")
        assert done.images == line and next(iter(done.passages.values())).passed == line
        resumed = what_is_done(tmp_path / str(line), videos=True)
        assert resumed.images == max(0, kept - 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped__keeps_everything_and_goes_on(number, weights, material, tmp_path, capsys, monkeypatch):
    """Ctrl-C and SIGTERM leave whole videos and predictions up to the last frame; --resume alone finds the run."""
    add, count = Journal.add, [0]

    def added(self: Journal, entry: dict) -> None:
        add(self, entry)
        count[0] += 1
        if count[0] == 7:
            os.kill(os.getpid(), number)

    arguments = ["--source", material / "x/film.mp4", "--weights", weights, "--project", tmp_path, "--save-json"]
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", added)
        code, out, _ = detect(capsys, *arguments, "--imgsz", "96", "--set", "batch=1", "--track", "--json")
    assert code == 0 and json.loads(out)["interrupted"] is True
    rows = json.loads((tmp_path / "exp/predictions.json").read_text())
    seen = max(row["frame"] for row in rows)
    assert seen == frames_of(tmp_path / "exp/film.mp4") == json.loads(out)["images"] == 7
    code, out, _ = detect(capsys, "--resume", "--project", tmp_path, "--json")
    assert code == 0 and json.loads(out)["interrupted"] is False and json.loads(out)["images"] == FRAMES
    rows = json.loads((tmp_path / "exp/predictions.json").read_text())
    assert max(row["frame"] for row in rows) == FRAMES == frames_of(tmp_path / "exp/film.mp4")
    assert not (tmp_path / "exp/frames.jsonl").exists()
    code, _, err = detect(capsys, "--resume", tmp_path / "exp")
    assert code == 2 and "this run is finished" in " ".join(err.split())


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("--resume", "nowhere"), "--resume nowhere: no such run; give a run folder"),
        (("--resume",), "--resume: no unfinished run in runs/detect"),
        (("--resume", "."), "settings.yaml is missing, so nothing can be resumed"),
        (("somewhere",), "unexpected argument 'somewhere'; to go on with a run, write --resume somewhere"),
        (("--resume", "--track"), "--resume goes on with the run's own settings; leave out --track"),
        (("--resume", "--conf", "0.5", "--tile", "96"), "leave out --conf, --tile"),
        (("--resume", "--no-save", "--line-width", "2"), "leave out --no-save, --line-width"),
        (("--resume", "--conf", "auto", "--source", "film.mp4"), "leave out --source, --conf auto"),
        (("--resume", "--tile", "96", "--overlap", "0", "--full-image"), "leave out --tile, --overlap, --full-image"),
        (("--resume", "--no-save-video", "--set", "agnostic_nms=true"), "--no-save-video, --set agnostic_nms=true"),
        (("--source", "film.mp4", "--fps", "0"), "--fps 0: give a number of frames a second above 0"),
        (("--source", "film.mp4", "--fps", "-3"), "--fps -3: give a number of frames a second above 0"),
        (("--source", "film.mp4", "--fps", "nan"), "--fps nan: give a number of frames a second above 0"),
        (("--source", "film.mp4", "--source", "a.png", "--fps", "5"), "--fps has no effect on images (a.png)"),
    ],
)
def test_refused__one_line(arguments, match, tmp_path, capsys, monkeypatch):
    """Runs that cannot be resumed and invalid frame rates are refused in one line, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    write_film(tmp_path / "film.mp4", 0, count=2)
    cv2.imwrite("a.png", np.zeros((8, 8, 3), np.uint8))
    code, _, err = detect(capsys, *arguments)
    assert code == 2 and match in " ".join(err.split()) and "Traceback" not in err
    assert {path.name for path in tmp_path.iterdir()} == {"film.mp4", "a.png"}


def test_given__options_of_the_command(frozen):
    """Options that are given are named as on the command line, and options that are not given are not named."""
    assert Asked(sources=[]).given() == []
    tiling = Request(tile=64, overlap=0.0, full_image=True, merge="nms")
    others = {name: True for name in ASKED if name not in ("sources", "tiling")}
    named = Asked(sources=["a"], tiling=tiling, **others).given()
    assert len(named) == len(set(named)) == len(ASKED) + 3 and {name.split()[0] for name in named} <= frozen
    settings = ("conf", "iou", "imgsz", "max_det", "save_txt", "save_crop", "show", "vid_stride", "line_width", "half")
    assert {option(name, True) for name in (*settings, "weights", "exist_ok", "save")} <= frozen


def test_source_gone__one_line(weights, material, tmp_path, capsys, monkeypatch):
    """Resuming a run whose video is gone says so in one line, and loses nothing."""
    shutil.copy(material / "x/film.mp4", tmp_path / "film.mp4")
    arguments = ["--source", tmp_path / "film.mp4", "--weights", weights, "--project", tmp_path, "--name", "a"]
    with monkeypatch.context() as patch:
        snapshots(patch, tmp_path / "a", tmp_path, {5})
        assert detect(capsys, *arguments, "--imgsz", "96", "--device", "cpu")[0] == 0
    (tmp_path / "film.mp4").unlink()
    before = content(tmp_path / "5")
    code, _, err = detect(capsys, "--resume", tmp_path / "5")
    assert code == 2 and "film.mp4' not found" in " ".join(err.split()) and content(tmp_path / "5") == before


def test_journal__torn_line_is_none(tmp_path):
    """If a journal ends within a line, the lines before it count, and the next line is written in its place."""
    path = tmp_path / "frames.jsonl"
    journal = Journal(path)
    for number in range(1, 4):
        journal.add({"file": f"{number}.png", "image_id": number, "counts": {"car": 2}, "objects": []})
    journal.close()
    data = path.read_bytes()
    for size in range(len(data)):
        path.write_bytes(data[:size])
        done = Done.read(path)
        assert done.images == data[:size].count(b"\n") == len(done.files) and done.detections["car"] == 2 * done.images
        assert done.size == data[:size].rfind(b"\n") + 1
    journal = Journal(path, done.size)
    journal.add({"file": "c.png", "image_id": 3, "counts": {}})
    assert [entry["file"] for _, entry in entries(path)] == ["1.png", "2.png", "c.png"]
    assert journal_module.NAME == path.name


def test_fps__tiles_are_shared_out_and_told(weights, material, tmp_path, capsys, monkeypatch):
    """If time allows only some tiles, all get their turn, and the run reports how many it skipped and for how long."""
    project = tmp_path / "runs"
    arguments = ["--source", material / "x/film.mp4", "--weights", weights, "--project", project, "--name", "a"]
    arguments += ["--tile", "64", "--imgsz", "64", "--track", "--save-json", "--save-csv", "--device", "cpu"]
    with monkeypatch.context() as patch:
        snapshots(patch, project / "a", tmp_path, {9})
        code, out, _ = detect(capsys, *arguments, "--fps", "1e-3", "--json")  # enough time for all tiles
    assert code == 0
    (video,) = json.loads(out)["videos"].values()
    assert (video["frames"], video["skipped"], video["tiles_skipped"]) == (FRAMES, 0, 0)
    assert detect(capsys, "--resume", tmp_path / "9")[0] == 0
    tracks, expected = (
        np.loadtxt(folder / "tracks/film.txt", delimiter=",") for folder in (tmp_path / "9", project / "a")
    )
    np.testing.assert_allclose(tracks, expected, atol=0.02)  # the first frame's tiles are batched differently
    code, out, _ = detect(capsys, *arguments, "--fps", "1000", "--name", "b", "--json")  # no time at all
    (video,) = json.loads(out)["videos"].values()
    assert code == 0 and video["frames"] + video["skipped"] == FRAMES
    assert video["tiles_looked_at"] == video["frames"] and video["tiles"] == 8
    assert video["tiles_looked_at"] + video["tiles_skipped"] == 8 * video["frames"]
    assert video["longest_unseen_frames"] <= video["bound_frames"] == 16


def test_fps__on_the_terminal(weights, material, tmp_path, capsys):
    """The text output reports what was skipped, within 80 columns."""
    arguments = ["--source", material / "x/film.mp4", "--weights", weights, "--project", tmp_path, "--device", "cpu"]
    code, out, _ = detect(capsys, *arguments, "--imgsz", "96", "--fps", "0.001")
    assert code == 0 and f"video     film.mp4: {FRAMES} frames looked at, 0 skipped" in out
    assert max(map(len, out.splitlines()[:-2])) <= 80


def test_stream__recorded_and_gone_on_with(weights, tmp_path, capsys, monkeypatch):
    """A stream's video, tracks and predictions reach to its last frame, and a resumed run continues after them."""
    monkeypatch.setattr(socket, "getaddrinfo", LOOK_UP)  # Ultralytics first asks the address for a still image
    camera = Camera()
    add, count = Journal.add, [0]

    def added(self: Journal, entry: dict) -> None:
        add(self, entry)
        count[0] += 1
        if count[0] % 6 == 0:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Journal, "add", added)
    arguments = ["--source", camera.address, "--weights", weights, "--project", tmp_path, "--name", "a", "--track"]
    arguments += ["--imgsz", "96", "--save-csv", "--save-video", "--device", "cpu", "--fps", "20"]
    assert detect(capsys, *arguments)[0] == 0
    rows = list(csv.DictReader((tmp_path / "a/predictions.csv").open()))
    (film,) = (tmp_path / "a").glob("*.mp4")
    assert frames_of(film) == 6
    last = max(int(row["frame"]) for row in rows)
    highest = max(int(row["track_id"]) for row in rows)
    assert detect(capsys, "--resume", tmp_path / "a")[0] == 0
    more = list(csv.DictReader((tmp_path / "a/predictions.csv").open()))
    assert more[: len(rows)] == rows and len(more) > len(rows) and frames_of(film) == 12
    fresh = more[len(rows) :]
    assert min(int(row["frame"]) for row in fresh) > last and min(int(row["track_id"]) for row in fresh) > highest
    (text,) = (tmp_path / "a/tracks").glob("*.txt")
    assert len(text.read_text().splitlines()) == len(more)
    camera.server.plugged = False


@pytest.mark.parametrize("source", ["7", "http://127.0.0.1:9/video"])
def test_not_there__one_line(source, weights, tmp_path, capsys, monkeypatch):
    """A webcam or stream that cannot be reached fails in one line, and leaves no run folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket, "getaddrinfo", LOOK_UP)
    code, _, err = detect(capsys, "--source", source, "--weights", weights, "--imgsz", "96", "--device", "cpu")
    assert code == 2 and "is it there and connected?" in " ".join(err.split()) and "Traceback" not in err
    assert not list(tmp_path.rglob("exp*"))
