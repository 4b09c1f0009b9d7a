"""A wrapper of Ultralytics' trackers that enlarges boxes for matching and returns the detector's own boxes.

Two boxes of ten pixels in successive frames do not overlap once the object has moved by ten pixels, and a tracker that
compares them by IoU loses the object. Boxes that are enlarged on all sides still overlap (the buffered IoU of Yang et
al., Hard to Track Objects with Irregular Motions and Similar Appearances?, WACV 2023, arXiv:2211.14317). A least side
turns the IoU into a distance between centres for the smallest boxes. The tracker itself is unchanged: it gets larger
boxes, and only the assignment of boxes to tracks is taken from it.
"""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import numpy as np
from ultralytics.engine.results import Boxes
from ultralytics.trackers.basetrack import TrackState

from pixelkeep.errors import OptionError
from pixelkeep.tiling.timed import Looked


def enlarged(boxes: np.ndarray, buffer: float, least_side: float) -> np.ndarray:
    """Return boxes enlarged around their centres.

    Args:
        boxes: (n, 4) xyxy in pixels.
        buffer: Share of the box's width or height by which each side moves outwards.
        least_side: Smallest width and height in pixels afterwards.

    Returns:
        (n, 4) xyxy; boxes without width or height are returned unchanged, because trackers skip these.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    centres = (boxes[:, 2:] + boxes[:, :2]) / 2
    half = np.maximum(sides * (1 + 2 * buffer), least_side) / 2
    whole = (sides > 0).all(axis=1, keepdims=True)
    return np.where(whole, np.concatenate([centres - half, centres + half], axis=1), boxes).astype(boxes.dtype)


class Tracker:
    """Gives the boxes in the frames of one video identities.

    Args:
        config: Settings returned by :func:`pixelkeep.ultra.tracking.config.load_tracker`.

    Raises:
        OptionError: The tracker refuses a setting.
    """

    def __init__(self, config: Namespace):
        from ultralytics.trackers.track import TRACKER_MAP  # needs lap, whose presence load_tracker checks

        self.config = config
        try:
            self._tracker = TRACKER_MAP[config.tracker_type](args=config)
        except (ValueError, FileNotFoundError) as error:
            raise OptionError(f"tracker {config.name}: {' '.join(str(error).split())}") from error

    def update(
        self, found: np.ndarray, image: np.ndarray, looked: Looked | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Update the tracks with the detections of the next frame.

        Args:
            found: Detections (n, 6): xyxy, score and class, including those with low scores.
            image: (H, W, 3) uint8 BGR, from which some trackers estimate the camera's motion.
            looked: Where the frame has been looked at; None if everywhere. A track elsewhere does not count as missed.

        Returns:
            Identities (m,) from 1, and the indices (m,) of the rows of ``found`` that have them, in ascending order.
        """
        seen = found.copy()
        seen[:, :4] = enlarged(found[:, :4], self.config.buffer, self.config.least_side)
        before = [(track, track.state) for track in self._alive()] if looked is not None else []
        tracks = self._tracker.update(Boxes(seen, image.shape[:2]), image)
        if before:
            self._hold(before, looked)
        if not len(tracks):
            return np.empty(0, int), np.empty(0, int)
        tracks = tracks[np.argsort(tracks[:, -1], kind="stable")]
        return tracks[:, 4].astype(int), tracks[:, -1].astype(int)

    def places(self) -> np.ndarray:
        """Return where the tracked objects are expected: (n, 4) xyxy, larger than the objects."""
        return np.array([track.xyxy for track in self._alive()], float).reshape(-1, 4)

    def _alive(self) -> list[Any]:
        return [*self._tracker.tracked_stracks, *self._tracker.lost_stracks]

    def _hold(self, before: list[tuple[Any, int]], looked: Looked) -> None:
        """Restore the state of tracks that could not be found because no tile was looked at where they are.

        Such a track is neither lost nor given up, and moves on as predicted.

        Args:
            before: The tracks before the frame, with their states.
            looked: Where the frame has been looked at.
        """
        tracker = self._tracker
        unmatched = [(track, state) for track, state in before if track.frame_id != tracker.frame_id]
        if not unmatched:
            return
        places = np.array([track.xyxy for track, _ in unmatched], float).reshape(-1, 4)
        held = [pair for pair, told in zip(unmatched, looked.tell(places), strict=True) if not told]
        dropped = {id(track) for track in (*tracker.lost_stracks, *tracker.removed_stracks)}
        held = [(track, state) for track, state in held if id(track) in dropped]  # the rest were duplicates
        taken = {id(track) for track, _ in held}
        for name in ("lost_stracks", "removed_stracks"):
            setattr(tracker, name, [track for track in getattr(tracker, name) if id(track) not in taken])
        for track, state in held:
            lost = state == TrackState.Lost
            track.state = state
            (tracker.lost_stracks if lost else tracker.tracked_stracks).append(track)
