"""What is wrong with a dataset, as findings in sentences, the worst first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pixelkeep.datasets.annotations.problems import LEFT_OUT, Problems
from pixelkeep.datasets.doctor.duplicates import Pair

ERROR, WARNING, NOTE = "error", "warning", "note"
LEVELS = (ERROR, WARNING, NOTE)  # metrics or training cannot be trusted; objects will be missed; for information
NAMED = 5  # number of things that a finding lists by name
TELLING = 0.01  # share of the objects that are lost from which on a loss is a finding
MANY = 0.1  # share of the objects that are smaller than a cell from which on this is a finding


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a dataset.

    Attributes:
        level: How serious it is: error, warning or note.
        kind: What it is about, as a fixed word: problem, refused, classes, duplicates, copies, groups, cells, anchors,
            augmentation or density.
        count: Number of cases: files, images, classes or objects.
        text: The finding in one or two sentences.
    """

    level: str
    kind: str
    count: int
    text: str


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings sorted by level, the worst first, and in their original order within a level."""
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def of_problems(problems: Problems, root: Path) -> list[Finding]:
    """Return a finding for each kind of problem that came up while a split was read."""
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
    """Return findings for classes without an object in some or all splits.

    Args:
        lopsided: For each such class the splits without an object of it.
        splits: All splits.
    """
    findings = []
    nowhere = [name for name, without in lopsided.items() if len(without) == len(splits)]
    if nowhere:
        text = f"No split has an object of {_named(nowhere)}: leave such classes out of the names"
        findings.append(Finding(ERROR, "classes", len(nowhere), text))
    meaning = {"train": "nothing is learnt about", "val": "there is no figure for", "test": "there is no figure for"}
    for split in splits:
        names = [name for name, without in lopsided.items() if split in without and name not in nowhere]
        if names:
            text = f"{split} has no object of {_named(names)}: {meaning[split]} {'it' if len(names) == 1 else 'them'}"
            findings.append(Finding(WARNING if split == "test" else ERROR, "classes", len(names), text))
    return findings


def of_duplicates(pairs: Sequence[Pair], totals: Mapping[str, int]) -> list[Finding]:
    """Return a finding for each two splits that share nearly the same images.

    Args:
        pairs: The nearly equal images of different splits.
        totals: Number of images of each split.
    """
    findings = []
    for first, second in dict.fromkeys(pair.splits for pair in pairs):
        own = [pair for pair in pairs if pair.splits == (first, second)]
        count = len({pair.second for pair in own})
        text = (
            f"{second}: {count:,} of {totals[second]:,} images are nearly the same as {first} images, the first: "
            f"{own[0].second.name} and {own[0].first.name} (duplicates.jpg). Figures on {second} will be too good: "
            "split by film, flight or place, not by image"
        )
        findings.append(Finding(ERROR, "duplicates", count, text))
    return findings


def of_copies(groups: Mapping[str, Sequence[Sequence[Path]]]) -> list[Finding]:
    """Return a finding for each split that has files several times under different names.

    Args:
        groups: For each split the groups of equal files.
    """
    findings = []
    for split, found in groups.items():
        count = sum(len(group) - 1 for group in found)
        if count:
            first = " and ".join(path.name for path in found[0][:2])
            text = f"{split}: {count:,} images are copies of others, the first: {first}. They count more than once"
            findings.append(Finding(WARNING, "copies", count, text))
    return findings


def of_groups(shared: Mapping[str, Mapping[str, int]], unmatched: int) -> list[Finding]:
    """Return findings for groups of images that occur in several splits, and for file names without a group.

    Args:
        shared: For each group in several splits its number of images by split.
        unmatched: Number of file names that the pattern does not match.
    """
    findings = []
    if shared:
        shown = [
            f"{name} ({', '.join(f'{count} {split}' for split, count in counts.items())})"
            for name, counts in shared.items()
        ]
        text = f"{len(shared):,} groups are in several splits: {_named(shown)}. Put each into one"
        findings.append(Finding(ERROR, "groups", len(shared), text))
    if unmatched:
        findings.append(Finding(NOTE, "groups", unmatched, f"{unmatched:,} file names do not match --group"))
    return findings


def of_sizes(under: float, cell: int, total: int) -> list[Finding]:
    """Return a finding if many objects are smaller than a cell of the finest level.

    Args:
        under: Share of the objects that are smaller than a cell.
        cell: Side of a cell in network pixels.
        total: Number of objects.
    """
    if under < MANY:
        return []
    text = f"{under:.0%} of the objects are smaller than a cell of the finest level ({cell} px of the network's input)"
    return [Finding(WARNING, "cells", round(under * total), text)]


def of_anchors(missing: int, total: int) -> list[Finding]:
    """Return a finding if ``missing`` of ``total`` objects cannot have an anchor; an empty list if none is missing."""
    if not missing:
        return []
    text = (
        f"{missing:,} of {total:,} train objects get no anchor even at best: they are too close together for the "
        "cells there are, and are trained as background"
    )
    return [Finding(WARNING, "anchors", missing, text)]


def of_augmentation(ever: float, views: float, scale: float, limit: float, total: int) -> list[Finding]:
    """Return a finding if random scaling takes small objects out of the labels.

    Args:
        ever: Share of the objects to which this can happen.
        views: Share of all augmented views of objects in which it happens.
        scale: The setting ``scale`` of the augmentation.
        limit: Length in pixels that both sides of a box must exceed.
        total: Number of objects.
    """
    if ever < TELLING:
        return []
    text = (
        f"{ever:.0%} of the train objects can shrink to {limit:g} px or less in augmentation (scale {scale:g}), in "
        f"{views:.1%} of all views: the training ignores them there; a smaller --set scale=... keeps more"
    )
    return [Finding(WARNING, "augmentation", round(ever * total), text)]


def of_density(densest: int, over: Mapping[int, int], limit: int) -> list[Finding]:
    """Return a finding if images hold more objects than the usual limits of detections per image.

    Args:
        densest: Number of objects in the densest image.
        over: For each usual limit the number of images with more objects.
        limit: Number of detections per image that this project's commands keep.
    """
    broken = [most for most, images in over.items() if images]
    if not broken:
        return []
    parts = ", ".join(f"more than {most} in {over[most]:,} of the images" for most in broken)
    text = f"The densest image holds {densest:,} objects ({parts}); our commands keep {limit:,} detections an image"
    level = WARNING if max(broken) == max(over) else NOTE
    return [Finding(level, "density", over[broken[0]], text)]


def of_flat(count: int) -> list[Finding]:
    """Return a finding if ``count`` images are too even to be compared; an empty list if there are none."""
    if not count:
        return []
    return [Finding(NOTE, "duplicates", count, f"{count:,} images are too uniform to be compared with others")]


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
