"""Windows as training samples: cut objects are learnt or ignored by visible share; windows are the same everywhere."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from test_small_objects import PLAIN, SIZE, records, seeded, uncovered
from ultralytics.cfg import get_cfg
from ultralytics.data.build import build_dataloader

from pixelkeep.datasets.annotations.record import ImageRecord
from pixelkeep.datasets.definitions.spec import DatasetSpec
from pixelkeep.datasets.images.pixels import read_pixels
from pixelkeep.datasets.sampling.epoch_windows import EpochWindows
from pixelkeep.ultra.data.box_dataset import Dataset
from pixelkeep.ultra.data.ignoring import encode, is_shrunk
from pixelkeep.ultra.data.window_dataset import WindowDataset, WindowSampler, count_windows, name_windows
from pixelkeep.ultra.running import distributed
from pixelkeep.ultra.running.recipe import Recipe

TILE = 96
NAMES = {0: "a", 1: "b", 2: "c"}
MOVES = {
    "as it is": {},
    "mosaic": {"mosaic": 1.0, "scale": 0.5, "translate": 0.1, "degrees": 10.0},
    "mixed": {"mosaic": 0.5, "cutmix": 1.0},
}


def windows(images: list[ImageRecord], *, imgsz=TILE, kind=WindowDataset, cache=None, seed=0, moves=None, **recipe):
    spec = DatasetSpec(Path("data.yaml"), images[0].path.parent, {}, NAMES, {})
    args = get_cfg(overrides={**PLAIN, "seed": seed, **(moves or {})})
    args.augmentations = []
    data = {"names": NAMES, "channels": 3}
    own = {"tile": TILE} if kind is WindowDataset else {}
    recipe = Recipe(**own | recipe)
    return kind(images, spec, imgsz=imgsz, augment=True, hyp=args, data=data, batch_size=4, cache=cache, recipe=recipe)


def places(made: WindowDataset, epoch: int) -> list[tuple[int, int]]:
    return [(epoch, number) for number in range(len(made))]


@pytest.mark.parametrize("least", [0.2, 0.5, 1.0])
def test_cut_objects__are_ignored_below_the_visibility(tmp_path, least):
    """Every window's objects are learnt if it shows at least the given share of them, and ignored if it shows less."""
    images = records(tmp_path)
    made, kinds = windows(images, tile_visibility=least), {True: 0, False: 0}
    for place in places(made, 0) + places(made, 1):
        made[place]  # makes the dataset turn to the epoch
        label = made.get_image_and_label(place)
        image, window = EpochWindows.epoch(made.windows, place[0]).window(place[1])
        record = images[image]
        found = label["instances"]
        found.convert_bbox("xyxy")
        found.denormalize(*label["img"].shape[1::-1])
        expected = []
        for box, kind, hard in zip(record.boxes, record.classes, record.difficult, strict=True):
            x1, y1, x2, y2 = box - np.tile([window.x, window.y], 2)
            cut = max(0, x1), max(0, y1), min(window.width, x2), min(window.height, y2)
            sides = cut[2] - cut[0], cut[3] - cut[1]
            if min(sides) <= 0:
                continue
            share = sides[0] * sides[1] / ((x2 - x1) * (y2 - y1))
            whole = share >= least
            code = encode(kind) if hard else kind if whole else encode(kind, shrunk=True)
            kinds[bool(whole)] += not hard
            expected.append((float(code), *(round(float(side), 2) for side in cut)))
        regions = label["cls"][:, 0] == -1
        given = [
            (float(code), *(round(float(side), 2) for side in box))
            for code, box in zip(label["cls"][~regions, 0], found.bboxes[~regions], strict=True)
        ]
        assert sorted(given) == sorted(expected)
    assert min(kinds.values()) > 3


def test_background__leaves_cut_objects_out(tmp_path):
    """With ``shrunk: background`` nothing is ignored because a window cut it."""
    images = records(tmp_path)
    codes = {
        shrunk: torch.cat([windows(images, shrunk=shrunk)[p]["ignored"][:, 0] for p in [(0, n) for n in range(8)]])
        for shrunk in ("ignore", "background")
    }
    assert is_shrunk(codes["ignore"]).any() and not is_shrunk(codes["background"]).any()


def test_pixels__are_the_images_own(tmp_path):
    """A window is cut out at full resolution; at another image size it is resized as a whole."""
    images = records(tmp_path)
    made, half = windows(images), windows(images, imgsz=64)
    for place in places(made, 0):
        index, window = made.windows.epoch(0).window(place[1])
        own = read_pixels(images[index].path, 3)[window.rows, window.columns]
        assert (made.get_image_and_label(place)["img"] == own).all()
        label = half.get_image_and_label(place)
        assert label["img"].shape == (64, 64, 3) and label["ori_shape"] == (96, 96)


