"""Drawers for the demo's five classes, seen from above: person, car, truck, boat, building.

Each drawer fills a `Painter` from a size in pixels and a random generator. The generator's state decides colours and
details, so that the same seed draws the same object again at another place, as the video needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pixelkeep.datasets.demo.painter import Painter, Sprite

CLASSES = ("person", "car", "truck", "boat", "building")

# Each kind that is drawn and the class it counts as: yachts and halls are the large boats and buildings.
CLASS_OF = {
    "hall": "building", "building": "building", "truck": "truck", "yacht": "boat", "boat": "boat", "car": "car",
    "person": "person",
}  # fmt: skip
# For each kind the range of lengths (front to back) in pixels, of width by length, and the shadow's length in pixels.
LENGTHS = {
    "hall": (104, 138), "building": (44, 70), "truck": (40, 62), "yacht": (44, 64), "boat": (20, 34), "car": (23, 30),
    "person": (10, 14),
}  # fmt: skip
SLIMNESS = {
    "hall": (0.8, 1.0), "building": (0.62, 0.9), "truck": (0.32, 0.38), "yacht": (0.36, 0.44), "boat": (0.36, 0.44),
    "car": (0.46, 0.52), "person": (0.72, 0.85),
}  # fmt: skip
HEIGHTS = {"hall": 11.0, "building": 9.0, "truck": 5.0, "yacht": 2.5, "boat": 1.5, "car": 2.5, "person": 3.5}

PAINTS = [(38, 38, 200), (190, 90, 30), (225, 225, 225), (45, 45, 45), (40, 170, 225), (175, 175, 170), (60, 130, 50)]
SHIRTS = [(40, 40, 225), (235, 235, 240), (30, 200, 250), (200, 70, 40), (190, 60, 190), (30, 120, 250)]
CARGO = [(220, 222, 225), (60, 110, 205), (190, 120, 50), (95, 150, 80), (70, 195, 225)]
HULLS = [(240, 240, 240), (200, 215, 230), (225, 205, 175), (180, 190, 235)]
DECKS = [(120, 165, 205), (95, 140, 185), (205, 205, 200)]
ROOFS = [(65, 80, 160), (75, 95, 140), (55, 65, 125), (115, 110, 110), (95, 120, 165)]
HALLS = [(165, 165, 160), (150, 140, 125), (185, 185, 190)]

GLASS = (52, 42, 36)
SKIN = (120, 160, 215)


@dataclass(frozen=True)
class Item:
    """What to draw and where: an object or a piece of clutter with its centre, heading, size and appearance.

    Attributes:
        kind: What to draw, a key of `CLASS_OF` or a kind of clutter.
        x: Column of the centre, in pixels.
        y: Row of the centre, in pixels.
        angle: Heading in radians, clockwise from the right.
        length: Length along the heading, in pixels.
        width: Width across the heading, in pixels.
        seed: Seed that decides colours and details.
    """

    kind: str
    x: float
    y: float
    angle: float
    length: float
    width: float
    seed: int


Drawer = Callable[[Painter, float, float, np.random.Generator], None]


def draw_item(item: Item, drawers: dict[str, Drawer]) -> Sprite:
    """Draw ``item`` with the drawer of its kind and return the sprite."""
    painter = Painter((item.x, item.y), item.angle, 0.6 * float(np.hypot(item.length, item.width)))
    drawers[item.kind](painter, item.length, item.width, np.random.default_rng(item.seed))
    return painter.finish()


def pick(rng: np.random.Generator, colours: list, spread: float = 10) -> np.ndarray:
    """Return a random one of ``colours``, with noise of standard deviation ``spread`` added to each channel."""
    return np.asarray(colours[rng.integers(len(colours))], float) + rng.normal(0, spread, 3)


def _person(painter: Painter, length: float, width: float, rng: np.random.Generator) -> None:
    """Draw a walker: legs in stride, shoulders in a bright shirt, a dark head with a light face."""
    trousers = pick(rng, [(90, 60, 40), (50, 50, 55), (120, 110, 100)])
    shirt = pick(rng, SHIRTS)
    stride = rng.choice([-1, 1]) * 0.16 * width
    painter.oval(-0.26 * length, stride, 0.24 * length, 0.13 * width, trousers)
    painter.oval(0.27 * length, -stride, 0.23 * length, 0.13 * width, trousers)
    painter.oval(0, 0, 0.27 * length, 0.5 * width, shirt, 2.6)
    painter.oval(0.03 * length, 0, 0.17 * length, 0.17 * length, (30, 32, 38))
    painter.oval(0.13 * length, 0, 0.07 * length, 0.11 * length, SKIN)


def _car(painter: Painter, length: float, width: float, rng: np.random.Generator) -> None:
    """Draw a car: a rounded body, dark windscreen and rear window, a slightly lighter roof, lamps front and back."""
    paint = pick(rng, PAINTS)
    a, b = 0.5 * length, 0.5 * width
    painter.oval(0, 0, a, b, paint * 0.8, 5)
    painter.oval(0, 0, 0.96 * a, 0.86 * b, paint, 5)
    painter.polygon([(0.42 * a, -0.76 * b), (0.42 * a, 0.76 * b), (0.1 * a, 0.62 * b), (0.1 * a, -0.62 * b)], GLASS)
    painter.polygon([(-0.5 * a, -0.6 * b), (-0.5 * a, 0.6 * b), (-0.74 * a, 0.74 * b), (-0.74 * a, -0.74 * b)], GLASS)
    painter.oval(-0.2 * a, 0, 0.3 * a, 0.6 * b, paint * 1.12 + 12, 5)
    for side in (-0.62, 0.62):
        painter.oval(0.92 * a, side * b, 0.07 * a, 0.2 * b, (205, 240, 250))
        painter.oval(-0.94 * a, side * b, 0.06 * a, 0.2 * b, (40, 30, 190))


def _truck(painter: Painter, length: float, width: float, rng: np.random.Generator) -> None:
    """Draw a lorry: a cab with a windscreen, a gap, and a long box with ribs across."""
    a, b = 0.5 * length, 0.5 * width
    cab, box = pick(rng, PAINTS), pick(rng, CARGO)
    painter.rectangle(-a, -0.5 * b, 0.9 * a, 0.5 * b, (45, 45, 48))
    painter.oval(0.8 * a, 0, 0.2 * a, 0.92 * b, cab, 6)
    painter.rectangle(0.84 * a, -0.78 * b, 0.93 * a, 0.78 * b, GLASS)
    painter.rectangle(-a, -b, 0.54 * a, b, box * 0.82)
    painter.rectangle(-0.97 * a, -0.86 * b, 0.51 * a, 0.86 * b, box)
    for x in np.linspace(-0.8, 0.34, max(4, int(length / 8))):
        painter.rectangle((x - 0.012) * a, -0.86 * b, (x + 0.012) * a, 0.86 * b, box * 0.86)
    painter.rectangle(-0.97 * a, -0.08 * b, 0.51 * a, 0.08 * b, box * 1.08 + 8)


def _boat(painter: Painter, length: float, width: float, rng: np.random.Generator) -> None:
    """Draw a motor boat: a pointed hull, a wooden deck, a cabin with a windscreen."""
    hull, deck = pick(rng, HULLS, 6), pick(rng, DECKS, 6)
    painter.polygon(_hull(0.5 * length, 0.5 * width), hull)
    painter.polygon(_hull(0.4 * length, 0.36 * width) - [0.03 * length, 0], deck)
    painter.oval(-0.1 * length, 0, 0.17 * length, 0.3 * width, hull, 4)
    painter.rectangle(0.03 * length, -0.27 * width, 0.1 * length, 0.27 * width, GLASS)
    painter.rectangle(-0.5 * length, -0.12 * width, -0.44 * length, 0.12 * width, (40, 40, 45))


def _hull(a: float, b: float) -> np.ndarray:
    """Return the outline (n, 2) of a hull with its bow at x = a and a straight stern at x = -a."""
    x = np.linspace(-1, 1, 16)
    y = np.where(x < -0.1, 0.92 + 0.08 * (x + 1) / 0.9, np.sqrt(np.clip(1 - ((x + 0.1) / 1.1) ** 2, 0, 1)))
    return np.concatenate([np.stack([a * x, b * y], 1), np.stack([a * x, -b * y], 1)[::-1]])


def _building(painter: Painter, length: float, width: float, rng: np.random.Generator) -> None:
    """Draw a house with a hipped, tiled roof and a chimney."""
    a, b = 0.5 * length, 0.5 * width
    tile = pick(rng, ROOFS)
    ridge = a - 0.8 * b
    faces = [
        ([(-a, -b), (a, -b), (ridge, 0), (-ridge, 0)], 1.16),
        ([(a, -b), (a, b), (ridge, 0)], 1.0),
        ([(a, b), (-a, b), (-ridge, 0), (ridge, 0)], 0.74),
        ([(-a, b), (-a, -b), (-ridge, 0)], 0.9),
    ]
    for corners, light in faces:
        painter.polygon(corners, tile * light)
    for row in np.arange(-0.9, 1, 0.2):  # courses of tiles
        reach = a - 0.8 * b * (1 - abs(row))
        painter.rectangle(-reach, row * b - 0.3, reach, row * b + 0.3, tile * (0.98 if row < 0 else 0.66))
    painter.rectangle(-ridge, -0.6, ridge, 0.6, tile * 1.35 + 15)
    x, y = rng.uniform(-0.5, 0.3) * ridge, rng.choice([-0.45, 0.45]) * b
    painter.rectangle(x, y - 2, x + 4, y + 2, (75, 75, 90))


def _hall(painter: Painter, length: float, width: float, rng: np.random.Generator) -> None:
    """Draw a hall: a flat roof with a parapet, seams, rows of skylights and a few machines."""
    a, b = 0.5 * length, 0.5 * width
    roof = pick(rng, HALLS, 6)
    painter.rectangle(-a, -b, a, b, roof * 1.2)
    painter.rectangle(-a + 2, -b + 2, a - 2, b - 2, roof)
    for x in np.arange(-a + 10, a - 4, 10):
        painter.rectangle(x, -b + 2, x + 0.7, b - 2, roof * 0.9)
    for x in np.arange(-a + 14, a - 18, 24):
        for y in (-0.5 * b, 0.5 * b):
            painter.rectangle(x, y - 3.5, x + 13, y + 3.5, roof * 0.7)
            painter.rectangle(x + 1, y - 2.5, x + 12, y + 2.5, (215, 195, 160))
    for x in rng.uniform(-0.7 * a, 0.7 * a, 3):
        painter.rectangle(x - 3, -4, x + 5, 5, roof * 0.6)
        painter.rectangle(x - 4, -5, x + 4, 4, roof * 1.12)


DRAWERS: dict[str, Drawer] = {
    "person": _person,
    "car": _car,
    "truck": _truck,
    "boat": _boat,
    "yacht": _boat,
    "building": _building,
    "hall": _hall,
}
