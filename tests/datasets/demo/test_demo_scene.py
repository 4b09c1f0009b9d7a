"""Proves that a scene's boxes are tight around what was drawn, and that scenes depend on their seed alone.

Run: python -m pytest tests/datasets/demo/test_demo_scene.py
"""

import numpy as np
import pytest

from pixelkeep.datasets.demo import demo_scene
from pixelkeep.datasets.demo.clutter import DRAWERS as CLUTTER
from pixelkeep.datasets.demo.layout import DRAWERS, LENGTHS, SLIMNESS
from pixelkeep.datasets.demo.objects import CLASS_OF, CLASSES, Item, draw_item
from pixelkeep.datasets.demo.painter import cast_shadow, overlay


@pytest.mark.parametrize("kind", DRAWERS)
@pytest.mark.parametrize("angle", [0.0, 0.6, 2.5])
def test_sprite__box_is_tight_in_the_picture(kind: str, angle: float) -> None:
    """The box is the tightest around the pixels of which the object covers half or more."""
    length = LENGTHS[kind][0]
    item = Item(kind, 100.3, 90.7, angle, length, length * SLIMNESS[kind][0], 7)
    sprite = draw_item(item, DRAWERS)
    pictures = [np.full((200, 200, 3), level, np.float32) for level in (0, 255)]
    for picture in pictures:
        overlay(picture, sprite)
    shown = 1 - (pictures[1] - pictures[0]).mean(2) / 255  # the share of a pixel that is not background
    ys, xs = np.nonzero(shown > 0.499)
    assert sprite.box == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)


@pytest.mark.parametrize("kind", DRAWERS)
def test_sprite__size_as_asked(kind: str) -> None:
    """An object that heads right is as long and wide as asked, within a quarter for rounding and irregularity."""
    length = LENGTHS[kind][1]
    width = length * SLIMNESS[kind][1]
    x1, y1, x2, y2 = draw_item(Item(kind, 90.5, 90.5, 0.0, length, width, 3), DRAWERS).box
    assert x2 - x1 == pytest.approx(length, rel=0.25)
    assert y2 - y1 == pytest.approx(width, rel=0.25)


def test_sprite__outside_the_picture_is_cut() -> None:
    """A sprite and its shadow may cross any edge, or lie wholly outside, without changing other pixels."""
    for x, y in ((0, 0), (40, 40), (-100, 20), (20, 200)):
        picture = np.full((40, 40, 3), 100, np.float32)
        sprite = draw_item(Item("car", x, y, 0.3, 24, 12, 1), DRAWERS)
        cast_shadow(picture, sprite, (3, 3), 0.5)
        overlay(picture, sprite)
        assert picture[20, 20].tolist() == [100, 100, 100]
        assert (picture != 100).any() == (abs(x) < 50 and abs(y) < 50)


def test_scene__boxes_are_those_of_the_sprites() -> None:
    """Each labelled box and class is that of its sprite."""
    scene = demo_scene("val", 2)
    assert len(scene.boxes) == len(scene.labelled) > 5
    for thing, box, label in zip(scene.labelled, scene.boxes, scene.classes, strict=True):
        assert thing.sprite.box == tuple(box)
        assert CLASSES[label] == CLASS_OF[thing.item.kind]


def test_scene__seed_decides_all() -> None:
    """The same split, index and seed render the same picture; changing any of the three changes it."""
    first = demo_scene("val", 4, 0).picture
    np.testing.assert_array_equal(first, demo_scene("val", 4, 0).picture)
    for split, index, seed in (("train", 4, 0), ("val", 8, 0), ("val", 4, 1)):
        assert (first != demo_scene(split, index, seed).picture).any()


def test_scene__clutter_is_never_labelled() -> None:
    """No kind of clutter is a class or a kind of object; an empty scene has no boxes and no regions."""
    assert not set(CLUTTER) & (set(CLASS_OF) | set(CLASSES))
    empty = demo_scene("val", 9)
    assert empty.boxes.shape == (0, 4) and empty.regions.shape == (0, 4) and empty.ignored == 0
