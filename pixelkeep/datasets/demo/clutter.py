"""The unlabelled things in the demo's scenes: trees, and hard negatives that look like an object from further away.

A bush or rock stands in for a person, a crate for a car, a container for a truck, a raft for a boat, a sports court
for a building. Each has the colours and sizes of that class. Only the structure (head, windows, cab, bow, roof) is
missing, and structure is what halving the resolution destroys.
"""

from __future__ import annotations

import numpy as np

from pixelkeep.datasets.demo.objects import CARGO, DECKS, PAINTS, SHIRTS, Drawer, pick
from pixelkeep.datasets.demo.painter import Painter

LEAVES = [(48, 95, 62), (42, 82, 70), (60, 110, 78)]

# For each kind the range of lengths in pixels, the range of width by length, and the length of the shadow in pixels.
LENGTHS = {
    "tree": (22, 44), "bush": (9, 15), "rock": (8, 14), "post": (9, 13), "crate": (20, 28), "container": (38, 58),
    "raft": (20, 36), "buoy": (6, 9), "court": (52, 84),
}  # fmt: skip
SLIMNESS = {
    "tree": (0.9, 1.0), "bush": (0.7, 1.0), "rock": (0.65, 0.95), "post": (0.75, 0.85), "crate": (0.46, 0.55),
    "container": (0.33, 0.38), "raft": (0.38, 0.46), "buoy": (1.0, 1.0), "court": (0.55, 0.62),
}  # fmt: skip
HEIGHTS = {
    "tree": 7.0, "bush": 2.0, "rock": 1.5, "post": 3.0, "crate": 2.5, "container": 4.0, "raft": 0.8, "buoy": 1.2,
    "court": 0.0,
}  # fmt: skip


def _leaves(painter: Painter, radius: float, count: int, colour: np.ndarray, rng: np.random.Generator) -> None:
    """Fill a crown with ``count`` tufts of leaves at each of four brightnesses, dark below and light on top."""
    for light in (0.62, 0.85, 1.06, 1.3):
        reach = radius * (0.74 - 0.3 * (light - 0.62))
        turns, far = rng.uniform(0, 2 * np.pi, count), reach * np.sqrt(rng.uniform(0, 1, count))
        for turn, r in zip(turns, far, strict=True):
            tuft = radius * rng.uniform(0.13, 0.3) / (0.6 + 0.4 * light)
            shift = -0.12 * radius * (light - 0.62)
            painter.oval(r * np.cos(turn) + shift, r * np.sin(turn) + shift, tuft, tuft, colour * light)


def _tree(painter: Painter, length: float, width: float, rng: np.random.Generator) -> None:
    colour = pick(rng, LEAVES, 6)
    painter.oval(0, 0, 0.42 * length, 0.42 * width, colour * 0.6)
    _leaves(painter, 0.5 * length, 18, colour, rng)


def _bush(painter: Painter, length: float, width: float, rng: np.random.Generator) -> None:
    colour = pick(rng, LEAVES, 8)
    painter.oval(0, 0, 0.4 * length, 0.45 * width, colour * 0.6)
    _leaves(painter, 0.5 * length, 6, colour, rng)


def _rock(painter: Painter, length: float, width: float, rng: np.random.Generator) -> None:
    """Draw an angular stone with one face in the sun."""
    turns = np.sort(rng.uniform(0, 2 * np.pi, 8))
    outline = np.stack([0.5 * length * np.cos(turns), 0.5 * width * np.sin(turns)], 1) * rng.uniform(0.8, 1, (8, 1))
    grey = np.array([125, 130, 135]) + rng.normal(0, 14)
    painter.oval(0, 0, 0.4 * length, 0.4 * width, grey * 0.75)
    painter.polygon(outline, grey * 0.75)
    painter.polygon(outline * 0.7 - 0.08 * length, grey * 1.15)


def _post(painter: Painter, length: float, width: float, rng: np.random.Generator) -> None:
    """Draw a parasol, litter bin or cone: it has a shirt's colour, but neither head nor legs."""
    colour = pick(rng, SHIRTS)
    painter.oval(0, 0, 0.5 * length, 0.5 * width, colour * 0.7)
    painter.oval(-0.05 * length, -0.05 * length, 0.36 * length, 0.36 * width, colour)


def _crate(painter: Painter, length: float, width: float, rng: np.random.Generator) -> None:
    """Draw a skip or crate: it has a car's outline and paint, with planks instead of windows."""
    a, b = 0.5 * length, 0.5 * width
    paint = pick(rng, PAINTS)
    painter.rectangle(-a, -b, a, b, paint * 0.75)
    painter.rectangle(-0.9 * a, -0.8 * b, 0.9 * a, 0.8 * b, paint)
    for y in (-0.35, 0.3):
        painter.rectangle(-0.9 * a, (y - 0.07) * b, 0.9 * a, (y + 0.07) * b, paint * 0.7)


def _container(painter: Painter, length: float, width: float, rng: np.random.Generator) -> None:
    """Draw a freight container: a lorry's box without a cab."""
    a, b = 0.5 * length, 0.5 * width
    paint = pick(rng, CARGO)
    painter.rectangle(-a, -b, a, b, paint * 0.8)
    painter.rectangle(-0.96 * a, -0.9 * b, 0.96 * a, 0.9 * b, paint)
    for x in np.linspace(-0.88, 0.88, max(5, int(length / 5))):
        painter.rectangle((x - 0.015) * a, -0.9 * b, (x + 0.015) * a, 0.9 * b, paint * 0.84)


def _raft(painter: Painter, length: float, width: float, rng: np.random.Generator) -> None:
    """Draw a floating jetty of planks: a boat's deck without a bow."""
    a, b = 0.5 * length, 0.5 * width
    wood = pick(rng, DECKS)
    painter.rectangle(-a, -b, a, b, wood * 0.7)
    for x in np.linspace(-0.86, 0.86, max(4, int(length / 4))):
        painter.rectangle((x - 0.07) * a, -0.9 * b, (x + 0.07) * a, 0.9 * b, wood)


def _buoy(painter: Painter, length: float, width: float, rng: np.random.Generator) -> None:
    colour = pick(rng, [(40, 60, 230), (40, 170, 240), (235, 235, 235)])
    painter.oval(0, 0, 0.5 * length, 0.5 * width, colour * 0.75)
    painter.oval(-0.6, -0.6, 0.26 * length, 0.26 * width, colour * 1.15)


def _court(painter: Painter, length: float, width: float, rng: np.random.Generator) -> None:
    """Draw a tennis court: it has a roof's size and colour, but is flat, with white lines and no shadow."""
    a, b = 0.5 * length, 0.5 * width
    ground = pick(rng, [(80, 100, 165), (150, 115, 70), (95, 135, 85)])
    painter.rectangle(-a, -b, a, b, ground * 0.9)
    painter.rectangle(-0.86 * a, -0.8 * b, 0.86 * a, 0.8 * b, (225, 228, 228))
    for x1, x2 in ((-0.84, -0.45), (-0.43, -0.01), (0.01, 0.43), (0.45, 0.84)):
        painter.rectangle(x1 * a, -0.76 * b, x2 * a, 0.76 * b, ground)
    for y in (-0.56, 0.56):
        painter.rectangle(-0.86 * a, (y - 0.025) * b, 0.86 * a, (y + 0.025) * b, (225, 228, 228))


DRAWERS: dict[str, Drawer] = {
    "tree": _tree,
    "bush": _bush,
    "rock": _rock,
    "post": _post,
    "crate": _crate,
    "container": _container,
    "raft": _raft,
    "buoy": _buoy,
    "court": _court,
}
