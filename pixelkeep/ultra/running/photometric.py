"""Albumentations transforms that a recipe declares by name, kept with the run in the way Ultralytics keeps them.

By default Ultralytics blurs one image in fifty. Blurring makes objects of a few pixels disappear, so the set for small
objects changes only brightness, contrast and colour.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from pixelkeep.errors import OptionError, choices, nearest

TRIAL = 256  # side in pixels of the image that a transform is tried on
CHANNELS = (1, 3)  # channel counts of the images that Ultralytics passes to transforms
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
    """Return transforms as albumentations serialises them, or None for Ultralytics' own.

    Args:
        chosen: The name of a set, or a list that gives each transform as a name or as a mapping of the name to its
            arguments.
    """
    listed = SETS[chosen] if isinstance(chosen, str) else chosen
    if listed is None:
        return None
    import albumentations

    return [albumentations.to_dict(_build(item)) for item in listed]


def check(chosen: object) -> None:
    """Check the value of the setting ``albumentations``.

    Raises:
        OptionError: There is no set of that name, albumentations has no such transform or does not accept its
            arguments, or the transform fails on an image or changes its size.
    """
    if isinstance(chosen, list):
        for item in chosen:
            _try(item)
    elif not isinstance(chosen, str) or chosen not in SETS:
        raise OptionError(f"albumentations: '{chosen}' is not one of {choices(SETS)}, or a list{nearest(chosen, SETS)}")


def check_channels(chosen: str | list, channels: int) -> str:
    """Check the transforms against the channels of the images, and return a message for the user, or an empty string.

    Args:
        chosen: A value that :func:`check` has accepted.
        channels: Number of image channels; Ultralytics applies transforms only to images of one or three.

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
    """Apply a transform to an image once: some transforms need more than an image, others change its size."""
    import albumentations

    transform = _build(item)
    transform.p = 1
    image = np.zeros((TRIAL, TRIAL, channels), np.uint8)
    try:
        shape = albumentations.Compose([transform])(image=image)["image"].shape
    except Exception as error:  # a transform may reject a bare image with any exception
        of = "an image" if channels == 3 else f"an image of {channels} channel{'s' * (channels > 1)}"
        raise OptionError(f"albumentations: {item} fails on {of} ({' '.join(str(error).split())[:200]})") from error
    if shape != image.shape:
        raise OptionError(f"albumentations: {item} changes the size of images; leave that to scale and imgsz")


def _build(item: object) -> Any:
    import albumentations

    name, arguments = next(iter(item.items())) if isinstance(item, dict) and len(item) == 1 else (item, {})
    known = {key: value for key, value in vars(albumentations).items() if _is_transform(value)}
    if not isinstance(name, str) or name not in known:
        raise OptionError(f"albumentations: '{name}' is not one of its transforms{nearest(name, known)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # for an unknown argument albumentations only warns
            return known[name](**(arguments or {}))
    except Exception as error:  # pydantic, the transform or Python's call may reject the arguments with any exception
        reason = " ".join(str(error).split())
        raise OptionError(f"albumentations: {name} does not take {arguments} ({reason[:200]})") from error


def _is_transform(value: object) -> bool:
    import albumentations

    if not isinstance(value, type) or not issubclass(value, albumentations.BasicTransform):
        return False
    return value is not albumentations.Lambda and not value.__module__.endswith("transforms_interface")
