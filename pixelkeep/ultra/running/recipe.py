"""Pixelkeep's own training settings: their allowed values, and how they reach the processes, the data and the loss.

Unless it is given, each setting is off or leaves Ultralytics' behaviour as it is; docs/recipe.md says what each is for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

from pixelkeep.datasets.sampling.epoch_windows import MOST_EMPTY
from pixelkeep.errors import OptionError, choices
from pixelkeep.ultra.running import photometric

BEST = ("AP", "AP_S", "top1", "top5", "mIoU", "pixel_accuracy")  # metrics of all tasks
_BEST = "one of AP, AP_S (detection), top1, top5 (classification), mIoU, pixel_accuracy (segmentation)"
SHRUNK = ("ignore", "background")
SMALLEST_TILE = 32  # pixels, one cell of the deepest feature map
OF_TILES = ("empty_tiles", "tile_visibility")


@dataclass(frozen=True)
class Recipe:
    """What training does beyond Ultralytics' own settings.

    Attributes:
        best: The metric that decides which epoch is the best, one of those of the task.
        nwd: Share of the Wasserstein distance in the overlap measure of boxes, 0 to 1, in the loss and in assignment.
        enlarge: Side to which tiny boxes are enlarged in assignment, in strides of the finest level; None as in
            Ultralytics, to the stride of the second level.
        initial_box: Side of the boxes that a new head predicts, in strides of each level; None as in Ultralytics,
            15, or 4 where a distance is a single number.
        paste: Largest number of copies of small objects that are pasted into an image.
        zoom: Share of samples that are full-resolution windows of images around a small object, 0 to 1.
        shrunk: How to treat objects of which augmentation leaves too little: "ignore" or "background".
        albumentations: Colour transforms: see :func:`pixelkeep.ultra.running.photometric.transforms`.
        tile: Side in pixels of the windows in which large images are shown; None to show them whole.
        empty_tiles: Share of windows without objects, 0 to 0.9.
        tile_visibility: Visible share of its area from which an object cut by a window is learnt; below it the object
            is ignored.
    """

    best: str = "AP"
    nwd: float = 0.0
    enlarge: float | None = None
    initial_box: float | None = None
    paste: int = 0
    zoom: float = 0.0
    shrunk: str = "ignore"
    albumentations: str | list = "default"
    tile: int | None = None
    empty_tiles: float = 0.1
    tile_visibility: float = 0.5

    @classmethod
    def of(cls, settings: dict) -> Recipe:
        """Return the recipe in checked settings; a setting that is None or missing takes its default."""
        given = {key: settings[key] for key in NAMES if settings.get(key) is not None}
        return cls(**given | {"paste": int(given.get("paste", cls.paste))})

    def for_ultralytics(self) -> dict:
        """Return the Ultralytics settings that follow from the recipe; Ultralytics keeps them in checkpoints itself."""
        listed = photometric.transforms(self.albumentations)
        return {} if listed is None else {"augmentations": listed}


NAMES = tuple(field.name for field in fields(Recipe))
DEFAULTS = asdict(Recipe())


def check(settings: dict) -> None:
    """Check the values of pixelkeep's own training settings.

    Raises:
        OptionError: A value, or a combination of settings, is not allowed.
    """
    for key, (allowed, right) in _RULES.items():
        value = settings.get(key)
        if value is not None and not allowed(value):
            raise OptionError(f"{key}: '{value}' is not {right}")
    photometric.check(DEFAULTS["albumentations"] if (chosen := settings.get("albumentations")) is None else chosen)
    _check_tile(settings)
    if settings.get("zoom") and settings.get("rect"):
        raise OptionError(
            f"zoom: {settings['zoom']} has no meaning with rect, where images keep their shape; leave one out"
        )


def _check_tile(settings: dict) -> None:
    """Check that settings for windows come with ``tile``, and that no other setting conflicts with ``tile``."""
    if settings.get("tile") is None:
        for key in (key for key in OF_TILES if settings.get(key) not in (None, DEFAULTS[key])):
            raise OptionError(f"{key}: {settings[key]} has no effect without tile; give --tile 640 as well")
        return
    for key in (key for key in ("zoom", "rect") if settings.get(key)):
        raise OptionError(f"{key}: {settings[key]} has no meaning in windows of --tile; leave one of them out")
    if isinstance(settings.get("imgsz"), list):
        raise OptionError(f"imgsz: with tile, give one side, at which the network sees a tile; not {settings['imgsz']}")


def _is_number(value: object, low: float, high: float = float("inf")) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def _is_tile(value: object) -> bool:
    return isinstance(value, int) and _is_number(value, SMALLEST_TILE)


_SHARE = "between 0.0 and 1.0"
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "best": (lambda value: value in BEST, _BEST),
    "nwd": (lambda value: _is_number(value, 0, 1), _SHARE),
    "enlarge": (lambda value: _is_number(value, 0.5, 16), "a number of strides between 0.5 and 16"),
    "initial_box": (lambda value: _is_number(value, 0.5, 16), "a number of strides between 0.5 and 16"),
    "paste": (lambda value: _is_number(value, 0, 1000) and float(value).is_integer(), "a number of copies, 0 to 1000"),
    "zoom": (lambda value: _is_number(value, 0, 1), _SHARE),
    "shrunk": (lambda value: value in SHRUNK, f"one of {choices(SHRUNK)}"),
    "tile": (_is_tile, f"a number of pixels of at least {SMALLEST_TILE}"),
    "empty_tiles": (lambda value: _is_number(value, 0, MOST_EMPTY), f"between 0.0 and {MOST_EMPTY}"),
    "tile_visibility": (lambda value: _is_number(value, 0, 1), _SHARE),
}
