"""The table of changes to blocks between their versions, by which older portable checkpoints are migrated.

Each registered block has a version (:class:`pixelkeep.ultra.network.registry.BlockSpec`), and a portable checkpoint
records the version of each block it holds. Whoever renames a block, changes the arguments of its row or renames its
tensors raises the version and adds a step here. If a block is made of others, their changes to its tensors count as its
own. Blocks of Ultralytics have no version: if a release changes one, the tensors no longer fit, and the checkpoint is
refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass

from pixelkeep.errors import choices, nearest
from pixelkeep.ultra.network.registry import REGISTRY
from pixelkeep.ultra.weights.integrity import Unusable


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step that turns a row with one version of a block into a row with the next version.

    Attributes:
        name: The block's name in YAML before the step.
        version: The version that the step starts from.
        renamed: The block's name after the step; None if it does not change.
        arguments: Function from the row's arguments before the step to those after it; None if they do not change.
        tensors: Pairs of a prefix of tensor names, as in the block's own state dict, and its replacement.
    """

    name: str
    version: int
    renamed: str | None = None
    arguments: Callable[[list], list] | None = None
    tensors: tuple[tuple[str, str], ...] = ()

    def row(self, row: list) -> list:
        """Return a row as it is after the step."""
        source, repeats, _, args = row
        changed = self.arguments(deepcopy(args)) if self.arguments else args
        return [source, repeats, self.renamed or self.name, changed]

    def tensor(self, name: str) -> str:
        """Return a tensor's name after the step; in a row with repeats, it begins with the number of the repeat."""
        for before, after in self.tensors:
            if found := re.match(rf"((?:\d+\.)?){re.escape(before)}(?=\.|$)", name):
                return found[1] + after + name[found.end() :]
        return name


STEPS: tuple[Step, ...] = ()  # empty while every block is as it was first published


def versions_in(definition: dict) -> dict[str, int]:
    """Return the version of each registered block that a definition names."""
    rows = definition["backbone"] + definition["head"]
    return {row[2]: REGISTRY[row[2]].version for row in rows if row[2] in REGISTRY}


def migrate(definition: dict, versions: dict[str, int], tensors: Iterable[str]) -> tuple[dict, dict[str, str]]:
    """Bring a definition and the names of its tensors up to the versions of the registered blocks.

    Args:
        definition: The definition as it was written.
        versions: Versions of the registered blocks in the definition at that time.
        tensors: Names of the tensors, such as ``model.3.conv.weight``.

    Returns:
        The migrated definition, and the present name of each tensor.

    Raises:
        Unusable: A block is unknown, newer than the one registered here, or too old to be migrated.
    """
    definition, steps = deepcopy(definition), {}
    index = 0
    for part in ("backbone", "head"):
        for place, row in enumerate(definition[part]):
            if row[2] in versions:
                steps[index] = _path(row[2], versions[row[2]])
                for step in steps[index]:
                    row = step.row(row)
                definition[part][place] = row
            index += 1
    return definition, {name: _renamed(name, steps) for name in tensors}


def _path(name: str, version: int) -> list[Step]:
    """Return the steps from a version of a block to the version that is registered here."""
    path, now = [], name
    while (now not in REGISTRY or version < REGISTRY[now].version) and (step := _step(now, version)):
        path.append(step)
        now, version = step.renamed or now, version + 1
    if now not in REGISTRY:
        advice = "if it is a block of yours, import and pixelkeep.register it first"
        raise Unusable(f"it holds block '{now}', which is unknown here{nearest(now, REGISTRY, advice)}")
    here = REGISTRY[now].version
    if version > here:
        raise Unusable(f"it holds version {version} of block '{now}', but this pixelkeep has {here}; update it")
    if version < here:
        raise Unusable(f"it holds version {version} of block '{now}', which cannot be migrated to version {here}")
    return path


def _step(name: str, version: int) -> Step | None:
    return next((step for step in STEPS if (step.name, step.version) == (name, version)), None)


def _renamed(name: str, steps: dict[int, list[Step]]) -> str:
    """Return a tensor's name after the steps of its row."""
    found = re.match(r"model\.(\d+)\.", name)
    if found is None:
        return name
    own = name[found.end() :]
    for step in steps.get(int(found[1]), ()):
        own = step.tensor(own)
    return found[0] + own


def check_versions(versions: object, definition: dict) -> dict[str, int]:
    """Return the block versions that a file gives, after checking their form and that no registered block lacks one.

    Raises:
        Unusable: The versions are not numbers, or a registered block in the definition has none.
    """
    right = isinstance(versions, dict) and all(type(version) is int and version >= 0 for version in versions.values())
    if not right:
        raise Unusable("damaged: the versions of its blocks are not numbers")
    named = {row[2] for row in definition["backbone"] + definition["head"] if isinstance(row[2], str)}
    if unversioned := sorted(named & set(REGISTRY) - set(versions)):
        raise Unusable(f"damaged: it does not say which version of {choices(unversioned)} it holds")
    return versions
