"""Drawn tracks: colours and numbers show identities, trails are where they should be, frames have one size."""

from __future__ import annotations

import numpy as np

from pixelkeep.report.drawing import colour, draw
from pixelkeep.report.tracks import draw_tracks

IMAGE = np.full((800, 800, 3), 90, np.uint8)
BOXES = np.array([[100, 100, 140, 130], [500, 600, 530, 640]], float)
NAMES = {0: "car", 1: "boat"}


def drawn(trails=(np.empty((0, 2)), np.empty((0, 2))), identities=(3, 9)):
    return draw_tracks(IMAGE, BOXES, np.array([1, 1]), np.array(identities), trails, NAMES)


def test_tracks__colour_is_the_identitys():
    """The colour of a box is that of its identity, not of its class, and is drawn around the box, not inside."""
    picture = drawn()
    for box, identity in zip(BOXES.astype(int), (3, 9), strict=True):
        assert tuple(picture[box[1] + 10, box[0] - 2][::-1]) == colour(identity)
        assert (picture[box[1] + 10, box[0] + 10] == 90).all()


def test_tracks__trail_is_where_it_says():
    """A trail colours the pixels between its centres and no others."""
    trail = np.array([[300.5, 300.5], [300.5, 400.5]])
    without, picture = drawn(), drawn((trail, np.empty((0, 2))))
    rows, columns = np.nonzero((picture != without).any(axis=2))
    assert 298 <= rows.min() <= 301 and 400 <= rows.max() <= 403
    assert abs(columns - 300.5).max() <= 2
    left, middle, right = picture[350, 299:302, ::-1].astype(int)  # both edges are antialiased, and alike
    assert abs(middle - colour(3)).max() < 16
    np.testing.assert_allclose(left, right, atol=6)  # with the trail half a pixel off they would differ by 70 or more


def test_tracks__trails_do_not_cover_objects():
    """The pixels inside a box stay as in the frame, though its own trail ends there."""
    centres = (BOXES[:, :2] + BOXES[:, 2:]) / 2
    picture = drawn(tuple(np.stack([centre - 60, centre]) for centre in centres))
    assert (picture[101:129, 101:139] == 90).all() and (picture[601:639, 501:529] == 90).all()


def test_tracks__size_is_that_of_detections():
    """Frames with tracks, without tracks and with detections have one size, as a video needs."""
    none = draw_tracks(IMAGE, np.empty((0, 4)), np.empty(0), np.empty(0), [], NAMES)
    plain = draw(IMAGE, BOXES, np.array([1, 1]), np.array([0.5, 0.6]), NAMES)
    assert drawn().shape == none.shape == plain.shape


def test_tracks__number_differs():
    """The number of the identity is written above the box."""
    one, other = drawn(identities=(3, 9)), drawn(identities=(3 + 11, 9))  # 3 and 14 share a colour
    rows, _ = np.nonzero((one != other).any(axis=2))
    assert len(rows) and rows.max() < 100
