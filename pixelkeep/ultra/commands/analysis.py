"""Analyses of a validation besides AP: the operating point, errors by size and the label audit."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ultralytics.utils import LOGGER

from pixelkeep.datasets.definitions.spec import DatasetSpec
from pixelkeep.datasets.images.pixels import read_pixels
from pixelkeep.errors import OptionError
from pixelkeep.evaluation.areas import COCO_SIZES, AreaRange
from pixelkeep.evaluation.audit import Candidate, audit, audit_document, audit_rows
from pixelkeep.evaluation.detections import Detections
from pixelkeep.evaluation.errors import find_errors, worst_misses
from pixelkeep.evaluation.operating import Objective, OperatingPoint, operating_point
from pixelkeep.evaluation.overlaps import Scene
from pixelkeep.report.zoom import MOST, Tile, zoom_sheet
from pixelkeep.ultra.predictors.base import viewable
from pixelkeep.ultra.running import runs
from pixelkeep.ultra.validators.drawn import Drawn
from pixelkeep.ultra.weights.confidence import Stored, store
from pixelkeep.writing import write_bytes, write_text

FILES = ("errors.json", "misses.jpg", "label_audit.csv", "label_audit.json", "label_audit.jpg")
OTHERWISE = 0.25  # confidence for errors and audit if no confidence meets the objective


@dataclass
class Analysis:
    """The analyses that are requested, and their results.

    Attributes:
        objective: Objective by which the confidences of the operating point are chosen.
        store: Whether to write these confidences into the weights.
        errors: Whether to write errors.json and misses.jpg.
        audit: Whether to write label_audit.csv, .json and .jpg.
        point: The operating point; None until it has been found.
        error_counts: Content of errors.json; None without ``errors``.
        candidates: Candidates of the label audit, the strongest first; None without ``audit``.
    """

    objective: Objective = field(default_factory=Objective)
    store: bool = False
    errors: bool = False
    audit: bool = False
    point: OperatingPoint | None = field(default=None, init=False)
    error_counts: dict | None = field(default=None, init=False)
    candidates: list[Candidate] | None = field(default=None, init=False)

    def check(self, settings: dict) -> None:
        """Refuse to store confidences that would not be those of the weights on the validation split.

        Raises:
            OptionError: Confidences are to be stored, but the split is not val, or classes are left out or merged.
        """
        if not self.store:
            return
        if settings.get("split", "val") != "val":
            raise OptionError(f"--store-conf: confidences are chosen on val, not on {settings['split']}")
        for key in ("classes", "single_cls"):
            if settings.get(key):
                raise OptionError(f"--store-conf needs all classes, kept separate: leave out {key}")

    def run(
        self,
        folder: Path,
        spec: DatasetSpec,
        truth: dict,
        detections: Detections,
        *,
        max_dets: int,
        floor: float,
        bins: Sequence[AreaRange],
        matrix: bool = False,
        curves: bool = False,
    ) -> OperatingPoint:
        """Find the operating point, write the requested analyses into the run folder, and return the operating point.

        Args:
            folder: The run folder.
            spec: Definition of the dataset.
            truth: Ground truth in COCO form.
            detections: Detections with scores from ``floor`` up.
            max_dets: Largest number of detections of one class in one image.
            floor: Lowest score that could have been detected.
            bins: Size ranges besides S, M and L.
            matrix: Whether to draw the confusion matrix at the operating point.
            curves: Whether to draw the curves of precision, recall and F1.
        """
        self.point = operating_point(truth, detections, self.objective, max_dets=max_dets, floor=floor)
        if not (self.errors or self.audit or matrix or curves):
            return self.point
        scene = Scene.of(truth, detections, max_dets)
        confidences = self.point.confidences()
        if confidences is None:
            if self.errors or self.audit:
                LOGGER.warning(f"No confidence serves {self.objective}: errors and audit use confidence {OTHERWISE}")
            confidences = np.full(len(scene.categories), OTHERWISE)
        if matrix:
            Drawn(folder, scene).confusion(confidences)
        if curves:
            Drawn(folder, scene).curves()
        pictures = _Pictures(spec, scene)
        if self.errors:
            self._errors(folder, scene, confidences, pictures, (*COCO_SIZES, *bins))
        if self.audit:
            self._audit(folder, scene, confidences, pictures)
        return self.point

    def _errors(
        self, folder: Path, scene: Scene, confidences: np.ndarray, pictures: _Pictures, sizes: Sequence[AreaRange]
    ) -> None:
        found = find_errors(scene, confidences)
        self.error_counts = found.to_dict(sizes)
        runs.write_json(folder / "errors.json", self.error_counts)
        tiles = []
        for box, best in worst_misses(scene, found, MOST):
            trace = f"best score {best:.2f}" if best else "no trace of it"
            image = int(scene.truth_image[box])
            place = tuple(scene.truth.boxes[box].tolist())
            others = found.scene.found.boxes[found.scene.found_image == image].tolist()
            tiles.append(pictures.tile(image, place, scene.truth.category[box], trace, others))
        note = "Missed small objects, the worst first (yellow); detections at the operating point (blue)."
        pictures.save(folder / "misses.jpg", tiles, note)

    def _audit(self, folder: Path, scene: Scene, confidences: np.ndarray, pictures: _Pictures) -> None:
        self.candidates = audit(scene, confidences)
        rows = audit_rows(scene, self.candidates)
        text = io.StringIO()
        header = ["rank", "kind", "file", "x", "y", "width", "height", "class", "detected", "score"]
        writer = csv.DictWriter(text, header, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(folder / "label_audit.csv", text.getvalue())
        runs.write_json(folder / "label_audit.json", audit_document(scene, self.candidates))
        tiles = []
        for candidate, row in zip(self.candidates[:MOST], rows, strict=False):
            said = f"{row['class'] or 'no label'} → {row['detected'] or 'nothing'}, {candidate.score:.2f}"
            labelled = scene.truth_image == candidate.image
            tiles.append(
                pictures.tile(
                    candidate.image,
                    candidate.box,
                    candidate.detected if candidate.label is None else candidate.label,
                    said,
                    scene.truth.boxes[labelled & ~scene.truth.crowd].tolist(),
                )
            )
        note = "Label audit, the strongest disagreement first (yellow): label → detection, score; labels (blue)."
        pictures.save(folder / "label_audit.jpg", tiles, note)


def keep(weights: Path, point: OperatingPoint, *, classes: int, imgsz: int | list[int], split: str, sha: str) -> bool:
    """Write the operating point's confidences into a weights file; return False if the point has none.

    Args:
        weights: Path of the weights file.
        point: The operating point.
        classes: Number of classes of the model.
        imgsz, split, sha: Image size, split and ground-truth hash of the validation; see
            :class:`pixelkeep.ultra.weights.confidence.Stored`.
    """
    confidences = point.confidences()
    if confidences is None:
        return False
    own = confidences.tolist()[:classes]  # a model trained with single_cls has one class, the first
    store(weights, Stored(objective=point.objective, confidence=own, imgsz=imgsz, split=split, gt_sha256=sha))
    return True


class _Pictures:
    """Sheets of enlarged boxes of a scene, cut from the images of the dataset."""

    def __init__(self, spec: DatasetSpec, scene: Scene) -> None:
        self.spec, self.scene, self.labels = spec, scene, scene.labels()

    def tile(self, image: int, box: tuple[float, float, float, float], category: int, said: str, others: list) -> Tile:
        """Return the tile of a box, with its text (file; class and size; ``said``) and other boxes of the image."""
        record = self.scene.images[image]
        size = f"{self.labels[category]}  {box[2]:.0f}x{box[3]:.0f} px"
        file = Path(record["file_name"])
        return Tile(self.spec.root / file, box, (file.name, size, said), tuple(map(tuple, others)))

    def save(self, path: Path, tiles: list[Tile], note: str) -> None:
        """Write a sheet of tiles as JPEG, unless there are none."""
        if tiles:
            content = io.BytesIO()
            zoom_sheet(tiles, self._read, note).save(content, "JPEG", quality=92)
            write_bytes(path, content.getvalue())

    def _read(self, path: Path) -> np.ndarray:
        return viewable(read_pixels(path, self.spec.channels, self.spec.stretch))
