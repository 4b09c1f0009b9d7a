"""Images and labels for training and validation, read by Ultralytics, cached outside the user's folders."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

from ultralytics.cfg import get_cfg
from ultralytics.data.build import get_split_fraction
from ultralytics.data.dataset import YOLODataset
from ultralytics.utils import colorstr

from pixelkeep import assets
from pixelkeep.datasets.spec import DatasetSpec
from pixelkeep.errors import DataError

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Dataset(YOLODataset):
    """A YOLO-format dataset whose label cache lives in pixelkeep's own cache folder.

    Ultralytics keeps a pickle beside the labels: it would be written into the user's data, and reading one that came
    with downloaded data would execute whatever it carries.

    Attributes:
        shapes: Height and width of each image file; rectangular batches take them out of the labels.
    """

    def get_labels(self) -> list[dict]:
        """Read the labels and keep the images' sizes.

        Raises:
            DataError: Not one image can be read.
        """
        try:
            labels = super().get_labels()
        except RuntimeError as error:  # "No valid images found in ...", then a line for each image
            reason = _COLOURS.sub("", (str(error).splitlines()[1:2] or [""])[0]).strip()
            raise DataError(f"{self.img_path}: no image can be used; the first: {reason}") from error
        except ValueError as error:  # "No labels found in ..."
            folder = Path(self.label_files[0]).parent
            raise DataError(f"{self.img_path}: no image has a label; looked for .txt files in {folder}") from error
        self.shapes = {label["im_file"]: tuple(label["shape"]) for label in labels}
        return labels

    def _load_or_scan_cache(self, cache_path: Path, cache_hash: str) -> tuple[dict, bool]:
        folder = assets.home() / "cache" / "labels"
        folder.mkdir(parents=True, exist_ok=True)
        key = hashlib.sha256(f"{cache_hash} {self._newest_change()}".encode()).hexdigest()[:24]
        return super()._load_or_scan_cache(folder / f"{key}.cache", cache_hash)

    def _newest_change(self) -> int:
        """Return the time of the newest change of a label file: Ultralytics' hash sees only names and sizes."""
        return max((os.stat(f).st_mtime_ns for f in self.label_files if os.path.exists(f)), default=0)


def build_dataset(args: Any, images: str | list[str], batch: int, data: dict, *, train: bool, stride: int) -> Dataset:
    """Build the dataset of one split.

    Args:
        args: Ultralytics' settings.
        images: Image folders or lists.
        batch: Batch size, for rectangular batches.
        data: The dataset dictionary (names, channels).
        train: Whether to augment; validation uses rectangular batches with half a stride of padding.
        stride: Largest stride of the model in pixels.
    """
    return Dataset(
        img_path=images,
        imgsz=args.imgsz,
        batch_size=batch,
        augment=train,
        hyp=args,
        rect=args.rect or not train,
        cache=args.cache or None,
        single_cls=args.single_cls or False,
        stride=stride,
        pad=0.0 if train else 0.5,
        prefix=colorstr("train: " if train else "val: "),
        task=args.task,
        classes=args.classes,
        data=data,
        fraction=get_split_fraction(args.fraction, "train" if train else args.split),
    )


def scan(spec: DatasetSpec, split: str) -> tuple[Dataset, dict]:
    """Read the labels of a split without a model; the scan is cached for the training that follows.

    Returns:
        The dataset, and the dictionary that describes its data.

    Raises:
        DataError: Nothing of it can be used.
    """
    data = spec.to_ultralytics()
    data |= {"nc": len(spec.names), "channels": data.get("channels", 3)}
    args = get_cfg(overrides={"split": split, "task": "detect", "imgsz": 640})
    return build_dataset(args, data[split], 1, data, train=split == "train", stride=32), data
