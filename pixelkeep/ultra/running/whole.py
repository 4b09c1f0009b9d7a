"""Ultralytics' own files of a run, args.yaml and plots, written so that each is whole under its name or not there."""

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

# The modules of Ultralytics' that draw batches; those of detection draw for semantic segmentation too.
DRAWING = (detect.train, detect.val, classify.train, classify.val, semantic.val)


class WholeYAML(YAML):
    """Ultralytics' writer of YAML, by way of a temporary file."""

    @classmethod
    def save(cls, file: str | Path = "data.yaml", data: dict | None = None, header: str = "") -> None:
        """Write a mapping as YAML."""
        with staged(Path(file)) as path:
            super().save(path, data, header)


class WholePlots:
    """For a trainer or validator: plots are drawn in a folder of their own and moved when they are done."""

    save_dir: Path

    @contextlib.contextmanager
    def plotting(self) -> Iterator[None]:
        """Send the plots that are drawn inside to the temporary folder."""
        folder = self.save_dir
        self.save_dir = folder / PARTIAL
        self.save_dir.mkdir(parents=True, exist_ok=True)
        # Not in a thread: it would outlive the folder, and its errors would be nobody's.
        inline = partial(plot_images, threaded=False)
        try:
            with contextlib.ExitStack() as stack:
                for module in DRAWING:
                    stack.enter_context(replaced(module, "plot_images", inline))
                yield
        finally:
            self.save_dir = folder
            with contextlib.suppress(OSError):  # a plot that has failed is swept up with the run
                (folder / PARTIAL).rmdir()

    def on_plot(self, name: str | Path, data: dict | None = None) -> None:
        """Move a plot that is done to its name, and register it."""
        path = Path(name)
        if path.parent.name == PARTIAL:
            path = path.parent.parent / path.name
            require_whole(Path(name), path)
            os.replace(name, path)
        super().on_plot(path, data)


def require_whole(partial: Path, path: Path) -> None:
    """Read a picture, which is to become ``path``, to its end.

    Pillow takes no notice of a disk that is full when it writes the last part.

    Raises:
        OSError: It is cut off.
    """
    try:
        with Image.open(partial) as picture:
            picture.load()
    except OSError as error:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Give an attribute another value for a while."""
    former = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, former)
