"""What every predictor does, whatever its task: pictures read as in training, every core in use, annotated MP4 video.

Whatever it writes appears under its name once it is whole: a picture with what belongs to it. Videos grow, and can be
played at any moment.
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
    """Return (H, W, C) as three channels for people: grey repeated, of more than three the first."""
    return np.repeat(image, 3, axis=2) if image.shape[2] < 3 else np.ascontiguousarray(image[..., :3])


class Pictured:
    """For results of Ultralytics': the picture that they are drawn into.

    Attributes:
        regions: Where the network looked closely, bool (H, W), everything else to be drawn dark; None for all bright.
    """

    orig_img: np.ndarray
    regions: np.ndarray | None = None

    def picture(self) -> np.ndarray:
        """Return the picture without anything drawn, (H, W, 3) BGR."""
        image = viewable(self.orig_img)
        return image if self.regions is None else dimmed(image, self.regions)


@dataclass(frozen=True)
class Begun:
    """What is done of a run that is gone on with.

    Attributes:
        videos: How the videos went by that were cut off, by their paths.
        streams: The same of streams, by their places, and the second at which each goes on.
        names: What has been taken as names of results, and those of videos and streams by path or place.
    """

    videos: Mapping[str, Passage] = field(default_factory=dict)
    streams: Mapping[int, tuple[Passage, float]] = field(default_factory=dict)
    names: Mapping[Any, str] = field(default_factory=dict)


class RunPredictor:
    """For a predictor of Ultralytics'.

    Args:
        overrides: Ultralytics' settings.
        save_video: Whether videos and streams are written with what was found drawn in.
        channels: Channels of the images that the model takes.
        stretch: Percentiles that become 0 and 255 in images deeper than eight bits; None where it takes none such.

    Attributes:
        unreadable: For each picture that cannot be read the reason.
        folding: What is folded of a network in PyTorch; see :mod:`pixelkeep.ultra.network.choosing`.
        rate: Frames a second of a video or stream that are got through; None for as fast as it goes.
        show_regions: Whether what a network's masks leave out is drawn dark.
        begun: What is done already.
        record: Is told when a batch is done, before any of it counts as done in a video.
        undivided: Makes a context that Ctrl-C does not end in the middle.
        places: Where objects are expected in a video, if they are followed.
        until: When the time for the present frame is over, in seconds of its pace's clock; None without a rate.
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
        self.saved: dict[Any, str] = {}  # names of results by path, or place of a stream
        self._place = 0  # in the batch, of what is being written
        self._enough = False  # whether nobody wants to see more
        self.add_callback("on_predict_start", RunPredictor._go_on)
        self.add_callback("on_predict_batch_start", RunPredictor._begin)
        self.add_callback("on_predict_postprocess_end", RunPredictor._number)
        self.add_callback("on_predict_batch_end", RunPredictor._end)

    def reading(self) -> contextlib.AbstractContextManager:
        """Return a context inside which pictures are read as in training."""
        return replaced(loaders, "imread", self._read)

    def _read(self, path: str, flags: int | None = None) -> np.ndarray | None:
        """Read a picture for Ultralytics' loader, which leaves it out if there is none."""
        try:
            return read_pixels(Path(path), self.channels, self.stretch)
        except DataError as error:
            self.unreadable[str(path)] = str(error)
            return None

    def setup_model(self, model: Any, verbose: bool = True) -> None:
        """Load the model, fold it, and take all cores on a CPU."""
        half = self.args.quantize == 16
        with careful(), folding_by("none"):
            super().setup_model(model, verbose)
        if half and not self.model.fp16:
            warn_without_half(self.device)
        if self.device.type == "cpu":
            use_all_cores()
        if self.model.format == "pt":  # now that device, precision and layout are those that it runs in
            network = fold(self.model.backend.model, self.folding, self.args.imgsz, self.at_once())
            if self.folding == MEASURED and hasattr(network, "folding"):
                self.folding = network.folding["choice"]  # a run that is gone on with has the same

    def ran(self) -> tuple[str, str, dict | None]:
        """Return the number format that the network computed in, what ran it, and what of it was folded."""
        if self.model.format != "pt":
            exported = load(Path(self.args.model))["model"]
            return exported.precision, exported.format, exported.folding
        record = getattr(self.model.backend.model, "folding", None)
        return "fp16" if self.model.fp16 else "fp32", "pytorch", record

    def at_once(self) -> int:
        """Return how many images the network looks at together."""
        return self.args.batch

    def setup_source(self, source: Any, *args: Any) -> None:
        """Open the source."""
        rate = self.rate
        if rate:
            self.args.batch = 1  # each frame has a time of its own
        live = partial(Streams, pace=Pace(rate) if rate else None, begun=self.begun.streams)
        files = partial(Videos, paces=partial(Pace, rate) if rate else None, begun=self.begun.videos)
        with replaced(build, "LoadStreams", live), replaced(build, "LoadImagesAndVideos", files):
            super().setup_source(source, *args)
        if rate:
            self.model.prefetch = False  # which frames are skipped shows itself when the one before is done

    def _go_on(self) -> None:
        """Have names taken that earlier results have; older releases of Ultralytics name by the file alone."""
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
        """Show a picture in a window; the key q ends the run behind this batch, as Ctrl-C does."""
        if self._enough:
            return
        try:
            super().show(p)
        except StopIteration:  # by which Ultralytics ends as if everything had been looked at
            self._enough = True

    def write_results(self, i: int, p: Path, im: Any, s: list[str]) -> str:
        """Write what was found in the picture at place ``i`` of the batch, if there is one."""
        number, live = self.dataset.numbers[i], self.dataset.mode == "stream"
        if live and number == MISSING:
            return ""
        self._place = i
        if self.show_regions:
            layers = layers_shown(self.model.backend.model, self.args.model)
            self.results[i].regions = in_picture(active_pixels(layers, im.shape[2:])[i], self.results[i].orig_shape)
        if live:
            self.dataset.count = number  # by which labels and crops are named
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
                if self.dataset.mode == "video":  # one after the other; streams are written side by side
                    self.finish_videos()
                self.vid_writer[save_path] = self._open_video(save_path.with_suffix(".mp4"))
            self.vid_writer[save_path].write(self.plotted_img, self.dataset.times[self._place])

    def finish_videos(self) -> None:
        """Close the videos.

        Raises:
            OSError: The disk is full; what was there before can be played.
        """
        while self.vid_writer:
            self.vid_writer.popitem()[1].finish()

    def _open_video(self, path: Path) -> Film:
        from pixelkeep.ultra.predictors.film import Film  # behind OpenCV's window of --show, which freezes otherwise

        live = self.dataset.mode == "stream"
        fps = self.rate if live and self.rate else self.dataset.fps
        fps = (fps[self._place] if isinstance(fps, list) else fps) / (1 if live and self.rate else self.args.vid_stride)
        key = self._place if live else self.batch[0][self._place]
        return Film(path, max(1, fps), resume=key in (self.begun.streams if live else self.begun.videos))
