"""One of Ultralytics' trackers around which boxes are enlarged for matching, and given back as the detector's.

Two boxes of ten pixels in successive frames share nothing once the object has moved by ten pixels, and a tracker that
compares them by IoU loses it. Boxes that are enlarged on all sides still meet (the buffered IoU of Yang et al., Hard to
Track Objects with Irregular Motions and Similar Appearances?, WACV 2023, arXiv:2211.14317), and a least side makes this
a distance between centres for the smallest. The tracker itself is untouched: it is shown larger boxes, and only which
box belongs to which track is taken from it.
"""

from __future__ import annotations

from argparse import Namespace

import numpy as np
from ultralytics.engine.results import Boxes

from pixelkeep.errors import OptionError


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

    def update(self, found: np.ndarray, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take in the next frame.

        Args:
            found: (n, 6) xyxy, score and class of what the detector found; also with low scores.
            image: (H, W, 3) uint8 BGR, of which some trackers take the camera's motion.

        Returns:
            (m,) identities from 1 and (m,) rows of ``found`` that have them, in the order of the rows.
        """
        seen = found.copy()
        seen[:, :4] = enlarged(found[:, :4], self.config.buffer, self.config.least_side)
        tracks = self._tracker.update(Boxes(seen, image.shape[:2]), image)
        if not len(tracks):
            return np.empty(0, int), np.empty(0, int)
        tracks = tracks[np.argsort(tracks[:, -1], kind="stable")]
        return tracks[:, 4].astype(int), tracks[:, -1].astype(int)
