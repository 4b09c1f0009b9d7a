"""Albumentations by name: a set of transforms that a recipe declares, kept with the run as Ultralytics keeps them.

Ultralytics blurs one image in fifty by itself. Blurring takes away objects of a few pixels, so the set for small
objects changes brightness, contrast and colour alone.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from pixelkeep.errors import OptionError, choices, nearest

TRIAL = 256  # pixels a side
CHANNELS = (1, 3)  # of images that Ultralytics gives to transforms
SETS: dict[str, list | None] = {
    "none": [],
    "default": None,  # Ultralytics' own: Blur, MedianBlur, ToGray and CLAHE, one image in a hundred each
    "small": [
        {"RandomBrightnessContrast": {"p": 0.2}},
        {"RandomGamma": {"p": 0.1}},
        {"CLAHE": {"p": 0.05}},
        {"ToGray": {"p": 0.01}},
    ],
}


def transforms(chosen: str | list) -> list[dict] | None:
    """Return transforms as albumentations writes them down, or None for Ultralytics' own.

    Args:
        chosen: The name of a set, or a list with a name for each transform, or a mapping of the name to its arguments.
    """
    listed = SETS[chosen] if isinstance(chosen, str) else chosen
    if listed is None:
        return None
    import albumentations

    return [albumentations.to_dict(_build(item)) for item in listed]


def check(chosen: object) -> None:
    """Check the value of the setting.

    Raises:
        OptionError: No set of that name, or a transform that albumentations does not have or would not take.
    """
    if isinstance(chosen, list):
        for item in chosen:
            _try(item)
    elif not isinstance(chosen, str) or chosen not in SETS:
        raise OptionError(f"albumentations: '{chosen}' is not one of {choices(SETS)}, or a list{nearest(chosen, SETS)}")


def check_channels(chosen: str | list, channels: int) -> str:
    """Check the transforms against the data's images, and return what is to be said of them; empty for nothing.

    Args:
        chosen: A value that :func:`check` has let pass.
        channels: Of the images; Ultralytics gives transforms those of one and of three.

    Raises:
        OptionError: A transform cannot work on images of one channel.
    """
    if channels not in CHANNELS:
        return (
            f"albumentations: no effect on images of {channels} channels" if chosen not in ("none", "default") else ""
        )
    if channels != 3 and isinstance(chosen, list):
        for item in chosen:
            _try(item, channels)
    return ""


def _try(item: object, channels: int = 3) -> None:
    """Let a transform work on an image once: some want more than an image, others change its size."""
    import albumentations

    transform = _build(item)
    transform.p = 1
    image = np.zeros((TRIAL, TRIAL, channels), np.uint8)
    try:
        shape = albumentations.Compose([transform])(image=image)["image"].shape
    except Exception as error:  # whatever a transform has against an image alone
        of = "an image" if channels == 3 else f"an image of {channels} channel{'s' * (channels > 1)}"
        raise OptionError(f"albumentations: {item} fails on {of} ({' '.join(str(error).split())[:200]})") from error
    if shape != image.shape:
        raise OptionError(f"albumentations: {item} changes the size of images; leave that to scale and imgsz")


def _build(item: object) -> Any:
    import albumentations

    name, arguments = next(iter(item.items())) if isinstance(item, dict) and len(item) == 1 else (item, {})
    known = {key: value for key, value in vars(albumentations).items() if _is_transform(value)}
    if not isinstance(name, str) or name not in known:
        raise OptionError(f"albumentations: '{name}' is no transform of it{nearest(name, known)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # it only warns of an argument that it does not know
            return known[name](**(arguments or {}))
    except Exception as error:  # whatever pydantic, a transform or Python's call has against the arguments
        reason = " ".join(str(error).split())
        raise OptionError(f"albumentations: {name} does not take {arguments} ({reason[:200]})") from error


def _is_transform(value: object) -> bool:
    import albumentations

    if not isinstance(value, type) or not issubclass(value, albumentations.BasicTransform):
        return False
    return value is not albumentations.Lambda and not value.__module__.endswith("transforms_interface")
