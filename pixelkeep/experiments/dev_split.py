"""A split for choices, cut out of the training images by groups: train and dev out of train, val kept as test.

What is chosen on images is flattered by them. Epochs, models and settings are therefore chosen on dev, and the images
that a dataset calls val are scored once, when everything has been chosen. The files call dev ``val`` and val ``test``,
so that every command works on them as on any other dataset.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

from pixelkeep.datasets.convert import YAML, Division
from pixelkeep.datasets.convert import convert as write
from pixelkeep.datasets.definitions.forms import COCO
from pixelkeep.datasets.definitions.spec import DatasetSpec
from pixelkeep.datasets.loading import load_split
from pixelkeep.errors import DataError
from pixelkeep.evaluation import sha256
from pixelkeep.ultra.data.truth import build_truth, relative

SPLITS = {"dev": "val", "val": "test"}  # what they are called in the files


@dataclass(frozen=True)
class DevSplit:
    """How dev is cut; the same images for the same file names.

    Attributes:
        group: A regular expression whose first group names what stays together, searched for in file names.
        share: The share of the images that training keeps, about.
        seed: Decides which groups.
    """

    group: str
    share: float = 0.8
    seed: int = 0

    def cut(self, spec: DatasetSpec, output: Path) -> Path:
        """Write the three splits as COCO files with links to the images, and return their YAML.

        Args:
            spec: The dataset, with train and val.
            output: A new folder.

        Raises:
            PixelkeepError: The data or the expression cannot be used, or the folder holds something else.
        """
        _require_both(spec)
        renamed = {}
        for part in ("splits", "folders", "extras"):
            there = getattr(spec, part)
            renamed[part] = {new: there[old] for new, old in (("train", "train"), ("test", "val")) if old in there}
        outcome = write(
            replace(spec, **renamed), COCO, output, link=True, division=Division(self.share, self.seed, self.group)
        )
        return outcome.yaml

    def cut_once(self, spec: DatasetSpec, folder: Path) -> Path:
        """Cut into a folder of ``folder`` that is named after what the data hold and the cut, unless it is there.

        The same data have the same name wherever they lie.
        """
        _require_both(spec)
        facts = json.dumps([_content(spec, split) for split in ("train", "val")] + [self.group, self.share, self.seed])
        output = folder / f"{spec.file.stem}-dev-{hashlib.sha256(facts.encode()).hexdigest()[:8]}"
        return output / YAML if (output / YAML).is_file() else self.cut(spec, output)


def _require_both(spec: DatasetSpec) -> None:
    if not {"train", "val"} <= set(spec.splits):
        raise DataError(f"{spec.file}: dev is cut from train while val is kept, and it has not both")


def _content(spec: DatasetSpec, split: str) -> list:
    """Return what tells a split from any other: its images' names and the hash of all that is known of them."""
    records = load_split(spec, split).records
    return [sorted(relative(record.path, spec.root) for record in records), sha256(build_truth(records, spec)[0])]
