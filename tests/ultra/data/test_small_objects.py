"""Windows and copies in training samples: what is visible is learnt or ignored, and without them nothing changes."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from ultralytics.cfg import get_cfg
from ultralytics.data.dataset import YOLODataset
from ultralytics.utils import LOGGER

from pixelkeep.datasets.annotations.record import ImageRecord
from pixelkeep.datasets.definitions.spec import DatasetSpec
from pixelkeep.ultra.data.box_dataset import Dataset
from pixelkeep.ultra.data.ignoring import REGION, encode, is_shrunk
from pixelkeep.ultra.running.recipe import Recipe

NAMES = {0: "a", 1: "b", 2: "c"}
SIZE = (180, 240)  # height, width of the images
GROUND, OBJECT = 40, 200
PLAIN = {"hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0, "mosaic": 0.0, "scale": 0.0, "translate": 0.0, "fliplr": 0.0}


def records(folder: Path, count: int = 6, *, ignore: bool = True, polygons: bool = False) -> list[ImageRecord]:
    """Draw images with bright objects of 6 to 50 pixels on even ground; with ``ignore`` some are not to be learnt.

    The last image is empty.
    """
    rng = np.random.default_rng(5)
    made = []
    for index in range(count):
        number = 6 if index < count - 1 or count == 1 else 0
        sides = np.array([6, 9, 12, 16, 50, 8])[:number, None] + rng.integers(0, 4, (number, 2))
        corners = rng.integers(0, np.array(SIZE)[::-1] - sides)
        boxes = np.hstack([corners, corners + sides])
        pixels = np.full((*SIZE, 3), GROUND, np.uint8)
        for x1, y1, x2, y2 in boxes:
            pixels[y1:y2, x1:x2] = OBJECT
        path = folder / f"{index:02d}.png"
        Image.fromarray(pixels).save(path)
        own, regions = (boxes[:5], boxes[5:]) if ignore else (boxes, None)
        hard = (np.arange(len(own)) == 2) & ignore
        outlines = [box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2) for box in own] if polygons else None
        classes = rng.integers(0, 3, len(own))
        made.append(
            ImageRecord(path, SIZE[1], SIZE[0], own, classes, difficult=hard, regions=regions, polygons=outlines)
        )
    return made


def dataset(images: list[ImageRecord], recipe: Recipe | None = None, *, imgsz=96, train=True, **settings) -> Dataset:
    spec = DatasetSpec(Path("data.yaml"), images[0].path.parent, {}, NAMES, {})
    own = {key: settings.pop(key) for key in ("cache", "rect") if key in settings}
    args = get_cfg(overrides={**PLAIN, **settings})
    args.augmentations = []
    data = {"names": NAMES, "channels": 3}
    own |= {"recipe": recipe} if recipe else {}
    return Dataset(images, spec, imgsz=imgsz, augment=train, hyp=args, data=data, batch_size=4, **own)


def seeded(index: int) -> None:
    random.seed(index)
    np.random.seed(index)
    torch.manual_seed(7)


def sample_of(ours: Dataset, seed: int) -> dict:
    seeded(seed)
    return ours[seed % len(ours)]


def corners(rows: torch.Tensor, image: torch.Tensor) -> np.ndarray:
    """Return normalised xywh boxes as x1 y1 x2 y2 in pixels."""
    middle, side = rows.numpy()[:, :2], rows.numpy()[:, 2:]
    return np.hstack([middle - side / 2, middle + side / 2]) * np.tile(image.shape[:0:-1], 2)


def uncovered(sample: dict) -> int:
    """Return how many pixels of objects lie in no box, neither an object's nor an ignored one."""
    bright = sample["img"].numpy().max(0) > (GROUND + OBJECT) / 2 + 10
    for x1, y1, x2, y2 in corners(torch.cat([sample["bboxes"], sample["ignored"][:, 1:]]), sample["img"]):
        bright[max(int(y1) - 2, 0) : int(np.ceil(y2)) + 2, max(int(x1) - 2, 0) : int(np.ceil(x2)) + 2] = False
    return int(bright.sum())


