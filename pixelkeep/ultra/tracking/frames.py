"""detect --track: what is found in successive frames gets identities, is drawn with them, and written as MOT text."""

from __future__ import annotations

import time
from argparse import Namespace
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from ultralytics.data.utils import IMG_FORMATS

from pixelkeep.errors import OptionError
from pixelkeep.report.tracks import draw_tracks
from pixelkeep.ultra.predictors.base import RunPredictor, viewable
from pixelkeep.ultra.predictors.boxes import Detections
from pixelkeep.ultra.tracking.config import load_tracker
from pixelkeep.ultra.tracking.mot import MotFile
from pixelkeep.ultra.tracking.tracker import Tracker

TRAIL = 20  # frames over which the way of an object is drawn
FOLDER = "tracks"  # of the MOT files, in the run folder


class Tracks(Detections):
    """One frame's tracks: detections with identities, and where they have been."""

    trails: Sequence[np.ndarray] = ()

    def plot(self, line_width: int | None = None, **_: Any) -> np.ndarray:
        """Return the annotated picture, (H, W, 3) BGR."""
        boxes = self.boxes.cpu().numpy()
        shown = viewable(self.orig_img)
        return draw_tracks(shown, boxes.xyxy, boxes.cls, boxes.id, self.trails, self.names, line_width)

    def records(self) -> list[dict]:
        """Return a row for each object in COCO results form, with its identity in ``track_id``."""
        identities = self.boxes.id.int().tolist()
        return [{**row, "track_id": i} for row, i in zip(super().records(), identities, strict=True)]


class Followed:
    """One video or stream: its tracker, file, and where each object has been."""

    def __init__(self, config: Namespace, path: Path):
        self.tracker = Tracker(config)
        self.file = MotFile(path)
        self.frames = 0
        self.identities: set[int] = set()
        self.ways: dict[int, deque] = {}

    def trails(self, rows: np.ndarray) -> list[np.ndarray]:
        """Note where the objects of this frame are, and return where they have been."""
        for row in rows:
            way = self.ways.setdefault(int(row[4]), deque(maxlen=TRAIL))
            way.append((self.frames, (row[:2] + row[2:4]) / 2))
        recent = {i: way for i, way in self.ways.items() if way[-1][0] > self.frames - TRAIL}
        self.ways = recent
        return [np.array([at for n, at in recent[int(row[4])] if n > self.frames - TRAIL]) for row in rows]


class Tracking:
    """Puts identities into a predictor's results: a callback for the end of its postprocessing.

    Args:
        config: As :func:`pixelkeep.ultra.tracking.config.load_tracker` returns it.
        least: Lowest score of what is shown and written, for each class; the tracker sees what is below it too.
        folder: For the MOT files.
    """

    def __init__(self, config: Namespace, least: Sequence[float], folder: Path):
        self.config = config
        self.least = np.asarray(least)
        self.folder = folder
        self.seconds, self.frames, self.known = 0.0, 0, 0
        self._open: dict[Any, Followed] = {}
        self._stems: set[str] = set()

    def __enter__(self) -> Tracking:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __call__(self, predictor: Any) -> None:
        """Replace the results of a batch."""
        live = predictor.dataset.mode == "stream"
        for i, result in enumerate(predictor.results):
            began = time.perf_counter()
            sequence = self._sequence((i, result.path) if live else result.path, live)
            predictor.results[i] = self._track(sequence, result, predictor.args.vid_stride)
            self.seconds += time.perf_counter() - began
            self.frames += 1

    def _sequence(self, key: Any, live: bool) -> Followed:
        """Return what belongs to a video or stream; videos come one after another, streams side by side."""
        if key not in self._open:
            if not live:
                self.close()
            stem = Path(key[1] if live else key).stem or "stream"
            number = next(n for n in range(1, len(self._stems) + 2) if _numbered(stem, n) not in self._stems)
            self._stems.add(_numbered(stem, number))
            self._open[key] = Followed(self.config, self.folder / f"{_numbered(stem, number)}.txt")
        return self._open[key]

    def _track(self, sequence: Followed, result: Detections, stride: int) -> Tracks:
        sequence.frames += 1
        data = result.boxes.data
        identities, rows = sequence.tracker.update(data.cpu().numpy(), viewable(result.orig_img))
        scores, classes = data[rows, 4].cpu().numpy(), data[rows, 5].cpu().numpy().astype(int)
        kept = scores >= self.least[classes]
        identities, rows = identities[kept], rows[kept]
        fresh = set(identities.tolist()) - sequence.identities
        sequence.identities |= fresh
        self.known += len(fresh)
        chosen = data[torch.as_tensor(rows, device=data.device)]
        column = torch.as_tensor(identities, dtype=data.dtype, device=data.device)[:, None]
        boxes = torch.cat([chosen[:, :4], column, chosen[:, 4:]], dim=1)
        shown = boxes.cpu().numpy()
        sequence.file.write(sequence.frames * stride, shown)
        tracks = Tracks(result.orig_img, path=result.path, names=result.names, boxes=boxes)
        tracks.trails = sequence.trails(shown)
        return tracks

    def close(self) -> None:
        """Close the files of the videos so far."""
        while self._open:
            self._open.popitem()[1].file.close()

    def report(self) -> dict[str, Any]:
        """Return which tracker it was, how many objects it told apart and how many milliseconds a frame took it."""
        return {
            "tracker": self.config.name,
            "objects": self.known,
            "ms": round(1e3 * self.seconds / max(self.frames, 1), 3),
        }


def _numbered(stem: str, number: int) -> str:
    return stem if number == 1 else f"{stem}_{number}"


def check(asked: str, source: str | list[str]) -> Namespace:
    """Return how a tracker is set, if the source has frames that follow each other.

    Raises:
        OptionError: No such tracker, or images are among the sources.
    """
    config = load_tracker(asked)
    Tracker(config)  # says now what it refuses, not at the first frame
    files = source if isinstance(source, list) else [urlsplit(source).path]
    for file in (file for file in files if Path(file).suffix.lower().lstrip(".") in IMG_FORMATS):
        raise OptionError(f"--track has no effect on images ({Path(file).name}); give videos, a webcam or a stream")
    return config


def follow(predictor: RunPredictor, config: Namespace, least: Sequence[float], folder: Path) -> Tracking:
    """Have a predictor track: pass on what the tracker can use, and show what reaches the lowest scores.

    Args:
        predictor: Has not begun.
        config: As :func:`check` returns it.
        least: Lowest score shown, by class.
        folder: The run folder.
    """
    predictor.args.conf = config.track_low_thresh
    predictor.confidences = None
    tracking = Tracking(config, least, folder / FOLDER)
    predictor.add_callback("on_predict_postprocess_end", tracking)
    return tracking
