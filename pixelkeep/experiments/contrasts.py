"""Contrasts: comparisons written down before they are run, with data, arms, and what each form of them takes.

A file holds one contrast, ``NAME.yaml``:

    question: What is asked, in a sentence.
    data: hituav
    dev: {group: '^(\\d+_\\d+)_', share: 0.8, seed: 0}   # how dev is cut from train
    group: '^(\\d+_\\d+_\\d+)_'                          # what is drawn together for intervals
    baseline: yolov5-n
    arms: {yolov5-n: yolov5-n, distance: {model: yolov5-n, nwd: 0.5}}
    match: gflops                                      # optional: the baseline at each arm's cost, too
    best_of: [1-plain]                                 # optional: 'best' in models is the best family of these
    forms:
      full: {split: val, seeds: 3, imgsz: 640, epochs: 100}
      early: {split: dev, seeds: 2, imgsz: 320, epochs: 8}

All of a form but ``split`` and ``seeds`` are settings of training that the arms share.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pixelkeep.datasets.definitions.spec import read_mapping
from pixelkeep.errors import OptionError, choices, nearest
from pixelkeep.experiments.dev_split import SPLITS, DevSplit
from pixelkeep.experiments.entrants import Entrant

BEST = re.compile(r"^best(?=-)")  # in a model's name: the family that the contrasts before show to be the best
KEYS = ("question", "data", "dev", "group", "baseline", "arms", "forms")  # that a contrast must have
OTHERS = ("match", "best_of")
NOTICE = {"early": "early training, no verdict"}  # what is to be said of all that a form shows


@dataclass(frozen=True)
class Form:
    """How thoroughly a contrast is run.

    Attributes:
        name: full or early.
        split: dev or val: what its answer is read from.
        seeds: Trainings of each arm.
        settings: Of training, shared by all arms.
    """

    name: str
    split: str
    seeds: int
    settings: dict

    @property
    def notice(self) -> str | None:
        """What is to be said of everything that it shows."""
        return NOTICE.get(self.name)


@dataclass(frozen=True)
class Contrast:
    """One comparison as it was written down; the attributes are the file's keys."""

    name: str
    question: str
    data: str
    dev: DevSplit
    group: str
    baseline: str
    arms: tuple[Entrant, ...]
    forms: dict[str, Form]
    match: str | None = None
    best_of: tuple[str, ...] = ()

    def form(self, name: str) -> Form:
        """Return a form.

        Raises:
            OptionError: It has no such form.
        """
        if name not in self.forms:
            raise OptionError(f"contrast {self.name}: no form '{name}'; it has {choices(self.forms)}")
        return self.forms[name]

    def entrants(self, best: str | None) -> list[Entrant]:
        """Return the arms, with the family's name for ``best``."""
        return [Entrant(arm.name, BEST.sub(best or "best", arm.model), arm.settings) for arm in self.arms]


def read_contrasts(folder: Path, names: list[str] | None = None) -> list[Contrast]:
    """Return the contrasts of a folder in the order of their names, or those that are named.

    Raises:
        OptionError: There is no such contrast, or one cannot be used.
    """
    files = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    for name in names or ():
        if name not in files:
            raise OptionError(f"no contrast '{name}' in {folder}{nearest(name, files)} (there: {choices(files)})")
    if not files:
        raise OptionError(f"{folder}: no contrasts there; give a folder of YAML files")
    return [read_contrast(path) for name, path in files.items() if not names or name in names]


def read_contrast(path: Path) -> Contrast:
    """Return the contrast of a file.

    Raises:
        OptionError: It lacks something, or holds what is not known.
    """
    given = read_mapping(path)
    told = f"contrast {path}"
    if missing := [key for key in KEYS if not given.get(key)]:
        raise OptionError(f"{told}: it lacks {choices(missing)}")
    for key in given:
        if key not in (*KEYS, *OTHERS):
            raise OptionError(f"{told}: unknown key '{key}'{nearest(key, [*KEYS, *OTHERS])}")
    try:
        dev = DevSplit(**given["dev"])
        arms = tuple(_arm(name, value) for name, value in given["arms"].items())
        forms = {name: _form(name, dict(value)) for name, value in given["forms"].items()}
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise OptionError(f"{told}: {str(error) or type(error).__name__}") from error
    if given["baseline"] not in given["arms"] or len(arms) < 2:
        raise OptionError(
            f"{told}: baseline '{given['baseline']}' must be one of two arms or more, {choices(given['arms'])}"
        )
    best_of = tuple(given.get("best_of") or ())
    if any(BEST.match(arm.model) for arm in arms) != bool(best_of):
        raise OptionError(f"{told}: 'best' in a model's name and best_of belong together")
    plain = {key: given.get(key) for key in ("question", "data", "group", "baseline", "match")}
    return Contrast(path.stem, dev=dev, arms=arms, forms=forms, best_of=best_of, **plain)


def _arm(name: str, value: str | dict) -> Entrant:
    if isinstance(value, str):
        return Entrant(str(name), value)
    settings = dict(value)
    return Entrant(str(name), settings.pop("model"), settings)


def _form(name: str, given: dict) -> Form:
    split, seeds = given.pop("split"), given.pop("seeds")
    if name not in ("full", "early"):
        raise OptionError(f"form '{name}': one of full, early")
    if split not in SPLITS or not isinstance(seeds, int) or seeds < 1:
        raise OptionError(f"form {name}: split '{split}' is one of {choices(SPLITS)}, seeds ({seeds}) 1 or more")
    return Form(name, split, seeds, given)


def best_family(documents: list[dict], models: dict[str, str]) -> str:
    """Return the family of the model with the highest mean AP_S on dev.

    Args:
        documents: Of the comparisons on dev.
        models: By arm, the models of those that may be chosen, scale letter included.
    """
    means = {}
    for document in documents:
        for arm in document["arms"]:
            if arm["name"] in models and (mean := arm["figures"]["AP_S"]["mean"]) is not None:
                means[models[arm["name"]]] = mean
    if not means:
        raise OptionError(f"none of {choices(models)} has an AP_S on dev: there is no best one")
    return max(means, key=lambda model: means[model]).rpartition("-")[0]
