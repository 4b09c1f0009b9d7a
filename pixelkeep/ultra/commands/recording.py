"""What detect writes: a line of the journal for each image or frame, and files of all results once it is done."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pixelkeep.ultra.commands.journal import LASTING, NAME, Done, Journal, objects
from pixelkeep.ultra.data.streams import MISSING
from pixelkeep.ultra.data.videos import Passage
from pixelkeep.ultra.predictors.base import RunPredictor
from pixelkeep.ultra.predictors.detection_csv import to_csv
from pixelkeep.writing import staged, write_text


class Record:
    """Writer of the journal of a run, called by a predictor as :attr:`RunPredictor.record`.

    Args:
        folder: The run folder.
        rows: Whether the journal holds the objects found; otherwise it holds only their counts.
        masks: Whether the class of each pixel is written as PNG.
        done: What was done before, in the run that is resumed.

    Attributes:
        images: Number of images and frames processed.
        detections: Number of objects found, by class.
        passages: Progress through videos, by path, and through streams, by place and name.
    """

    def __init__(self, folder: Path, rows: bool, masks: bool, done: Done):
        self.folder = folder
        self.rows, self.masks = rows, masks
        self.images, self.detections = done.images, Counter(done.detections)
        self.passages: dict[str, Passage] = {}
        self.files = set(done.files)
        self._size = done.size
        self._journal: Journal | None = None
        self._going = list(done.cut_off())  # videos that have been started but not ended

    def __call__(self, predictor: RunPredictor) -> None:
        """Record a batch that the predictor has finished."""
        live = predictor.dataset.mode == "stream"
        for i, result in enumerate(predictor.results):
            if live and result.frame == MISSING:
                continue
            self.images += 1
            counts = result.found()
            self.detections.update(counts)
            if self.masks:
                ending = f"_{result.frame}" if result.frame else ""
                result.save_mask(self.folder / "masks" / f"{Path(result.path).stem}{ending}.png")
            key = i if live else result.path
            entry = {"file": str(result.path), "image_id": self.images, "counts": dict(counts)}
            if name := predictor.saved.get(key):
                entry["name"] = name
            if self.rows:
                entry["objects"] = result.records()
            if result.frame:
                entry |= self._passage(predictor, i, result)
            else:
                self.files.add(str(result.path))
            self._add(entry | getattr(result, "notes", {}))

    def _passage(self, predictor: RunPredictor, i: int, result: Any) -> dict[str, Any]:
        dataset = predictor.dataset
        live = dataset.mode == "stream"
        passage = dataset.passages[i if live else result.path]
        self.passages[f"{i}: {result.path}" if live else result.path] = passage
        if not live and result.path not in self._going:
            self.end_videos(dataset.passages)
            self._going.append(result.path)
        told = {"frame": result.frame, "at": round(dataset.times[i], 3)}
        told |= {"skipped": dataset.skipped[i], "broken": dataset.broken[i]}
        return told | ({"place": i, "lost": passage.lost} if live else {})

    def end_videos(self, passages: Mapping[Any, Passage]) -> None:
        """Record which videos have been read to their end; a resumed video may have had no frame left."""
        for path in [path for path in self._going if path in passages and passages[path].ended]:
            self.passages[path] = passage = passages[path]
            self.files.add(path)
            self._add({"file": path, "ended": True} | {key: getattr(passage, key) for key in LASTING})
            self._going.remove(path)

    def _add(self, entry: dict[str, Any]) -> None:
        if self._journal is None:
            self._journal = Journal(self.folder / NAME, self._size)
        self._journal.add(entry)

    def close(self) -> None:
        """Close the journal."""
        if self._journal is not None:
            self._journal.close()


def write_predictions(folder: Path, save_json: bool, save_csv: bool, tracked: bool, oriented: bool) -> None:
    """Write predictions.json and predictions.csv, as requested, from the journal."""
    journal = folder / NAME
    if save_json:
        with staged(folder / "predictions.json") as path, path.open("w", encoding="utf-8") as file:
            file.writelines(_listed(objects(journal)))
    if save_csv:
        write_text(folder / "predictions.csv", to_csv(objects(journal), tracked, oriented))


def _listed(rows: Iterable[dict]) -> Iterable[str]:
    """Yield a JSON list piece by piece, in the form that json.dumps writes."""
    yield "["
    for number, row in enumerate(rows):
        yield (", " if number else "") + json.dumps(row, allow_nan=False)
    yield "]\n"
