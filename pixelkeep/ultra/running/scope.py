"""Which settings have an effect in which command, and for which task.

Ultralytics has one list of settings for all its modes, cfg/default.yaml, in groups under headings. A command accepts
the groups made for it, except for settings that concern other tasks, and the other settings of the list that it uses.
Settings of a group that is unknown here, as another release may have it, are accepted and left to Ultralytics to check.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from pixelkeep.ultra.running import recipe

COMMANDS = ("train", "val", "detect")
GROUPS: dict[str, tuple[str, ...]] = {
    "train": ("Train settings", "Hyperparameters", "Val/Test settings"),
    "val": ("Val/Test settings",),
    "detect": ("Predict settings", "Visualize settings"),
}
UNUSED_GROUPS = ("Export settings", "Tracker settings")

# Settings that decide the metrics of a validation. The validation at the end of training takes them from the training's
# settings. The image size it takes from the checkpoint, which records the rounded size.
VALIDATION = ("conf", "iou", "max_det", "agnostic_nms", "nms", "classes", "single_cls", "fraction")
# Settings that every command uses, whatever their group.
COMMON = ("imgsz", "batch", "device", "conf", "iou", "max_det", "agnostic_nms", "nms", "classes")
COMMON += ("quantize", "half", "compile", "channels_last", "visualize", "save_txt", "save_conf")
COMMON += ("project", "name", "exist_ok")
ALSO: dict[str, tuple[str, ...]] = {
    "train": (*COMMON, *recipe.NAMES, "path"),
    "val": (*COMMON, "data", "path", "workers", "cache", "single_cls", "fraction", "augment"),
    "detect": (*COMMON, "rect", "save", "verbose"),
}
# Settings in the groups above that are for unsupported tasks or formats, or that the commands decide themselves.
WITHOUT = ("overlap_mask", "mask_ratio", "retina_masks", "pose", "kobj", "rle", "angle", "dlog", "dgrad", "dlam")
WITHOUT += ("dnn", "save_json")
# Further settings that a task does not use: those for boxes, then those that combine images or change their shape.
_BOXES = ("box", "cls", "dfl", "iou", "conf", "max_det", "agnostic_nms", "nms", "classes", "single_cls", "save_txt")
_BOXES += ("save_conf", "save_crop", "line_width", "augment", "distill_model", "dis", "copy_paste", "copy_paste_mode")
_BOXES += ("nwd", "enlarge", "initial_box", "paste", "zoom", "shrunk", "tile", "empty_tiles", "tile_visibility")
_SCENES = ("degrees", "translate", "shear", "perspective", "bgr", "mosaic", "mixup", "cutmix", "close_mosaic")
_SCENES += ("multi_scale", "rect", "cls_pw", "cache", "albumentations")
WITHOUT_FOR: dict[str, tuple[str, ...]] = {
    "detect": ("dropout", "auto_augment", "erasing"),
    "classify": (*_BOXES, *_SCENES),
    "semantic": (*_BOXES, "dropout", "auto_augment", "erasing"),
}
WITHOUT_IN: dict[str, tuple[str, ...]] = {"train": ("split", "verbose"), "val": ("val",), "detect": ()}
INSTEAD = {
    "model": "; give --weights",
    "verbose": "; give --verbose",
    "tile": "; give --tile",
    "save_json": "; train and val always write predictions.json, detect with --save-json",
}
_HEADING = re.compile(r"# (.+?) -{9,}")
_SETTING = re.compile(r"(\w+):")


def commands_using(setting: str) -> tuple[str, ...]:
    """Return the commands in which a setting has an effect, for any task."""
    return tuple(command for command in COMMANDS if _uses(command, setting) and tasks_using(setting))


def tasks_using(setting: str) -> tuple[str, ...]:
    """Return the tasks for which a setting has an effect, in any command."""
    return tuple(task for task, without in WITHOUT_FOR.items() if setting not in without)


def _uses(command: str, setting: str) -> bool:
    if setting in ALSO[command]:
        return True
    if setting in (*WITHOUT, *WITHOUT_IN[command]):
        return False
    group = groups().get(setting)
    known = {*UNUSED_GROUPS, *(name for names in GROUPS.values() for name in names)}
    return group in GROUPS[command] or (group not in known and not any(setting in other for other in ALSO.values()))


@cache
def groups() -> dict[str, str]:
    """Return the heading of each of Ultralytics' settings, by name; an empty mapping if the file has no headings."""
    from ultralytics.utils import DEFAULT_CFG_PATH

    found, heading = {}, ""
    for line in Path(DEFAULT_CFG_PATH).read_text(encoding="utf-8").splitlines():
        if match := _HEADING.match(line):
            heading = match[1]
        elif (match := _SETTING.match(line)) and heading:
            found[match[1]] = heading
    return found
