"""What training ignores, on its way through Ultralytics' augmentation.

Regions and ignored objects travel as instances with class numbers below 0, so that Ultralytics moves, clips and mixes
them like any other; :func:`part` takes them out of the sample again, before anything counts, plots or learns classes.
Two of its augmentations leave out boxes of which too little is left, while their pixels stay in the picture as
background. Here such an object becomes an ignored one, unless a recipe wants it left out as there; what is ignored
stays as long as any of it is visible.
The codes: -1 for a region; for an object of class c, -2 - 2c if the data marks it, -3 - 2c if augmentation made it so.
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
VISIBLE = 0.1  # pixels of either side: thinner slivers show nothing, and as fractions of an image may have no size


def encode(classes: np.ndarray, *, shrunk: bool = False) -> np.ndarray:
    """Return the codes of ignored objects of these classes."""
    return -2 - 2 * classes - shrunk


def decode(codes: torch.Tensor) -> torch.Tensor:
    """Return the class numbers behind codes, int64; -1 for regions."""
    return torch.div(-2 - codes, 2, rounding_mode="floor").long()


def is_shrunk(codes: torch.Tensor) -> torch.Tensor:
    """Return whether augmentation, not the data, says that it is ignored."""
    return (codes < REGION) & (codes % 2 != 0)


def chosen(ignored: dict, classes: list[int] | None, single_cls: bool) -> dict:
    """Return what is ignored of these classes (None for all), as of one class if asked for; regions always stay."""
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
    """Put what is ignored in an image behind its objects."""
    ignored = label.pop("ignored")
    if len(ignored["cls"]):
        for key in ("cls", "bboxes"):
            label[key] = np.concatenate([label[key], ignored[key]])
        label["segments"] = label["segments"] + ignored["segments"]
    return label


def part(sample: dict) -> dict:
    """Take what is ignored out of a sample's instances, into ``ignored``: float32 (n, 5), code and normalised xywh."""
    hidden = sample["cls"][:, 0] < 0
    sample["ignored"] = torch.cat([sample["cls"], sample["bboxes"]], 1)[hidden]
    if hidden.any():
        sample.update({key: sample[key][~hidden] for key in ("cls", "bboxes", "batch_idx")})
    return sample


def collate(parts: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Join what is ignored in the images of a batch into (n, 6), the number of the image in front."""
    return torch.cat([pad(rows, (1, 0), value=image) for image, rows in enumerate(parts)])


class Perspective(augment.RandomPerspective):
    """Ultralytics' perspective, in which objects of which too little is left become ignored ones."""

    ignores = True

    def apply_instances(self, labels: dict[str, Any], params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Move the instances, and leave out those that are no longer visible."""
        self._hidden = labels["cls"][:, 0] < 0
        labels = super().apply_instances(labels, params)
        cls = labels["cls"]
        shrunk = ~self._whole & (cls[:, 0] >= 0)
        cls[shrunk] = encode(cls[shrunk], shrunk=True)
        return labels

    def box_candidates(self, box1: np.ndarray, box2: np.ndarray, **limits: Any) -> np.ndarray:
        """Return which boxes are visible, bool (n,), and keep which of these Ultralytics would have kept."""
        whole = super().box_candidates(box1, box2, **limits)
        visible = (box2[2:] - box2[:2] > VISIBLE).all(0)
        if not self.ignores:
            visible = np.where(self._hidden, visible, whole)
        self._whole = whole[visible]
        return visible


class CutMix(augment.CutMix):
    """Ultralytics' CutMix, in which objects of which the patch shows too little become ignored ones."""

    ignores = True

    def get_params(self, labels: dict[str, Any]) -> dict[str, Any]:
        """Choose the patch, and add to its instances all that it shows a part of."""
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
    """Leaves out objects of which too little is left, as Ultralytics does, and nothing else."""

    ignores = False


class DroppingCutMix(CutMix):
    """Leaves out objects of which the patch shows too little, as Ultralytics does, and nothing else."""

    ignores = False


@contextlib.contextmanager
def augmenting(shrunk: str) -> Iterator[None]:
    """Let Ultralytics build augmentations inside that treat objects of which too little is left in this way.

    Args:
        shrunk: ``ignore`` or ``background``.
    """
    perspective, cutmix = (Perspective, CutMix) if shrunk == "ignore" else (DroppingPerspective, DroppingCutMix)
    with replaced(augment, "RandomPerspective", perspective), replaced(augment, "CutMix", cutmix):
        yield