WAYS = {
    "zoom": Recipe(zoom=1.0),
    "paste": Recipe(paste=8),
    "both": Recipe(zoom=0.5, paste=8),
}
MOVES = {
    "as it is": {},
    "moved": {"degrees": 20.0, "scale": 0.5, "translate": 0.3, "flipud": 0.5},
    "mosaic": {"mosaic": 1.0, "scale": 0.5, "translate": 0.1},
    "mixed": {"mosaic": 0.5, "cutmix": 1.0},
}


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize(("way", "polygons"), [*((way, False) for way in WAYS), ("both", True)])
def test_visible__is_learnt_or_ignored(tmp_path, way, move, polygons):
    """After windows and copies all pixels of objects lie in boxes, whatever Ultralytics' augmentation does next."""
    ours = dataset(records(tmp_path, polygons=polygons), WAYS[way], **MOVES[move])
    for seed in range(12):
        sample = sample_of(ours, seed)
        assert uncovered(sample) == 0
        assert len(sample["cls"]) == len(sample["bboxes"]) == len(sample["batch_idx"]) and (sample["cls"] >= 0).all()
        assert ((sample["bboxes"] >= 0) & (sample["bboxes"] <= 1)).all()


@pytest.mark.parametrize("imgsz", [(64, 128), (128, 64), 96])
@pytest.mark.parametrize("way", WAYS)
def test_rectangle_and_cache__the_same_promise(tmp_path, way, imgsz):
    """In rectangles, and with images kept in memory, everything visible is covered, and samples fit the network."""
    ours = dataset(records(tmp_path), WAYS[way], imgsz=imgsz, mosaic=0.5, cache="ram")
    size = imgsz if isinstance(imgsz, tuple) else (imgsz, imgsz)
    for seed in range(24):
        sample = sample_of(ours, seed)
        assert sample["img"].shape[1:] == size and uncovered(sample) == 0


def test_zoom__shows_full_resolution(tmp_path):
    """A window is cut out of the image's own pixels, shows a small object whole, and keeps boxes in place."""
    images = records(tmp_path)
    ours = dataset(images, Recipe(zoom=1.0))
    for index in range(3):
        seeded(index)
        label = ours.get_image_and_label(index)
        pixels = np.asarray(Image.open(images[index].path))[..., ::-1]
        assert label["img"].shape == (96, 96, 3)
        instances = label["instances"]
        instances.convert_bbox("xyxy")
        instances.denormalize(96, 96)
        learnt = instances.bboxes[label["cls"][:, 0] >= 0]
        sides = learnt[:, 2:] - learnt[:, :2]
        own = images[index].boxes[:, 2:] - images[index].boxes[:, :2]
        assert any((abs(side - own) < 1e-3).all(1).any() for side in sides)  # as large as in the file
        windows = np.lib.stride_tricks.sliding_window_view(pixels[..., 0], (96, 96))
        places = np.argwhere((windows == label["img"][..., 0]).all((2, 3)))[:, ::-1]  # x, y
        for box in learnt:
            assert (
                any((abs(images[index].boxes - np.tile(place, 2) - box).max(1) < 1e-3).any() for place in places)
                or ((box < 1e-3) | (box > 96 - 1e-3)).any()
            )  # whole, or cut at the window's border


def test_zoom__cut_objects_are_ignored(tmp_path):
    """An object less than half visible in a window is ignored for its class; with ``background`` it is left out."""
    (drawn,) = records(tmp_path, 1)
    boxes = np.array([[100, 80, 106, 86], [112, 60, 180, 110], [20, 20, 26, 26]])
    image = replace(drawn, boxes=boxes, classes=[0, 2, 1], areas=None, difficult=None, regions=[[0, 0, 400, 90]])
    cut = 0
    for seed in range(20):
        counts = []
        for shrunk in ("ignore", "background"):
            seeded(seed)
            label = dataset([image], Recipe(zoom=1.0, shrunk=shrunk), imgsz=48).get_image_and_label(0)
            counts.append(label["cls"][:, 0].tolist())
        codes = [code for code in counts[0] if code < 0]
        assert set(codes) <= {REGION, encode(2, shrunk=True)}
        assert [code for code in counts[0] if code != encode(2, shrunk=True)] == counts[1]
        cut += encode(2, shrunk=True) in codes
    assert cut > 3


