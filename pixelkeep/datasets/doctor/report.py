"""Facts of the doctor's document on splits, sizes and duplicates, as `pixelkeep doctor --json` prints them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pixelkeep.datasets.annotations.problems import LEFT_OUT, MENDED, NOTED
from pixelkeep.datasets.doctor.advice import reached
from pixelkeep.datasets.doctor.duplicates import NEAR, Fingerprint, Pair
from pixelkeep.datasets.doctor.sizes import BORDERS, MARKS, Objects, size_table
from pixelkeep.datasets.loading import Split

PAIRS = 1000  # largest number of pairs that the document lists; there may be more


def split_facts(split: Split, objects: Objects, names: Mapping[int, str]) -> dict[str, Any]:
    """Return the counts of a split: images, objects, problems by effect, objects per image and objects per class."""
    effects = [problem.effect for problem in split.problems.found]
    counts = objects.counts
    return {
        "images": len(split.records),
        "objects": len(objects.image),
        "background": int((counts == 0).sum()),
        "difficult": int(sum(record.difficult.sum() for record in split.records)),
        "regions": sum(len(record.regions) for record in split.records),
        LEFT_OUT.replace(" ", "_"): len(split.problems.left_out),
        MENDED: effects.count(MENDED),
        NOTED: effects.count(NOTED),
        "per_image": {"median": float(np.median(counts)), "max": int(counts.max())},
        "classes": class_counts(objects, names),
    }


def class_counts(objects: Objects, names: Mapping[int, str]) -> dict[str, int]:
    """Return the number of objects of each class, by class name."""
    counts = np.bincount(objects.classes, minlength=len(names))
    return {f"{name}": int(counts[index]) for index, name in names.items()}


def size_facts(original: np.ndarray, shown: np.ndarray, strides: Sequence[int], goal: float) -> dict[str, Any]:
    """Return statistics of object sizes in original and in network pixels.

    Args:
        original: Sizes of the objects (n,), square roots of their areas, in original pixels.
        shown: The same sizes (n,) in network pixels.
        strides: Strides of the head's levels.
        goal: Size in network pixels that objects should reach.
    """
    return {
        "original": size_table(original, MARKS),
        "network": size_table(shown, sorted({*MARKS, *strides})),
        "goal": goal,
        "above_goal": reached(shown, goal),
        "bins": [
            {"low": low, "high": high, "objects": int(inside.sum()), "above_goal": _share(shown[inside], goal)}
            for low, high in zip(BORDERS, [*BORDERS[1:], None], strict=True)
            for inside in [(original >= low) & (original < (high or np.inf))]
        ],
    }


def _share(shown: np.ndarray, goal: float) -> float | None:
    return reached(shown, goal) if len(shown) else None


def duplicate_facts(
    pairs: Sequence[Pair], groups: Mapping[str, Sequence[Sequence[Path]]], found: Mapping[Path, Fingerprint], root: Path
) -> dict[str, Any]:
    """Return the near-duplicates across splits and the copies within splits, with paths relative to ``root``."""
    return {
        "bits": NEAR,
        "count": len(pairs),
        "pairs": [
            {
                "first": _shown(pair.first, root),
                "second": _shown(pair.second, root),
                "splits": list(pair.splits),
                "distance": pair.distance,
            }
            for pair in pairs[:PAIRS]
        ],
        "copies": {
            split: [[_shown(path, root) for path in group] for group in copies] for split, copies in groups.items()
        },
        "too_even": sum(not fingerprint.bits for fingerprint in found.values()),
    }


def _shown(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
