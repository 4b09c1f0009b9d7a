"""Training settings that are ours: what they may be, and how they reach the processes, the data and the loss.

Each is off, or as Ultralytics has it, unless it is given; docs/recipe.md says what they are for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

from pixelkeep.datasets.sampling.epoch_windows import MOST_EMPTY
from pixelkeep.errors import OptionError, choices
from pixelkeep.ultra.running import photometric

BEST = ("AP", "AP_S", "top1", "top5", "mIoU", "pixel_accuracy")  # of all tasks
_BEST = "one of AP, AP_S (detection), top1, top5 (classification), mIoU, pixel_accuracy (segmentation)"
SHRUNK = ("ignore", "background")
SMALLEST_TILE = 32  # pixels, one cell of the deepest feature map
OF_TILES = ("empty_tiles", "tile_visibility")


@dataclass(frozen=True)
class Recipe:
    """What a training does beyond Ultralytics' own settings.

    Attributes:
        best: The figure that decides which epoch is the best, of those of the task.
        nwd: Share of the Wasserstein distance in the overlap of boxes, 0 to 1, in the loss and in assignment.
        enlarge: Sides that tiny boxes are enlarged to in assignment, in strides of the finest level; None as
            Ultralytics has it, to the stride of the second level.
        initial_box: Sides of the boxes that a new head predicts, in strides of each level; None as Ultralytics has it,
            15, or 4 where a distance is one number.
        paste: Most copies of small objects that are pasted into an image.
        zoom: Share of samples that are windows of images at full resolution about a small object, 0 to 1.
        shrunk: What becomes of objects that augmentation leaves too little of: they are ignored, or background.
        albumentations: Transforms of colour: see :func:`pixelkeep.ultra.running.photometric.transforms`.
        tile: Side in pixels of the windows that large images are shown in; None to show them whole.
        empty_tiles: Share of windows without objects, 0 to 0.9.
        tile_visibility: Share of its area from which an object that a window cuts is learnt; below it is ignored.
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
        """Take what is ours out of checked settings; what is None or not there is as by default."""
        given = {key: settings[key] for key in NAMES if settings.get(key) is not None}
        return cls(**given | {"paste": int(given.get("paste", cls.paste))})

    def for_ultralytics(self) -> dict:
        """Return the settings of Ultralytics' that follow from ours; it keeps them in checkpoints itself."""
        listed = photometric.transforms(self.albumentations)
        return {} if listed is None else {"augmentations": listed}


NAMES = tuple(field.name for field in fields(Recipe))
DEFAULTS = asdict(Recipe())


def check(settings: dict) -> None:
    """Check the values of these settings.

    Raises:
        OptionError: One that is not allowed.
    """
    for key, (allowed, right) in _RULES.items():
        value = settings.get(key)
        if value is not None and not allowed(value):
            raise OptionError(f"{key}: '{value}' is not {right}")
    photometric.check(settings.get("albumentations", "none"))
    _check_tile(settings)
    if settings.get("zoom") and settings.get("rect"):
        raise OptionError(
            f"zoom: {settings['zoom']} has no meaning with rect, where images keep their shape; leave one out"
        )


def _check_tile(settings: dict) -> None:
    """Check that what is about windows has an effect, and that nothing given takes theirs away."""
    if settings.get("tile") is None:
        for key in (key for key in OF_TILES if settings.get(key) not in (None, DEFAULTS[key])):
            raise OptionError(f"{key}: {settings[key]} has no effect without tile; give --tile 640 as well")
        return
    for key in (key for key in ("zoom", "rect") if settings.get(key)):
        raise OptionError(f"{key}: {settings[key]} has no meaning in windows of --tile; leave one of them out")
    if isinstance(settings.get("imgsz"), list):
        raise OptionError(f"imgsz: with tile it is the side at which the network sees a tile; not {settings['imgsz']}")


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
