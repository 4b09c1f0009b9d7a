"""Write a dataset in any format that can be written: its splits, and the YAML that joins them into one dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from pixelkeep.datasets.annotations.extras import save_extras
from pixelkeep.datasets.annotations.record import ImageRecord
from pixelkeep.datasets.coco import save_coco
from pixelkeep.datasets.definitions.forms import COCO, VOC, YOLO
from pixelkeep.datasets.files.disk import copy_image
from pixelkeep.datasets.voc import save_voc
from pixelkeep.datasets.yolo import save_yolo
from pixelkeep.writing import write_text

WRITTEN = (YOLO, COCO, VOC)  # the formats that can be written
ENTRIES = {YOLO: "images/{}", COCO: "annotations/{}.json", VOC: "ImageSets/Main/{}.txt"}
EXTRAS = {YOLO: "extras/{}.json", COCO: "annotations/{}.extras.json", VOC: "extras/{}.json"}
COCO_HOLDS = ("difficult", "areas", "regions", "image_id", "ids", "region_ids")


def save_split(
    form: str,
    root: Path,
    split: str,
    records: Sequence[ImageRecord],
    names: dict[int, str],
    link: bool = False,
    category_ids: Sequence[int] = (),
) -> None:
    """Write the images, annotations and extras of a split in one of the formats `WRITTEN`.

    Args:
        form: The format to write: yolo, coco or voc.
        root: The dataset's folder.
        split: train, val or test.
        records: Records of the images; image files are copied unless they are in place already.
        names: Class number to class name.
        link: Whether to link images instead of copying them.
        category_ids: The id of each class in COCO files; () for ids that count from 1.

    Raises:
        DataError: Two images would share a name, an image is missing, or a class has no name.
    """
    if form != COCO:
        (save_voc if form == VOC else save_yolo)(root, split, records, names, link)
        return
    save_coco(root / "annotations" / f"{split}.json", records, names, category_ids)
    folder = root / "images" / split
    named = [(copy_image(r.path, folder, link).relative_to(root).as_posix(), r) for r in records]
    if any(record.polygons for record in records):
        save_extras(root / EXTRAS[COCO].format(split), named, COCO_HOLDS)


def save_yaml(
    path: Path, splits: Sequence[str], names: dict[int, str], form: str = YOLO, others: dict | None = None
) -> None:
    """Write the YAML of the splits that `save_split` wrote into the folder of ``path``.

    All entries are relative, so that the folder may be moved later.

    Args:
        path: The YAML file to write.
        splits: The splits that were written.
        names: Class number to class name.
        form: The format in which the splits were written.
        others: Further keys, such as ``channels``.
    """
    document = {split: ENTRIES[form].format(split) for split in splits}
    if form == COCO:
        document["images"] = {split: f"images/{split}" for split in splits}
    document["names"] = names
    extras = {split: EXTRAS[form].format(split) for split in splits}
    if there := {split: file for split, file in extras.items() if (path.parent / file).is_file()}:
        document["extras"] = there
    document |= others or {}
    write_text(path, yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
