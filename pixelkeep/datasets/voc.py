"""Pascal VOC: one XML file per image in Annotations/, image lists in ImageSets/Main/, images in JPEGImages/.

VOC counts pixels from 1 and its corners are inclusive: xmin = x1 + 1, xmax = x2. Data with another convention declares
``voc_pixels: edges``. VOC can express difficult objects but neither areas nor regions to ignore; these are kept in
``extras/<split>.json``, see `extras`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from pixelkeep.datasets.annotations.assembling import Read, Rows, Source, assemble
from pixelkeep.datasets.annotations.extras import save_extras
from pixelkeep.datasets.annotations.problems import Problems
from pixelkeep.datasets.annotations.record import ImageRecord
from pixelkeep.datasets.definitions.forms import INCLUSIVE
from pixelkeep.datasets.definitions.spec import IMAGE_ENDINGS, DatasetSpec
from pixelkeep.datasets.files.disk import check_stems, copy_image
from pixelkeep.datasets.files.voc_file import VocFile, VocObject, read_list, read_voc_file, root_of
from pixelkeep.datasets.images.inspection import inspect_all
from pixelkeep.errors import DataError, choices, nearest

HOLDS = ("difficult",)  # extras keys that the XML files express themselves
FIRST_PIXEL = np.array([1, 1, 0, 0])  # difference between VOC's corners (pixels from 1, both inclusive) and x1 y1 x2 y2


def save_voc(root: Path, split: str, records: Sequence[ImageRecord], names: dict[int, str], link: bool = False) -> None:
    """Write the images, XML files, image list and extras of ``split``.

    Images are copied, or linked with ``link``, unless they are in place already.

    Raises:
        DataError: Two images share a stem, an image is missing, or a class has no name.
    """
    check_stems(record.path for record in records)
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    named = []
    for record in records:
        image = copy_image(record.path, root / "JPEGImages", link)
        named.append((image.relative_to(root).as_posix(), record))
        tree = ElementTree.ElementTree(_to_xml(record, names))
        ElementTree.indent(tree)
        tree.write(root / "Annotations" / f"{image.stem}.xml", encoding="utf-8")
    stems = "".join(f"{record.path.stem}\n" for record in records)
    (root / "ImageSets" / "Main" / f"{split}.txt").write_text(stems, encoding="utf-8")
    save_extras(root / "extras" / f"{split}.json", named, HOLDS)


def read_voc(
    spec: DatasetSpec, split: str, problems: Problems, progress: Callable[[int, int], None] | None = None
) -> list[Read]:
    """Return the usable records of a split, with label numbers as classes; record the rest in ``problems``.

    Raises:
        DataError: An image list cannot be read as text.
    """
    sources, things = [], []
    for listing in spec.sources(split):
        root = root_of(listing)
        pictures = _pictures(root / "JPEGImages")
        for stem in read_list(listing):
            source, objects = _read(root, stem, pictures.get(stem, []), spec)
            sources.append(source)
            things.append(objects)
    problems.images = len(sources)
    facts = inspect_all([source.image for source in sources], spec.channels, spec.stretch, progress)
    return assemble(sources, _rows(things, spec), spec, facts, problems)


def _pictures(folder: Path) -> dict[str, list[str]]:
    """Return the names of the image files in a folder, grouped by stem."""
    found: dict[str, list[str]] = {}
    for name in sorted(os.listdir(folder)) if folder.is_dir() else ():
        stem, ending = os.path.splitext(name)
        if ending.lower() in IMAGE_ENDINGS:
            found.setdefault(stem, []).append(name)
    return found


def _read(root: Path, stem: str, pictures: list[str], spec: DatasetSpec) -> tuple[Source, list[VocObject]]:
    """Read the annotations of one image; an object that cannot be understood causes the image to be left out."""
    file = root / "Annotations" / f"{stem}.xml"
    try:
        content = read_voc_file(file)
    except DataError as error:
        name = pictures[0] if pictures else f"{stem}.jpg"
        return Source(root / "JPEGImages" / name, file, wrong=[(None, "annotation file unreadable", str(error))]), []
    source = Source(root / "JPEGImages" / _picture(stem, pictures, content), file, content.size)
    for number, thing in enumerate(content.objects, 1):
        if wrong := _wrong(thing, spec.labels):
            kind, detail = wrong
            source.wrong.append((None, kind, f"object {number} ('{thing.name}'): {detail}"))
    return source, [] if source.wrong else content.objects


def _picture(stem: str, pictures: list[str], content: VocFile) -> str:
    """Return the file name of an image: the file with the listed stem; among several, the one that the XML names."""
    if len(pictures) == 1 or (pictures and content.filename not in pictures):
        return pictures[0]
    return content.filename or f"{stem}.jpg"


def _wrong(thing: VocObject, labels: tuple[str, ...]) -> tuple[str, str] | None:
    """Return kind and detail of what cannot be understood in an object; None if all is understood."""
    if thing.name not in labels:
        right = nearest(thing.name, labels, f"the classes are {choices(labels)}")
        return "class name unknown", f"class '{thing.name}' is neither in names nor under ignore{right}"
    if thing.corners is None:
        return "label not numbers", f"xmin, ymin, xmax, ymax are {thing.shown}; all must be finite numbers"
    return None


def _rows(things: list[list[VocObject]], spec: DatasetSpec) -> Rows:
    numbers = {name: number for number, name in enumerate(spec.labels)}
    flat = [(place, number, thing) for place, group in enumerate(things) for number, thing in enumerate(group, 1)]
    corners = np.array([thing.corners for _, _, thing in flat], np.float64).reshape(-1, 4)
    return Rows(
        owner=np.array([place for place, _, _ in flat], np.int64),
        boxes=corners - FIRST_PIXEL if spec.voc_pixels == INCLUSIVE else corners,
        labels=np.array([numbers[thing.name] for _, _, thing in flat], np.int64),
        where=lambda row: (None, f"object {flat[row][1]} ('{flat[row][2].name}')"),
        difficult=np.array([thing.difficult for _, _, thing in flat], bool),
    )


def _to_xml(record: ImageRecord, names: dict[int, str]) -> ElementTree.Element:
    top = ElementTree.Element("annotation")
    _add(top, "folder", "JPEGImages")
    _add(top, "filename", record.path.name)
    size = _add(top, "size")
    for key, value in (("width", record.width), ("height", record.height), ("depth", 3)):
        _add(size, key, str(value))
    for box, label, difficult in zip(record.boxes, record.classes, record.difficult, strict=True):
        if int(label) not in names:
            raise DataError(f"{record.path}: class {label} has no name; names are for 0 to {len(names) - 1}")
        thing = _add(top, "object")
        _add(thing, "name", names[int(label)])
        _add(thing, "difficult", str(int(difficult)))
        bounds = _add(thing, "bndbox")
        for key, value in zip(("xmin", "ymin", "xmax", "ymax"), (box + FIRST_PIXEL).tolist(), strict=True):
            _add(bounds, key, repr(value).removesuffix(".0"))
    return top


def _add(parent: ElementTree.Element, tag: str, text: str | None = None) -> ElementTree.Element:
    child = ElementTree.SubElement(parent, tag)
    child.text = text
    return child
