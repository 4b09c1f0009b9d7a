"""Render one demo scene from above: ground, buildings, vehicles, boats, people, clutter, light and camera effects.

A scene is a function of its theme, its size and its seed. The boxes are measured on the drawn sprites.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pixelkeep.datasets.demo import clutter, objects
from pixelkeep.datasets.demo.layout import ROAD_BREADTH, Layout, Placed
from pixelkeep.datasets.demo.objects import CLASS_OF, CLASSES, Item, draw_item
from pixelkeep.datasets.demo.painter import cast_shadow, overlay
from pixelkeep.datasets.demo.terrain import Terrain

NOISE = 3.0  # standard deviation of the sensor's noise, in grey levels
BLUR = 0.35  # sigma of the lens blur, in pixels
SHADOW_DEPTH = 0.45  # share of the light that a shadow takes away
DEEP_SHADE = 0.62  # share of the light that the deep shade over difficult objects takes away
DIFFICULT_SHARE = 0.045  # share of difficult objects among the labelled ones: half under a tree, half in deep shade
REGION_SIDES = (60, 77)  # pixels, range of the sides of a region to ignore

HEIGHTS = {**objects.HEIGHTS, **clutter.HEIGHTS}


@dataclass(frozen=True)
class Theme:
    """A kind of place.

    Attributes:
        objects: Smallest and largest number of objects of each kind.
        clutter: Smallest and largest number of things of each kind of clutter.
        region: The kind of object that fills a region to ignore.
        water: Share of the picture that is water.
        roads: Number of roads.
        yard: Side of a paved yard, as a share of the picture's side; 0 for no yard.
        fields: Whether the land has fields.
    """

    objects: dict[str, tuple[int, int]]
    clutter: dict[str, tuple[int, int]]
    region: str
    water: float = 0.0
    roads: int = 0
    yard: float = 0.0
    fields: bool = False


THEMES = {
    "country": Theme(
        {"building": (2, 3), "truck": (1, 3), "car": (3, 6), "person": (1, 3)},
        {"tree": (3, 6), "bush": (4, 8), "rock": (3, 5), "crate": (1, 2), "container": (0, 1), "court": (0, 1)},
        region="car", roads=1, fields=True,
    ),
    "town": Theme(
        {"building": (3, 4), "truck": (1, 2), "car": (3, 6), "person": (2, 3)},
        {"court": (1, 1), "tree": (3, 5), "bush": (3, 6), "post": (2, 4), "crate": (1, 3), "rock": (0, 2)},
        region="person", roads=1, yard=0.55,
    ),
    "shore": Theme(
        {"building": (0, 1), "yacht": (2, 3), "boat": (4, 7), "car": (1, 2), "person": (1, 3)},
        {"raft": (2, 4), "buoy": (2, 5), "tree": (2, 4), "bush": (2, 4), "rock": (2, 5), "crate": (0, 1)},
        region="boat", water=0.58,
    ),
    "works": Theme(
        {"hall": (1, 1), "truck": (3, 5), "car": (2, 4), "person": (1, 3)},
        {"container": (2, 3), "crate": (2, 4), "post": (2, 4), "tree": (1, 3), "bush": (2, 4), "rock": (0, 2)},
        region="car", yard=0.95,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """A rendered scene.

    Attributes:
        picture: Uint8 (H, W, 3), BGR.
        labelled: The objects that have a box, in the order of `boxes`.
        boxes: Float64 (n, 4), x1 y1 x2 y2 in pixels, whole numbers.
        classes: Int64 (n,), indices into `objects.CLASSES`.
        difficult: Bool (n,), objects that are partly hidden or lie in deep shade.
        regions: Float64 (m, 4), x1 y1 x2 y2 of the regions to ignore, in pixels.
        ignored: Number of objects in the regions.
        zone: Uint8 (H, W), the kind of ground at each pixel, one of the zones of `terrain`.
    """

    picture: np.ndarray
    labelled: list[Placed]
    boxes: np.ndarray
    classes: np.ndarray
    difficult: np.ndarray
    regions: np.ndarray
    ignored: int
    zone: np.ndarray


def render_scene(
    theme: str, seed: np.random.SeedSequence, size: tuple[int, int], *, region: bool = False, empty: bool = False
) -> Scene:
    """Render a scene.

    Args:
        theme: A key of `THEMES`, or "crowd" for a full car park with more than 150 objects.
        seed: Seed for everything that is random.
        size: Height and width in pixels.
        region: Whether to add a region to ignore; without effect if ``empty``.
        empty: Whether to leave out all objects; the clutter stays.
    """
    rng = np.random.default_rng(seed)
    layout = _crowd_layout(size, rng) if theme == "crowd" else _layout(THEMES[theme], size, rng, region, empty)
    labelled = [p for p in layout.placed if p.item.kind in CLASS_OF and not p.ignored]
    difficult = rng.random(len(labelled)) < DIFFICULT_SHARE
    picture = paint(layout)
    for thing in (p for p, hard in zip(labelled, difficult, strict=True) if hard):
        _obstruct(picture, thing, rng)
    boxes = np.array([p.box for p in labelled], float).reshape(-1, 4)
    classes = np.array([CLASSES.index(CLASS_OF[p.item.kind]) for p in labelled], np.int64)
    regions = np.array(layout.regions, float).reshape(-1, 4)
    ignored = sum(p.ignored for p in layout.placed)
    return Scene(expose(picture, rng), labelled, boxes, classes, difficult, regions, ignored, layout.terrain.zone)


def lay_ground(theme: Theme, size: tuple[int, int], rng: np.random.Generator) -> Terrain:
    """Return the ground of ``theme`` for a picture of ``size`` = (height, width)."""
    terrain = Terrain(*size, rng)
    if theme.fields:
        terrain.fields()
    if theme.yard:
        terrain.yard(theme.yard)
    for _ in range(theme.roads):
        terrain.road(ROAD_BREADTH)
    if theme.water:
        terrain.water(theme.water)
    return terrain


def populate(layout: Layout, theme: Theme, empty: bool = False) -> None:
    """Place the objects of ``theme``, unless ``empty``, and then its clutter, in the theme's order."""
    for kind, (low, high) in {} if empty else theme.objects.items():
        layout.scatter(kind, int(layout.rng.integers(low, high + 1)))
    for kind, (low, high) in theme.clutter.items():
        layout.scatter(kind, int(layout.rng.integers(low, high + 1)))


