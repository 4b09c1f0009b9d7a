"""Records reach Ultralytics' loaders whole: labels, pixels of any depth, rectangles, caches outside the user's data."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from ultralytics.cfg import get_cfg
from ultralytics.data.dataset import YOLODataset

from pixelkeep.datasets.definitions.spec import load_spec
from pixelkeep.datasets.demo import write_demo
from pixelkeep.ultra.data.box_dataset import Dataset, build_dataset
from pixelkeep.ultra.data.resolving import read_split, write_resolved


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "tiny"
    return load_spec(write_demo(folder, splits={"train": 12, "val": 4, "test": 1}))


def build(spec, *, train: bool = True, **settings) -> Dataset:
    args = get_cfg(overrides={"imgsz": 128, "task": "detect", "split": "val", **settings})
    resolved = str(write_resolved(spec))
    return build_dataset(
        args, 4, {"yaml_file": resolved, "names": spec.names, "channels": spec.channels}, train=train, stride=32
    )


def made(folder: Path, pictures: list[bytes], ending: str, extra: str) -> Path:
    """Write a dataset of the given pictures, each with one object in its middle, and return its YAML."""
    for split in ("train", "val"):
        for part in ("images", "labels"):
            (folder / part / split).mkdir(parents=True)
        for index, content in enumerate(pictures):
            (folder / "images" / split / f"{index}{ending}").write_bytes(content)
            (folder / "labels" / split / f"{index}.txt").write_text("0 0.5 0.5 0.25 0.25\n")
    file = folder / "data.yaml"
    file.write_text(f"train: images/train\nval: images/val\nnames: [hot]\n{extra}")
    return file


@pytest.mark.parametrize("train", [True, False])
def test_labels_and_pixels__as_ultralytics_reads_them(spec, train):
    """The same files read by Ultralytics itself give the same boxes, pixels, shapes and batches."""
    ours = build(spec, train=train, mosaic=0.0)
    split = "train" if train else "val"
    theirs = YOLODataset(
        img_path=str(spec.sources(split)[0]),
        data={"names": spec.names, "channels": 3},
        imgsz=128,
        augment=train,
        hyp=get_cfg(overrides={"mosaic": 0.0}),
        rect=not train,
        batch_size=4,
        pad=0.0 if train else 0.5,
    )
    assert ours.im_files == theirs.im_files
    for index in range(len(theirs)):
        np.testing.assert_array_equal(ours.load_image(index)[0], theirs.load_image(index)[0])
        assert ours.load_image(index)[1:] == theirs.load_image(index)[1:]
        one, other, hard = ours.labels[index], theirs.labels[index], ours.records[index].difficult
        # Ultralytics does not know objects to ignore: it keeps them like any other.
        np.testing.assert_array_equal(one["cls"], other["cls"][~hard])
        # Ours are on a grid of 1e-4 px, so that every form of the same data gives the same numbers.
        np.testing.assert_allclose(one["bboxes"], other["bboxes"][~hard], atol=2e-7)
        np.testing.assert_allclose(one["ignored"]["bboxes"][: hard.sum()], other["bboxes"][hard], atol=2e-7)
    if not train:
        np.testing.assert_array_equal(ours.batch_shapes, theirs.batch_shapes)


def test_records__follow_the_order_of_rectangular_batches(tmp_path):
    """Validation sorts images by shape; records, labels and files stay together."""
    shapes = [(40, 120), (120, 40), (80, 80), (60, 120), (120, 100)]
    pictures = [cv2.imencode(".png", np.zeros((*shape, 3), np.uint8))[1].tobytes() for shape in shapes]
    dataset = build(load_spec(made(tmp_path / "set", pictures, ".png", "")), train=False)
    assert [str(r.path) for r in dataset.records] == dataset.im_files == [x["im_file"] for x in dataset.labels]
    ratios = [record.height / record.width for record in dataset.records]
    assert ratios == sorted(ratios) and len(set(ratios)) == len(shapes)


@pytest.mark.parametrize(
    ("channels", "ending", "dtype", "extra"),
    [
        (1, ".png", np.uint8, "channels: 1\n"),
        (1, ".png", np.uint16, "channels: 1\nstretch: [0, 100]\n"),
        (3, ".png", np.uint16, "stretch: [0, 100]\n"),
        (4, ".png", np.uint8, "channels: 4\n"),
        (5, ".tif", np.uint16, "channels: 5\nstretch: [0, 100]\n"),
    ],
)
def test_channels_and_depth__survive_augmentation(tmp_path, channels, ending, dtype, extra):
    """Declared channels and depths come out of mosaic and validation as 8 bits, with a hot square in each channel."""
    pixels = np.full((96, 96, channels), 100, dtype)
    pixels[36:60, 36:60] = 250  # where the label is
    if ending == ".tif":
        pages = [np.ascontiguousarray(pixels[..., i]) for i in range(channels)]
        cv2.imwritemulti(str(tmp_path / "x.tif"), pages)
        content = (tmp_path / "x.tif").read_bytes()
    else:
        content = cv2.imencode(ending, pixels)[1].tobytes()
    spec = load_spec(made(tmp_path / "set", [content] * 6, ending, extra))
    for train in (True, False):
        dataset = build(
            spec, train=train, imgsz=96, hsv_h=0, hsv_s=0, hsv_v=0, scale=0.0, translate=0.0, close_mosaic=0
        )
        sample = [dataset[index] for index in range(6)][-1]
        image = sample["img"].numpy()
        assert len(image) == channels and image.dtype == np.uint8 and (not train or image.shape[1:] == (96, 96))
        cold, hot = (100, 250) if dtype == np.uint8 else (0, 255)
        boxes = sample["bboxes"].numpy() * np.tile(image.shape[:0:-1], 2)  # (n, 4) xywh in pixels
        whole = [box for box in boxes if min(box[2:]) > 20]
        assert whole or train
        for x, y, *_ in whole:
            np.testing.assert_allclose(image[:, int(y), int(x)], hot, atol=1)
        assert not whole or (np.abs(image.astype(int) - cold) <= 1).any()


@pytest.mark.parametrize("imgsz", [(96, 160), (160, 96), (128, 128)])
@pytest.mark.parametrize("mosaic", [0.0, 1.0])
def test_rectangle__fills_training_and_validation(spec, imgsz, mosaic):
    """Every sample at [height, width] has that size, with mosaics and mixup too, and its boxes lie inside."""
    dataset = build(spec, imgsz=list(imgsz), mosaic=mosaic, scale=0.0, translate=0.0, mixup=0.5)
    for index in range(len(dataset)):
        sample = dataset[index]
        assert sample["img"].shape == (3, *imgsz)
        boxes = sample["bboxes"]
        assert ((boxes[:, :2] - boxes[:, 2:] / 2 > -1e-6) & (boxes[:, :2] + boxes[:, 2:] / 2 < 1 + 1e-6)).all()
    dataset = build(spec, train=False, imgsz=list(imgsz))
    assert {tuple(dataset[i]["img"].shape) for i in range(len(dataset))} == {(3, *imgsz)}


def test_rectangle__mosaic_leaves_little_grey(tmp_path):
    """A mosaic of white pictures of the rectangle's own shape shows next to no grey."""
    white = cv2.imencode(".png", np.full((96, 160, 3), 255, np.uint8))[1].tobytes()
    spec = load_spec(made(tmp_path / "set", [white] * 8, ".png", ""))
    dataset = build(spec, imgsz=[96, 160], mosaic=1.0, scale=0.0, translate=0.0, hsv_h=0, hsv_s=0, hsv_v=0)
    dataset.transforms.transforms = [t for t in dataset.transforms.transforms if type(t).__name__ != "Albumentations"]
    for index in range(8):
        assert (dataset[index]["img"].numpy() > 200).mean() > 0.99