def test_small_image__stays_its_size(tmp_path):
    """An image smaller than the tile is shown whole in its middle, surrounded by grey, and not enlarged."""
    from PIL import Image

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (40, 50, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = ImageRecord(tmp_path / "a.png", 50, 40, np.array([[10.0, 10, 20, 20]]), np.array([1]))
    sample = windows([image])[(0, 0)]
    shown = sample["img"].numpy()[:, 28:68, 23:73]
    assert (shown == pixels.transpose(2, 0, 1)).all()
    assert (sample["img"].numpy() == 114).mean() > 0.7
    assert torch.allclose(sample["bboxes"] * TILE, torch.tensor([[38.0, 43, 10, 10]]), atol=1e-3)


def test_one_tile__is_the_plain_sample(tmp_path):
    """A tile as large as the images gives the samples of training without tiles, bit for bit.

    The order differs, since windows have their own random sequence, and so does the number of images without objects.
    """
    images = records(tmp_path, ignore=True)
    plain = windows(images, imgsz=SIZE[1], kind=Dataset)
    made = windows(images, imgsz=SIZE[1], tile=SIZE[1], empty_tiles=0.0)
    drawn = made.windows.epoch(0)
    assert sorted(drawn.images) == list(range(len(images) - 1))  # the last has no objects
    for number, index in enumerate(drawn.images):
        seeded(number)
        one = made[(0, number)]
        seeded(number)
        other = plain[int(index)]
        assert one["im_file"] == other["im_file"] and torch.equal(one["img"], other["img"])
        assert torch.equal(one["cls"], other["cls"])
        assert torch.allclose(one["bboxes"], other["bboxes"], atol=1e-6, rtol=0)
        assert torch.allclose(one["ignored"], other["ignored"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("paste", [0, 6])
def test_visible__is_learnt_or_ignored(tmp_path, move, paste):
    """Whatever augmentation does with windows, all pixels of objects lie in boxes."""
    made = windows(records(tmp_path), moves=MOVES[move], paste=paste)
    for place in [*places(made, 0), *places(made, 1)]:
        seeded(place[1])
        sample = made[place]
        assert sample["img"].shape == (3, TILE, TILE) and uncovered(sample) == 0
    assert 1 <= len(made._kept) <= made.max_buffer_length and set(made.buffer) == set(made._kept)


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_cache__changes_no_window_and_writes_no_tile(tmp_path, monkeypatch, cache):
    """The cache holds whole images: in memory as many bytes as their pixels, on disk one file each and no other."""
    monkeypatch.setenv("PIXELKEEP_HOME", str(tmp_path / "home"))
    (tmp_path / "set").mkdir()
    images = records(tmp_path / "set", 3)
    plain, kept = windows(images), windows(images, cache=cache)
    for place in places(plain, 0):
        assert (plain.get_image_and_label(place)["img"] == kept.get_image_and_label(place)["img"]).all()
    files = [Path(root) / name for root, _, names in os.walk(tmp_path) for name in names]
    written = [file for file in files if file.suffix != ".png"]
    if cache == "disk":
        assert len(written) == 3 and all(np.load(file).shape == (*SIZE, 3) for file in written)
    else:
        assert written == [] and kept.ims.buffer.nbytes == 3 * SIZE[0] * SIZE[1] * 3
    assert len(files) - len(written) == 3


def test_cache_on_disk__reads_the_window_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("PIXELKEEP_HOME", str(tmp_path / "home"))
    made = windows(records(tmp_path, 2), cache="disk")
    assert isinstance(made._pixels(0), np.memmap)


def loaded(images: list[ImageRecord], workers: int, epochs: int, first: int = 0) -> list[torch.Tensor]:
    made = windows(images)
    loader = build_dataloader(made, 4, workers, shuffle=True, device="cpu")
    name_windows(loader)
    loader.sampler.begin(first)
    loader.reset()
    batches = [batch["img"] for _ in range(epochs) for batch in loader]
    loader.close()
    return batches


def test_loaders__show_the_same_windows_in_any_number_of_processes(tmp_path):
    """Two epochs read ahead by two worker processes equal those read by none, and so does a start at the second."""
    images = records(tmp_path)
    own, several, later = loaded(images, 0, 2), loaded(images, 2, 2), loaded(images, 2, 1, first=1)
    assert all(torch.equal(one, other) for one, other in zip(own, several, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(own[len(own) // 2 :], later, strict=True))
    assert not torch.equal(own[0], own[len(own) // 2])  # drawn anew


def test_sampler__shares_an_epoch_among_processes(tmp_path, monkeypatch):
    """Each window goes to one process, and all get equally many; if they do not divide evenly, one is shown twice."""
    made, shares = windows(records(tmp_path)), []
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(distributed, "world_size", lambda: 2)
        sampler = WindowSampler(made)
        shares.append(list(sampler))
        assert len(sampler) == len(shares[-1]) == -(-len(made) // 2)
        assert {epoch for epoch, _ in islice(sampler, 2)} == {1}
        sampler.set_epoch(0)  # no effect: loaders have read ahead already
        assert next(iter(sampler))[0] == 2
    assert set(shares[0] + shares[1]) == set(places(made, 0))


def test_length__is_known_before_the_images_are_read(tmp_path):
    images = records(tmp_path)
    recipe = Recipe(tile=TILE, empty_tiles=0.3)
    assert count_windows(images, recipe) == len(windows(images, empty_tiles=0.3))
    assert count_windows(images, Recipe()) == len(images)


def test_too_little_background__is_said(tmp_path, caplog):
    """If every window shows an object, no share of empty ones can be reached; with one empty image any share can."""
    images = records(tmp_path, 3)
    windows(images, imgsz=240, tile=240, empty_tiles=0.6)
    assert "cannot be reached" not in caplog.text and "5 windows an epoch from 3 images" in caplog.text
    windows(images[:2], imgsz=240, tile=240, empty_tiles=0.6)
    assert "empty_tiles: 0.6 cannot be reached" in caplog.text


def test_kept_windows__stay_as_they_were_cut(tmp_path):
    """Augmentation changes no pixel of windows that are kept for later mosaics."""
    colours = {"hsv_h": 0.5, "hsv_s": 0.5, "hsv_v": 0.5, "flipud": 0.5, "fliplr": 0.5, "mosaic": 0.5}
    made = windows(records(tmp_path), moves=colours, paste=4)
    for place in places(made, 0):
        made[place]
    for _, number in made.buffer:
        assert (made._kept[0, number]["img"] == made._cut(number)["img"]).all()
