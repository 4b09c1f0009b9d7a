"""``detect --track``: detections in successive frames get identities, are drawn with them, and written as MOT text."""

from __future__ import annotations

import time
from argparse import Namespace
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pixelkeep.errors import OptionError
from pixelkeep.report.tracks import draw_tracks
from pixelkeep.tiling.timed import Looked
from pixelkeep.ultra.data.sources import images_in
from pixelkeep.ultra.data.streams import MISSING
from pixelkeep.ultra.predictors.base import RunPredictor, viewable
from pixelkeep.ultra.predictors.boxes import Detections
from pixelkeep.ultra.tracking.config import load_tracker
from pixelkeep.ultra.tracking.mot import MotFile
from pixelkeep.ultra.tracking.tracker import Tracker

TRAIL = 20  # number of frames over which an object's trail is drawn
FOLDER = "tracks"  # folder of the MOT files, inside the run folder


class Tracks(Detections):
    """One frame's tracks: detections with identities, and their trails through the last frames."""

    trails: Sequence[np.ndarray] = ()

    def plot(self, line_width: int | None = None, **_: Any) -> np.ndarray:
        """Return the annotated image, (H, W, 3) BGR."""
        boxes = self.boxes.cpu().numpy()
        shown = viewable(self.orig_img)
        return draw_tracks(shown, boxes.xyxy, boxes.cls, boxes.id, self.trails, self.names, line_width)

    def records(self) -> list[dict]:
        """Return a row for each object in COCO results form, with its identity in ``track_id``."""
        identities = self.boxes.id.int().tolist()
        return [{**row, "track_id": i} for row, i in zip(super().records(), identities, strict=True)]


class Followed:
    """The tracking state of one video or stream: its tracker, its MOT file, and where each object has been.

    Args:
        config: Settings of the tracker.
        path: The MOT file.
        until: Last frame to keep of an existing file.
        first: Number that is added to the tracker's identities, to continue those of an earlier run.
    """

    def __init__(self, config: Namespace, path: Path, until: int = 0, first: int = 0):
        self.tracker = Tracker(config)
        self.file = MotFile(path, until)
        self.first = first
        self.frames = 0
        self.identities: set[int] = set()
        self.ways: dict[int, deque] = {}

    def trails(self, rows: np.ndarray) -> list[np.ndarray]:
        """Record the positions of this frame's objects, and return the recent positions of each, (k, 2) in pixels."""
        for row in rows:
            way = self.ways.setdefault(int(row[4]), deque(maxlen=TRAIL))
            way.append((self.frames, (row[:2] + row[2:4]) / 2))
        recent = {i: way for i, way in self.ways.items() if way[-1][0] > self.frames - TRAIL}
        self.ways = recent
        return [np.array([at for n, at in recent[int(row[4])] if n > self.frames - TRAIL]) for row in rows]


