"""The sheet of enlarged boxes shows objects large and uncovered, and reads no more images than it needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import ImageDraw

from pixelkeep.report import zoom
from pixelkeep.report.zoom import AROUND, COLUMNS, GAP, LEAST_VIEW, MOST, TILE, Tile, zoom_sheet

GREEN = (0, 200, 0)


def picture(box, size=(120, 160)):
    """Return a grey image (H, W, 3) in BGR with a green rectangle at ``box``."""
    image = np.full((*size, 3), 90, np.uint8)
    x, y, width, height = box
    image[y : y + height, x : x + width] = GREEN
    return image


def tiles_of(boxes, **options):
    return [Tile(Path(f"{n}.jpg"), box, (f"{n}.jpg", "thing"), **options) for n, box in enumerate(boxes)]


def green(tile):
    """Return the first and last column and row of the green object in a tile, ends exclusive."""
    ys, xs = np.nonzero((np.abs(tile.astype(int) - GREEN) < 60).all(axis=2))
    return xs.min(), xs.max() + 1, ys.min(), ys.max() + 1


@pytest.mark.parametrize(
    "box",
    [(60, 50, 6, 6), (0, 0, 6, 6), (154, 114, 6, 6), (70, 40, 20, 12), (2, 60, 30, 8)],
    ids=["middle", "corner", "other-corner", "larger", "edge"],
)
def test_tile__shows_the_object_large(box):
    """An object of six pixels is shown more than four times as large, uncovered, with its frame close around it."""
    sheet = np.asarray(zoom_sheet(tiles_of([box]), lambda _: picture(box), "note"))
    tile = sheet[GAP : GAP + TILE, GAP : GAP + TILE]
    scale = TILE / max(LEAST_VIEW, AROUND * max(box[2:]))
    left, right, top, bottom = green(tile)
    assert right - left == pytest.approx(box[2] * scale, abs=2) and bottom - top == pytest.approx(box[3] * scale, abs=2)
    assert max(box[2:]) > 6 or right - left > 4 * 6
    marked = (tile == zoom._MARK).all(axis=2)
    for edge in (marked[:, max(left - 4, 0) : left], marked[top:bottom, right : right + 4]):
        assert edge.any() or left < 4 or right > TILE - 4


def test_view__stays_inside_the_image():
    """A view of a box at the image's edge shows only pixels of the image."""
    sheet = np.asarray(zoom_sheet(tiles_of([(0, 0, 6, 6)]), lambda _: picture((0, 0, 6, 6)), ""))
    assert not (sheet[GAP : GAP + TILE, GAP : GAP + TILE] == zoom._OUTSIDE).all(axis=2).any()


def test_others__are_drawn_and_the_box_itself_is_not_doubled():
    """Other boxes are drawn in their own colour, except for one equal to the tile's own box."""

    def ink(others):
        tile = tiles_of([(60, 50, 6, 6)], others=others)
        sheet = np.asarray(zoom_sheet(tile, lambda _: picture((60, 50, 6, 6)), ""))
        return (sheet == zoom._OTHER).all(axis=2).sum()

    assert ink(((70, 50, 6, 6),)) > 0
    assert ink(((60, 50, 6, 6),)) == ink(()) == 0


def test_sheet__at_most_forty_tiles_in_rows():
    """At most the first forty tiles are shown, in rows of eight, and the images of the others are not read."""
    read = []
    tiles = tiles_of([(60, 50, 6, 6)] * (MOST + 5))
    sheet = zoom_sheet(tiles, lambda path: read.append(path) or picture((60, 50, 6, 6)), "")
    assert read == [tile.file for tile in tiles[:MOST]]
    assert sheet.width == COLUMNS * (TILE + GAP) + GAP
    assert sheet.height > MOST / COLUMNS * (TILE + GAP)


def test_text__long_names_keep_their_end(monkeypatch):
    """Every line fits its tile, and a long file name keeps its end."""
    drawn = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda self, xy, text, **_: drawn.append(text))
    tile = Tile(Path("a"), (60, 50, 6, 6), ("drone/" * 20 + "frame_0017.jpg", "short"))
    zoom_sheet([tile], lambda _: picture((60, 50, 6, 6)), "a note")
    assert drawn[0].startswith("…") and drawn[0].endswith("frame_0017.jpg") and len(drawn[0]) < 40
    assert drawn[1:] == ["short", "a note"]