@pytest.mark.parametrize("region", [None, [[0, 0, 240, 90]]], ids=["objects", "region of plain ground"])
def test_paste__more_of_what_is_small(tmp_path, region):
    """Copies are of small objects, at most as many as set, and cover no object or region; everything else stays."""
    images = records(tmp_path, 8)
    if region:
        images = [replace(image, regions=region) for image in images]
    plain, ours = dataset(images, imgsz=240), dataset(images, Recipe(paste=6), imgsz=240)
    extra = []
    for seed in range(24):
        before, after = sample_of(plain, seed), sample_of(ours, seed)
        old, new = (corners(part["bboxes"], part["img"]) for part in (before, after))
        known = (abs(new[:, None] - old).max(2) < 1e-3).any(1)
        added = new[~known]
        assert known.sum() == len(old) and torch.equal(before["ignored"], after["ignored"])
        assert len(added) <= 6 and ((added[:, 2:] - added[:, :2]).prod(1) <= 1.25**2 * 32**2).all()
        others = np.vstack([old, corners(after["ignored"][:, 1:], after["img"])])
        for number, box in enumerate(added):
            for other in np.vstack([others, np.delete(added, number, 0)]):
                assert not (np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2]) > 1e-3).all()
            assert (box >= -1e-3).all() and (box <= 240 + 1e-3).all()
        extra.append(len(added))
    assert max(extra) > 3 and min(extra) == 0


def test_paste__leaves_kept_images_alone(tmp_path):
    """An image that is kept in memory for other samples stays as it is in its file."""
    ours = dataset(records(tmp_path), Recipe(paste=8), cache="ram")
    before = [image.copy() for image in ours.ims]
    for seed in range(24):
        sample_of(ours, seed)
    assert all(map(np.array_equal, before, ours.ims))


@pytest.mark.parametrize("move", MOVES)
def test_nothing_asked__bit_for_bit_the_same(tmp_path, move):
    """With zoom and paste at 0, samples are bit for bit what Ultralytics makes of the images; above 0 they differ."""
    images = records(tmp_path)
    plain, none = dataset(images, **MOVES[move]), dataset(images, Recipe(zoom=0.0, paste=0), **MOVES[move])
    plain.get_image_and_label = partial(YOLODataset.get_image_and_label, plain)
    plain.pasted = lambda label: label
    others = {way: dataset(images, recipe, **MOVES[move]) for way, recipe in WAYS.items()}
    changed = dict.fromkeys(WAYS, False)
    for seed in range(8):
        expected = sample_of(plain, seed)
        same = sample_of(none, seed)
        assert all(torch.equal(same[key], expected[key]) for key in ("img", "cls", "bboxes", "ignored"))
        for way, other in others.items():
            changed[way] |= not torch.equal(sample_of(other, seed)["img"], expected["img"])
    assert all(changed.values())


@pytest.mark.parametrize("train", [True, False])
def test_whole_images__in_validation_and_at_the_end(tmp_path, train):
    """Validation, and the epochs after mosaics are closed, have whole images without copies."""
    images = records(tmp_path)
    plain, ours = dataset(images, train=train), dataset(images, Recipe(zoom=1.0, paste=8), train=train)
    if train:
        for each in (plain, ours):
            each.close_mosaic(get_cfg(overrides=PLAIN | {"augmentations": []}))
    for seed in range(6):
        assert torch.equal(sample_of(plain, seed)["img"], sample_of(ours, seed)["img"])


