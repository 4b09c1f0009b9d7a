"""Tracking: boxes equal the detector's bit for bit, identities hold, videos are separate, MOT files are whole."""

from __future__ import annotations

import csv
import json
from collections import Counter
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from pixelkeep.cli.main import run
from pixelkeep.tiling import detect_in_tiles, make_grid
from pixelkeep.ultra.predictors.boxes import Detections
from pixelkeep.ultra.tracking import config as tracker_config
from pixelkeep.ultra.tracking.config import load_tracker
from pixelkeep.ultra.tracking.frames import Tracking, follow
from pixelkeep.ultra.tracking.tracker import Tracker, enlarged

pytest.importorskip("lap")

HEIGHT, WIDTH = 96, 192
BLANK = np.full((HEIGHT, WIDTH, 3), 114, np.uint8)


def preset(**changes):
    """Return the small-objects preset without camera motion compensation, which blank frames do not allow."""
    config = load_tracker("small-objects")
    vars(config).update({"gmc_method": "none", **changes})
    return config


def crossing(speed: float, side: float = 8.0, jitter: float = 0.7, score: float = 0.3) -> list[np.ndarray]:
    """Return the box of one object that crosses the picture as rows (1, 6), one array per frame."""
    rng = np.random.default_rng(4)
    lefts = np.arange(4, WIDTH - side - 4, speed)
    boxes = [np.array([left, 40 + left / 8, left + side, 40 + left / 8 + side]) for left in lefts]
    return [np.array([[*(box + rng.normal(0, jitter, 4)), score, 1]], np.float32) for box in boxes]


def identities(config, frames: list[np.ndarray]) -> list[int]:
    """Return all identities that the tracker gives, frame by frame."""
    tracker = Tracker(config)
    return [int(i) for rows in frames for i in tracker.update(rows, BLANK)[0]]


def test_enlarged__numbers():
    """Sides grow by twice the buffer, and at least to the least side, around the same centre."""
    boxes = np.array([[10, 20, 14, 30], [0, 0, 40, 20], [5, 5, 5, 9]], np.float32)
    expected = [[0, 13, 24, 37], [-20, -10, 60, 30], [5, 5, 5, 9]]  # 4 x 10 to 8 x 20, then 24 x 24; 40 x 20 to 80 x 40
    np.testing.assert_array_equal(enlarged(boxes, 0.5, 24), expected)
    np.testing.assert_array_equal(enlarged(boxes, 0, 0), boxes)


@pytest.mark.parametrize("speed", [1.0, 5.0, 9.0])
def test_preset__one_object_is_one_track(speed):
    """An object of 8 pixels that crosses the picture with jitter has one identity in every frame."""
    frames = crossing(speed)
    assert identities(preset(), frames) == [1] * len(frames)


def test_preset__holds_what_boxes_as_they_are_lose():
    """At 9 pixels per frame an 8-pixel box does not overlap its last position, so only enlarged boxes hold it."""
    frames = crossing(9.0)
    assert len(identities(preset(buffer=0.0, least_side=0.0), frames)) < len(frames)


def test_preset__starts_at_low_scores():
    """The preset begins a track at a score of 0.22, where the stock tracker requires 0.25."""
    frames = crossing(3.0, score=0.22)
    assert identities(preset(), frames) == [1] * len(frames)
    assert identities(load_tracker("bytetrack"), frames) == []


def test_preset__camera_motion():
    """A still object keeps its identity when the camera jumps beyond its enlarged box: the ground shows how far."""
    scene = np.random.default_rng(0).integers(0, 255, (200, 480, 3), np.uint8)
    scene = cv2.GaussianBlur(scene, None, 2)
    ids = {}
    for method in ("sparseOptFlow", "none"):
        tracker, ids[method] = Tracker(preset(gmc_method=method)), []
        for left in (0, 30, 0, 30, 0):
            box = np.array([[200 - left, 90, 208 - left, 98, 0.5, 0]], np.float32)
            frame = np.ascontiguousarray(scene[:, left : left + 400])
            ids[method] += tracker.update(box, frame)[0].tolist()
    assert ids["sparseOptFlow"] == [1] * 5
    assert ids["none"] != [1] * 5


