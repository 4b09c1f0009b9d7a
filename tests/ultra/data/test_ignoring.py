"""What is to be ignored reaches the loss through every augmentation, and nothing visible ever becomes background."""

from __future__ import annotations

import csv
import random
from dataclasses import replace
from pathlib import Path

import albumentations
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from ultralytics.cfg import get_cfg
from ultralytics.data.dataset import YOLODataset
from ultralytics.nn.tasks import torch_safe_load
from ultralytics.utils.instance import Instances

from pixelkeep.datasets.annotations.record import ImageRecord
from pixelkeep.datasets.definitions.spec import DatasetSpec, load_spec
from pixelkeep.datasets.yolo import save_yolo
from pixelkeep.errors import DataError
from pixelkeep.ultra.commands import training
from pixelkeep.ultra.data.box_dataset import Dataset
from pixelkeep.ultra.data.ignoring import REGION, VISIBLE, Perspective, chosen, collate, decode, encode, is_shrunk
from pixelkeep.ultra.data.resolving import write_resolved
from pixelkeep.ultra.trainers import boxes as trainer_module
from pixelkeep.ultra.trainers import tally
from pixelkeep.ultra.trainers.boxes import Trainer
from pixelkeep.ultra.trainers.loss import IgnoringLoss

SIDE = 96
NAMES = {0: "a", 1: "b", 2: "c"}
QUIET = {"hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0, "close_mosaic": 0}
HARD = {"degrees": 30.0, "scale": 0.9, "translate": 0.4, "shear": 5.0, "fliplr": 0.5, "flipud": 0.5}
BRIGHT = 120  # brighter than the ground (0), the border (114), and a blend of them; darker than half an object (255)


def records(folder: Path, count: int, *, ignore: bool = True, polygons: bool = False) -> list[ImageRecord]:
    """Draw images with white objects of 3 to 40 pixels on black; with ``ignore``, a difficult one and a region too."""
    rng = np.random.default_rng(3)
    made = []
    for index in range(count):
        sides = rng.integers(3, [12, 12, 12, 40, 40, 12])[:, None]
        corners = rng.integers(0, SIDE - sides, (6, 2))
        boxes = np.hstack([corners, corners + sides])[: 6 if ignore else 4]
        pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
        for x1, y1, x2, y2 in boxes:
            pixels[y1:y2, x1:x2] = 255
        path = folder / f"{index:02d}.png"
        Image.fromarray(pixels).save(path)
        boxes, regions = boxes[:5], boxes[5:] + np.array([0, 0, 500, 0])  # a region may end beyond the border
        classes, hard = rng.integers(0, 3, len(boxes)), np.arange(len(boxes)) == 4
        outlines = None
        if polygons and index % 2:  # images with boxes alone lie among those with polygons
            outlines = [box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2) for box in boxes]
        made.append(ImageRecord(path, SIDE, SIDE, boxes, classes, difficult=hard, regions=regions, polygons=outlines))
    return made


def dataset(images: list[ImageRecord], *, imgsz: int | tuple = SIDE, train: bool = True, **settings) -> Dataset:
    spec = DatasetSpec(Path("data.yaml"), images[0].path.parent, {}, NAMES, {})
    own = {key: settings.pop(key) for key in ("classes", "single_cls", "rect") if key in settings}
    transforms = settings.pop("augmentations", [albumentations.Blur(p=0)])
    args = get_cfg(overrides={**QUIET, "mosaic": 0.0, **settings})
    args.augmentations = transforms
    data = {"names": NAMES, "channels": 3}
    return Dataset(images, spec, imgsz=imgsz, augment=train, hyp=args, data=data, batch_size=4, **own)


def seeded(index: int) -> None:
    random.seed(index)
    np.random.seed(index)
    torch.manual_seed(7)


def pixel_boxes(rows: torch.Tensor, image: torch.Tensor) -> np.ndarray:
    """Return normalised xywh boxes as x1 y1 x2 y2 in pixels."""
    middle, side = rows.numpy()[:, :2], rows.numpy()[:, 2:]
    return np.hstack([middle - side / 2, middle + side / 2]) * np.tile(image.shape[:0:-1], 2)


def uncovered(sample: dict) -> int:
    """Return how many visible pixels of objects lie in no box, neither an object's nor an ignored one."""
    image = sample["img"]
    bright = image.numpy().max(0) > BRIGHT
    rows = torch.cat([sample["bboxes"], sample["ignored"][:, 1:]])
    for x1, y1, x2, y2 in pixel_boxes(rows, image):
        bright[max(int(y1) - 2, 0) : int(np.ceil(y2)) + 2, max(int(x1) - 2, 0) : int(np.ceil(x2)) + 2] = False
    return int(bright.sum())


