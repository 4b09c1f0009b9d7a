"""Keeps in ``grid.json`` what the cells of a comparison were trained with, so that no others get into its folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pixelkeep.datasets.definitions.spec import DatasetSpec
from pixelkeep.datasets.loading import load_split
from pixelkeep.errors import OptionError, choices
from pixelkeep.evaluation import sha256 as truth_sha
from pixelkeep.ultra.commands import training
from pixelkeep.ultra.data.truth import build_truth
from pixelkeep.ultra.running import runs
from pixelkeep.ultra.running.settings import default_of
from pixelkeep.ultra.weights.checkpoints import check_weights, is_checkpoint

# Settings that cells do not share, that are identified otherwise, or that have no effect on the figures.
APART = ("model", "seed", "data", "path", "plots", "verbose", *training.PLACE, *training.MACHINE)
FILE, PARTS = "grid.json", ("settings", "data", "models")
OWN = "own"  # part of the file: settings that single arms have of their own, by arm
MATCHED = "matched"  # part of the file: arms at equal cost, see pixelkeep.experiments.equal


def identify(definitions: dict[str, str], settings: dict, spec: DatasetSpec) -> tuple[dict, dict]:
    """Return the ground truth of the validation split, and the identity: everything that decides the cells' outcome.

    Args:
        definitions: Hash of the model by arm, see `sha`.
        settings: Training settings that all cells share.
        spec: The dataset.

    Raises:
        OptionError: ``fraction`` is a list, which would shorten the validation too.
    """
    if isinstance(settings.get("fraction"), list):
        raise OptionError(f"fraction: {settings['fraction']}; give one number, so that validation uses all images")
    shared = {key: value for key, value in settings.items() if key not in APART and default_of(key) != value}
    weights = shared.get("pretrained")
    if isinstance(weights, str):
        shared["pretrained"] = sha(check_weights(weights), {})
    only = {key: settings[key] for key in ("classes", "single_cls") if settings.get(key) is not None}
    truths = {split: build_truth(load_split(spec, split).records, spec, **only)[0] for split in ("train", "val")}
    shas = {split: truth_sha(truth) for split, truth in truths.items()}
    return truths["val"], {"settings": shared, "data": shas, "models": definitions}


def sha(model: str | Path, definition: dict) -> str:
    """Return the SHA-256 of a checkpoint's file, or of the definition if the model is not a checkpoint."""
    path = Path(model)
    content = path.read_bytes() if is_checkpoint(path) else json.dumps(definition, sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()


def place(project: str | None, name: str | None, identity: dict) -> Path:
    """Return the folder of a comparison, made if needed, with the identity written to it.

    Args:
        project: Folder of the comparisons; ``runs/compare`` by default.
        name: Name of the comparison. By default the first numbered ``exp`` folder that is new or has this identity.
        identity: What `identify` returns, with the arms' own settings.

    Raises:
        OptionError: The named folder holds cells of another identity, or no number is free.
    """
    base = Path(project) if project else runs.RUNS / "compare"
    for number in range(1, 100_000):
        folder = base / (name or ("exp" if number == 1 else f"exp{number}"))
        known = _known(folder)
        differences = _differences(known, identity)
        if not differences:
            break
        if name:
            raise OptionError(
                f"{folder} cannot be continued: {choices(differences)}; give what was given before, or another --name"
            )
    else:
        raise OptionError(f"cannot create a run folder {base / 'exp'}: all numbers up to 100000 are taken")
    with runs.storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
        kept = {part: known.get(part, {}) | identity.get(part, {}) for part in ("models", OWN)}
        kept[MATCHED] = known.get(MATCHED, {})
        runs.write_json(folder / FILE, identity | kept)
    return folder.resolve()


def read_matched(folder: Path) -> dict:
    """Return the arms at equal cost that a comparison's folder records, by kind of cost."""
    return json.loads((folder / FILE).read_text(encoding="utf-8"))[MATCHED]


def write_matched(folder: Path, matched: dict) -> None:
    """Record arms at equal cost; kinds of cost that are not given stay as they are."""
    known = json.loads((folder / FILE).read_text(encoding="utf-8"))
    runs.write_json(folder / FILE, known | {MATCHED: known[MATCHED] | matched})


def _known(folder: Path) -> dict:
    """Return the identity of the cells in a folder; empty if there are none, ``foreign`` if it cannot be read."""
    file = folder / FILE
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return {}
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"foreign": f"it has no readable {FILE}, so it is something else"}
    whole = isinstance(known, dict) and all(isinstance(known.get(part), dict) for part in PARTS)
    return known if whole else {"foreign": f"its {FILE} is damaged"}


def _differences(known: dict, now: dict) -> list[str]:
    """Describe the differences between two identities in settings, data and the arms that both have."""
    if not known or "foreign" in known:
        return [known["foreign"]] if known else []
    told = []
    before, after = known["settings"], now["settings"]
    for key in sorted(key for key in {*before, *after} if before.get(key) != after.get(key)):
        told.append(f"{key} was {_shown(key, before)} and is {_shown(key, after)}")
    for part, what in (("data", "the data of split"), ("models", "the definition of")):
        changed = [key for key in known[part] if key in now[part] and known[part][key] != now[part][key]]
        told += [f"{what} {key} has changed" for key in changed]
    own = known.get(OWN, {}), now.get(OWN, {})
    both = [arm for arm in known["models"] if arm in now["models"]]
    told += [
        f"the settings of {arm} were {_listed(own[0].get(arm))} and are {_listed(own[1].get(arm))}"
        for arm in both
        if own[0].get(arm) != own[1].get(arm)
    ]
    return told


def _listed(settings: dict | None) -> str:
    return choices(f"{key}={value}" for key, value in (settings or {}).items()) or "those of all arms"


def _shown(key: str, settings: dict) -> str:
    value = settings.get(key, default_of(key))
    return f"{value[:8]}..." if isinstance(value, str) and len(value) == 64 else str(value)  # hashes