def test_tiles__one_track_across_a_border():
    """An object cut by tile borders on its way is merged into one box per frame and keeps its identity."""
    grid = make_grid(WIDTH, HEIGHT, tile=64, overlap=0.25)
    frames = crossing(3.0, jitter=0.2)
    merged = []
    for rows in frames:

        def look(windows, rows=rows) -> list[torch.Tensor]:
            shown = []
            for left, top, right, bottom in windows.tolist():
                low, high = np.maximum(rows[:, :2], (left, top)), np.minimum(rows[:, 2:4], (right, bottom))
                seen = (high - low > 1).all(axis=1)
                boxes = np.concatenate([low, high], 1) - (left, top, left, top)
                shown.append(torch.from_numpy(np.concatenate([boxes, rows[:, 4:]], 1)[seen]).float())
            return shown

        found = detect_in_tiles(look, grid, batch=4)
        columns = [np.asarray(found.boxes), np.asarray(found.scores), np.asarray(found.classes)]
        merged.append(np.column_stack(columns).astype(np.float32))
    assert identities(preset(), merged) == [1] * len(frames)


@pytest.mark.parametrize("name", tracker_config.names())
def test_names__every_tracker_follows(name):
    """Every available tracker follows an object that is easy to follow."""
    ids = identities(load_tracker(name), crossing(1.0, side=30.0, score=0.9))
    assert len(ids) > 100 and set(ids) == {1}


class Fake:
    """Stands in for a predictor at the end of postprocessing a batch."""

    def __init__(self, mode: str):
        self.dataset = SimpleNamespace(mode=mode)
        self.args = SimpleNamespace(vid_stride=1, conf=None)
        self.confidences = (0.5,)
        self.results: list = []
        self.passed: Counter = Counter()

    def add_callback(self, event: str, function) -> None:
        assert event == "on_predict_postprocess_end"
        self.finish = function


def detections(rows, path: str) -> Detections:
    return Detections(BLANK, path=path, names={0: "a", 1: "b"}, boxes=torch.from_numpy(np.array(rows, np.float32)))


def step(tracking: Tracking, predictor: Fake, *frames: tuple[list, str]) -> list:
    predictor.results = [detections(rows, path) for rows, path in frames]
    for result in predictor.results:
        predictor.passed[result.path] += 1
        result.frame = predictor.passed[result.path]
    tracking(predictor)
    return predictor.results


def test_boxes__are_the_detectors_to_the_bit(tmp_path):
    """Tracked boxes keep coordinates, scores, classes and order of the detections, and gain identities."""
    tracking, predictor = Tracking(preset(), [0, 0], tmp_path), Fake("video")
    rows = np.random.default_rng(2).uniform(0, 90, (5, 2)).repeat(2, 0).reshape(5, 4).astype(np.float32)
    rows = rows[:, [0, 2, 0, 2]] + np.float32([0, 0, 7.3, 9.1])
    rows = np.column_stack([rows, [0.9, 0.61, 0.5, 0.03, 0.4], [0, 1, 0, 1, 1]]).astype(np.float32)
    for given in (rows, rows, rows[::-1]):  # the last frame's order differs from that of the identities
        (result,) = step(tracking, predictor, (given, "a.mp4"))
    expected = rows[[4, 2, 1, 0]]  # 0.03 is below the lowest score the tracker uses
    assert torch.equal(result.boxes.data[:, [0, 1, 2, 3, 5, 6]], torch.from_numpy(expected))
    assert sorted(result.boxes.id.int().tolist()) == [1, 2, 3, 4]
    assert [row["track_id"] for row in result.records()] == result.boxes.id.int().tolist()


BOX = [10, 10, 20, 20, 0.8, 1]


def test_videos__begin_anew(tmp_path):
    """Each video has its own file and identities from 1, even if two have the same name in different folders."""
    tracking, predictor = Tracking(preset(), [0, 0], tmp_path), Fake("video")
    moved = [100, 50, 110, 60, 0.8, 1]
    for path, rows in (("x/a.mp4", [BOX]), ("x/a.mp4", [BOX]), ("y/a.mp4", [moved, BOX]), ("y/b.mp4", [moved])):
        (result,) = step(tracking, predictor, (rows, path))
        assert sorted(result.boxes.id.int().tolist()) == [*range(1, len(rows) + 1)]
    tracking.close()
    frames = {f.name: [line.split(",")[0] for line in f.read_text().splitlines()] for f in tmp_path.iterdir()}
    assert frames == {"a.txt": ["1", "2"], "a_2.txt": ["1", "1"], "b.txt": ["1"]}
    assert tracking.report()["objects"] == 4


def test_streams__are_side_by_side(tmp_path):
    """Each stream in a batch has its own tracker and keeps it."""
    tracking, predictor = Tracking(preset(), [0, 0], tmp_path), Fake("stream")
    for _ in range(3):
        results = step(tracking, predictor, ([BOX], "one"), ([[100, 50, 110, 60, 0.8, 1]], "two"))
        assert [r.boxes.id.int().tolist() for r in results] == [[1], [1]]
    assert len((tmp_path / "two.txt").read_text().splitlines()) == 3


