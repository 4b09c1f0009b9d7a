"""Generated tracks: the ground truth is what the frames show, seeds decide, and noise is as asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pixelkeep.datasets.demo.moving import PERFECT, WALL, Detector, Motion, Moving

SMALL = Motion(size=(120, 160), frames=8, objects=150)


@pytest.fixture(scope="module")
def video() -> Moving:
    return Moving(SMALL, seed=3)


def test_truth__is_what_the_frames_show(video):
    """Most pixels inside a true box have the object's colour; the rest are overlapping objects or walls."""
    right = []
    for truth, image in zip(video.truth, video.images(), strict=True):
        assert image.shape == (120, 160, 3)
        for x1, y1, x2, y2, identity in truth:
            patch = image[round(y1) + 1 : round(y2) - 1, round(x1) + 1 : round(x2) - 1]
            right.append((patch == video._colours[int(identity)]).all(axis=2).mean())
    assert len(right) > 40 and np.mean(right) > 0.8
    assert np.mean(np.array(right) > 0.5) > 0.85


def test_truth__moves_as_asked():
    """Objects move by the asked speed; the camera's window is still without pan and shake, and moves with them."""
    still = Moving(replace(SMALL, pan=0.0, shake=0.0, speeds=(2.0, 2.0), turn=0.0), seed=1)
    inside = [np.abs(np.diff(still._centres, axis=0)).max(axis=2) > 0]
    steps = np.linalg.norm(np.diff(still._centres, axis=0), axis=2)
    assert np.all(inside) and np.allclose(steps, 2.0)
    assert len(np.unique(still._window, axis=0)) == 1
    assert len(np.unique(Moving(SMALL, seed=1)._window, axis=0)) > 1


def test_truth__hides_behind_walls(video):
    """No true box has its centre inside a wall."""
    for frame, truth in enumerate(video.truth):
        centres = (truth[:, 0] + truth[:, 2]) / 2 + video._window[frame][0]
        for wall in video._walls:
            inside = (centres > wall) & (centres < wall + WALL) & (truth[:, 0] > 0) & (truth[:, 2] < 160)
            assert not inside.any()


def test_detections__perfect_are_the_truth(video):
    """Without noise the detections are exactly the true boxes, sorted by score."""
    for truth, found in zip(video.truth, video.detections(PERFECT), strict=True):
        np.testing.assert_allclose(sorted(found[:, :4].tolist()), sorted(truth[:, :4].tolist()), atol=1e-4)
        assert (np.diff(found[:, 4]) <= 0).all()


def test_detections__noise_is_what_is_asked_for():
    """Over many boxes the rates of misses and false boxes and the mean score are those asked for."""
    video = Moving(replace(SMALL, frames=200, objects=150), seed=5)
    true = sum(map(len, video.truth))
    found = list(video.detections(Detector(missed=0.25, false=0.0, score=0.4)))
    assert abs(sum(map(len, found)) / true - 0.75) < 0.02
    assert abs(np.concatenate(found)[:, 4].mean() - 0.4) < 0.01
    false = list(video.detections(Detector(missed=1.0, false=3.0)))
    assert abs(sum(map(len, false)) / 200 - 3) < 0.5


def test_seed__decides(video):
    """The same seed gives the same video, and another seed another video."""
    again, other = Moving(SMALL, seed=3), Moving(SMALL, seed=4)
    assert all(np.array_equal(a, b) for a, b in zip(video.truth, again.truth, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(video.images(), again.images(), strict=True))
    assert not np.array_equal(video.truth[0], other.truth[0])
