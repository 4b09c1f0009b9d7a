"""The formats (forms) in which a dataset YAML may give its data, recognised from its entries, and their keys."""

from __future__ import annotations

from pathlib import Path

from pixelkeep.errors import DataError, choices, nearest

SPLITS = ("train", "val", "test")
YOLO, COCO, VOC, VISDRONE = FORMS = ("yolo", "coco", "voc", "visdrone")
ENTRIES = {
    YOLO: "image folders or image lists (.txt)",
    COCO: "COCO files (.json)",
    VOC: "image lists in a folder ImageSets",
    VISDRONE: "folders with images/ and annotations/",
}
ONLY_FOR = {"images": COCO, "voc_pixels": VOC}
INCLUSIVE, EDGES = VOC_PIXELS = ("inclusive", "edges")


def listed(value: object) -> list:
    """Return an entry as a list; an entry that is not a list becomes a list of one."""
    return value if isinstance(value, list) else [value]


def form_of(file: Path, d: dict) -> str:
    """Return the form of a dataset: the one that ``format:`` names, else the one its split entries look like.

    Raises:
        DataError: ``format:`` names no known form, the entries are of several forms or of another form than
            ``format:`` names, or a key belongs to another form.
    """
    entries = {item: split for split in SPLITS for item in listed(d.get(split) or []) if isinstance(item, str)}
    looks = {item: _look(item) for item in entries}
    given = d.get("format")
    if given is not None and given not in FORMS:
        raise DataError(f"{file}: 'format: {given}' is not one of {choices(FORMS)}{nearest(str(given), FORMS)}")
    if given is None and len(set(looks.values())) > 1:
        (first, one), (second, other) = {look: item for item, look in looks.items()}.items()
        raise DataError(f"{file}: '{one}' is of form {first} and '{other}' of form {second}; one form for all splits")
    form = given or next(iter(looks.values()), YOLO)
    expected = YOLO if form == VISDRONE else form  # both list folders, so only 'format:' tells them apart
    for item, look in looks.items():
        if look != expected:
            raise DataError(f"{file}: 'format: {form}' wants {ENTRIES[form]}, but '{entries[item]}:' has '{item}'")
    for key, owner in ONLY_FOR.items():
        if key in d and form != owner:
            raise DataError(f"{file}: '{key}:' is for data of form {owner}; this is of form {form}")
    return form


def _look(item: str) -> str:
    path = Path(item)
    if path.suffix.lower() == ".json":
        return COCO
    return VOC if path.suffix.lower() == ".txt" and "ImageSets" in path.parts[:-1] else YOLO
