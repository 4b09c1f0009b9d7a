"""Published weights: files in weights/, listed in a manifest there with size and SHA-256, which loading compares.

The manifest also records which model each network is, its training data and their licence, its recipe, and the files
with its metrics and its model card; scripts/publish_weights.py writes the entries.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import yaml

from pixelkeep import assets
from pixelkeep.errors import WeightsError, choices, nearest
from pixelkeep.ultra.weights.pretrained import where_from
from pixelkeep.writing import write_text

FILE = "manifest.yaml"
SCHEMA = 1
NAME = re.compile(r"[a-z0-9]+([-.][a-z0-9]+)*")
TOO_LARGE = 10_000_000  # limit for one published file, in bytes
_NONE = "none is published yet"
_REPAIR = "restore the file, or reinstall pixelkeep"
_CHUNK = 2**20
_HEAD = """# Published weights. Loading compares size and SHA-256 and refuses a file that has others.
# Written by scripts/publish_weights.py.
"""


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published file.

    Attributes:
        file: Name of the file in the folder.
        sha256: SHA-256 of the file.
        bytes: Size of the file in bytes.
        model: Name of the model, such as ``yolov5-spd-n``.
        data: Data that the network was trained on.
        licence, attribution: Licence and attribution of the data.
        recipe: Command that trained the network.
        metrics: Name of the file with its metrics.
        card: Name of the file with its model card.
    """

    file: str
    sha256: str
    bytes: int
    model: str
    data: str
    licence: str
    attribution: str
    recipe: str
    metrics: str
    card: str


def read_manifest(folder: Path | None = None) -> dict[str, Published]:
    """Return the published weights by name.

    Args:
        folder: Folder of the manifest; the package's own by default.

    Raises:
        WeightsError: The manifest cannot be read.
    """
    path = (folder or _own_folder()) / FILE
    if not path.is_file():
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            raise ValueError(f"schema {content['schema']!r}, but this pixelkeep knows {SCHEMA}")
        return {name: _entry(name, entry) for name, entry in (content["weights"] or {}).items()}
    except (OSError, yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        told = " ".join(str(error).split())[:120]
        raise WeightsError(f"{path}, the manifest of published weights, is damaged ({told}); {_REPAIR}") from error


def _own_folder() -> Path:
    """Return the package's own folder of published weights.

    Raises:
        WeightsError: The folder is missing.
    """
    try:
        return assets.folder("weights")
    except FileNotFoundError as error:
        raise WeightsError(str(error)) from error


def _entry(name: str, entry: dict) -> Published:
    published = Published(**entry)
    for field in fields(Published):
        kind = int if field.name == "bytes" else str
        if type(getattr(published, field.name)) is not kind:
            raise ValueError(f"{name}: '{field.name}' is of the wrong kind")
    if not NAME.fullmatch(name) or not NAME.fullmatch(published.file.lower()):
        raise ValueError(f"{name}: a name may hold only letters, digits, '-' and '.'")
    if not published.file.endswith((".safetensors", ".pt")):
        raise ValueError(f"{name}: '{published.file}' is not a checkpoint")
    return published


def write_manifest(folder: Path, weights: dict[str, Published]) -> None:
    """Write the manifest of a folder, with the entries sorted by name."""
    content = {"schema": SCHEMA, "weights": {name: asdict(entry) for name, entry in sorted(weights.items())}}
    write_text(folder / FILE, _HEAD + yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def published(name: str | Path) -> Path | None:
    """Return the file of published weights, or None if ``name`` is not the name of any.

    Raises:
        WeightsError: The manifest is damaged, or the file is missing from the folder.
    """
    entry = read_manifest().get(str(name))
    if entry is None:
        return None
    path = _own_folder() / entry.file
    if not path.is_file():
        raise WeightsError(f"weights '{name}': published, but {path} is missing; reinstall pixelkeep")
    return path


def hint(name: str | Path, files: list[str], advice: str) -> str:
    """Return a hint at what may be meant by weights that do not exist: a similar file, or a published name.

    Args:
        name: The name that was given.
        files: Names of the files in the folder where it would be.
        advice: What else the user can do.
    """
    known = list(read_manifest())
    if not str(name) or Path(name).suffix[1:].isalpha() or Path(name).name != str(name):  # a file is meant
        own = [each for each in known if each == Path(name).stem]  # names of Ultralytics' files resemble many others
        return nearest(Path(name).name, [*files, *own], where_from(str(name)) or advice)
    told = f"the published ones are {choices(known)}" if known else _NONE
    meant = nearest(str(name), [*files, *known])
    return f"{meant} {told[0].upper()}{told[1:]}" if meant else f"; {told}: {advice}"


def listed(path: Path) -> Published | None:
    """Return the manifest's entry for a file in its folder; None if the manifest does not list the file.

    A file in the folder may be a link, as some installers create them, and a link elsewhere may lead into the folder.
    """
    try:
        folder = assets.folder("weights").resolve()
    except FileNotFoundError:  # without the folder, no file can be in it
        return None
    names = {way.name for way in (path.absolute(), path.resolve()) if way.parent.resolve() == folder}
    if not names:
        return None
    return next((entry for entry in read_manifest(folder).values() if entry.file in names), None)


def beside(weights: Path) -> Path:
    """Return the folder for a file made from weights: their own, or the working directory for published weights."""
    return Path.cwd() if listed(weights) else weights.parent


def problem(path: Path) -> str | None:
    """Return how a published file differs from its manifest entry; None if it does not, or is not a published file."""
    entry = listed(path)
    if entry is None:
        return None
    size = path.stat().st_size
    if size != entry.bytes:
        return f"it has {size} bytes, but the published file has {entry.bytes}; {_REPAIR}"
    found = sha256_of(path)
    if found != entry.sha256:
        told = f"its SHA-256 is {found[:12]}..., but that of the published file is {entry.sha256[:12]}..."
        return f"{told}; {_REPAIR}"
    return None


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