def test_disk_cache__outside_the_data(spec, home):
    """Pixels cached on disk lie in the cache folder and are used, unless they are damaged or the image has changed."""
    before = {p for p in spec.root.rglob("*")}
    first = build(spec, cache="disk")
    assert {p for p in spec.root.rglob("*")} == before
    assert all(file.is_relative_to(home) and file.exists() for file in first.npy_files)
    np.save(first.npy_files[0], np.zeros((10, 20, 3), np.uint8))
    again = build(spec, cache="disk")
    assert again.npy_files == first.npy_files and not again.load_image(0)[0].any()
    again.npy_files[0].write_bytes(b"damaged")
    assert again._pixels(0).any()
    again.npy_files[0].unlink()
    os.utime(again.im_files[0], (0, 0))
    changed = build(spec, cache="disk").npy_files
    assert changed[0] != first.npy_files[0] and changed[1:] == first.npy_files[1:]


def test_ram_cache__same_samples(spec):
    """Images held in memory equal those read from their files."""
    plain, cached = (build(spec, cache=cache, mosaic=0.0) for cache in (False, "ram"))
    for index in range(len(plain)):
        np.testing.assert_array_equal(plain.load_image(index)[0], cached.load_image(index)[0])


def test_fraction_and_classes__as_in_ultralytics(spec):
    """A fraction takes the first images of train alone; choosing classes keeps all images and drops other objects."""
    assert len(build(spec, fraction=0.5)) == 6 and len(build(spec, fraction=0.5, train=False)) == 4
    assert {int(c) for label in build(spec, classes=[1]).labels for c in label["cls"].flat} == {1}


def test_shrink_warning__far_larger_images_alone(spec, caplog, monkeypatch):
    """Images more than twice the input size bring one warning with the factor; other images bring none."""
    from ultralytics.utils import LOGGER

    monkeypatch.setattr(LOGGER, "propagate", False)
    LOGGER.addHandler(caplog.handler)
    try:
        for imgsz in (640, 128, [64, 128]):  # the demo's images are 256 x 256
            read_split(spec, "val", imgsz)
    finally:
        LOGGER.removeHandler(caplog.handler)
    (line,) = [r.getMessage() for r in caplog.records if "shrink" in r.getMessage()]
    assert "images shrink 4.0-fold (from 256x256 to fit 128x64): an object of 12 pixels becomes 3.0" in line
