"""Pascal VOC: one XML file per image in Annotations/, image lists in ImageSets/Main/, images in JPEGImages/.

Its pixels count from 1 and its corners are inclusive: xmin = x1 + 1, xmax = x2. VOC knows difficult objects but
neither areas nor regions to ignore; those lie in ``extras/<split>.json``, see `extras`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from pixelkeep.datasets.extras import apply_extras, save_extras
from pixelkeep.datasets.files import check_stems, copy_image
from pixelkeep.datasets.record import ImageRecord
from pixelkeep.errors import DataError, choices, nearest


def save_voc(root: Path, split: str, records: Sequence[ImageRecord], names: dict[int, str]) -> None:
    """Write images (copied unless they are there), XML files, the list of ``split`` and its extras under ``root``.

    Raises:
        DataError: Two images share a stem, an image is missing, or a class has no name.
    """
    check_stems(record.path for record in records)
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    named = []
    for record in records:
        image = copy_image(record.path, root / "JPEGImages")
        named.append((image.relative_to(root).as_posix(), record))
        tree = ElementTree.ElementTree(_to_xml(record, names))
        ElementTree.indent(tree)
        tree.write(root / "Annotations" / f"{image.stem}.xml", encoding="utf-8")
    stems = "".join(f"{record.path.stem}\n" for record in records)
    (root / "ImageSets" / "Main" / f"{split}.txt").write_text(stems, encoding="utf-8")
    save_extras(root / "extras" / f"{split}.json", named)


def load_voc(root: Path, split: str, names: dict[int, str] | None = None) -> tuple[list[ImageRecord], dict[int, str]]:
    """Return the records of ``split``, in the order of its list, and the class names.

    Args:
        root: The folder with Annotations, ImageSets and JPEGImages.
        split: The name of a list in ImageSets/Main.
        names: Class index to class name; None for the names found in the split, sorted.

    Raises:
        DataError: The list, an XML file or an image is missing or malformed, or a class is not in ``names``.
    """
    listing = root / "ImageSets" / "Main" / f"{split}.txt"
    if not listing.is_file():
        splits = sorted(path.stem for path in listing.parent.glob("*.txt"))
        raise DataError(f"{listing}: not found; lists of this dataset: {choices(splits) or 'none'}")
    stems = [line.strip() for line in listing.read_text(encoding="utf-8").splitlines() if line.strip()]
    roots = {stem: read_xml(root / "Annotations" / f"{stem}.xml") for stem in stems}
    if names is None:
        found = {(name.text or "").strip() for tree in roots.values() for name in tree.iterfind("object/name")}
        names = dict(enumerate(sorted(found)))
    index = {name: number for number, name in names.items()}
    records = [_record(root, stem, tree, index) for stem, tree in roots.items()]
    extras = root / "extras" / f"{split}.json"
    return (apply_extras(records, root, extras) if extras.is_file() else records), names


def read_xml(path: Path) -> ElementTree.Element:
    """Return the root element of an XML file that declares no document type, hence no entities.

    Raises:
        DataError: The file cannot be read, is not XML, or declares a document type.
    """
    try:
        return ElementTree.fromstring(path.read_bytes(), ElementTree.XMLParser(target=_PlainBuilder()))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: not valid XML ({error})") from error
    except _DoctypeError as error:
        raise DataError(f"{path}: declares a DOCTYPE, which annotations have no use for; remove it") from error


class _DoctypeError(Exception):
    """An XML file declares a document type."""


class _PlainBuilder(ElementTree.TreeBuilder):
    """Builds the tree and stops at a DOCTYPE, before any entity in it is declared, let alone expanded."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise _DoctypeError


def _record(root: Path, stem: str, tree: ElementTree.Element, index: dict[str, int]) -> ImageRecord:
    where = root / "Annotations" / f"{stem}.xml"
    things = tree.findall("object")
    labels = [_text(where, thing, "name") for thing in things]
    for label in labels:
        if label not in index:
            raise DataError(f"{where}: class '{label}' is not one of {choices(index)}{nearest(label, index)}")
    boxes = [[_number(where, thing, f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")] for thing in things]
    return ImageRecord(
        root / "JPEGImages" / _text(where, tree, "filename"),
        int(_number(where, tree, "size/width")),
        int(_number(where, tree, "size/height")),
        np.array(boxes, float).reshape(-1, 4) - [1, 1, 0, 0],
        [index[label] for label in labels],
        difficult=[(thing.findtext("difficult") or "0").strip() == "1" for thing in things],
    )


def _text(where: Path, element: ElementTree.Element, tag: str) -> str:
    text = (element.findtext(tag) or "").strip()
    if not text:
        raise DataError(f"{where}: <{element.tag}> has no <{tag}>")
    return text


def _number(where: Path, element: ElementTree.Element, tag: str) -> float:
    text = _text(where, element, tag)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: <{tag}> of <{element.tag}> is '{text}', not a number")
    return value


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
        x1, y1, x2, y2 = map(float, box)
        for key, value in (("xmin", x1 + 1), ("ymin", y1 + 1), ("xmax", x2), ("ymax", y2)):
            _add(bounds, key, f"{value:.12g}")
    return top


def _add(parent: ElementTree.Element, tag: str, text: str | None = None) -> ElementTree.Element:
    child = ElementTree.SubElement(parent, tag)
    child.text = text
    return child
