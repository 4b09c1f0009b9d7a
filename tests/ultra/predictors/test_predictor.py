"""The predictor's files: every crop is kept, labels replace older ones, and a video counts only when it is whole."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from ultralytics.utils.plotting import save_one_box

from pixelkeep.ultra.predictors.base import viewable
from pixelkeep.ultra.predictors.boxes import Detections, Predictor

SIZE = (64, 48)  # width, height


@pytest.fixture
def found() -> Detections:
    """Return detections of two objects of one class in a picture of noise."""
    picture = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    boxes = torch.tensor([[2.0, 4, 22, 34, 0.9, 0], [30, 10, 40, 20, 0.8, 0]])
    return Detections(picture, path="a.jpg", names={0: "car"}, boxes=boxes)


def test_crops__one_file_each(found, tmp_path):
    """Every object gets a crop file of its own with its own pixels, even if a file of that name exists."""
    for _ in range(2):
        found.save_crop(tmp_path, "a.jpg")
    files = sorted((tmp_path / "car").iterdir())
    assert len(files) == 4
    expected = [save_one_box(box, found.orig_img, save=False).shape for box in found.boxes.xyxy]
    assert sorted(cv2.imread(str(file)).shape for file in files) == sorted(2 * expected)
    assert not list(tmp_path.rglob(".*"))


def test_labels__none_for_nothing(found, tmp_path):
    """A label file has one row per object; an image without detections gets none."""
    found.save_txt(tmp_path / "a.txt")
    found[:0].save_txt(tmp_path / "b.txt")
    assert len((tmp_path / "a.txt").read_text().splitlines()) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.fixture
def predictor(tmp_path):
    """Return a predictor with a video as its source and output."""
    predictor = Predictor({"save_dir": str(tmp_path), "mode": "predict"}, save_video=True)
    predictor.dataset = type("Video", (), {"mode": "video", "fps": 5, "times": [0.0]})
    predictor.batch = (["a.avi"],)
    return predictor


def write(predictor: Predictor, path, sizes) -> None:
    for number, (width, height) in enumerate(sizes):
        predictor.dataset.times = [number / 5]
        predictor.plotted_img = np.zeros((height, width, 3), np.uint8)
        predictor.save_predicted_images(path)
        predictor.run_callbacks("on_predict_batch_end")


def test_video__one_after_the_other(predictor, tmp_path):
    """A video is finished when the next begins or at the end, with all its frames, whatever their size."""
    write(predictor, tmp_path / "a.avi", [SIZE, SIZE, (32, 32)])
    video = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    assert sum(video.read()[0] for _ in range(9)) == 2  # the last frame is written with the next one or at the end
    write(predictor, tmp_path / "b.avi", [SIZE])
    video = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    assert sum(video.read()[0] for _ in range(9)) == 3
    assert (video.get(cv2.CAP_PROP_FRAME_WIDTH), video.get(cv2.CAP_PROP_FRAME_HEIGHT)) == SIZE
    assert video.get(cv2.CAP_PROP_FPS) == 5
    predictor.finish_videos()
    assert sorted(path.name for path in tmp_path.glob("*.mp4")) == ["a.mp4", "b.mp4"]
    assert cv2.VideoCapture(str(tmp_path / "b.mp4")).read()[0]


def test_video__only_frames_that_are_recorded(predictor, tmp_path):
    """A frame is recorded before it counts in the video, so an interruption between the two leaves it out."""
    told = []
    predictor.record = lambda _: told.append(len(told))
    write(predictor, tmp_path / "a.avi", [SIZE, SIZE])
    predictor.save_predicted_images(tmp_path / "a.avi")
    predictor.finish_videos()
    video = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    assert len(told) == sum(video.read()[0] for _ in range(9)) == 2


def test_half__said_where_it_has_no_effect(predictor, caplog, monkeypatch):
    """A message says where half precision has no effect, as on a CPU in most releases of Ultralytics."""
    from ultralytics import YOLO
    from ultralytics.utils import LOGGER

    from pixelkeep.ultra.running.settings import half_precision

    monkeypatch.setattr(LOGGER, "propagate", True)
    for key, value in half_precision().items():
        setattr(predictor.args, key, value)
    predictor.args.device = "cpu"
    predictor.setup_model(YOLO("yolov5-n.yaml", verbose=False).model, verbose=False)
    said = "Half precision has no effect on cpu: computing in fp32." in caplog.text
    assert said is not predictor.model.fp16


@pytest.mark.parametrize(("channels", "shown"), [(1, [0, 0, 0]), (2, [0, 0, 0]), (3, [0, 1, 2]), (5, [0, 1, 2])])
def test_viewable__three_channels_of_any_number(channels, shown):
    """An image with any number of channels is shown with three."""
    image = np.arange(4 * 6 * channels, dtype=np.uint8).reshape(4, 6, channels)
    assert np.array_equal(viewable(image), image[..., shown])
