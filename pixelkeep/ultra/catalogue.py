"""The list of models: ours and the stock baselines, with parameters and GFLOPs at 640 pixels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase

import torch
import ultralytics
from ultralytics.nn import tasks

import pixelkeep
from pixelkeep import assets
from pixelkeep.errors import ModelError
from pixelkeep.ultra import names
from pixelkeep.ultra.measure import count_gflops, count_parameters
from pixelkeep.writing import write_text

IMGSZ = 640
SCALES = "nsmlx"


@dataclass(frozen=True)
class Entry:
    """One model: its name, whose definition it is, parameters and GFLOPs at 640 for 80 classes."""

    name: str
    stock: bool
    params: int
    gflops: float

    def to_dict(self) -> dict:
        return asdict(self)


def model_names() -> list[str]:
    """Return all names: for each host the stock baseline first, then our variants."""
    families = sorted(names.our_families(), key=lambda f: (_host_rank(f), f))
    ordered = []
    for host in names.STOCK_FAMILIES:
        if names.stock_yaml(host):
            ordered.append(host)
        ordered += [f for f in families if f.startswith(f"{host}-")]
    return [f"{family}-{scale}" for family in ordered for scale in SCALES]


def _host_rank(family: str) -> int:
    return next((i for i, host in enumerate(names.STOCK_FAMILIES) if family.startswith(host)), len(family))


def select(pattern: str | None) -> list[str]:
    """Return the names that contain ``pattern``, or match it where it is a glob, and the baselines beside them.

    Raises:
        ModelError: No name does.
    """
    known = model_names()
    found = {n for n in known if pattern is None or pattern in n or fnmatchcase(n, pattern)}
    if not found:
        raise ModelError(f"no model name contains '{pattern}'{names.suggest(pattern or '')}")
    baselines = {f"{n.split('-')[0]}-{n[-1]}" for n in found}  # the host at the same size
    return [n for n in known if n in found | baselines]


def entries(selected: list[str]) -> Iterator[Entry]:
    """Yield an entry for each name; what has been counted once is kept in the cache folder."""
    cache = _Cache()
    for name in selected:
        model = names.parse(name)
        definition = model.definition()
        params, gflops = cache.get(definition) or cache.put(definition, _count(definition))
        yield Entry(name, model.family in names.STOCK_FAMILIES, params, gflops)


def _count(definition: dict) -> tuple[int, float]:
    """Build a model on the meta device and count its parameters and GFLOPs."""
    network = tasks.BaseModel()  # without the stride probe of DetectionModel, which needs real data
    with torch.device("meta"):
        network.model, network.save = tasks.parse_model(deepcopy(definition), ch=3, verbose=False)
    return count_parameters(network), count_gflops(network, IMGSZ)


class _Cache:
    """Counts by the hash of a definition and of the versions that turn it into a network."""

    def __init__(self):
        self.path = assets.home() / "cache" / "models.json"
        self.counts: dict[str, list] = {}
        with suppress(OSError, ValueError):
            self.counts = json.loads(self.path.read_text(encoding="utf-8"))

    @staticmethod
    def _key(definition: dict) -> str:
        text = json.dumps([definition, ultralytics.__version__, pixelkeep.__version__, IMGSZ], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def get(self, definition: dict) -> tuple[int, float] | None:
        counts = self.counts.get(self._key(definition))
        return tuple(counts) if counts else None

    def put(self, definition: dict, counts: tuple[int, float]) -> tuple[int, float]:
        self.counts[self._key(definition)] = list(counts)
        with suppress(OSError):  # a cache that cannot be written costs time only
            write_text(self.path, json.dumps(self.counts))
        return counts
