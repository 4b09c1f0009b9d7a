"""Runs the demo: data, training, validation and detection, one after the other."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from ultralytics.utils import LOGGER

from pixelkeep.evaluation import Result
from pixelkeep.ultra.commands import detection, training
from pixelkeep.ultra.commands.asked import Asked
from pixelkeep.ultra.data.resolving import resolve_data
from pixelkeep.ultra.running import runs, settings


@dataclass
class Outcome:
    """The result of the demo and the folders that it wrote.

    Attributes:
        result: Result of the validation.
        run: Folder of the training run.
        pictures: Folder with the annotated pictures and the annotated video.
        data: Folder of the demo dataset.
        seconds: Duration of the whole demo in seconds.
    """

    result: Result
    run: Path
    pictures: Path
    data: Path
    seconds: float

    def paths(self) -> str:
        """Return the lines that the demo ends with: paths, duration and the next step."""
        return (
            f"dataset   {self.data}\n"
            f"weights   {self.run / 'weights' / 'best.pt'}\n"
            f"pictures  {self.pictures}\n"
            f"video     {self.pictures / 'demo.mp4'}\n"
            f"Done in {self.seconds:.0f} s. Next: pixelkeep train --data YOUR.yaml"
        )

    def to_dict(self) -> dict:
        return {
            **self.result.to_dict(),
            "demo": {"run": str(self.run), "pictures": str(self.pictures), "seconds": round(self.seconds, 1)},
        }


def run_demo(project: str | None = None, name: str | None = None) -> Outcome:
    """Write the demo dataset, train on it, validate, and detect in pictures and a video.

    Args:
        project: Folder of the runs; ``runs/demo`` by default.
        name: Name of the run; ``exp`` by default.
    """
    start = time.monotonic()
    LOGGER.info("1/3  Writing the demo dataset")
    spec = resolve_data("demo")
    folder = runs.new_run(project, name, kind="demo")
    LOGGER.info("2/3  Training, then validating the best epoch")
    recipe = settings.merge({"project": str(folder), "name": "train"}, command="train", recipe="demo")
    result, run = training.train(recipe)
    LOGGER.info("3/3  Detecting in held-out pictures and in a video")
    summary = detection.detect(
        settings.merge({"save": True, "verbose": False, "project": str(folder), "name": "detect"}, command="detect")
        | {"weights": str(run / "weights" / "best.pt")},
        Asked(
            sources=[str(spec.root / "images" / "test"), str(spec.root / "demo.mp4")], save_json=True, save_video=True
        ),
    )
    return Outcome(result, run, summary.folder, spec.root, time.monotonic() - start)