class Tracking:
    """A callback for the end of a predictor's postprocessing that gives its detections identities.

    Args:
        config: Settings returned by :func:`pixelkeep.ultra.tracking.config.load_tracker`.
        least: Lowest score, for each class, of the detections that are shown and written; the tracker also sees those
            below it.
        folder: Folder for the MOT files.
    """

    def __init__(self, config: Namespace, least: Sequence[float], folder: Path):
        self.config = config
        self.least = np.asarray(least)
        self.folder = folder
        self.seconds, self.frames, self.known = 0.0, 0, 0
        self._open: dict[Any, Followed] = {}
        self._stems: dict[Any, str] = {}

    def __enter__(self) -> Tracking:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __call__(self, predictor: Any) -> None:
        """Replace the results of a batch by tracks."""
        live = predictor.dataset.mode == "stream"
        for i, result in enumerate(predictor.results):
            if live and result.frame == MISSING:
                continue
            began = time.perf_counter()
            sequence = self._sequence((i, result.path) if live else result.path, live)
            predictor.results[i] = self._track(sequence, result)
            self.seconds += time.perf_counter() - began
            self.frames += 1

    def places(self, key: Any) -> np.ndarray:
        """Return where objects are expected: (n, 4) xyxy.

        Args:
            key: Path of a video, or place and name of a stream.
        """
        return self._open[key].tracker.places() if key in self._open else np.empty((0, 4))

    def name(self, key: Any) -> str:
        """Return the unique name, without the ending, of a video's or stream's MOT file."""
        if key not in self._stems:
            stem = Path(key[1] if isinstance(key, tuple) else key).stem or "stream"
            taken = set(self._stems.values())
            number = next(n for n in range(1, len(taken) + 2) if _numbered(stem, n) not in taken)
            self._stems[key] = _numbered(stem, number)
        return self._stems[key]

    def resume(self, key: Any, until: int, first: int = 0) -> None:
        """Continue a MOT file that was cut off.

        Args:
            key: Video or stream; see :meth:`places`.
            until: Last frame to keep of the file.
            first: Highest identity so far, if identities are counted on from it; else 0.
        """
        self._open[key] = Followed(self.config, self.folder / f"{self.name(key)}.txt", until, first)

    def repeat(self, key: Any, found: np.ndarray, image: np.ndarray, looked: Looked | None) -> None:
        """Show the tracker again what was found in an earlier frame of a resumed video, without writing anything.

        Args:
            key: Video or stream; see :meth:`places`.
            found: The detections (n, 6) that the tracker was given for this frame: xyxy, score and class.
            image: The frame.
            looked: Where the frame was looked at; None if everywhere.
        """
        sequence = self._open[key]
        sequence.trails(self._rows(sequence, found, image, looked))

    def _sequence(self, key: Any, live: bool) -> Followed:
        """Return the state of a video or stream, created if it is new; a new video closes the one before it."""
        if key not in self._open:
            if not live:
                self.close()
            self._open[key] = Followed(self.config, self.folder / f"{self.name(key)}.txt")
        return self._open[key]

    def _rows(self, sequence: Followed, found: np.ndarray, image: np.ndarray, looked: Looked | None) -> np.ndarray:
        """Return the tracked detections that are shown: (n, 7) xyxy, identity, score and class."""
        sequence.frames += 1
        identities, rows = sequence.tracker.update(found, image, looked)
        chosen = found[rows]
        kept = chosen[:, 4] >= self.least[chosen[:, 5].astype(int)]
        identities, chosen = identities[kept] + sequence.first, chosen[kept]
        fresh = set(identities.tolist()) - sequence.identities
        sequence.identities |= fresh
        self.known += len(fresh)
        return np.concatenate([chosen[:, :4], identities[:, None].astype(chosen.dtype), chosen[:, 4:]], axis=1)

    def _track(self, sequence: Followed, result: Detections) -> Tracks:
        data = result.boxes.data
        found = data.cpu().numpy()
        rows = self._rows(sequence, found, viewable(result.orig_img), result.looked)
        sequence.file.write(result.frame, rows)
        tracks = Tracks(result.orig_img, path=result.path, names=result.names, boxes=torch.from_numpy(rows))
        tracks.trails = sequence.trails(rows)
        tracks.frame, tracks.looked = result.frame, result.looked
        identities = max(sequence.identities, default=sequence.first)
        seen = {"seen": found.tolist(), "precision": found.dtype.name}
        tracks.notes = {**result.notes, **seen, "identities": identities, "known": len(sequence.identities)}
        return tracks

    def close(self) -> None:
        """Close all open MOT files."""
        while self._open:
            self._open.popitem()[1].file.close()

    def report(self) -> dict[str, Any]:
        """Return the tracker's name, the number of objects it told apart and its mean milliseconds per frame."""
        return {
            "tracker": self.config.name,
            "objects": self.known,
            "ms": round(1e3 * self.seconds / max(self.frames, 1), 3),
        }


def _numbered(stem: str, number: int) -> str:
    return stem if number == 1 else f"{stem}_{number}"


def check(asked: str, source: str | list[str]) -> Namespace:
    """Return the settings of a tracker after checking that the source consists of videos or streams.

    Raises:
        OptionError: There is no such tracker, or images are among the sources.
    """
    config = load_tracker(asked)
    Tracker(config)  # so that settings which the tracker refuses are reported now, not at the first frame
    for file in images_in(source):
        raise OptionError(f"--track has no effect on images ({Path(file).name}); give videos, a webcam or a stream")
    return config


def follow(predictor: RunPredictor, config: Namespace, least: Sequence[float], folder: Path) -> Tracking:
    """Make a predictor track: keep detections that the tracker can use, and show those that reach the lowest scores.

    Args:
        predictor: A predictor that has not begun.
        config: Settings returned by :func:`check`.
        least: Lowest score shown, for each class.
        folder: The run folder.
    """
    predictor.args.conf = config.track_low_thresh
    predictor.confidences = None
    tracking = Tracking(config, least, folder / FOLDER)
    predictor.add_callback("on_predict_postprocess_end", tracking)
    predictor.places = tracking.places
    return tracking
