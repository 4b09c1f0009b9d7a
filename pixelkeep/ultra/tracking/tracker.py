"""One of Ultralytics' trackers around which boxes are enlarged for matching, and given back as the detector's.

Two boxes of ten pixels in successive frames share nothing once the object has moved by ten pixels, and a tracker that
compares them by IoU loses it. Boxes that are enlarged on all sides still meet (the buffered IoU of Yang et al., Hard to
Track Objects with Irregular Motions and Similar Appearances?, WACV 2023, arXiv:2211.14317), and a least side makes this
a distance between centres for the smallest. The tracker itself is untouched: it is shown larger boxes, and only which
box belongs to which track is taken from it.
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
    """Return boxes around the same centres with other sides.

    Args:
        boxes: (n, 4) xyxy in pixels.
        buffer: Share of its width or height by which each side moves outwards.
        least_side: Shortest width and height in pixels afterwards.

    Returns:
        (n, 4) xyxy; what has no width or height is given back as it is, for trackers pass over it.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    centres = (boxes[:, 2:] + boxes[:, :2]) / 2
    half = np.maximum(sides * (1 + 2 * buffer), least_side) / 2
    whole = (sides > 0).all(axis=1, keepdims=True)
    return np.where(whole, np.concatenate([centres - half, centres + half], axis=1), boxes).astype(boxes.dtype)


class Tracker:
    """Gives the boxes of one video's frames identities.

    Args:
        config: As :func:`pixelkeep.ultra.tracking.config.load_tracker` returns it.

    Raises:
        OptionError: A setting that the tracker refuses.
    """

    def __init__(self, config: Namespace):
        from ultralytics.trackers.track import TRACKER_MAP  # needs lap, which has been looked for by now

        self.config = config
        try:
            self._tracker = TRACKER_MAP[config.tracker_type](args=config)
        except (ValueError, FileNotFoundError) as error:
            raise OptionError(f"tracker {config.name}: {' '.join(str(error).split())}") from error

    def update(
        self, found: np.ndarray, image: np.ndarray, looked: Looked | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Take in the next frame.

        Args:
            found: (n, 6) xyxy, score and class of what the detector found; also with low scores.
            image: (H, W, 3) uint8 BGR, of which some trackers take the camera's motion.
            looked: Where the frame has been looked at, if not everywhere: a track elsewhere is not missed.

        Returns:
            (m,) identities from 1 and (m,) rows of ``found`` that have them, in the order of the rows.
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
        """Return where the objects are expected that are followed: (n, 4) xyxy, larger than they are."""
        return np.array([track.xyxy for track in self._alive()], float).reshape(-1, 4)

    def _alive(self) -> list[Any]:
        return [*self._tracker.tracked_stracks, *self._tracker.lost_stracks]

    def _hold(self, before: list[tuple[Any, int]], looked: Looked) -> None:
        """Have tracks that could not be found be as they were: neither lost nor given up, moved on as predicted.

        Args:
            before: The tracks before the frame, and their states.
            looked: Where the frame has been looked at.
        """
        tracker = self._tracker
        unmatched = [(track, state) for track, state in before if track.frame_id != tracker.frame_id]
        if not unmatched:
            return
        places = np.array([track.xyxy for track, _ in unmatched], float).reshape(-1, 4)
        held = [pair for pair, told in zip(unmatched, looked.tell(places), strict=True) if not told]
        dropped = {id(track) for track in (*tracker.lost_stracks, *tracker.removed_stracks)}
        held = [(track, state) for track, state in held if id(track) in dropped]  # others were doubles of one another
        taken = {id(track) for track, _ in held}
        for name in ("lost_stracks", "removed_stracks"):
            setattr(tracker, name, [track for track in getattr(tracker, name) if id(track) not in taken])
        for track, state in held:
            lost = state == TrackState.Lost
            track.state = state
            (tracker.lost_stracks if lost else tracker.tracked_stracks).append(track)
