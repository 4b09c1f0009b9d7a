"""The arms of a comparison at equal cost: searched for once, kept in ``grid.json``, and rebuilt from there.

A comparison that is resumed keeps the arms that it began with, even if another measurement of latency would choose
others. An arm found for one variant is reused for other variants of the same cost. If costs are matched in several
kinds, a variant is compared with the arms of all kinds at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ultralytics.utils import LOGGER

from pixelkeep.errors import OptionError, choices
from pixelkeep.experiments.identity import read_matched, write_matched
from pixelkeep.experiments.matching import TOLERANCE, WIDTH, Arm, Baseline, match, near
from pixelkeep.ultra.costs.multiples import Compute, Latency, Network
from pixelkeep.ultra.running import runs

UNITS = {"gflops": "GFLOPs", "latency": "latency"}


@dataclass(frozen=True)
class Equal:
    """The arms into which the baseline is changed to cost as much as each variant, for one kind of cost.

    Attributes:
        by: Kind of cost, ``gflops`` or ``latency``.
        arms: The arms by name, each once even if several variants use it.
        variants: By variant, its cost as a multiple of the baseline's, and its arms by name with their cost as a
            multiple of the variant's; as in ``grid.json``.
        device: Name of the device that latency was measured on; None for GFLOPs.
    """

    by: str
    arms: dict[str, Arm]
    variants: dict[str, dict]
    device: str | None

    def to_dict(self) -> dict:
        """Return the document's part on equal cost."""
        return {"by": self.by, "tolerance": TOLERANCE, "device": self.device, "variants": self.variants}

    def rivals(self, baseline: str) -> dict[str, list[str]]:
        """Return by variant its rivals: all forms of the baseline that cost no more, to be compared with at once.

        The baseline itself is a rival only of variants that cost more than it. Variants that cost less or as much are
        not set against it here: that difference has its verdict already.
        """
        found = {}
        for variant, entry in self.variants.items():
            plain = [baseline] if entry["times"] > 1 else []
            if entry["arms"]:
                found[variant] = [*plain, *entry["arms"]]
        return found

    def off(self, variant: str) -> list[str]:
        """Describe the arms of a variant whose cost is not within `TOLERANCE` of its own."""
        ratios = {name: made["ratio"] for name, made in self.variants[variant]["arms"].items()}
        return [f"{name} at {r:.2f} times the {UNITS[self.by]}" for name, r in ratios.items() if not near(r)]


@dataclass(frozen=True)
class Several:
    """Equal cost in several kinds: a variant is compared at once with all that costs no more in one of the kinds."""

    parts: tuple[Equal, ...]

    @property
    def arms(self) -> dict[str, Arm]:
        return {name: arm for part in self.parts for name, arm in part.arms.items()}

    def to_dict(self) -> dict:
        """Return the document's part on equal cost: the kinds joined in ``by``, one entry for each in ``parts``."""
        return {"by": "+".join(part.by for part in self.parts), "parts": [part.to_dict() for part in self.parts]}

    def rivals(self, baseline: str) -> dict[str, list[str]]:
        """Return by variant its rivals of all kinds of cost, each once."""
        every = [part.rivals(baseline) for part in self.parts]
        variants = dict.fromkeys(variant for rivals in every for variant in rivals)
        return {v: list(dict.fromkeys(name for rivals in every for name in rivals.get(v, ()))) for v in variants}

    def off(self, variant: str) -> list[str]:
        """Describe the arms of a variant that are not within `TOLERANCE` of its cost in the kind that they match."""
        return [told for part in self.parts for told in part.off(variant)]


def kinds_of(match: object) -> tuple[str, ...]:
    """Return the kinds of cost to match as a tuple; ``match`` is one kind, a list of kinds, or None.

    >>> kinds_of("gflops"), kinds_of(["gflops", "latency"]), kinds_of(None)
    (('gflops',), ('gflops', 'latency'), ())

    Raises:
        OptionError: A kind is unknown or given twice.
    """
    kinds = match if isinstance(match, list | tuple) else [] if match is None else [match]
    odd = [kind for kind in kinds if kind not in tuple(UNITS)]
    if odd or len(set(kinds)) < len(kinds):
        raise OptionError(f"match: '{odd[0] if odd else kinds}'; give one of {choices(UNITS)}, or a list of both")
    return tuple(kinds)


def find_equal(
    folder: Path, by: str, baseline: Baseline, variants: dict[str, dict], data: tuple[int, int], device: str | None
) -> Equal:
    """Find the arms into which the baseline is changed to cost as much as each variant.

    Arms kept in the folder's ``grid.json`` are used as they are; only for other variants is there a search.

    Args:
        folder: Folder of the comparison.
        by: Kind of cost, ``gflops`` or ``latency``.
        baseline: The baseline to change.
        variants: Model definitions by name.
        data: Channels of the images, and number of classes.
        device: Device that latency is measured on; None chooses as for training.
    """
    known = read_matched(folder).get(by, {})
    entries = {name: entry for name, entry in known.items() if entry["baseline"] == baseline.name}
    arms: dict[str, Arm] = {}
    for entry in entries.values():
        arms |= {name: baseline.remake(made) for name, made in entry["arms"].items()}
    for name, definition in variants.items():
        if name not in entries:
            LOGGER.info(f"looking for {baseline.name} at the {UNITS[by]} of {name}")
            entries[name] = _search(baseline, _cost(by, (definition, baseline.size), data, device), arms)
            write_matched(folder, {by: known | entries})
            LOGGER.info(_told(name, entries[name], by))
    chosen = {name: entries[name] for name in variants}
    used = {name: arms[name] for entry in chosen.values() for name in entry["arms"]}
    for arm in used.values():
        if arm.kind == WIDTH:
            file = model_file(folder, arm.name)
            file.parent.mkdir(parents=True, exist_ok=True)
            runs.write_yaml(file, arm.definition)
    return Equal(by, used, chosen, next((entry["device"] for entry in chosen.values()), None))


def model_file(folder: Path, name: str) -> Path:
    """Return the path of the model YAML of an arm of another width."""
    return folder / name / f"{name}.yaml"


def _cost(by: str, target: Network, data: tuple[int, int], device: str | None) -> Compute | Latency:
    kinds: dict[str, Callable[[], Compute | Latency]] = {
        "gflops": lambda: Compute(target, *data),
        "latency": lambda: Latency(target, *data, device),
    }
    return kinds[by]()


def _search(baseline: Baseline, cost: Compute | Latency, arms: dict[str, Arm]) -> dict:
    """Search the arms of a variant, add them to ``arms``, and return the variant's entry."""
    own, found = match(baseline, cost, arms.values())
    arms |= {arm.name: arm for arm, _ in found}
    made = {arm.name: arm.to_dict() | {"ratio": ratio} for arm, ratio in found}
    return {"baseline": baseline.name, "times": 1 / own, "device": cost.device, "arms": made}


def _told(name: str, entry: dict, by: str) -> str:
    arms = [f"{arm} ({made['ratio']:.2f} of it)" for arm, made in entry["arms"].items()]
    told = f"{name} has {entry['times']:.2f} times the {UNITS[by]} of {entry['baseline']}"
    return f"{told}: {', '.join(arms)}" if arms else told
