"""The list of models, pixelkeep's and Ultralytics' baselines, with parameters and GFLOPs at the usual image size."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from importlib.util import find_spec

import torch
import ultralytics
from ultralytics.nn import tasks

import pixelkeep
from pixelkeep import assets
from pixelkeep.errors import ModelError
from pixelkeep.ultra.costs.measure import adaptive_layers, count_gflops, count_parameters
from pixelkeep.ultra.network import names
from pixelkeep.ultra.network.counting import target_fraction
from pixelkeep.writing import write_text

IMGSZ = 640
EXTRAS = {"Swin": "timm"}  # blocks that need an optional package, and that package
CLASSIFY_IMGSZ = 224  # side in pixels, for classification


@dataclass(frozen=True)
class Entry:
    """One model: its name, whether it is Ultralytics' own, its parameters, and its GFLOPs at ``imgsz`` pixels a side.

    The number of classes is that of the model's definition: 80 for detection, 1000 for classification. Parameters and
    GFLOPs are None if the package that the model ``needs`` is not installed. If the work depends on the image, GFLOPs
    are those at ``active_fraction``, the share of active regions that the model's masks are trained for; otherwise
    ``active_fraction`` is None.
    """

    name: str
    stock: bool
    params: int | None
    gflops: float | None
    imgsz: int
    needs: str | None = None
    active_fraction: float | None = None

    def to_dict(self) -> dict:
        return asdict(self)


def model_names() -> list[str]:
    """Return all model names: for each YOLO host the baseline and then its variants, and the other hosts at the end."""
    ours = names.our_families()
    ordered = []
    for host in names.STOCK_FAMILIES:
        stock = [host] if names.stock_yaml(host) else []
        ordered += stock + [family for family in ours if family.startswith(f"{host}-")]
    others = [family for family in ours if family not in ordered]
    ordered += sorted(others, key=lambda family: (family.split("-")[0], len(family), family))
    return [name for family in ordered for name in names.sizes(family)]


def _baseline(name: str, known: list[str]) -> str:
    """Return the baseline of a model: the shortest name with the same host and the same size or task."""
    first, last = name.split("-")[0], name.split("-")[-1]
    return min((k for k in known if (k.split("-")[0], k.split("-")[-1]) == (first, last)), key=len)


def select(pattern: str | None) -> list[str]:
    """Return the model names that contain ``pattern``, or match it as a glob, together with their baselines.

    Raises:
        ModelError: No name contains or matches the pattern.
    """
    known = model_names()
    found = {n for n in known if pattern is None or pattern in n or fnmatchcase(n, pattern)}
    if not found:
        advice = "leave it out to list them all; to evaluate a checkpoint, use 'pixelkeep val'"
        raise ModelError(f"no model name contains '{pattern}'{names.suggest(pattern or '', advice)}")
    baselines = {_baseline(name, known) for name in found}
    return [n for n in known if n in found | baselines]


def entries(selected: list[str], progress: Callable[[int, int], None] = lambda done, total: None) -> Iterator[Entry]:
    """Yield an entry for each model name; counts are kept in the cache folder.

    Args:
        selected: The model names.
        progress: Called with the number of models done and their total, from the first model on that must be counted.
    """
    cache, counting = _Cache(), False
    for number, name in enumerate(selected):
        model = names.parse(name)
        definition = model.definition()
        needs = _missing(definition)
        known = (None,) * 3 if needs else cache.get(definition)
        if counting := counting or not known:
            progress(number, len(selected))
        known = known or cache.put(definition, _count(definition))
        if counting:
            progress(number + 1, len(selected))
        params, gflops, fraction = known
        yield Entry(name, model.family in names.STOCK_FAMILIES, params, gflops, image_size(definition), needs, fraction)


def _missing(definition: dict) -> str | None:
    """Return an optional package that a definition needs and that is not installed; None if there is none."""
    blocks = {row[2] for row in definition["backbone"] + definition["head"]}
    return next((name for block, name in EXTRAS.items() if block in blocks and not find_spec(name)), None)


def image_size(definition: dict) -> int:
    """Return the image side in pixels for which GFLOPs are stated, by the task of the definition."""
    return CLASSIFY_IMGSZ if tasks.guess_model_task(definition) == "classify" else IMGSZ


def _count(definition: dict) -> tuple[int, float, float | None]:
    """Build a model on the meta device and return its parameters, GFLOPs and target fraction of active regions."""
    network = tasks.BaseModel()  # without the stride probe of DetectionModel, which needs real data
    with torch.device("meta"):
        network.model, network.save = tasks.parse_model(deepcopy(definition), ch=3, verbose=False)
    fraction = target_fraction(network) if adaptive_layers(network) else None
    return count_parameters(network), count_gflops(network, image_size(definition)), fraction


class _Cache:
    """Cache of counts, keyed by a hash of the definition and of the versions that turn it into a network."""

    def __init__(self):
        self.path = assets.home() / "cache" / "models.json"
        self.counts: dict[str, list] = {}
        with suppress(OSError, ValueError):
            found = json.loads(self.path.read_text(encoding="utf-8"))
            self.counts = found if isinstance(found, dict) else {}

    @staticmethod
    def _key(definition: dict) -> str:
        text = json.dumps(
            [definition, ultralytics.__version__, pixelkeep.__version__, image_size(definition), "active fraction"],
            sort_keys=True,
        )
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def get(self, definition: dict) -> tuple[int, float, float | None] | None:
        counts = self.counts.get(self._key(definition))
        return tuple(counts) if counts else None

    def put(self, definition: dict, counts: tuple[int, float, float | None]) -> tuple[int, float, float | None]:
        self.counts[self._key(definition)] = list(counts)
        with suppress(OSError):  # a cache that cannot be written costs time only
            write_text(self.path, json.dumps(self.counts))
        return counts
