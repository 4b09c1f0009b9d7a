"""The demo dataset: aerial scenes of small objects, generated in seconds and identical for the same seed.

`write_demo` writes the same boxes in YOLO, COCO and VOC format (demo.yaml, coco.yaml and voc/voc.yaml), and a short
video for detection. How hard the dataset is depends on the constants here, in `scene` (light, noise, counts, hard
negatives) and in `objects` (sizes).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from pixelkeep.datasets.annotations.record import ImageRecord
from pixelkeep.datasets.definitions.forms import COCO, VOC, YOLO
from pixelkeep.datasets.demo.objects import CLASSES
from pixelkeep.datasets.demo.scene import THEMES, Scene, render_scene
from pixelkeep.datasets.demo.video import write_video
from pixelkeep.datasets.files.disk import read_json, write_image, write_json
from pixelkeep.datasets.saving import save_split, save_yaml
from pixelkeep.errors import DataError

VERSION = 2  # increase it whenever the same seed gives a different dataset
SIZE = (256, 256)  # height and width of every image in pixels
SPLITS = {"train": 80, "val": 40, "test": 12}
NAMES = dict(enumerate(CLASSES))
REGION_SHARE = 0.22  # share of the images that have a region to ignore
EMPTY_EVERY = 19  # one image in this many has no objects
CROWDED = ("train", 7)  # the one image with more than 150 objects
FORMS = {YOLO: "demo.yaml", COCO: "coco.yaml", VOC: "voc/voc.yaml"}  # the YAML of each format
MARKER = "demo.json"  # file that states version, seed and splits; only a complete dataset has it

Progress = Callable[[int, int], None]


def write_demo(
    root: Path, seed: int = 0, progress: Progress | None = None, splits: dict[str, int] | None = None
) -> Path:
    """Write the demo dataset to the folder ``root``, unless it is there already, and return the path of its YAML.

    The dataset is written to a temporary folder beside ``root`` that is renamed at the end, so that an interruption
    leaves nothing behind that looks like a dataset. A demo of another version, seed or size is replaced; any other
    folder is left alone.

    Args:
        root: The folder to write, a new one or that of an earlier demo.
        seed: A whole number from 0; other seeds give other scenes.
        progress: Called with (images done, images in total) after each image.
        splits: Number of images of train, val and test, or of some of them; None for `SPLITS`.

    Raises:
        DataError: The seed is negative, or ``root`` holds something that is not a demo.
    """
    splits = SPLITS if splits is None else splits

    def write(made: Path) -> None:
        _write(made, seed, splits, progress or (lambda done, total: None))
        for form, name in FORMS.items():
            save_yaml(made / name, tuple(splits), NAMES, form)

    return write_once(root, {"version": VERSION, "seed": seed, "splits": splits}, write) / "demo.yaml"


def write_once(root: Path, marker: dict, write: Callable[[Path], None]) -> Path:
    """Write a generated dataset completely or not at all, unless it is there already, and return its folder.

    Args:
        root: The folder, a new one or that of an earlier generated dataset, which is replaced if its marker differs.
        marker: Everything that decides the content, including ``seed``.
        write: Function that writes the content into a new folder.

    Raises:
        DataError: The seed is negative, or ``root`` holds something that this function did not write.
    """
    if marker["seed"] < 0:
        raise DataError(f"seed {marker['seed']}; it must be a whole number, 0 or more")
    root = Path(root).resolve()
    if _is_there(root, marker):
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent, ignore_cleanup_errors=True) as folder:
        made = Path(folder) / root.name
        write(made)
        write_json(made / MARKER, marker)
        if not _is_there(root, marker):  # another process may have written it in the meantime
            if root.exists():
                shutil.rmtree(root)
            made.rename(root)
    return root


def _is_there(root: Path, marker: dict) -> bool:
    """Return whether ``root`` is the dataset that ``marker`` describes.

    Raises:
        DataError: The folder is neither empty nor a generated dataset.
    """
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    if not (root / MARKER).is_file():
        raise DataError(f"{root}: already exists and is not a demo dataset; choose another folder")
    return read_json(root / MARKER) == marker


def demo_scene(split: str, index: int, seed: int = 0) -> Scene:
    """Render image ``index`` of ``split``; each image has a seed of its own and does not depend on other images."""
    theme = "crowd" if (split, index) == CROWDED else tuple(THEMES)[index % len(THEMES)]
    entropy = np.random.SeedSequence([seed, tuple(SPLITS).index(split), index])
    empty = index % EMPTY_EVERY == EMPTY_EVERY // 2
    return render_scene(theme, entropy, SIZE, region=_has_region(index), empty=empty)


def _has_region(index: int) -> bool:
    """Return whether image ``index`` has a region, such that these images are spread evenly over themes and splits."""
    turn = index // len(THEMES) + index % len(THEMES) * 3
    return int((turn + 1) * REGION_SHARE) > int(turn * REGION_SHARE)


def _write(root: Path, seed: int, splits: dict[str, int], progress: Progress) -> None:
    done, total = 0, sum(splits.values())
    for split, count in splits.items():
        records = []
        for record in _records(root, split, count, seed):
            records.append(record)
            done += 1
            progress(done, total)
        for form, name in FORMS.items():
            save_split(form, (root / name).parent, split, records, NAMES)
    write_video(root / "demo.mp4", np.random.SeedSequence([seed, len(SPLITS)]), SIZE)


def _records(root: Path, split: str, count: int, seed: int) -> Iterator[ImageRecord]:
    """Render ``count`` images of ``split``, write them and yield their records."""
    for index in range(count):
        scene = demo_scene(split, index, seed)
        path = root / "images" / split / f"{split}_{index:03d}.jpg"
        write_image(path, scene.picture)
        height, width = SIZE
        yield ImageRecord(
            path, width, height, scene.boxes, scene.classes, difficult=scene.difficult, regions=scene.regions
        )
