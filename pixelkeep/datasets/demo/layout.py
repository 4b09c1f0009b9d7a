"""Place the things of a demo scene at random on ground that suits them, none on top of another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pixelkeep.datasets.demo import clutter, objects
from pixelkeep.datasets.demo.objects import Item, draw_item
from pixelkeep.datasets.demo.painter import Sprite
from pixelkeep.datasets.demo.terrain import GRASS, JETTY, PAINT, PAVED, ROAD, WATER, Terrain

TRIES = 60  # number of places tried for one thing before it is left out
GAP = 1  # free pixels between two boxes
ROW_SIZES = 0.25  # share of a kind's range of lengths, from the shortest, that rows use so that they can be close
OCCUPANCY = 0.94  # share of the places in rows and crowds that are taken
AISLE = 15  # pixels between two pairs of rows
ELBOW_ROOM = 15  # pixels, side of the square that each person of a crowd has
LANE = 0.25  # distance of a lane's middle from the road's middle, as a share of the road's breadth
ROAD_BREADTH = 44.0  # pixels

DRAWERS = {**objects.DRAWERS, **clutter.DRAWERS}
LENGTHS = {**objects.LENGTHS, **clutter.LENGTHS}
SLIMNESS = {**objects.SLIMNESS, **clutter.SLIMNESS}
AFLOAT = ("boat", "yacht", "raft", "buoy")
DRIVING = ("car", "truck")
SQUARED = ("building", "hall", "court")  # kinds that are aligned roughly with the picture's sides
OFF_ROAD = ("building", "hall", "tree", "bush", "rock", "court", "container", "crate")


@dataclass(frozen=True)
class Placed:
    """One thing in the scene: item, sprite, tight box (x1, y1, x2, y2) and whether it lies in a region to ignore."""

    item: Item
    sprite: Sprite
    box: tuple[int, int, int, int]
    ignored: bool = False


class Layout:
    """The things placed so far on a `Terrain`."""

    def __init__(self, terrain: Terrain, rng: np.random.Generator) -> None:
        """Create a layout with nothing placed."""
        self.terrain, self.rng = terrain, rng
        self.placed: list[Placed] = []
        self.regions: list[tuple[int, int, int, int]] = []

    def scatter(self, kind: str, count: int) -> None:
        """Place up to ``count`` things of ``kind``; fewer if there is no room."""
        for _ in range(count):
            for _ in range(TRIES):
                item = self._propose(kind)
                if self._has_room(item) and self.put(item):
                    break

    def put(self, item: Item, ignored: bool = False) -> bool:
        """Place ``item`` exactly where it says; return False, without placing it, if it would leave the picture."""
        sprite = draw_item(item, DRAWERS)
        x1, y1, x2, y2 = box = sprite.box
        height, width = self.terrain.zone.shape
        if x1 < 0 or y1 < 0 or x2 > width or y2 > height:
            return False
        self.placed.append(Placed(item, sprite, box, ignored))
        return True

    def is_free(self, box: tuple[float, float, float, float]) -> bool:
        """Return whether ``box`` (x1, y1, x2, y2) is inside the picture and clear of all boxes and regions."""
        height, width = self.terrain.zone.shape
        x1, y1, x2, y2 = box
        if x1 < 1 or y1 < 1 or x2 > width - 1 or y2 > height - 1:
            return False
        taken = np.array([p.box for p in self.placed if not p.ignored] + self.regions, float).reshape(-1, 4)
        apart = (
            (taken[:, 0] >= x2 + GAP)
            | (taken[:, 2] <= x1 - GAP)
            | (taken[:, 1] >= y2 + GAP)
            | (taken[:, 3] <= y1 - GAP)
        )
        return bool(apart.all())

    def region(self, kind: str, box: tuple[int, int, int, int]) -> None:
        """Make ``box`` a region to ignore and fill it with ``kind``: a car park, a crowd or a marina."""
        self.regions.append(box)
        if kind != "boat":
            self.terrain.plaza(box, asphalt=kind == "car")
        if kind == "person":
            self.crowd(box, ignored=True)
        else:
            self.rows(kind, box, ignored=True)

    def rows(self, kind: str, box: tuple[int, int, int, int], ignored: bool = False) -> list[tuple[int, int, int, int]]:
        """Fill ``box`` with parallel rows of ``kind``, with an aisle after every two rows, and return the aisles."""
        x1, y1, x2, y2 = box
        low, high = LENGTHS[kind]
        high = low + ROW_SIZES * (high - low)
        long, pitch = high + 2.0, high * SLIMNESS[kind][1] + 1.5
        xs = np.arange(x1 + pitch / 2, x2 - pitch / 2 + 0.01, pitch)
        y, aisles = y1 + 1.0, []
        for row in range(int((y2 - y1) / long)):
            if y + long > y2:
                break
            if kind == "car":
                self.terrain.lines([(x + pitch / 2, y + 1, x + pitch / 2, y + long - 1) for x in xs[:-1]], 0.9, PAINT)
            elif row % 2 == 0:
                self.terrain.lines([(x1 + 1, y + long + 1.5, x2 - 1, y + long + 1.5)], 3.5, JETTY)
            for x in xs[self.rng.random(len(xs)) < OCCUPANCY]:
                heading = np.pi / 2 * self.rng.choice([-1, 1]) + self.rng.normal(0, 0.03)
                self.put(self._item(kind, x, y + long / 2, heading, self.rng.uniform(low, high)), ignored)
            y += long + (1 if kind == "car" else 4)
            if row % 2:
                aisles.append((x1, int(y), x2, min(int(y) + AISLE, y2)))
                y += AISLE
        return aisles

    def crowd(self, box: tuple[int, int, int, int], ignored: bool = False) -> None:
        """Fill ``box`` with people, about one in each square of `ELBOW_ROOM` pixels."""
        x1, y1, x2, y2 = box
        half = ELBOW_ROOM / 2
        for x in np.arange(x1 + half, x2 - half + 0.01, ELBOW_ROOM):
            for y in np.arange(y1 + half, y2 - half + 0.01, ELBOW_ROOM):
                if self.rng.random() < OCCUPANCY:
                    length = self.rng.uniform(*LENGTHS["person"])
                    dx, dy = self.rng.uniform(-0.7, 0.7, 2)
                    self.put(self._item("person", x + dx, y + dy, self.rng.uniform(0, 2 * np.pi), length), ignored)

    def _propose(self, kind: str) -> Item:
        """Return an item at a random place: vehicles mostly in a lane of a road, everything else anywhere."""
        height, width = self.terrain.zone.shape
        x, y = self.rng.uniform(0, [width, height])
        angle = self.rng.uniform(0, 2 * np.pi)
        if kind in DRIVING and self.terrain.headings and self.rng.random() < 0.75:
            x, y, angle = self._lane(width + height)
        if kind in SQUARED:
            angle = self.rng.normal(0, 0.25) + np.pi / 2 * self.rng.integers(4)
        return self._item(kind, x, y, angle, self.rng.uniform(*LENGTHS[kind]))

    def _lane(self, reach: float) -> tuple[float, float, float]:
        """Return x, y and heading of a random place in the right-hand lane of a road."""
        x, y, angle = self.terrain.headings[self.rng.integers(len(self.terrain.headings))]
        angle += np.pi * self.rng.integers(2)
        along, aside = self.rng.uniform(-0.5, 0.5) * reach, LANE * ROAD_BREADTH
        x += along * np.cos(angle) - aside * np.sin(angle)
        y += along * np.sin(angle) + aside * np.cos(angle)
        return x, y, angle + self.rng.normal(0, 0.04)

    def _item(self, kind: str, x: float, y: float, angle: float, length: float) -> Item:
        width = length * self.rng.uniform(*SLIMNESS[kind])
        return Item(kind, float(x), float(y), float(angle), float(length), float(width), int(self.rng.integers(2**31)))

    def _has_room(self, item: Item) -> bool:
        box = _outline(item)
        return self.is_free(box) and self.suits(box, item.kind)

    def suits(self, box: tuple[float, float, float, float], kind: str) -> bool:
        """Return whether the ground in ``box`` suits ``kind``."""
        x1, y1, x2, y2 = map(int, box)
        zone = self.terrain.zone[y1:y2, x1:x2]
        if kind in AFLOAT:
            return bool((zone == WATER).all())
        if kind in OFF_ROAD:
            return bool(((zone == GRASS) | (zone == PAVED)).all())
        if kind in DRIVING:
            x, y = (x1 + x2) // 2, (y1 + y2) // 2
            return bool((zone != WATER).all()) and (self.terrain.zone[y, x] == ROAD or not (zone == ROAD).any())
        return bool((zone != WATER).all())


def _outline(item: Item) -> tuple[float, float, float, float]:
    """Return the box (x1, y1, x2, y2) around the rotated rectangle into which the item is drawn."""
    cosine, sine = abs(np.cos(item.angle)), abs(np.sin(item.angle))
    half_w = 0.5 * (item.length * cosine + item.width * sine)
    half_h = 0.5 * (item.length * sine + item.width * cosine)
    return item.x - half_w, item.y - half_h, item.x + half_w, item.y + half_h
