"""What is wrong with a dataset, as lines for people, the worst first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pixelkeep.datasets.annotations.problems import LEFT_OUT, Problems
from pixelkeep.datasets.doctor.duplicates import Pair

ERROR, WARNING, NOTE = "error", "warning", "note"
LEVELS = (ERROR, WARNING, NOTE)  # figures or training cannot be trusted; objects will be missed; to be known
NAMED = 5  # things of a kind that a line names
TELLING = 0.01  # share of the objects from which a loss is worth a line
MANY = 0.1  # share of the objects under a cell from which it is worth one


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        level: error, warning or note.
        kind: What it is about, in a word that does not change: problem, refused, classes, duplicates, copies, groups,
            cells, anchors, augmentation or density.
        count: How many cases: files, images, classes or objects.
        text: One sentence or two.
    """

    level: str
    kind: str
    count: int
    text: str


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings with the worst first, else in their order."""
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def of_problems(problems: Problems, root: Path) -> list[Finding]:
    """Return a finding for each kind of problem that reading a split met."""
    counts = Counter((p.effect, p.kind) for p in problems.found)
    findings = []
    for (effect, kind), count in counts.items():
        first = next(p for p in problems.found if (p.effect, p.kind) == (effect, kind))
        where = str(first).replace(f"{root}/", "")
        first_or_it = "the first: " if count > 1 else ""
        text = f"{problems.split}: {kind} ({count:,}), {effect} ({first_or_it}{where})"
        findings.append(Finding(ERROR if effect == LEFT_OUT else NOTE, "problem", count, text))
    return findings


def of_refused(split: str, reason: str) -> Finding:
    """Return the finding for a split that cannot be used at all."""
    return Finding(ERROR, "refused", 1, f"{split} cannot be used: {reason}")


def of_classes(lopsided: Mapping[str, Sequence[str]], splits: Sequence[str]) -> list[Finding]:
    """Return findings for classes that splits have no object of.

    Args:
        lopsided: For each class the splits without it.
        splits: All of them.
    """
    findings = []
    nowhere = [name for name, without in lopsided.items() if len(without) == len(splits)]
    if nowhere:
        text = f"No split has an object of {_named(nowhere)}: leave such classes out of the names"
        findings.append(Finding(ERROR, "classes", len(nowhere), text))
    meaning = {"train": "nothing can be learnt of", "val": "there is no figure for", "test": "there is no figure for"}
    for split in splits:
        names = [name for name, without in lopsided.items() if split in without and name not in nowhere]
        if names:
            text = f"{split} has no object of {_named(names)}: {meaning[split]} {'it' if len(names) == 1 else 'them'}"
            findings.append(Finding(WARNING if split == "test" else ERROR, "classes", len(names), text))
    return findings


def of_duplicates(pairs: Sequence[Pair], totals: Mapping[str, int]) -> list[Finding]:
    """Return findings for images that are nearly the same in two splits."""
    findings = []
    for first, second in dict.fromkeys(pair.splits for pair in pairs):
        own = [pair for pair in pairs if pair.splits == (first, second)]
        count = len({pair.second for pair in own})
        text = (
            f"{second}: nearly the same as {first} images are {count:,} of {totals[second]:,}, the first: "
            f"{own[0].second.name} and {own[0].first.name} (duplicates.jpg). Figures on {second} will be too good: "
            "split by film, flight or place, not by image"
        )
        findings.append(Finding(ERROR, "duplicates", count, text))
    return findings


def of_copies(groups: Mapping[str, Sequence[Sequence[Path]]]) -> list[Finding]:
    """Return findings for files that a split has several times under different names."""
    findings = []
    for split, found in groups.items():
        count = sum(len(group) - 1 for group in found)
        if count:
            first = " and ".join(path.name for path in found[0][:2])
            text = f"{split}: {count:,} images are copies of others, the first: {first}. They weigh more than once"
            findings.append(Finding(WARNING, "copies", count, text))
    return findings


def of_groups(shared: Mapping[str, Mapping[str, int]], unmatched: int) -> list[Finding]:
    """Return findings for groups that stand in several splits."""
    findings = []
    if shared:
        shown = [
            f"{name} ({', '.join(f'{count} {split}' for split, count in counts.items())})"
            for name, counts in shared.items()
        ]
        text = f"{len(shared):,} groups stand in several splits: {_named(shown)}. Put each into one"
        findings.append(Finding(ERROR, "groups", len(shared), text))
    if unmatched:
        findings.append(Finding(NOTE, "groups", unmatched, f"{unmatched:,} file names do not match --group"))
    return findings


def of_sizes(under: float, cell: int, total: int) -> list[Finding]:
    """Return a finding if many objects are smaller than a cell of the finest level.

    Args:
        under: Share of the objects.
        cell: Pixels.
        total: Objects.
    """
    if under < MANY:
        return []
    text = f"{under:.0%} of the objects are smaller than a cell of the finest level ({cell} px of the network's input)"
    return [Finding(WARNING, "cells", round(under * total), text)]


def of_anchors(missing: int, total: int) -> list[Finding]:
    """Return a finding if objects can have no anchor."""
    if not missing:
        return []
    text = (
        f"{missing:,} of {total:,} train objects get no anchor even at best: they stand too close for the cells there "
        "are, and are trained as background"
    )
    return [Finding(WARNING, "anchors", missing, text)]


def of_augmentation(ever: float, views: float, scale: float, limit: float, total: int) -> list[Finding]:
    """Return a finding if random scaling takes small objects out of the labels.

    Args:
        ever: Share of the objects that this can happen to.
        views: Share of all views of objects in which it happens.
        scale: The setting.
        limit: Pixels that both sides must exceed.
        total: Objects.
    """
    if ever < TELLING:
        return []
    text = (
        f"{ever:.0%} of the train objects can shrink to {limit:g} px or less in augmentation (scale {scale:g}), in "
        f"{views:.1%} of all views: there they are ignored, not taught; a smaller --set scale=... keeps more"
    )
    return [Finding(WARNING, "augmentation", round(ever * total), text)]


def of_density(densest: int, over: Mapping[int, int], limit: int) -> list[Finding]:
    """Return a finding if images hold more objects than usual limits let through.

    Args:
        densest: Objects of the densest image.
        over: For each usual limit, how many images have more objects.
        limit: What our commands keep.
    """
    broken = [most for most, images in over.items() if images]
    if not broken:
        return []
    parts = ", ".join(f"more than {most} in {over[most]:,} of the images" for most in broken)
    text = f"The densest image holds {densest:,} objects ({parts}); our commands keep {limit:,} detections an image"
    level = WARNING if max(broken) == max(over) else NOTE
    return [Finding(level, "density", over[broken[0]], text)]


def of_flat(count: int) -> list[Finding]:
    """Return a finding if images are too even to be compared."""
    if not count:
        return []
    return [Finding(NOTE, "duplicates", count, f"{count:,} images are too even to be compared with others")]


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
