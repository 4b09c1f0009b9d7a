"""Behaviour shared by the predictors of all tasks: images read as in training, use of all cores, annotated MP4 video.

Every output file except a video appears under its name once it is complete. Videos grow on the disk and can be played
at any moment.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from ultralytics.data import build, loaders

from pixelkeep.datasets.images.pixels import read_pixels
from pixelkeep.errors import DataError
from pixelkeep.report.drawing import dimmed
from pixelkeep.tiling.schedule import Pace
from pixelkeep.ultra.data.streams import MISSING, Streams
from pixelkeep.ultra.data.videos import Passage, Videos
from pixelkeep.ultra.network.choosing import MEASURED, STATIC, folding_by
from pixelkeep.ultra.network.folding import fold
from pixelkeep.ultra.predictors.regions import active_pixels, in_picture, layers_shown
from pixelkeep.ultra.running.environment import use_all_cores, warn_without_half
from pixelkeep.ultra.running.whole import replaced
from pixelkeep.ultra.weights.backends import careful
from pixelkeep.ultra.weights.checkpoints import load
from pixelkeep.writing import write_bytes

if TYPE_CHECKING:
    from pixelkeep.ultra.predictors.film import Film


def viewable(image: np.ndarray) -> np.ndarray:
    """Return an image (H, W, C) with three channels for display: the first three, or the first one three times."""
    channels = [0, 1, 2] if image.shape[2] >= 3 else [0, 0, 0]
    return np.ascontiguousarray(image[..., channels])


class Pictured:
    """Mixin for Ultralytics' results that supplies the image into which they are drawn.

    Attributes:
        regions: Pixels at which the network looked closely, bool (H, W); all others are drawn dark. None to draw the
            whole image bright.
    """

    orig_img: np.ndarray
    regions: np.ndarray | None = None

    def picture(self) -> np.ndarray:
        """Return the image (H, W, 3) BGR before results are drawn into it."""
        image = viewable(self.orig_img)
        return image if self.regions is None else dimmed(image, self.regions)


@dataclass(frozen=True)
class Begun:
    """What the earlier part of a resumed run has done.

    Attributes:
        videos: Progress of the videos that were cut off, by path.
        streams: Progress of the streams, by place, and the time in seconds at which each stream goes on.
        names: Names of results that are taken; those of videos and streams are stored under their path or place.
    """

    videos: Mapping[str, Passage] = field(default_factory=dict)
    streams: Mapping[int, tuple[Passage, float]] = field(default_factory=dict)
    names: Mapping[Any, str] = field(default_factory=dict)


class RunPredictor:
    """Mixin for Ultralytics' predictors.

    Args:
        overrides: Ultralytics' settings.
        save_video: Whether to write videos and streams with the results drawn in.
        channels: Number of image channels that the model takes.
        stretch: Percentiles mapped to 0 and 255 in images deeper than eight bits; None if the model takes no such
            images.

    Attributes:
        unreadable: Reason for each image that cannot be read, by path.
        folding: Which layers of a PyTorch network are folded; see :mod:`pixelkeep.ultra.network.choosing`.
        rate: Frames per second at which a video or stream is processed; None for as fast as possible.
        show_regions: Whether to draw the regions that a network's masks leave out dark.
        begun: What an earlier part of the run has done.
        record: Function called when a batch is done, before its frames are kept in a video.
        undivided: Function that makes a context which Ctrl-C does not interrupt.
        places: Function that returns where objects are expected in a video; None if objects are not tracked.
        until: Time on the pace's clock, in seconds, at which the current frame has to be done; None without a rate.
        saved: Names of the results by path, or by place for a stream.
    """

    def __init__(
        self,
        overrides: dict[str, Any],
        save_video: bool,
        channels: int = 3,
        stretch: tuple[float, float] | None = None,
    ):
        super().__init__(overrides=overrides)
        self.save_video = save_video
        self.channels = channels
        self.stretch = stretch
        self.unreadable: dict[str, str] = {}
        self.folding = STATIC
        self.rate: float | None = None
        self.show_regions = False
        self.begun = Begun()
        self.record: Callable[[RunPredictor], None] = lambda predictor: None
        self.undivided: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext
        self.until: float | None = None
        self.places: Callable[[Any], np.ndarray] | None = None
        self.saved: dict[Any, str] = {}
        self._place = 0  # place in the batch of the image that is being written
        self._enough = False  # whether the user has pressed q
        self.add_callback("on_predict_start", RunPredictor._go_on)
        self.add_callback("on_predict_batch_start", RunPredictor._begin)
        self.add_callback("on_predict_postprocess_end", RunPredictor._number)
        self.add_callback("on_predict_batch_end", RunPredictor._end)

    def reading(self) -> contextlib.AbstractContextManager:
        """Return a context inside which images are read as in training."""
        return replaced(loaders, "imread", self._read)

    def _read(self, path: str, flags: int | None = None) -> np.ndarray | None:
        """Read an image for Ultralytics' loader, or return None, on which the loader leaves the image out."""
        try:
            return read_pixels(Path(path), self.channels, self.stretch)
        except DataError as error:
            self.unreadable[str(path)] = str(error)
            return None

    def setup_model(self, model: Any, verbose: bool = True) -> None:
        """Load the model, fold it, and use all cores on a CPU."""
        half = self.args.quantize == 16
        with careful(), folding_by("none"):
            super().setup_model(model, verbose)
        if half and not self.model.fp16:
            warn_without_half(self.device)
        if self.device.type == "cpu":
            use_all_cores()
        if self.model.format == "pt":  # folded now that device, precision and layout are final
            network = fold(self.model.backend.model, self.folding, self.args.imgsz, self.at_once())
            if self.folding == MEASURED and hasattr(network, "folding"):
                self.folding = network.folding["choice"]  # for a resumed run to use the same

    def ran(self) -> tuple[str, str, dict | None]:
        """Return the number format the network computed in, the backend that ran it, and which layers were folded."""
        if self.model.format != "pt":
            exported = load(Path(self.args.model))["model"]
            return exported.precision, exported.format, exported.folding
        record = getattr(self.model.backend.model, "folding", None)
        return "fp16" if self.model.fp16 else "fp32", "pytorch", record

    def at_once(self) -> int:
        """Return the number of images in one forward pass of the network."""
        return self.args.batch

    def setup_source(self, source: Any, *args: Any) -> None:
        """Open the source with this project's loaders, which keep to the rate and resume an earlier run."""
        rate = self.rate
        if rate:
            self.args.batch = 1  # each frame has its own deadline
        live = partial(Streams, pace=Pace(rate) if rate else None, begun=self.begun.streams)
        files = partial(Videos, paces=partial(Pace, rate) if rate else None, begun=self.begun.videos)
        with replaced(build, "LoadStreams", live), replaced(build, "LoadImagesAndVideos", files):
            super().setup_source(source, *args)
        if rate:
            self.model.prefetch = False  # which frames to skip is only known when the frame before is done

    def _go_on(self) -> None:
        """Reserve the names of earlier results; older releases of Ultralytics name by the file alone and need none."""
        if hasattr(self, "_bases"):
            self._bases.update(self.begun.names.values())
            videos = {Path(path): name for path, name in self.begun.names.items() if path in self.begun.videos}
            streams = {place: self.begun.names[place] for place in self.begun.streams if place in self.begun.names}
            self._sources.update(videos | streams)

    def _begin(self) -> None:
        pace = getattr(self.dataset, "pace", None)
        self.until = pace.begin() if pace else None

    def _number(self) -> None:
        for result, number in zip(self.results, self.dataset.numbers, strict=True):
            result.frame = number

    def _end(self) -> None:
        with self.undivided():
            self.record(self)
            for film in self.vid_writer.values():
                film.keep()
        if self._enough:
            raise KeyboardInterrupt

    def show(self, p: str = "") -> None:
        """Show an image in a window; the key q ends the run after this batch, as Ctrl-C does."""
        if self._enough:
            return
        try:
            super().show(p)
        except StopIteration:  # Ultralytics raises it on q and would end as if the source were exhausted
            self._enough = True

    def write_results(self, i: int, p: Path, im: Any, s: list[str]) -> str:
        """Write the results of the image at place ``i`` of the batch, unless a stream has no frame there."""
        number, live = self.dataset.numbers[i], self.dataset.mode == "stream"
        if live and number == MISSING:
            return ""
        self._place = i
        if self.show_regions:
            layers = layers_shown(self.model.backend.model, self.args.model)
            self.results[i].regions = in_picture(active_pixels(layers, im.shape[2:])[i], self.results[i].orig_shape)
        if live:
            self.dataset.count = number  # Ultralytics names labels and crops by this number
        told = super().write_results(i, p, im, s)
        ending = "" if self.dataset.mode == "image" else f"_{number}"
        self.saved[i if live else str(p)] = self.txt_path.name.removesuffix(ending)
        return told

    def save_predicted_images(self, save_path: Path, frame: int | None = 0) -> None:
        """Save an annotated image, or a frame of an annotated video."""
        if self.dataset.mode not in {"stream", "video"}:
            _, content = cv2.imencode(".jpg", self.plotted_img)
            write_bytes(save_path.with_suffix(".jpg"), content.tobytes())
        elif self.save_video:
            if save_path not in self.vid_writer:
                if self.dataset.mode == "video":  # videos come one after the other; streams are written side by side
                    self.finish_videos()
                self.vid_writer[save_path] = self._open_video(save_path.with_suffix(".mp4"))
            self.vid_writer[save_path].write(self.plotted_img, self.dataset.times[self._place])

    def finish_videos(self) -> None:
        """Close all open videos.

        Raises:
            OSError: The disk is full; the frames written before can be played.
        """
        while self.vid_writer:
            self.vid_writer.popitem()[1].finish()

    def _open_video(self, path: Path) -> Film:
        from pixelkeep.ultra.predictors.film import Film  # --show freezes if this precedes its window

        live = self.dataset.mode == "stream"
        fps = self.rate if live and self.rate else self.dataset.fps
        fps = (fps[self._place] if isinstance(fps, list) else fps) / (1 if live and self.rate else self.args.vid_stride)
        key = self._place if live else self.batch[0][self._place]
        return Film(path, max(1, fps), resume=key in (self.begun.streams if live else self.begun.videos))