def test_conf__hides_and_does_not_cut_tracks(tmp_path):
    """The tracker sees low scores whatever is shown, so an object that fades and returns keeps its identity."""
    predictor = Fake("video")
    tracking = follow(predictor, preset(), [0.0, 0.5], tmp_path)
    assert predictor.args.conf == 0.05 and predictor.confidences is None and predictor.finish is tracking
    assert predictor.places == tracking.places
    shown = []
    for number, score in enumerate((0.8, 0.8, 0.3, 0.3, 0.3, 0.8)):
        x = 10 + 9 * number
        shown.append(step(tracking, predictor, ([[x, 10, x + 8, 18, score, 1]], "a.mp4"))[0].boxes.id.tolist())
    assert shown == [[1], [1], [], [], [], [1]]


def test_trails__where_the_object_was(tmp_path):
    """A trail holds the places where its object was found in the last twenty frames, and no others."""
    tracking, predictor = Tracking(preset(), [0, 0], tmp_path), Fake("video")
    missed = range(12, 16)
    for x in range(30):
        rows = np.empty((0, 6)) if x in missed else [[x, 10, x + 10, 30, 0.8, 0]]
        (result,) = step(tracking, predictor, (rows, "a.mp4"))
    np.testing.assert_array_equal(result.trails[0], [[x + 5, 20] for x in range(10, 30) if x not in missed])


def command(capsys, *arguments: str) -> tuple[int, str, str]:
    try:
        code = run(["detect", *map(str, arguments)])
    except SystemExit as end:
        code = end.code
    out = capsys.readouterr()
    return code or 0, out.out, out.err


@pytest.mark.parametrize(
    ("arguments", "match"),
    [(("--track",), "--track has no effect on images (a.png)"), (("--track", "botsrt"), "did you mean 'botsort'")],
)
def test_command__refuses(arguments, match, tmp_path, capsys):
    """--track is refused for images, which are no sequence, and an unknown tracker is refused in one line."""
    cv2.imwrite(str(tmp_path / "a.png"), BLANK)
    code, _, err = command(capsys, "--source", tmp_path / "a.png", *arguments)
    assert code == 2 and match in " ".join(err.split())


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Write a video of six frames of blurred noise that moves to the left."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    scene = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (96, 220, 3), np.uint8), None, 3)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (192, 96))
    for left in range(6):
        writer.write(np.ascontiguousarray(scene[:, 2 * left : 2 * left + 192]))
    writer.release()
    return path


@pytest.mark.parametrize("extra", [(), ("--tile", "96", "--conf", "0.3")], ids=["whole", "tiles"])
def test_command__writes_identities(extra, film, network, tmp_path, capsys):
    """The rows of JSON, CSV and MOT text agree; with a frame stride, frames keep their numbers in the video."""
    arguments = ["--source", film, "--weights", network, "--project", tmp_path, "--name", "run", "--device", "cpu"]
    arguments += ["--save-json", "--save-csv", "--json", "--vid-stride", "2", "--track", "--imgsz", "96", *extra]
    code, out, _ = command(capsys, *arguments)
    assert code == 0
    told = json.loads(out)
    assert told["track"]["tracker"] == "small-objects" and told["confidence"] == (0.3 if extra else 0.05)
    rows = json.loads((tmp_path / "run/predictions.json").read_text())
    assert len(rows) > 5 and {row["frame"] for row in rows} == {2, 4, 6}
    assert told["track"]["objects"] == len({row["track_id"] for row in rows})
    assert min(row["score"] for row in rows) >= told["confidence"] - 1e-6
    lines = [line.split(",") for line in (tmp_path / "run/tracks/film.txt").read_text().splitlines()]
    assert [(int(line[0]), int(line[1]), int(line[7])) for line in lines] == [
        (row["frame"], row["track_id"], row["category_id"]) for row in rows
    ]
    boxes = np.array([line[2:6] for line in lines], float)
    np.testing.assert_allclose(boxes - [1, 1, 0, 0], [row["bbox"] for row in rows], atol=0.006)
    table = list(csv.DictReader((tmp_path / "run/predictions.csv").open()))
    assert [int(line["track_id"]) for line in table] == [row["track_id"] for row in rows]
    video = cv2.VideoCapture(str(tmp_path / "run/film.mp4"))
    assert sum(video.read()[0] for _ in range(9)) == 3


@pytest.fixture(scope="module")
def network(noise_weights):
    return noise_weights
