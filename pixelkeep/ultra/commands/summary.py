"""The summary of a detection run, for detections.json and the document of ``--json``."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pixelkeep.ultra.commands import tasks

OBJECTS = (tasks.DETECT, tasks.ORIENTED)  # tasks that find objects
# Key of the counts in the document, by task.
COUNTED = {"detect": "detections", "obb": "detections", "classify": "images_by_class", "semantic": "pixels"}


@dataclass
class Summary:
    """What a detection run did and found.

    Attributes:
        folder: The run folder with the annotated copies.
        weights: Weights that were used.
        task: Task of the weights, by Ultralytics' name.
        images: Number of images and frames processed.
        detections: Counts by class: of objects, of images in classification, of pixels in segmentation.
        unreadable: For each file that was left out, the reason why it cannot be read.
        speed_ms: Milliseconds per image for preprocess, inference and postprocess.
        confidence: Lowest confidence that was kept, or that of each class.
        tile: How images were cut into tiles; None if they were not.
        seams: What became of the boxes of tiles; see :meth:`pixelkeep.tiling.Seams.report`.
        precision: Number format in which the network computed.
        format: Format of the weights, which says what ran them.
        folding: What was folded, and the choice that repeats it; see `pixelkeep.ultra.network.choosing`.
        track: Which tracker was used, and what it did; see :meth:`pixelkeep.ultra.tracking.frames.Tracking.report`.
        fps: Frames per second that were to be got through; None for as many as possible.
        videos: Progress through each video and stream: frames processed, skipped and broken, and with ``fps`` tiles.
        rasters: Facts on images read in windows: size, tiles without data, name of the GeoJSON file.
        interrupted: Whether the run ended early; it can then be resumed.
    """

    folder: Path
    weights: Path
    task: str = "detect"
    images: int = 0
    detections: Counter = field(default_factory=Counter)
    unreadable: dict[str, str] = field(default_factory=dict)
    speed_ms: dict[str, float] = field(default_factory=dict)
    confidence: float | dict[str, float] = 0.25
    tile: dict | None = None
    seams: dict | None = None
    track: dict | None = None
    fps: float | None = None
    videos: dict[str, dict] = field(default_factory=dict)
    rasters: dict[str, dict] = field(default_factory=dict)
    interrupted: bool = False
    precision: str | None = None
    format: str = "pytorch"
    folding: dict | None = None

    def to_dict(self) -> dict:
        """Return the summary as a mapping for the document of :mod:`pixelkeep.ultra.commands.results`."""
        shown = {**asdict(self), "folder": str(self.folder), "weights": str(self.weights)}
        del shown["detections"]  # asdict() does not copy a Counter correctly
        counts = dict(self.detections.most_common())
        if self.task not in {task.name for task in OBJECTS}:
            shown = {key: value for key, value in shown.items() if key not in ("confidence", "tile", "seams", "track")}
        first = {name: shown.pop(name) for name in ("folder", "weights", "images")}
        return {"schema": 1, "task": self.task, **first, COUNTED[self.task]: counts, **shown}