def test_background__ultralytics_own(tmp_path):
    """With ``background`` pixels and objects are as with ``ignore``, and nothing that shrank is ignored."""
    images = records(tmp_path)
    settings = {"degrees": 30.0, "scale": 0.9, "translate": 0.5, "mosaic": 1.0, "cutmix": 0.0}
    ours, other = dataset(images, **settings), dataset(images, Recipe(shrunk="background"), **settings)
    shrunk = 0
    for seed in range(32):
        one, two = sample_of(ours, seed), sample_of(other, seed)
        assert all(torch.equal(one[key], two[key]) for key in ("img", "cls", "bboxes"))
        lasting = one["ignored"][~is_shrunk(one["ignored"][:, 0])]
        assert torch.equal(two["ignored"], lasting)
        shrunk += len(one["ignored"]) - len(lasting)
    assert shrunk > 0


def test_background__cut_patches_too(tmp_path):
    """Objects of which a CutMix patch shows too little are left out with ``background``, and ignored without it."""
    images = records(tmp_path)
    found = []
    for shrunk in ("ignore", "background"):
        ours = dataset(images, Recipe(shrunk=shrunk), imgsz=48, cutmix=1.0)
        codes = torch.cat([sample_of(ours, seed)["ignored"][:, 0] for seed in range(200)])
        found.append(int(is_shrunk(codes).sum()))
    assert found[0] > 0 and found[1] == 0


def test_without_effect__said(tmp_path, monkeypatch):
    """If no image is larger than the network's input, or no object is small, one warning says so."""
    said = []
    monkeypatch.setattr(LOGGER, "warning", lambda text, *_: said.append(str(text)))
    images = records(tmp_path)
    dataset(images, Recipe(zoom=0.5, paste=2), imgsz=96)
    dataset(images, Recipe(zoom=0.5, paste=2), imgsz=96, train=False)
    assert not said
    dataset(images, Recipe(zoom=0.5), imgsz=240)
    large = [replace(image, boxes=[[5, 5, 170, 170]], classes=[0], areas=None, difficult=None) for image in images]
    dataset(large, Recipe(paste=2), imgsz=96)
    assert [text.split(": ")[-1] for text in said] == [
        "no image that is larger than imgsz has a small object",
        "no small object of 3 pixels or more lies alone",
    ]


@pytest.mark.parametrize(("side", "expected"), [(79, 79), (81, 81 * 0.4)])
def test_zoom__about_what_becomes_small(tmp_path, side, expected):
    """Windows are cut around objects of at most 32x32 pixels in the network's input, here 80x80 in the image."""
    (drawn,) = records(tmp_path, 1)
    image = replace(
        drawn, boxes=[[20, 20, 20 + side, 20 + side]], classes=[0], areas=None, difficult=None, regions=None
    )
    label = dataset([image], Recipe(zoom=1.0)).get_image_and_label(0)
    instances = label["instances"]
    instances.convert_bbox("xywh")
    instances.denormalize(*label["img"].shape[1::-1])
    assert instances.bboxes[0, 2] == pytest.approx(expected)


def test_rect__copies_in_batches_of_the_images_shape(tmp_path):
    """Batches of the images' shape have copies too, though Ultralytics drops the sizes by which objects are chosen."""
    images = records(tmp_path)
    plain, ours = (dataset(images, Recipe(paste=paste), rect=True) for paste in (0, 6))
    assert [label["im_file"] for label in ours.labels] == [label["im_file"] for label in plain.labels]
    assert all(label["shape"] == SIZE for label in ours.labels)
    counts = [len(sample_of(each, seed)["cls"]) for each in (plain, ours) for seed in range(12)]
    assert sum(counts[12:]) > sum(counts[:12])
    assert ours[0]["img"].shape[1:] == plain[0]["img"].shape[1:]


@pytest.mark.parametrize(("side", "said"), [(2, True), (12, False)])
def test_paste__says_when_no_object_can_be_copied(tmp_path, monkeypatch, side, said):
    """Objects below three pixels have no shape: where there are no others, paste does nothing and says so."""
    lines = []
    monkeypatch.setattr(LOGGER, "warning", lambda text, *_: lines.append(str(text)))
    (image,) = records(tmp_path, 1, ignore=False)
    boxes = np.array([[60, 60, 60 + side, 60 + side]])
    dataset([replace(image, boxes=boxes, classes=[0], areas=None, difficult=None)], Recipe(paste=2), imgsz=240)
    assert any("paste: 2 has no effect" in line for line in lines) is said
