"""Model names, ``<host>-<block>[-p2]-<scale>`` such as ``yolov5-spd-n``, and the YAML file of each.

A name consists of a family (one YAML) and a scale letter, or of the family alone where that comes in one size, as
``resnet50-spd-cls`` does. ``yolov5n-spd`` (Ultralytics' spelling), ``yolov5-spd-n.yaml`` and ``yolov5-n``
(Ultralytics' own definition) are accepted too, from any working directory.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, wraps
from pathlib import Path
from types import ModuleType

import yaml

from pixelkeep import assets
from pixelkeep.errors import ModelError, choices, nearest

YAML_ENDINGS = (".yaml", ".yml")
STOCK_FAMILIES = ("yolov5", "yolov8", "yolo11", "yolo26")  # hosts of pixelkeep's variants, which serve as baselines
_TRAILING_SCALE = re.compile(r"^(?P<family>.+)-(?P<scale>[a-z])$")
_INNER_SCALE = re.compile(r"^(?P<host>yolov?\d+)(?P<scale>[a-z])(?P<rest>-.+)?$")
_MIDDLE_SCALE = re.compile(r"^(?P<host>yolov?\d+)-(?P<scale>[a-z])-(?P<rest>.+?)(\.ya?ml)?$")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class ModelName:
    """A family, its YAML file and a scale letter, which is empty where the family has one size."""

    family: str
    scale: str
    path: Path

    def __str__(self) -> str:
        return f"{self.family}-{self.scale}" if self.scale else self.family

    def definition(self) -> dict:
        """Return the model dictionary, scale included, as Ultralytics' ``yaml_model_load`` would."""
        return _load(self.path, self.scale, f"{self}.yaml")


def our_families() -> list[str]:
    """Return the names of the families that this project defines."""
    return assets.names("models")


def sizes(family: str) -> list[str]:
    """Return the model names of a family: one for each scale, or the family name itself if it has no scales."""
    path = _family_yaml(family)
    return ([f"{family}-{scale}" for scale in _scales(path)] or [family]) if path else []


@cache
def stock_yaml(family: str) -> Path | None:
    """Return the path of Ultralytics' own YAML for a family such as ``yolov5`` or ``yolov8-p2``, or None."""
    import ultralytics

    folder = Path(ultralytics.__file__).parent / "cfg" / "models"
    return next((path for path in sorted(folder.rglob("*.yaml")) if path.stem == family), None)


def parse(name: str) -> ModelName | None:
    """Return the model that ``name`` means, or None if its form or its family is unknown.

    Raises:
        ModelError: The family is known, but the scale letter is missing, unknown, or given for a family of one size.
    """
    stem = name
    for ending in YAML_ENDINGS:
        stem = stem.removesuffix(ending)
    if path := _family_yaml(stem):
        if not _scales(path):
            return ModelName(stem, "", path)
        raise ModelError(f"model '{name}': which size? One of {choices(f'{stem}-{s}' for s in _scales(path))}")
    for family, scale in _splits(stem):
        if path := _family_yaml(family):
            if not _scales(path):
                raise ModelError(f"model '{name}': {family} comes in one size; write '{family}'")
            if scale not in _scales(path):
                raise ModelError(
                    f"model '{name}': {family} has no size '{scale}'; give one of {choices(_scales(path))}"
                )
            return ModelName(family, scale, path)
    return None


def _splits(stem: str) -> list[tuple[str, str]]:
    """Return the (family, scale) pairs that a name without its file ending may mean."""
    pairs = []
    if match := _TRAILING_SCALE.match(stem):
        pairs.append((match["family"], match["scale"]))
    if match := _INNER_SCALE.match(stem):
        pairs.append((match["host"] + (match["rest"] or ""), match["scale"]))
    return pairs


def _family_yaml(family: str) -> Path | None:
    if path := assets.find("models", family):
        return path
    path = stock_yaml(family) if family.startswith("yolo") else None
    return path if path and _scales(path) else None


@cache
def _scales(path: Path) -> tuple[str, ...]:
    return tuple(yaml.safe_load(path.read_text(encoding="utf-8")).get("scales") or ())


def _load(path: Path, scale: str, shown: str) -> dict:
    d = yaml.safe_load(path.read_text(encoding="utf-8"))
    d["scale"], d["yaml_file"] = scale, shown
    return d


def suggest(name: str, otherwise: str = "") -> str:
    """Return a hint at the nearest model name, or at the nearest family if no size is given; see ``nearest``."""
    if (match := _MIDDLE_SCALE.match(name)) and (meant := parse(f"{match['host']}-{match['rest']}-{match['scale']}")):
        return f"; did you mean '{meant}'?"
    families = [*our_families(), *(family for family in STOCK_FAMILIES if stock_yaml(family))]
    sized = _TRAILING_SCALE.match(name) or _INNER_SCALE.match(name)
    known = [model for family in families for model in sizes(family)] if sized else families
    numbers = _NUMBER.findall(name)  # another number means another host: yolov9 is not a misspelt yolov8
    return nearest(name, [each for each in known if not numbers or _NUMBER.findall(each) == numbers], otherwise)


def extend_yaml_load(load: Callable[[str | Path], dict], tasks: ModuleType) -> Callable[[str | Path], dict]:
    """Return ``yaml_model_load`` extended by pixelkeep's names. A file that exists always takes precedence."""

    @wraps(load)
    def yaml_model_load(path: str | Path) -> dict:
        path = Path(path)
        if path.is_file():
            return _load_file(path, load)
        for family, scale in _splits(path.stem):  # exp5s/yolov5s-mine.yaml means exp5s/yolov5-mine.yaml at scale s
            if (sibling := path.with_name(family + path.suffix)).is_file():
                return _load(sibling, scale, str(path))
        if stock_yaml(path.stem):  # yolov8.yaml, yolov10n.yaml: complete names of Ultralytics' own files
            return load(path)
        model = parse(path.name) if path.name == str(path) else None
        # Ultralytics loads its own definitions itself, unless the name is in pixelkeep's spelling.
        ours = model and (assets.find("models", model.family) or _TRAILING_SCALE.match(path.stem))
        return model.definition() if ours else load(path)

    return yaml_model_load


def _load_file(path: Path, load: Callable[[str | Path], dict]) -> dict:
    """Load an existing YAML file; the end of its name may give the scale, and a single scale need not be named."""
    d = load(path)
    scales = d.get("scales") or {}
    if not d["scale"] and (match := _TRAILING_SCALE.match(path.stem)) and match["scale"] in scales:
        d["scale"] = match["scale"]
    elif not d["scale"] and len(scales) == 1:
        (d["scale"],) = scales
    return d
