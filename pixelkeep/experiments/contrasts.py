"""Contrasts: comparisons written down before they are run, with data, arms and the settings of each form.

A file ``NAME.yaml`` holds one contrast:

    question: What is asked, in a sentence.
    data: hituav
    dev: {group: '^(\\d+_\\d+)_', share: 0.8, seed: 0}   # how dev is cut from train
    group: '^(\\d+_\\d+_\\d+)_'                          # images that are resampled together for intervals
    baseline: yolov5-n
    arms: {yolov5-n: yolov5-n, distance: {model: yolov5-n, nwd: 0.5}}
    best_of: [1-plain]                                 # optional: 'best' in models is the best family of these
    forms:
      full: {split: val, seeds: 3, match: [gflops, latency], imgsz: 640, epochs: 100}
      early: {split: dev, seeds: 2, imgsz: 320, epochs: 8}

``match`` is optional and has the baseline trained at each arm's cost as well. All other keys of a form except ``split``
and ``seeds`` are training settings that the arms share.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pixelkeep.datasets.definitions.spec import read_mapping
from pixelkeep.errors import ModelError, OptionError, choices, nearest
from pixelkeep.experiments.dev_split import SPLITS, DevSplit
from pixelkeep.experiments.entrants import Entrant
from pixelkeep.experiments.equal import kinds_of
from pixelkeep.ultra.weights.definitions import resolve_model

BEST = re.compile(r"^best(?=-)")  # in a model's name: stands for the best family of the contrasts in best_of
KEYS = ("question", "data", "dev", "group", "baseline", "arms", "forms")  # keys that a contrast must have
OTHERS = ("best_of",)
NOTICE = {"early": "early training, no verdict"}  # shown with every result of the form


@dataclass(frozen=True)
class Form:
    """How thoroughly a contrast is run.

    Attributes:
        name: ``full`` or ``early``.
        split: Split that the answer is read from, ``dev`` or ``val``.
        seeds: Number of trainings of each arm.
        settings: Training settings that all arms share.
        match: Kinds of cost, ``gflops`` or ``latency``, at which the baseline is also matched to each other arm.
    """

    name: str
    split: str
    seeds: int
    settings: dict
    match: tuple[str, ...] = ()

    @property
    def notice(self) -> str | None:
        """Caveat to show with every result of this form; None if there is none."""
        return NOTICE.get(self.name)


@dataclass(frozen=True)
class Contrast:
    """One contrast as its file describes it: the name is the file's, the other attributes are its keys."""

    name: str
    question: str
    data: str
    dev: DevSplit
    group: str
    baseline: str
    arms: tuple[Entrant, ...]
    forms: dict[str, Form]
    best_of: tuple[str, ...] = ()

    def form(self, name: str) -> Form:
        """Return the form of a name.

        Raises:
            OptionError: The contrast has no such form.
        """
        if name not in self.forms:
            raise OptionError(f"contrast {self.name}: no form '{name}'; it has {choices(self.forms)}")
        return self.forms[name]

    def entrants(self, best: str | None) -> tuple[list[Entrant], dict[str, str]]:
        """Return the arms with ``best`` replaced by a family's name, and by name why other arms are left out.

        An arm is left out if the family has no such model; not every family has a P2 variant, for example.

        Args:
            best: The best family; None if no arm needs one.

        Raises:
            OptionError: The baseline is left out, or all other arms are.
        """
        there, left_out = [], {}
        for arm in self.arms:
            model = BEST.sub(best or "best", arm.model)
            if model != arm.model and not _exists(model):
                left_out[arm.name] = f"there is no {model}"
            else:
                there.append(Entrant(arm.name, model, arm.settings))
        if self.baseline in left_out or len(there) < 2:
            told = choices(f"{arm}: {why}" for arm, why in left_out.items())
            raise OptionError(f"nothing is left to compare with {best} as the best ({told})")
        return there, left_out


def _exists(model: str) -> bool:
    try:
        resolve_model(model)
    except ModelError:
        return False
    return True


def read_contrasts(folder: Path, names: list[str] | None = None) -> list[Contrast]:
    """Return the contrasts of a folder in the order of their names, all of them or those named.

    Raises:
        OptionError: A named contrast is not there, the folder has none, or a file cannot be used.
    """
    files = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    for name in names or ():
        if name not in files:
            raise OptionError(f"no contrast '{name}' in {folder}{nearest(name, files)} (there: {choices(files)})")
    if not files:
        raise OptionError(f"{folder}: no contrasts there; give a folder of YAML files")
    return [read_contrast(path) for name, path in files.items() if not names or name in names]


