"""Atomic writing of Ultralytics' own files in a run, args.yaml and plots: each is complete, or it does not exist."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from ultralytics.models.yolo import classify, detect, semantic
from ultralytics.utils import YAML
from ultralytics.utils.plotting import plot_images

from pixelkeep.writing import PARTIAL, staged

# The Ultralytics modules that draw batches; the modules of detection also draw for semantic segmentation.
DRAWING = (detect.train, detect.val, classify.train, classify.val, semantic.val)


class WholeYAML(YAML):
    """Ultralytics' YAML writer, writing by way of a temporary file."""

    @classmethod
    def save(cls, file: str | Path = "data.yaml", data: dict | None = None, header: str = "") -> None:
        """Write a mapping as YAML."""
        with staged(Path(file)) as path:
            super().save(path, data, header)


class WholePlots:
    """Mixin for a trainer or validator that draws plots in a temporary folder and moves them when they are complete."""

    save_dir: Path

    @contextlib.contextmanager
    def plotting(self) -> Iterator[None]:
        """Direct the plots that are drawn inside the context to the temporary folder."""
        folder = self.save_dir
        self.save_dir = folder / PARTIAL
        self.save_dir.mkdir(parents=True, exist_ok=True)
        # Draw without a thread, which would outlive the temporary folder and lose its errors.
        inline = partial(plot_images, threaded=False)
        try:
            with contextlib.ExitStack() as stack:
                for module in DRAWING:
                    stack.enter_context(replaced(module, "plot_images", inline))
                yield
        finally:
            self.save_dir = folder
            with contextlib.suppress(OSError):  # the sweep of the run folder removes what a failed plot leaves behind
                (folder / PARTIAL).rmdir()

    def on_plot(self, name: str | Path, data: dict | None = None) -> None:
        """Move a completed plot to its final path, and register it with Ultralytics."""
        path = Path(name)
        if path.parent.name == PARTIAL:
            path = path.parent.parent / path.name
            require_whole(Path(name), path)
            os.replace(name, path)
        super().on_plot(path, data)


def require_whole(partial: Path, path: Path) -> None:
    """Check that a picture is complete by reading it to its end.

    Pillow does not notice if the disk is full when it writes the last part.

    Args:
        partial: The picture as it was written.
        path: The path that it is to be moved to, which the error names.

    Raises:
        OSError: The picture is cut off.
    """
    try:
        with Image.open(partial) as picture:
            picture.load()
    except OSError as error:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Give an attribute another value inside the context."""
    former = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, former)
