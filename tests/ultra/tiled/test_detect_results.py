"""``detect --json`` and detections.json hold the same boxes as the other outputs, with one line per image."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import test_oriented
from test_tiled import call

from pixelkeep.ultra.commands.results import results

SHAPE = (3, 96, 192, 3)  # frames, height, width and channels of a video


@pytest.fixture(scope="module")
def oriented(tmp_path_factory):
    return test_oriented.write_weights(tmp_path_factory.mktemp("oriented") / "w.pt")


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> Path:
    """Write a picture of noise and a video, and return their folder."""
    folder = tmp_path_factory.mktemp("material")
    pictures = [cv2.GaussianBlur(each, None, 3) for each in np.random.default_rng(9).integers(0, 255, SHAPE, np.uint8)]
    cv2.imwrite(str(folder / "still.png"), pictures[0])
    writer = cv2.VideoWriter(str(folder / "film.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, SHAPE[2:0:-1])
    for picture in pictures:
        writer.write(picture)
    writer.release()
    return folder


def as_coco(document: dict) -> list[dict]:
    """Return the content of a document in the form of predictions.json."""
    rows = []
    for image in document["results"]:
        frame = {"frame": image["frame"]} if "frame" in image else {}
        for found in image["objects"]:
            x1, y1, x2, y2 = found["xyxy"]
            row = {"image_id": image["image_id"], "file_name": Path(image["file"]).name, **frame}
            row |= {"category_id": found["class"] + 1, "category": found["name"]}
            row |= {"bbox": pytest.approx([x1, y1, x2 - x1, y2 - y1], abs=1e-9), "score": found["confidence"]}
            if "obb" in found:
                row |= {"segmentation": [[v for corner in found["corners"] for v in corner]], "obb": found["obb"]}
            rows.append(row)
    return rows


@pytest.mark.parametrize("kind", ["noise_weights", "oriented"])
def test_document__boxes_as_in_predictions(request, material, tmp_path, capfd, kind):
    """The printed document equals the file, and its boxes are those of predictions.json, for images and frames."""
    given = ("--weights", request.getfixturevalue(kind), "--source", material, "--device", "cpu", "--imgsz", 96)
    code, out, _ = call(
        "detect", *given, "--project", tmp_path, "--save-json", "--no-save", "--json", "--conf", 0.01, capfd=capfd
    )
    assert code == 0 and out == (tmp_path / "exp/detections.json").read_text()
    document, expected = json.loads(out), json.loads((tmp_path / "exp/predictions.json").read_text())
    assert len(expected) > 5 and as_coco(document) == expected
    assert [image.get("frame") for image in document["results"]] == [None, 1, 2, 3]
    assert sum(document["detections"].values()) == len(expected)
    assert len(out.splitlines()) == 2 + len(document) + len(document["results"]) + 1  # one line per entry and per image


def test_document__boxes_without_being_asked(noise_weights, material, tmp_path, capfd):
    """detections.json is written without being asked for; an image without detections has no objects in it."""
    given = ("--weights", noise_weights, "--source", material / "still.png", "--device", "cpu", "--imgsz", 96)
    for conf, some in ((0.01, True), (1.0, False)):
        assert call("detect", *given, "--project", tmp_path / str(conf), "--conf", conf, capfd=capfd)[0] == 0
        (image,) = json.loads((tmp_path / str(conf) / "exp/detections.json").read_text())["results"]
        assert bool(image["objects"]) == some and image["image_id"] == 1 and "frame" not in image


def test_rows__tracks_and_other_tasks(tmp_path):
    """Identities stay with their objects; for other tasks the row's own keys stand beside the image."""
    box = {"category_id": 3, "category": "car", "bbox": [1.5, 2, 3, 4.25], "score": 0.5, "track_id": 7}
    lines = [
        {"file": "a.mp4", "image_id": 1, "frame": 2, "at": 0.2, "counts": {"car": 1}, "objects": [box]},
        {"file": "a.mp4", "ended": True},
    ]
    path = tmp_path / "frames.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    found = {"class": 2, "name": "car", "confidence": 0.5, "xyxy": [1.5, 2, 4.5, 6.25], "track_id": 7}
    assert list(results(path, True)) == [{"file": "a.mp4", "image_id": 1, "frame": 2, "at": 0.2, "objects": [found]}]
    path.write_text(json.dumps({"file": "a.png", "image_id": 1, "objects": [{"pixels": {"sky": 9}}]}) + "\n")
    assert list(results(path, False)) == [{"file": "a.png", "image_id": 1, "pixels": {"sky": 9}}]


@pytest.mark.parametrize("tiles", [(), ("--tile", 96)], ids=["whole", "tiles"])
def test_bar__ends_at_all_files(noise_weights, material, tmp_path, capfd, tiles):
    """Files that are left out, wherever they come in the order, count as done in the progress bar."""
    for name in "bd":
        (tmp_path / f"{name}.png").write_bytes((material / "still.png").read_bytes())
    for name in "acef":
        (tmp_path / f"{name}.png").write_bytes(b"none")
    given = ("--weights", noise_weights, "--source", tmp_path, "--device", "cpu", "--imgsz", 96, "--project", tmp_path)
    code, out, err = call("detect", *given, *tiles, capfd=capfd)
    assert code == 0 and out.count("left out") == 4
    (line,) = [line for line in err.splitlines() if line.startswith("detecting")]
    assert "100%" in line and " 6/6 " in line


@pytest.mark.parametrize(("more", "told"), [((), 1), (("--tile", 96), 0)], ids=["whole", "tiles"])
def test_large_images__one_warning_that_names_tiles(noise_weights, tmp_path, capfd, caplog, more, told):
    """Of two images three times the input's size and one that fits, one warning is given; with tiles, none."""
    for name, side in (("a", 96), ("b", 288), ("c", 288)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((side, side, 3), np.uint8))
    given = ("--weights", noise_weights, "--source", tmp_path, "--device", "cpu", "--imgsz", 96, "--project", tmp_path)
    assert call("detect", *given, *more, capfd=capfd)[0] == 0
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert said.count("b.png: shrinks 3.0-fold") == said.count("shrinks") == told
    assert said.count("--tile 96 keeps its full size") == told
