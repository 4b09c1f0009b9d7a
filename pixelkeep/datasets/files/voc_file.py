"""Pascal VOC's files: image lists in ImageSets, and one XML file per image, in which entities are never expanded."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from pixelkeep.errors import DataError

LEFT_AWAY = "-1"  # in a list's second column: the image is not in this list's set
MARKS = (LEFT_AWAY, "0", "1")


@dataclass(frozen=True)
class VocObject:
    """One ``<object>``: class name, corners (None if they are not numbers), their text, and whether it is difficult."""

    name: str
    corners: tuple[float, float, float, float] | None
    shown: str
    difficult: bool


@dataclass(frozen=True)
class VocFile:
    """The content of an XML file; width or height is None where the file states no usable one."""

    filename: str
    size: tuple[float | None, float | None]
    objects: list[VocObject]


def root_of(listing: Path) -> Path:
    """Return the folder above ImageSets, which also holds Annotations and JPEGImages."""
    parts = listing.parts
    last = len(parts) - 1 - parts[::-1].index("ImageSets")
    return Path(*parts[:last])


def read_list(listing: Path) -> list[str]:
    """Return the stems of the images in a list, without the rows whose second column is -1.

    Raises:
        DataError: The list cannot be read as text.
    """
    annotations = root_of(listing) / "Annotations"
    try:
        lines = [line.strip() for line in listing.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{listing}: cannot be read as text ({error})") from error
    stems = []
    for line in filter(None, lines):
        stem, _, mark = line.replace("\t", " ").rpartition(" ")
        # A stem may contain spaces and end in a number: the whole line is a stem if it has an annotation file.
        if not stem or mark not in MARKS or (annotations / f"{line}.xml").is_file():
            stems.append(line)
        elif mark != LEFT_AWAY:
            stems.append(stem.strip())
    return stems


def names_in(listing: Path) -> set[str]:
    """Return the class names in the XML files of a list; files that cannot be read are skipped and reported later."""
    root, found = root_of(listing), set()
    for stem in read_list(listing):
        try:
            found.update(thing.name for thing in read_voc_file(root / "Annotations" / f"{stem}.xml").objects)
        except DataError:
            continue
    return found - {""}


def read_voc_file(path: Path) -> VocFile:
    """Read one annotation file.

    Raises:
        DataError: The file cannot be read, is not XML, or declares a document type. The message does not name the file.
    """
    tree = read_xml(path)
    sizes = (_number(tree.findtext(f"size/{key}")) for key in ("width", "height"))
    width, height = (side if side and side > 0 else None for side in sizes)
    return VocFile((tree.findtext("filename") or "").strip(), (width, height), list(_objects(tree)))


def read_xml(path: Path) -> ElementTree.Element:
    """Return the root element of an XML file that declares no document type and therefore no entities.

    Raises:
        DataError: As for :func:`read_voc_file`.
    """
    try:
        return ElementTree.fromstring(path.read_bytes(), ElementTree.XMLParser(target=_PlainBuilder()))
    except OSError as error:
        raise DataError(f"cannot be read ({os.strerror(error.errno)})") from error
    except _DoctypeError as error:
        raise DataError("declares a DOCTYPE, which annotations have no use for; remove it") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the latter two: an unknown encoding
        raise DataError(f"not valid XML ({error})") from error


class _DoctypeError(Exception):
    """The XML file declares a document type."""


class _PlainBuilder(ElementTree.TreeBuilder):
    """Tree builder that stops at a DOCTYPE, before any entity in it is declared, let alone expanded."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise _DoctypeError


def _objects(tree: ElementTree.Element) -> Iterator[VocObject]:
    for thing in tree.findall("object"):
        texts = [thing.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
        corners = [_number(text) for text in texts]
        shown = ", ".join("nothing" if text is None else f"'{text.strip()[:20]}'" for text in texts)
        yield VocObject(
            (thing.findtext("name") or "").strip(),
            None if None in corners else tuple(corners),
            shown,
            (thing.findtext("difficult") or "0").strip() not in ("", "0"),
        )


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
