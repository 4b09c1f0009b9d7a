"""The arms of a comparison at equal cost: looked for once, kept in ``grid.json``, and made again from there.

A comparison that goes on uses the arms that it began with, also where another measurement of latency would choose
others. What has been found for one variant serves for the others that cost as much. Where costs are to be equal in
several ways, a variant is set against the arms of all of them at once.
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
    """What the baseline becomes to cost as much as each variant.

    Attributes:
        by: ``gflops`` or ``latency``.
        arms: By name, each once.
        variants: By variant, how many times the baseline it costs, and the names of its arms with their multiples of
            its cost; as in ``grid.json``.
        device: What latency was measured on; None for GFLOPs.
    """

    by: str
    arms: dict[str, Arm]
    variants: dict[str, dict]
    device: str | None

    def to_dict(self) -> dict:
        """Return what the document of the comparison says of it."""
        return {"by": self.by, "tolerance": TOLERANCE, "device": self.device, "variants": self.variants}

    def rivals(self, baseline: str) -> dict[str, list[str]]:
        """Return by variant what it is set against at once: whatever of the baseline costs no more than it does.

        A variant that costs less than the baseline is not set against the baseline itself, nor is one that costs as
        much: that difference has its verdict already.
        """
        found = {}
        for variant, entry in self.variants.items():
            plain = [baseline] if entry["times"] > 1 else []
            if entry["arms"]:
                found[variant] = [*plain, *entry["arms"]]
        return found

    def off(self, variant: str) -> list[str]:
        """Say which of a variant's arms cost not quite as much."""
        ratios = {name: made["ratio"] for name, made in self.variants[variant]["arms"].items()}
        return [f"{name} at {r:.2f} times the {UNITS[self.by]}" for name, r in ratios.items() if not near(r)]


@dataclass(frozen=True)
class Several:
    """The same in several ways: the arms of each, and a variant against all that costs no more in one of them."""

    parts: tuple[Equal, ...]

    @property
    def arms(self) -> dict[str, Arm]:
        return {name: arm for part in self.parts for name, arm in part.arms.items()}

    def to_dict(self) -> dict:
        """Return what the document of the comparison says of it: all ways in ``by``, and each of them in ``parts``."""
        return {"by": "+".join(part.by for part in self.parts), "parts": [part.to_dict() for part in self.parts]}

    def rivals(self, baseline: str) -> dict[str, list[str]]:
        """Return by variant what it is set against at once."""
        every = [part.rivals(baseline) for part in self.parts]
        variants = dict.fromkeys(variant for rivals in every for variant in rivals)
        return {v: list(dict.fromkeys(name for rivals in every for name in rivals.get(v, ()))) for v in variants}

    def off(self, variant: str) -> list[str]:
        """Say which of a variant's arms cost not quite as much in the way that they are for."""
        return [told for part in self.parts for told in part.off(variant)]


def kinds_of(match: object) -> tuple[str, ...]:
    """Return in which ways costs are to be equal: of one, a list of them, or None.

    >>> kinds_of("gflops"), kinds_of(["gflops", "latency"]), kinds_of(None)
    (('gflops',), ('gflops', 'latency'), ())

    Raises:
        OptionError: There is no such way.
    """
    kinds = match if isinstance(match, list | tuple) else [] if match is None else [match]
    odd = [kind for kind in kinds if kind not in tuple(UNITS)]
    if odd or len(set(kinds)) < len(kinds):
        raise OptionError(f"match: '{odd[0] if odd else kinds}'; give one of {choices(UNITS)}, or a list of both")
    return tuple(kinds)


def find_equal(
    folder: Path, by: str, baseline: Baseline, variants: dict[str, dict], data: tuple[int, int], device: str | None
) -> Equal:
    """Look for what the baseline becomes to cost as much as each variant, where it is not known yet.

    Args:
        folder: Of the comparison.
        by: ``gflops`` or ``latency``.
        baseline: What is changed.
        variants: Definitions by name.
        data: Channels of the images, and number of classes.
        device: What latency is measured on; as for training by default.
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
    """Return where the definition of an arm of another width is."""
    return folder / name / f"{name}.yaml"


def _cost(by: str, target: Network, data: tuple[int, int], device: str | None) -> Compute | Latency:
    kinds: dict[str, Callable[[], Compute | Latency]] = {
        "gflops": lambda: Compute(target, *data),
        "latency": lambda: Latency(target, *data, device),
    }
    return kinds[by]()


def _search(baseline: Baseline, cost: Compute | Latency, arms: dict[str, Arm]) -> dict:
    """Return the entry of a variant, and add its arms to those that are known."""
    own, found = match(baseline, cost, arms.values())
    arms |= {arm.name: arm for arm, _ in found}
    made = {arm.name: arm.to_dict() | {"ratio": ratio} for arm, ratio in found}
    return {"baseline": baseline.name, "times": 1 / own, "device": cost.device, "arms": made}


def _told(name: str, entry: dict, by: str) -> str:
    arms = [f"{arm} ({made['ratio']:.2f} of it)" for arm, made in entry["arms"].items()]
    told = f"{name} has {entry['times']:.2f} times the {UNITS[by]} of {entry['baseline']}"
    return f"{told}: {', '.join(arms)}" if arms else told
