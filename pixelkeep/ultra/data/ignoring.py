"""Regions and objects that training ignores, carried through Ultralytics' augmentation.

Regions and ignored objects travel as instances with class numbers below 0, so that Ultralytics moves, clips and
mixes them like any other instance. :func:`part` takes them out of the sample again before any code counts, plots or
learns classes. Two of Ultralytics' augmentations drop boxes of which too little is left, while the pixels of these
objects stay in the image as background. Here such an object becomes an ignored one, unless the recipe asks for it to be
dropped as in Ultralytics. Anything already ignored is kept as long as any of it is visible.
Class codes: -1 for a region; for an object of class c, -2 - 2c if the data marks it as ignored, and -3 - 2c if
augmentation made it so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad
from ultralytics.data import augment

from pixelkeep.ultra.running.whole import replaced

REGION = -1
VISIBLE = 0.1  # pixels, width and height: thinner slivers show nothing and may round to no size when normalised


def encode(classes: np.ndarray, *, shrunk: bool = False) -> np.ndarray:
    """Return the codes of ignored objects of the given classes; ``shrunk`` if augmentation made them ignored."""
    return -2 - 2 * classes - shrunk


def decode(codes: torch.Tensor) -> torch.Tensor:
    """Return the class number that each code stands for, int64; -1 for regions."""
    return torch.div(-2 - codes, 2, rounding_mode="floor").long()


def is_shrunk(codes: torch.Tensor) -> torch.Tensor:
    """Return for each code whether augmentation, rather than the data, made the object ignored."""
    return (codes < REGION) & (codes % 2 != 0)


def chosen(ignored: dict, classes: list[int] | None, single_cls: bool) -> dict:
    """Return the ignored objects of some classes, and always the regions.

    Args:
        ignored: Class codes, boxes and outlines of what is ignored in an image.
        classes: Class numbers to keep; None for all.
        single_cls: Whether to give all ignored objects the code of class 0.
    """
    codes = ignored["cls"][:, 0]
    kept = np.ones(len(codes), bool)
    if classes is not None:
        kept = (codes == REGION) | np.isin(codes, encode(np.array(classes)))
    cls = ignored["cls"][kept]
    if single_cls:
        cls = np.where(cls == REGION, cls, encode(np.zeros_like(cls)))
    segments = [outline for outline, keep in zip(ignored["segments"], kept, strict=False) if keep]
    return {"cls": cls, "bboxes": ignored["bboxes"][kept], "segments": segments}


def join(label: dict) -> dict:
    """Append an image's ignored objects and regions to its labelled objects."""
    ignored = label.pop("ignored")
    if len(ignored["cls"]):
        for key in ("cls", "bboxes"):
            label[key] = np.concatenate([label[key], ignored[key]])
        label["segments"] = label["segments"] + ignored["segments"]
    return label


def part(sample: dict) -> dict:
    """Move the ignored instances of a sample to ``ignored``: float32 (n, 5), class code and normalised xywh."""
    hidden = sample["cls"][:, 0] < 0
    sample["ignored"] = torch.cat([sample["cls"], sample["bboxes"]], 1)[hidden]
    if hidden.any():
        sample.update({key: sample[key][~hidden] for key in ("cls", "bboxes", "batch_idx")})
    return sample


def collate(parts: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Join the ignored instances of a batch into (n, 6) rows that start with the image's index in the batch."""
    return torch.cat([pad(rows, (1, 0), value=image) for image, rows in enumerate(parts)])


class Perspective(augment.RandomPerspective):
    """Ultralytics' random perspective, which here turns objects of which too little is left into ignored ones."""

    ignores = True

    def apply_instances(self, labels: dict[str, Any], params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Transform the instances and drop those that are no longer visible."""
        self._hidden = labels["cls"][:, 0] < 0
        labels = super().apply_instances(labels, params)
        cls = labels["cls"]
        shrunk = ~self._whole & (cls[:, 0] >= 0)
        cls[shrunk] = encode(cls[shrunk], shrunk=True)
        return labels

    def box_candidates(self, box1: np.ndarray, box2: np.ndarray, **limits: Any) -> np.ndarray:
        """Return which boxes are visible, bool (n,), and remember which of these Ultralytics would have kept."""
        whole = super().box_candidates(box1, box2, **limits)
        visible = (box2[2:] - box2[:2] > VISIBLE).all(0)
        if not self.ignores:
            visible = np.where(self._hidden, visible, whole)
        self._whole = whole[visible]
        return visible


class CutMix(augment.CutMix):
    """Ultralytics' CutMix, which here turns objects of which the patch shows too little into ignored ones."""

    ignores = True

    def get_params(self, labels: dict[str, Any]) -> dict[str, Any]:
        """Choose the patch, and add all instances of which it shows a part to its own."""
        params = super().get_params(labels)
        if params.get("skip"):
            return params
        other = labels["mix_labels"][0]
        boxes, area = other["instances"].bboxes, params["area"]
        sides = np.minimum(boxes[:, 2:], area[2:]) - np.maximum(boxes[:, :2], area[:2])
        cls = other["cls"]
        shown = (sides > VISIBLE).all(1) & (self.ignores | (cls[:, 0] < 0))
        shown[params["indexes2"]] = False
        cut = shown & (cls[:, 0] >= 0)
        cls[cut] = encode(cls[cut], shrunk=True)
        params["indexes2"] = np.concatenate([params["indexes2"], np.flatnonzero(shown)])
        return params


class DroppingPerspective(Perspective):
    """Drops objects of which too little is left, as Ultralytics does; what is ignored stays while visible."""

    ignores = False


class DroppingCutMix(CutMix):
    """Drops objects of which the patch shows too little, as Ultralytics does; what is ignored stays while visible."""

    ignores = False


@contextlib.contextmanager
def augmenting(shrunk: str) -> Iterator[None]:
    """Make Ultralytics build, inside this context, augmentations with the chosen treatment of shrunk objects.

    Args:
        shrunk: What becomes of an object of which too little is left: ``ignore`` or ``background``.
    """
    perspective, cutmix = (Perspective, CutMix) if shrunk == "ignore" else (DroppingPerspective, DroppingCutMix)
    with replaced(augment, "RandomPerspective", perspective), replaced(augment, "CutMix", cutmix):
        yield