def paint(layout: Layout) -> np.ndarray:
    """Return the ground with everything painted on it, float32 (H, W, 3), flat things first and tall ones last."""
    picture = layout.terrain.picture
    sun = layout.rng.uniform(0, 2 * np.pi)
    for thing in sorted(layout.placed, key=lambda p: HEIGHTS[p.item.kind]):
        reach = HEIGHTS[thing.item.kind]
        if reach:
            cast_shadow(picture, thing.sprite, (reach * np.cos(sun), reach * np.sin(sun)), SHADOW_DEPTH)
        overlay(picture, thing.sprite)
    return picture


def expose(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return ``picture`` as a camera records it, uint8 (H, W, 3): with random daylight, a little blur and noise."""
    light = rng.uniform(0.88, 1.1) * (1 + rng.normal(0, 0.02, 3))
    picture = cv2.GaussianBlur(picture, (0, 0), BLUR) * light.astype(np.float32)
    picture += rng.standard_normal(picture.shape, np.float32) * NOISE
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)


def _layout(theme: Theme, size: tuple[int, int], rng: np.random.Generator, region: bool, empty: bool) -> Layout:
    layout = Layout(lay_ground(theme, size, rng), rng)
    if region and not empty:
        _add_region(layout, theme, rng)
    populate(layout, theme, empty)
    return layout


def _add_region(layout: Layout, theme: Theme, rng: np.random.Generator) -> None:
    """Add a region to ignore where the ground allows it: a marina on the water, anything else beside the roads."""
    height, width = layout.terrain.zone.shape
    for _ in range(200):
        w, h = rng.integers(*REGION_SIDES, 2)
        x, y = rng.integers(4, width - 4 - w), rng.integers(4, height - 4 - h)
        box = int(x), int(y), int(x + w), int(y + h)
        if layout.suits(box, "boat" if theme.region == "boat" else "building"):
            layout.region(theme.region, box)
            return


def _crowd_layout(size: tuple[int, int], rng: np.random.Generator) -> Layout:
    """Return the layout of a full car park with people in its aisles."""
    height, width = size
    layout = Layout(lay_ground(Theme({}, {}, "car"), size, rng), rng)
    layout.terrain.plaza((3, 3, width - 3, height - 3), asphalt=True)
    for aisle in layout.rows("car", (5, 5, width - 5, height - 5)):
        layout.crowd(aisle)
    return layout


def _obstruct(picture: np.ndarray, thing: Placed, rng: np.random.Generator) -> None:
    """Hide part of an object under a tree's crown, or darken all of it by deep shade, in place."""
    x1, y1, x2, y2 = thing.box
    crown = float(np.clip(0.8 * np.hypot(x2 - x1, y2 - y1), 12, 40))
    if rng.random() < 0.5:
        tree = Item(
            "tree", (x1, x2)[rng.integers(2)], (y1, y2)[rng.integers(2)], 0.0, crown, crown, int(rng.integers(2**31))
        )
        overlay(picture, draw_item(tree, clutter.DRAWERS))
        return
    shade = np.zeros(picture.shape[:2], np.float32)
    middle, axes = ((x1 + x2) // 2, (y1 + y2) // 2), ((x2 - x1) * 3 // 4 + 2, (y2 - y1) * 3 // 4 + 2)
    cv2.ellipse(shade, middle, axes, 0, 0, 360, 1.0, -1)
    picture *= 1 - DEEP_SHADE * cv2.GaussianBlur(shade, (0, 0), 2.5)[..., None]
