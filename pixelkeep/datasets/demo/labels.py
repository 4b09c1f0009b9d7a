"""The demo datasets for classification and semantic segmentation, made from scenes like those of the detection demo.

`write_class_demo` writes windows of 48 pixels, each around one object, in one folder per class; a person measures a
dozen pixels in such a window. `write_mask_demo` writes whole scenes, each with a mask of the ground and of what stands
on it. Both are generated in seconds and are identical for the same seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import yaml

from pixelkeep.datasets.demo.detection import SIZE, SPLITS, write_once
from pixelkeep.datasets.demo.objects import CLASS_OF, CLASSES
from pixelkeep.datasets.demo.painter import SOLID
from pixelkeep.datasets.demo.scene import HEIGHTS, THEMES, Scene, render_scene
from pixelkeep.datasets.demo.terrain import GRASS, PAVED, ROAD, WATER
from pixelkeep.datasets.files.disk import write_image
from pixelkeep.datasets.mask_files import IGNORED
from pixelkeep.writing import write_text

VERSION = 1  # increase it whenever the same seed gives a different dataset
WINDOW = 48  # pixels, side of the classification demo's images
OFF_CENTRE = 5  # pixels by which an object may be off the middle of its window, in each direction
PER_CLASS = {"train": 120, "val": 40, "test": 4}  # number of images per class
SCENES = {"train": 64, "val": 24, "test": 8}
SURFACES = {GRASS: "land", PAVED: "paved", ROAD: "paved", WATER: "water"}
CALLED = {"car": "vehicle", "truck": "vehicle"}  # classes that are merged in the masks
NAMES = ("land", "paved", "water", "building", "vehicle", "boat", "person")

Progress = Callable[[int, int], None]


def write_class_demo(
    root: Path, seed: int = 0, progress: Progress | None = None, per_class: dict[str, int] | None = None
) -> Path:
    """Write the classification demo to the folder ``root``, unless it is there, and return the path of its YAML.

    Args:
        root: The folder to write, a new one or that of an earlier demo.
        seed: A whole number from 0; other seeds give other scenes.
        progress: Called with (images done, images in total) after each image.
        per_class: Number of images per class in train, val and test, or in some of them; None for `PER_CLASS`.

    Raises:
        DataError: The seed is negative, or ``root`` holds something that is not a demo.
    """
    counts = PER_CLASS if per_class is None else per_class
    show, total = progress or (lambda done, total: None), sum(counts.values()) * len(CLASSES)

    def write(made: Path) -> None:
        done = 0
        for split, count in counts.items():
            for name, number, window in _windows(split, count, seed):
                write_image(made / split / name / f"{name}_{number:03d}.png", window)
                done += 1
                show(done, total)
        _write_yaml(made / "demo-cls.yaml", {split: split for split in counts})

    marker = {"kind": "classify", "version": VERSION, "seed": seed, "splits": counts}
    return write_once(root, marker, write) / "demo-cls.yaml"


def write_mask_demo(
    root: Path, seed: int = 0, progress: Progress | None = None, splits: dict[str, int] | None = None
) -> Path:
    """Write the semantic segmentation demo to the folder ``root``, unless it is there, and return the path of its YAML.

    Args:
        root, seed, progress: As for :func:`write_class_demo`.
        splits: Number of images of train, val and test, or of some of them; None for `SCENES`.

    Raises:
        DataError: The seed is negative, or ``root`` holds something that is not a demo.
    """
    counts = SCENES if splits is None else splits
    show, total = progress or (lambda done, total: None), sum(counts.values())

    def write(made: Path) -> None:
        done = 0
        for split, count in counts.items():
            for index in range(count):
                scene = label_scene(split, index, seed)
                stem = f"{split}_{index:03d}"
                write_image(made / "images" / split / f"{stem}.jpg", scene.picture)
                write_image(made / "masks" / split / f"{stem}.png", scene_mask(scene))
                done += 1
                show(done, total)
        entries = {split: f"images/{split}" for split in counts}
        _write_yaml(made / "demo-sem.yaml", entries | {"masks_dir": "masks", "names": dict(enumerate(NAMES))})

    marker = {"kind": "semantic", "version": VERSION, "seed": seed, "splits": counts}
    return write_once(root, marker, write) / "demo-sem.yaml"


def label_scene(split: str, index: int, seed: int = 0) -> Scene:
    """Render scene ``index`` of ``split``; each scene has a seed that no other scene and no detection image has."""
    entropy = np.random.SeedSequence([seed, len(SPLITS) + 1 + tuple(SPLITS).index(split), index])
    return render_scene(tuple(THEMES)[index % len(THEMES)], entropy, SIZE)


def scene_mask(scene: Scene) -> np.ndarray:
    """Return the mask of a scene, uint8 (H, W): for each pixel an index into `NAMES`, or `IGNORED`.

    Clutter counts as the ground it stands on. The boxes of objects that are partly hidden or lie in deep shade are
    ignored.
    """
    lookup = np.array([NAMES.index(SURFACES[zone]) for zone in range(len(SURFACES))], np.uint8)
    mask = lookup[scene.zone]
    for thing in sorted(scene.labelled, key=lambda thing: HEIGHTS[thing.item.kind]):
        name = CLASS_OF[thing.item.kind]
        solid = thing.sprite.cover >= SOLID
        x1, y1, x2, y2 = thing.box
        inside = solid[y1 - thing.sprite.top : y2 - thing.sprite.top, x1 - thing.sprite.left : x2 - thing.sprite.left]
        mask[y1:y2, x1:x2][inside] = NAMES.index(CALLED.get(name, name))
    for x1, y1, x2, y2 in scene.boxes[scene.difficult].astype(int):
        mask[y1:y2, x1:x2] = IGNORED
    return mask


def _windows(split: str, count: int, seed: int) -> Iterator[tuple[str, int, np.ndarray]]:
    """Yield class name, number and pixels of ``count`` windows per class, scene by scene."""
    found = dict.fromkeys(CLASSES, 0)
    index = 0
    while min(found.values()) < count:
        scene = label_scene(split, index, seed)
        rng = np.random.default_rng([seed, tuple(SPLITS).index(split), index])
        for box, number, hard in zip(scene.boxes, scene.classes, scene.difficult, strict=True):
            shift = rng.integers(-OFF_CENTRE, OFF_CENTRE + 1, 2)
            name = CLASSES[number]
            if not hard and found[name] < count:
                yield name, found[name], _cut(scene.picture, box, shift)
                found[name] += 1
        index += 1


def _cut(picture: np.ndarray, box: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return the window around a box x1 y1 x2 y2, moved by ``shift`` and then back inside the picture if necessary."""
    middle = (box[:2] + box[2:]) / 2 + shift
    corner = np.round(middle - WINDOW / 2).astype(int)
    x, y = np.clip(corner, 0, np.array(picture.shape[1::-1]) - WINDOW)
    return picture[y : y + WINDOW, x : x + WINDOW]


def _write_yaml(path: Path, content: dict) -> None:
    write_text(path, yaml.safe_dump(content, sort_keys=False))