def stock_transforms(ours: Dataset, **settings) -> None:
    """Give a dataset Ultralytics' own augmentations."""
    args = get_cfg(overrides={**QUIET, "mosaic": 0.0, **settings})
    args.augmentations = [albumentations.Blur(p=0)]
    ours.transforms = YOLODataset.build_transforms(ours, args)


WAYS = {
    "perspective": {"perspective": 0.001},
    "mosaic": {"mosaic": 1.0},
    "mixup": {"mosaic": 1.0, "mixup": 1.0},
    "cutmix": {"mosaic": 0.5, "cutmix": 1.0},
    "pasted copies": {"copy_paste": 1.0, "mosaic": 0.5},
    "pasted from others": {"copy_paste": 1.0, "copy_paste_mode": "mixup", "mosaic": 0.5},
}


@pytest.mark.parametrize("way", WAYS)
def test_visible__is_learnt_or_ignored(tmp_path, way):
    """After augmentation all visible pixels of objects and regions lie in boxes; after Ultralytics' own some do not."""
    settings = HARD | WAYS[way]
    images = records(tmp_path, 8, polygons="past" in way)
    ours, stock = dataset(images, **settings), dataset(images, **settings)
    stock_transforms(stock, **settings)
    lost = stock_lost = shrunk = 0
    for index in range(64):
        seeded(index)
        sample = ours[index % 8]
        seeded(index)
        lost, stock_lost = lost + uncovered(sample), stock_lost + uncovered(stock[index % 8])
        shrunk += int(is_shrunk(sample["ignored"][:, 0]).sum())
        assert len(sample["cls"]) == len(sample["bboxes"]) == len(sample["batch_idx"]) and (sample["cls"] >= 0).all()
    assert lost == 0 and stock_lost > 0 and shrunk > 0


@pytest.mark.parametrize("imgsz", [(64, 128), (128, 64)])
def test_rectangle__covers_what_is_visible(tmp_path, imgsz):
    """In rectangles, and once mosaics are closed, everything visible is covered too."""
    ours = dataset(records(tmp_path, 8), imgsz=imgsz, **HARD, mosaic=1.0)
    for closed in (False, True):
        if closed:
            ours.close_mosaic(get_cfg(overrides=QUIET | HARD | {"augmentations": None}))
        for index in range(16):
            seeded(index)
            sample = ours[index % 8]
            assert sample["img"].shape[1:] == imgsz and uncovered(sample) == 0


def test_albumentations__moves_what_is_ignored(tmp_path):
    """Spatial transforms of albumentations move ignored boxes, and leave out only what is out of sight."""
    shift = albumentations.Affine(translate_percent=(-0.4, 0.4), scale=(0.5, 1.5), rotate=0, p=1.0)
    ours = dataset(records(tmp_path, 8), augmentations=[shift], scale=0.0, translate=0.0)
    seeded(0)
    samples = [ours[index % 8] for index in range(48)]
    assert sum(uncovered(sample) for sample in samples) == 0
    assert len({tuple(row) for sample in samples for row in sample["ignored"].tolist()}) > 48


@pytest.mark.parametrize("way", [*WAYS, "nothing"])
def test_objects__bit_for_bit_as_ultralytics_augments(tmp_path, way):
    """If the data has nothing to ignore, pixels and objects equal Ultralytics' own, even if objects shrink."""
    settings = HARD | WAYS.get(way, {})
    if way in ("cutmix", "pasted from others"):  # these choose by all instances: nothing may shrink before
        settings |= {"mosaic": 0.0} | dict.fromkeys(HARD, 0.0)
    images = records(tmp_path, 8, ignore=False, polygons="past" in way)
    ours, stock = dataset(images, **settings), dataset(images, **settings)
    stock_transforms(stock, **settings)
    found, shrunk = 0, 0
    for index in range(200 if way == "cutmix" else 32):
        seeded(index)
        sample = ours[index % 8]
        state = random.getstate()
        seeded(index)
        other = stock[index % 8]
        assert random.getstate() == state
        assert all(torch.equal(sample[key], other[key]) for key in ("img", "cls", "bboxes", "batch_idx"))
        found, shrunk = found + len(other["cls"]), shrunk + len(sample["ignored"])
    assert found > 32 and (shrunk > 0 or way == "pasted from others")


