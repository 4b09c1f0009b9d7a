"""Carries the weights of a detection head over: box branches by level, classes by name."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import nn
from ultralytics.nn.modules import Detect

from pixelkeep.errors import DataError, choices
from pixelkeep.report.conversion import FRESH, PARTLY, TAKEN, Carried

BOX, CLASS = ("cv2", "one2one_cv2"), ("cv3", "one2one_cv3")


def carry_head(
    source: Detect, target: Detect, known: dict[int, str], wanted: dict[int, str]
) -> tuple[list[Carried], list[str]]:
    """Carry the weights of a head over, in place.

    Args:
        source: The source's head.
        target: The target's head.
        known: The source's class names by number.
        wanted: The target's class names by number. A class that both networks have keeps the weights that compute its
            logits; see `same_classes`.

    Returns:
        What became of each level's branches, and the levels of the source that the target does not have.

    Raises:
        DataError: A class of the target may be any of several classes of the source.
    """
    rows = same_classes(known, wanted)
    levels = {int(stride): index for index, stride in enumerate(source.stride)}
    report = []
    for index, stride in enumerate(target.stride):
        level = f"head P{int(stride).bit_length() - 1}"
        place = levels.pop(int(stride), None)
        for names, what, carry in ((BOX, "box", _carry_box), (CLASS, "class", _carry_class)):
            branches = [getattr(target, name) for name in names if getattr(target, name, None) is not None]
            given = [getattr(source, name, None) for name in names[: len(branches)]]
            carried = Carried(f"{level} {what}", "Detect", FRESH, 0, 0, False)
            if place is None or any(branch is None for branch in given):
                carried.note = "the source has no such level" if place is None else "the source has no such branch"
            else:
                done = [carry(g[place], b, index, rows, wanted) for g, b in zip(given, branches, strict=True)]
                carried.taken = sum(taken for taken, _, _ in done)
                carried.exact = all(whole for _, whole, _ in done) and source.reg_max == target.reg_max
                carried.note = next((note for _, _, note in done if note), "")
                carried.how = TAKEN if carried.exact else PARTLY if carried.taken else FRESH
            carried.parameters = sum(p.numel() for branch in branches for p in branch[index].parameters())
            report.append(carried)
    if getattr(source, BOX[1], None) is not None:
        target.end2end = source.end2end  # decides which of the two branches the network outputs
    return report, [f"head P{stride.bit_length() - 1}" for stride in levels]


def same_classes(known: dict[int, str], wanted: dict[int, str]) -> list[int]:
    """Return for each wanted class its number among the known classes, or -1 if it is new.

    The same names in the same order are the same classes. Otherwise each name is looked up as it is written, and then,
    among the names that are left, without regard to case and surrounding spaces.

    Raises:
        DataError: A name matches several classes, or several names match one class.
    """
    if list(known.values()) == list(wanted.values()):
        return list(range(len(known)))
    rows = dict.fromkeys(wanted, -1)
    for form in (str, lambda name: name.strip().casefold()):
        theirs = {number: name for number, name in known.items() if number not in rows.values()}
        ours = {number: name for number, name in wanted.items() if rows[number] < 0}
        for number, name in ours.items():
            alike = [other for other, known_as in theirs.items() if form(known_as) == form(name)]
            if not alike:
                continue
            rivals = [called for called in ours.values() if form(called) == form(name)]
            if len(alike) > 1 or len(rivals) > 1:
                there = choices(repr(theirs[other]) for other in alike)
                told = f"{choices(map(repr, rivals))} of the data may be {there} of the weights"
                raise DataError(f"names: {told}; write the names of classes as the weights have them")
            rows[number] = alike[0]
    return list(rows.values())


def _shapes(module: nn.Module) -> dict[str, tuple]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def _carry_box(source: nn.Module, branch: nn.ModuleList, index: int, *_: Any) -> tuple[int, bool, str]:
    """Copy a box branch; return how many parameters were taken, whether these are all, and if not, why."""
    if _shapes(source) != _shapes(branch[index]):
        return 0, False, "different widths"
    branch[index].load_state_dict(source.state_dict())
    _copy_eps(source, branch[index])
    return sum(p.numel() for p in source.parameters()), True, ""


def _carry_class(
    source: nn.Module, branch: nn.ModuleList, index: int, rows: list[int], wanted: dict[int, str]
) -> tuple[int, bool, str]:
    """Copy a class branch with the source's output row of each class; hidden layers keep the source's width.

    Returns:
        How many parameters were taken, whether the branch is the same as the source's, and if not, why.
    """
    target = branch[index]
    if _shapes(source).keys() != _shapes(target).keys() or _reads(source) != _reads(target):
        return 0, False, "different layers"
    own, fresh = target[-1], deepcopy(source)
    fresh[-1] = nn.Conv2d(source[-1].in_channels, len(wanted), 1).to(own.weight)
    with torch.no_grad():
        fresh[-1].bias.copy_(own.bias)  # the start value of new classes, which makes them rare as in a new head
        for row, number in enumerate(rows):
            if number >= 0:
                fresh[-1].weight[row].copy_(source[-1].weight[number])
                fresh[-1].bias[row].copy_(source[-1].bias[number])
    branch[index] = fresh.train(target.training).requires_grad_(True)
    new = [name for name, row in zip(wanted.values(), rows, strict=True) if row < 0]
    taken = sum(p.numel() for p in fresh.parameters()) - len(new) * (source[-1].in_channels + 1)
    if not new and rows == list(range(source[-1].out_channels)):
        return taken, True, ""
    told = f"{len(wanted) - len(new)} of {len(wanted)} classes by name"
    return taken, False, f"{told}; new: {choices(new, 4)}" if new else told


def _reads(branch: nn.Module) -> int:
    """Return the number of input channels of a branch."""
    return next(m for m in branch.modules() if isinstance(m, nn.Conv2d)).in_channels


def _copy_eps(source: nn.Module, target: nn.Module) -> None:
    pair = ([m for m in part.modules() if isinstance(m, nn.BatchNorm2d)] for part in (source, target))
    for one, other in zip(*pair, strict=True):  # activation modules may be shared, so only BatchNorms are paired
        other.eps, other.momentum = one.eps, one.momentum