def read_contrast(path: Path) -> Contrast:
    """Read a contrast from a file.

    Raises:
        OptionError: The file lacks a key, has an unknown one, or a value cannot be used.
    """
    given = read_mapping(path)
    try:
        _check_keys(given, KEYS, OTHERS)
        dev = _dev(given["dev"])
        plain = {key: _text(given[key], key) for key in ("question", "data")} | {"group": _pattern(given["group"])}
        arms = tuple(_arm(str(name), value) for name, value in _mapping(given["arms"], "arms").items())
        forms = {str(name): _form(str(name), value) for name, value in _mapping(given["forms"], "forms").items()}
        best_of = _best_of(given.get("best_of"), path)
        baseline, names = str(given["baseline"]), [arm.name for arm in arms]
        if baseline not in names or len(arms) < 2:
            raise OptionError(f"baseline '{baseline}' must be one of two or more arms (there: {choices(names)})")
        if any(BEST.match(arm.model) for arm in arms) != bool(best_of):
            raise OptionError("'best' in a model's name and best_of belong together")
    except OptionError as error:
        raise OptionError(f"contrast {path}: {error}") from error
    return Contrast(path.stem, **plain, dev=dev, baseline=baseline, arms=arms, forms=forms, best_of=best_of)


def _check_keys(given: dict, needed: tuple[str, ...], others: tuple[str, ...] = (), told: str = "") -> None:
    if missing := [key for key in needed if given.get(key) in (None, "", {}, [])]:
        raise OptionError(f"{told}it lacks {choices(missing)}")
    for key in given:
        if key not in (*needed, *others):
            raise OptionError(f"{told}unknown key '{key}'{nearest(str(key), [*needed, *others])}")


def _mapping(value: object, told: str) -> dict:
    if not isinstance(value, dict):
        raise OptionError(f"{told}: '{value}'; give a mapping, NAME: VALUE")
    return value


def _text(value: object, told: str) -> str:
    if not isinstance(value, str):
        raise OptionError(f"{told}: '{value}' is not text")
    return value


def _pattern(value: object, told: str = "group") -> str:
    try:
        re.compile(_text(value, told))
    except re.error as error:
        raise OptionError(f"{told}: '{value}' is not a regular expression ({error})") from error
    return value


def _dev(given: object) -> DevSplit:
    given = _mapping(given, "dev")
    _check_keys(given, ("group",), ("share", "seed"), "dev: ")
    share, seed = given.get("share", DevSplit.share), given.get("seed", DevSplit.seed)
    if not isinstance(share, int | float) or not 0 < share < 1:
        raise OptionError(f"dev: share '{share}'; give a number between 0 and 1")
    if not _is_count(seed, 0):
        raise OptionError(f"dev: seed '{seed}'; give a whole number, 0 or more")
    return DevSplit(_pattern(given["group"], "dev: group"), share, seed)


def _arm(name: str, value: object) -> Entrant:
    settings = dict(value) if isinstance(value, dict) else {"model": value}
    model = settings.pop("model", None)
    if not isinstance(model, str):
        raise OptionError(f"arm {name}: its model is '{model}'; give a model's name, or {{model: NAME, KEY: VALUE}}")
    return Entrant(name, model, settings)


def _form(name: str, given: object) -> Form:
    if name not in ("full", "early"):
        raise OptionError(f"form '{name}': must be full or early")
    settings = dict(_mapping(given, f"form {name}"))
    split, seeds, match = (settings.pop(key, None) for key in ("split", "seeds", "match"))
    if split not in tuple(SPLITS) or not _is_count(seeds, 1):
        raise OptionError(f"form {name}: split '{split}' must be one of {choices(SPLITS)}, seeds ({seeds}) 1 or more")
    return Form(name, split, seeds, settings, kinds_of(match))


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _best_of(given: object, path: Path) -> tuple[str, ...]:
    """Return the contrasts that this one waits for; their names must sort before its own, so that they run first."""
    if given is None:
        return ()
    before = sorted(other.stem for other in path.parent.glob("*.yaml") if other.stem < path.stem)
    names = given if isinstance(given, list) else None
    if not names or any(name not in before for name in names):
        there = choices(before) or "none"
        raise OptionError(f"best_of: {given}; give a list of contrasts that come before {path.stem} ({there})")
    return tuple(names)


def best_family(means: dict[str, float | None]) -> str:
    """Return the family of the model with the highest mean AP_S on dev.

    Args:
        means: Mean AP_S by model name, scale letter included; None if it is undefined.

    Raises:
        OptionError: No model has a defined AP_S.
    """
    known = {model: mean for model, mean in means.items() if mean is not None}
    if not known:
        raise OptionError(f"none of {choices(means)} has an AP_S on dev: there is no best one")
    return max(known, key=lambda model: known[model]).rpartition("-")[0]
