"""The demo's video: a window that pans over a large scene in which cars, boats and people move."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from pixelkeep.datasets.demo.layout import DRAWERS, Layout, Placed
from pixelkeep.datasets.demo.objects import Item, draw_item
from pixelkeep.datasets.demo.painter import cast_shadow, overlay
from pixelkeep.datasets.demo.scene import HEIGHTS, SHADOW_DEPTH, THEMES, expose, lay_ground, paint, populate
from pixelkeep.errors import PixelkeepError

FRAMES = 40
RATE = 10  # frames per second
WIDER = 1.75  # width of the scene as a multiple of the window's
SPEEDS = {"car": 1.5, "boat": 0.7, "person": 0.35}  # pixels per frame, forwards
THEME = replace(
    THEMES["shore"],
    objects={"building": (2, 2), "yacht": (2, 2), "boat": (8, 8), "truck": (1, 1), "car": (7, 7), "person": (8, 8)},
    water=0.4,
    roads=1,
)


def write_video(path: Path, seed: np.random.SeedSequence, size: tuple[int, int]) -> None:
    """Write an MP4 video with `FRAMES` frames of ``size`` = (height, width).

    Raises:
        PixelkeepError: The installed OpenCV cannot write MP4 files.
    """
    height, width = size
    rng = np.random.default_rng(seed)
    layout = Layout(lay_ground(THEME, (height, int(WIDER * width)), rng), rng)
    populate(layout, THEME)
    moving = [thing for thing in layout.placed if _may_move(thing, layout)]
    layout.placed = [thing for thing in layout.placed if thing not in moving]
    still = paint(layout)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), RATE, (width, height))
    if not writer.isOpened():
        raise PixelkeepError(f"{path}: this OpenCV cannot write MP4 video; install opencv-python")
    light = rng.integers(2**31)
    for frame in range(FRAMES):
        left = round((still.shape[1] - width) * frame / (FRAMES - 1))
        picture = still.copy()
        for thing in moving:
            sprite = draw_item(_moved(thing.item, frame), DRAWERS)
            reach = 0.7 * HEIGHTS[thing.item.kind]
            cast_shadow(picture, sprite, (reach, reach), SHADOW_DEPTH)
            overlay(picture, sprite)
        writer.write(expose(picture[:, left : left + width], np.random.default_rng(light)))
    writer.release()


def _moved(item: Item, frame: int) -> Item:
    far = SPEEDS[item.kind] * frame
    return replace(item, x=item.x + far * np.cos(item.angle), y=item.y + far * np.sin(item.angle))


def _may_move(thing: Placed, layout: Layout) -> bool:
    """Return whether a thing can move: it has a speed, and is on one kind of ground while it is in the scene."""
    if thing.item.kind not in SPEEDS:
        return False
    zone = layout.terrain.zone
    there = [_moved(thing.item, frame) for frame in range(0, FRAMES, 4)]
    seen = [i for i in there if 0 <= i.y < zone.shape[0] and 0 <= i.x < zone.shape[1]]
    return len({int(zone[int(i.y), int(i.x)]) for i in seen}) == 1