@pytest.mark.parametrize("side", [VISIBLE / 2, VISIBLE * 2, 3.0])
def test_sliver__ignored_from_a_tenth_of_a_pixel(side):
    """A box with less than a tenth of a pixel left is dropped: as a fraction of the image it could have no size."""
    box = np.array([[10, 10, 10 + side, 30]], np.float32)
    labels = {"img": np.zeros((SIDE, SIDE, 3), np.uint8), "cls": np.ones((1, 1), np.float32)}
    labels["instances"] = Instances(box, bbox_format="xyxy", normalized=False)
    moved = Perspective(translate=0, scale=0)(labels)
    expected = [] if side < VISIBLE else [encode(1, shrunk=True)] if side < 2 else [1]  # Ultralytics' limit is 2 pixels
    assert moved["cls"][:, 0].tolist() == expected and len(moved["instances"]) == len(expected)


def test_validation__has_them_apart(tmp_path):
    """In validation, too, objects and ignored objects are kept apart, and nothing is lost."""
    images = records(tmp_path, 4)
    ours = dataset(images, train=False)
    for record, index in zip(images, range(4), strict=True):
        sample = ours[index]
        assert sample["cls"][:, 0].tolist() == record.classes[~record.difficult].tolist()
        codes = [*encode(record.classes[record.difficult]), REGION]
        assert sample["ignored"][:, 0].tolist() == codes
        boxes = np.concatenate([record.boxes[record.difficult], record.regions]).clip(0, SIDE)
        assert pixel_boxes(sample["ignored"][:, 1:], sample["img"]) == pytest.approx(boxes, abs=1e-4)


def test_regions_alone__survive(tmp_path):
    """An image without objects keeps its region, by itself and in mosaics with images that have nothing at all."""
    (drawn, empty) = records(tmp_path, 2)
    nothing = {"boxes": [], "classes": [], "areas": None, "difficult": None}
    images = [replace(drawn, **nothing, regions=[[-9, 0, SIDE + 9, SIDE]]), replace(empty, **nothing, regions=None)]
    by_itself = dataset(images, scale=0.0, translate=0.0)
    sample = by_itself[0]
    assert pixel_boxes(sample["ignored"][:, 1:], sample["img"]) == pytest.approx(
        np.array([[0, 0, SIDE, SIDE]]), abs=1e-4
    )
    assert len(by_itself[1]["ignored"]) == 0
    mosaics = dataset(images, mosaic=1.0)
    counts = []
    for index in range(16):
        seeded(index)
        counts.append(len(mosaics[index % 2]["ignored"]))
    assert max(counts) > 1 and not any(mosaics[index % 2]["cls"].numel() for index in range(4))


def test_labels__know_no_class_of_what_is_ignored(tmp_path):
    """Code that counts or plots labels sees objects alone; choosing and merging classes treat ignored ones alike."""
    images = records(tmp_path, 8)
    marked = [int(record.classes[4]) for record in images]
    assert len(set(marked)) == 3
    plain, one, single = dataset(images), dataset(images, classes=[1]), dataset(images, single_cls=True)
    for number, hard in enumerate(marked):
        assert plain.labels[number]["cls"].min() >= 0 and len(plain.labels[number]["cls"]) == 4
        assert plain.labels[number]["ignored"]["cls"][:, 0].tolist() == [encode(hard), REGION]
        assert one.labels[number]["ignored"]["cls"][:, 0].tolist() == [encode(1)] * (hard == 1) + [REGION]
        assert single.labels[number]["ignored"]["cls"][:, 0].tolist() == [encode(0), REGION]


def test_codes__hold_class_and_reason():
    """A code yields its class and whether augmentation caused it; the code of a region has no class."""
    classes = np.arange(200, dtype=np.float32)
    for shrunk in (False, True):
        codes = torch.from_numpy(encode(classes, shrunk=shrunk))
        assert codes.dtype == torch.float32 and (codes < REGION).all()
        assert decode(codes).tolist() == classes.tolist() and is_shrunk(codes).tolist() == [shrunk] * 200
    region = torch.tensor([float(REGION)])
    assert decode(region).tolist() == [-1] and is_shrunk(region).tolist() == [False]
    everything = {"cls": encode(classes)[:, None], "bboxes": np.zeros((200, 4)), "segments": []}
    assert chosen(everything, [5, 7], False)["cls"][:, 0].tolist() == [encode(5), encode(7)]


def test_collate__numbers_the_images():
    """Each row of a batch holds its image's number; images with nothing to ignore have no rows."""
    rows = [torch.ones(2, 5), torch.zeros(0, 5), 2 * torch.ones(1, 5)]
    assert collate(rows).tolist() == [[0.0] + [1.0] * 5] * 2 + [[2.0] + [2.0] * 5]


