"""Cuts a dev split out of the training images by groups: train is divided into train and dev, val is kept as test.

Figures on images that choices were made on are too good. Epochs, models and settings are therefore chosen on dev, and
the images that a dataset calls val are scored once, when everything has been chosen. The written files call dev ``val``
and val ``test``, so that every command works on them as on any other dataset.
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

SPLITS = {"dev": "val", "val": "test"}  # names in the written files


@dataclass(frozen=True)
class DevSplit:
    """How dev is cut out of train. The same file names always give the same split.

    Attributes:
        group: Regular expression that is searched for in file names. Images with the same text of its first group stay
            together.
        share: Approximate share of the images that train keeps.
        seed: Seed that decides which groups go to dev.
    """

    group: str
    share: float = 0.8
    seed: int = 0

    def cut(self, spec: DatasetSpec, output: Path) -> Path:
        """Write the three splits as COCO files with links to the images, and return their YAML.

        Args:
            spec: Dataset with the splits train and val.
            output: New folder to write to.

        Raises:
            PixelkeepError: The dataset or the expression cannot be used, or the folder holds something else.
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
        """Write the splits to a subfolder of ``folder``, unless they are there already, and return their YAML.

        The subfolder is named after a hash of the data and of the cut, so the same data have the same name wherever
        they lie.
        """
        _require_both(spec)
        facts = json.dumps([_content(spec, split) for split in ("train", "val")] + [self.group, self.share, self.seed])
        output = folder / f"{spec.file.stem}-dev-{hashlib.sha256(facts.encode()).hexdigest()[:8]}"
        return output / YAML if (output / YAML).is_file() else self.cut(spec, output)


def _require_both(spec: DatasetSpec) -> None:
    if not {"train", "val"} <= set(spec.splits):
        raise DataError(f"{spec.file}: needs both train and val; dev is cut from train, and val is kept")


def _content(spec: DatasetSpec, split: str) -> list:
    """Return what identifies a split's content: the names of its images and the hash of its ground truth."""
    records = load_split(spec, split).records
    return [sorted(relative(record.path, spec.root) for record in records), sha256(build_truth(records, spec)[0])]
