"""Drawings of a batch: images as people see them, boxes in their pixels, and only confident predictions."""

from __future__ import annotations

import errno

import numpy as np
import pytest
import torch
from PIL import Image

from pixelkeep.ultra.validators import sheets


def batch(channels: int = 3) -> dict:
    """Return two images of 40 x 80 pixels; the second has an 8 x 4 box of class 1 with its corner at (20, 10)."""
    images = torch.zeros(2, channels, 40, 80)
    images[1, 0] = 1.0
    return {
        "img": images,
        "im_file": ["/x/a.png", "/x/b.png"],
        "batch_idx": torch.tensor([1.0]),
        "cls": torch.tensor([[1.0]]),
        "bboxes": torch.tensor([[24 / 80, 12 / 40, 8 / 80, 4 / 40]]),
    }


def test_labelled__boxes_in_pixels_of_their_image():
    """Each image gets its own labels, and the batch is not changed."""
    given = batch()
    before = {key: value.clone() for key, value in given.items() if isinstance(value, torch.Tensor)}
    first, second = sheets.labelled(given)
    assert (first.name, second.name, len(first.boxes), first.scores) == ("a.png", "b.png", 0, None)
    np.testing.assert_allclose(second.boxes, [[20, 10, 28, 14]], atol=1e-5)
    assert second.classes.tolist() == [1] and second.image.shape == (40, 80, 3) and second.image.dtype == np.uint8
    assert all(torch.equal(given[key], value) for key, value in before.items())


@pytest.mark.parametrize(
    ("channels", "expected"), [(1, [255, 255, 255]), (2, [255] * 3), (3, [255, 0, 0]), (5, [255, 0, 0])]
)
def test_images__of_any_number_of_channels(channels, expected):
    """Grey is repeated; of more than three channels the first three are shown."""
    assert sheets.labelled(batch(channels))[1].image[0, 0].tolist() == expected


def test_predicted__those_that_are_sure():
    """Boxes at or below Ultralytics' drawing threshold or not finite are left out, and each image has its own."""
    found = {"bboxes": torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8], [1, 2, torch.inf, 4]])}
    found["cls"] = torch.tensor([0.0, 1, 1])
    preds = [found | {"conf": torch.tensor([0.3, 0.25, 0.9])}, {key: value[:0] for key, value in found.items()}]
    preds[1]["conf"] = torch.zeros(0)
    first, second = sheets.predicted(batch(), preds)
    assert (first.boxes.tolist(), first.classes.tolist()) == ([[1, 2, 3, 4]], [0]) and len(second.boxes) == 0
    assert first.scores.tolist() == pytest.approx([0.3])


def test_sheet__written_whole_and_registered(tmp_path, monkeypatch):
    """A picture is whole under its name before it is registered; a full disk leaves no file."""
    seen = []

    def register(path) -> None:
        with Image.open(path) as picture:
            picture.load()
        seen.append(path)

    sheets.write_sheet(sheets.labelled(batch()), {1: "car"}, tmp_path / "a.jpg", register)
    assert seen == [tmp_path / "a.jpg"]

    def full(self, content) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="full"):
        sheets.write_sheet(sheets.labelled(batch()), {1: "car"}, tmp_path / "b.jpg", register)
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"] and len(seen) == 1