def saved(folder: Path, images: list[ImageRecord]) -> Path:
    """Write images as a dataset, the same for training and validation, and return its YAML."""
    splits = {split: f"images/{split}" for split in ("train", "val")}
    extras = {split: f"extras/{split}.json" for split in splits}
    for split in splits:
        save_yolo(folder, split, images, NAMES)
    (folder / "data.yaml").write_text(yaml.safe_dump({**splits, "names": NAMES, "extras": extras}))
    return folder / "data.yaml"


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict:
    """A short training on data with something to ignore: trainer, run folder, batches the loss saw, logged lines."""
    folder = tmp_path_factory.mktemp("set")
    (folder / "drawn").mkdir()
    file = saved(folder, records(folder / "drawn", 6))
    run = folder / "run"
    settings = {"model": "yolov5-n.yaml", "data": str(write_resolved(load_spec(file))), "imgsz": 64}
    settings |= {
        "epochs": 2,
        "batch": 3,
        "workers": 0,
        "save_dir": str(run),
        "plots": True,
        "scale": 0.9,
        "cls_pw": 0.5,
    }
    seen, said = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer_module.LOGGER, "info", lambda text="", *_: said.append(str(text)))
        call = IgnoringLoss.get_assigned_targets_and_loss

        def watched(self, preds, batch, **keywords):
            seen.append({key: batch[key].clone() for key in ("cls", "ignored")} | {"grad": torch.is_grad_enabled()})
            return call(self, preds, batch, **keywords)

        patch.setattr(IgnoringLoss, "get_assigned_targets_and_loss", watched)
        trainer = Trainer(overrides=settings)
        trainer.train()
    return {"trainer": trainer, "run": run, "seen": seen, "said": said}


def test_training__counts_what_it_ignored(trained):
    """results.csv has each epoch's counts of what the loss was given, and their sum is reported once at the end."""
    with (trained["run"] / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    batches = [batch for batch in trained["seen"] if batch["grad"]]
    assert len(batches) == 4  # two epochs of two batches
    sums = np.zeros(4, int)
    for row, pair in zip(rows, (batches[:2], batches[2:]), strict=True):
        codes = torch.cat([batch["ignored"][:, 1] for batch in pair]).tolist()
        regions, shrunk = codes.count(REGION), sum(code < REGION and code % 2 == 1 for code in codes)
        counts = [sum(len(batch["cls"]) for batch in pair), len(codes) - regions - shrunk, shrunk, regions]
        assert [int(row[key]) for key in tally.COLUMNS] == counts and min(counts) > 0
        sums += counts
    (line,) = [text for text in trained["said"] if "Over all epochs" in text]
    assert f"{sums[0]:,} objects" in line and all(f" {count} " in line for count in sums[1:])


def test_training__validates_with_the_same_loss(trained):
    """Validation's own loss leaves out what is to be ignored, too, and no class below 0 reaches a loss."""
    validated = [batch for batch in trained["seen"] if not batch["grad"]]
    assert validated and all(len(batch["ignored"]) for batch in validated)
    assert all((batch["cls"] >= 0).all() and (batch["ignored"][:, 1] < 0).all() for batch in trained["seen"])


def test_checkpoint__knows_nothing_of_the_loss(trained):
    """Weights hold no criterion and load in plain Ultralytics, restricted loading included."""
    for name in ("last.pt", "best.pt"):
        path = trained["run"] / "weights" / name
        assert b"pixelkeep.ultra" not in path.read_bytes()
        model = torch_safe_load(path, safe_only=True)[0]["model"]
        assert model.criterion is None and type(model).__module__ == "ultralytics.nn.tasks"


@pytest.mark.parametrize("classes", [None, [1]])
def test_everything_ignored__is_refused(tmp_path, classes):
    """Data without an object to learn, or without one of the chosen class, is refused before a run folder is made."""
    drawn = records(tmp_path, 2)
    images = [replace(record, difficult=(record.classes == 1) | (classes is None)) for record in drawn]
    file = saved(tmp_path / "set", images)
    settings = {"model": "yolov5-n", "data": str(file), "project": str(tmp_path / "runs"), "classes": classes}
    with pytest.raises(DataError, match=r"data.yaml: split 'train' has no object.* to learn"):
        training.train(settings)
    assert not (tmp_path / "runs").exists()


def test_summary__silent_where_nothing_was_ignored(tmp_path):
    """The summary is empty for a training without anything to ignore and for a table without such columns."""
    for head, row in ((",".join(tally.COLUMNS), "5,0,0,0"), ("epoch", "1")):
        (tmp_path / "results.csv").write_text(f"{head}\n{row}\n")
        assert tally.summary(tmp_path / "results.csv") == ""
