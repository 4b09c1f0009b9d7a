"""What detect tells of a run: detections.json, and the document of ``--json``."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pixelkeep.ultra.commands import tasks

OBJECTS = (tasks.DETECT, tasks.ORIENTED)  # tasks that find objects
# Names of the counts.
COUNTED = {"detect": "detections", "obb": "detections", "classify": "images_by_class", "semantic": "pixels"}


@dataclass
class Summary:
    """What was found.

    Attributes:
        folder: The run folder with the annotated copies.
        weights: The weights that were used.
        task: What they are for, in Ultralytics' name.
        images: How many images and frames were looked at.
        detections: By class, how many objects were found; of classification images, of segmentation pixels.
        unreadable: For each file that was left out the reason why it cannot be read.
        speed_ms: Milliseconds an image for preprocess, inference and postprocess.
        confidence: Lowest confidence of what was kept, or that of each class.
        tile: How images were cut into tiles; None if they were not.
        seams: What became of the boxes of tiles; see :meth:`pixelkeep.tiling.Seams.report`.
        precision: The number format that the network computed in; ``format``: what ran it.
        folding: What of it was folded, and what chooses the same again; see `pixelkeep.ultra.network.choosing`.
        track: Which tracker, and what it did; see :meth:`pixelkeep.ultra.tracking.frames.Tracking.report`.
        fps: Frames a second that were to be got through; None for as fast as it went.
        videos: How each video and stream went by: frames, those skipped or broken, and with ``fps`` its tiles.
        rasters: How images that were read in windows went by: size, tiles without data, name of the GeoJSON file.
        interrupted: Whether the run was ended before it was through; it can be gone on with.
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
        """Return it for the document of :mod:`pixelkeep.ultra.commands.results`."""
        shown = {**asdict(self), "folder": str(self.folder), "weights": str(self.weights)}
        del shown["detections"]  # a Counter does not survive being copied there
        counts = dict(self.detections.most_common())
        if self.task not in {task.name for task in OBJECTS}:
            shown = {key: value for key, value in shown.items() if key not in ("confidence", "tile", "seams", "track")}
        first = {name: shown.pop(name) for name in ("folder", "weights", "images")}
        return {"schema": 1, "task": self.task, **first, COUNTED[self.task]: counts, **shown}
