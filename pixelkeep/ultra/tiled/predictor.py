"""The predictor for large images, which works as plain detection does but looks at every image in tiles."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from ultralytics.data.loaders import LoadImagesAndVideos

from pixelkeep.datasets.images.rasters import Raster, open_raster
from pixelkeep.errors import DataError
from pixelkeep.tiling import Merged, Seams, merge
from pixelkeep.tiling.run import collect
from pixelkeep.tiling.timed import Looked
from pixelkeep.ultra.data.streams import MISSING
from pixelkeep.ultra.data.videos import Passage
from pixelkeep.ultra.predictors.boxes import Detections, Predictor, silence
from pixelkeep.ultra.tiled.budget import Budget
from pixelkeep.ultra.tiled.images import TileEngine, Tiles, tiles_a_batch
from pixelkeep.ultra.tiled.maps import MapFiles
from pixelkeep.ultra.tiled.progress import TileBar
from pixelkeep.ultra.tiled.rasters import detect_in_raster
from pixelkeep.ultra.tiled.results import OVERVIEW, as_result
from pixelkeep.ultra.tiled.suppression import suppressor
from pixelkeep.ultra.weights.checkpoints import load, model_of


class TiledPredictor(Predictor):
    """Detects objects in tiles and draws them.

    Args:
        tiles: How images are cut.
        overrides: Ultralytics' settings; ``batch`` is a number of tiles, and ``max_det`` applies to each tile.
        others: Further arguments of :class:`pixelkeep.ultra.predictors.boxes.Predictor`.

    Attributes:
        seams: Counts of what became of the boxes of tiles, over all images so far.
        engine: Engine that looks at one image; None until the model is loaded.
        bar: Progress bar with the number of tiles, images and detections.
        budget: Divides the time of a frame among its tiles; None without a rate to keep.
        looked: Where each image of the batch was looked at, by its place; None if everywhere.
        maps: Writer of the detections in georeferenced images as GeoJSON; None if that is not asked for.
        rasters: Size, number of empty tiles and GeoJSON file of each image that was read in windows, by path.
        turned: How many tiles of videos and streams earlier parts of the run looked at, in the form of :meth:`turns`.
    """

    def __init__(self, tiles: Tiles, overrides: dict[str, Any], *others: Any, **keywords: Any):
        asked = overrides.get("batch")
        super().__init__({**overrides, "imgsz": tiles.imgsz, "batch": 1}, *others, **keywords)
        self.tiles = tiles
        self.asked = asked
        self.seams = Seams()
        self.engine: TileEngine | None = None
        self.bar = TileBar()
        self.budget: Budget | None = None
        self.looked: dict[int, Looked | None] = {}
        self._numbers: dict[str, int] = {}  # number of the last frame of each video, by path
        self._unreadable = 0  # number of unreadable images that the bar has counted
        self.maps: MapFiles | None = None
        self.rasters: dict[str, dict[str, Any]] = {}
        self.turned: dict[Any, dict[str, Any]] = {}
        self.add_callback("on_predict_batch_end", TiledPredictor._close_rasters)

    def setup_model(self, model: Any, verbose: bool = True) -> None:
        """Load the model, and have the next image read while the model looks at the current one."""
        super().setup_model(model, verbose)
        self.model.prefetch = True
        prepare = None if self.confidences is None else self._silence
        end2end = getattr(self.model, "end2end", False)
        oriented = getattr(model_of(load(Path(self.args.model))), "task", "detect") == "obb"
        rotated = len(self.model.names) if oriented else 0
        suppress = suppressor(self.args, multi_label=False, end2end=end2end, prepare=prepare, rotated=rotated)
        self.engine = TileEngine(self.model, self.tiles, suppress, self.at_once(), bool(rotated))

    def at_once(self) -> int:
        """Return the number of tiles in a batch."""
        return tiles_a_batch(self.asked, self.device)

    def setup_source(self, source: Any, *args: Any) -> None:
        """Open the source, and count its images and frames if it has an end."""
        super().setup_source(source, *args)
        if self.rate:
            self.budget = Budget(time.monotonic, self.places, self.turned)
            live = self.dataset.mode == "stream"
            self.add_callback("on_predict_batch_start", lambda predictor: self.budget.begin(reading=not live))
            self.add_callback("on_predict_batch_end", lambda predictor: self.budget.end())
        if not self.args.verbose:
            self.bar.start(_length(self.dataset, self.args.vid_stride, self.begun.videos))

    def turns(self) -> dict[Any, dict[str, Any]]:
        """Return how many tiles of each video and stream were looked at, with ``turned``; empty without a rate."""
        return {} if self.budget is None else self.budget.report()

    def stream_inference(self, *args: Any, **keywords: Any) -> Iterator[Detections]:
        """Detect image by image."""
        try:
            yield from super().stream_inference(*args, **keywords)
        finally:
            self.bar.pass_over(self._left_out())
            self.bar.close()

    def _silence(self, output: Any) -> None:
        silence(output[0] if isinstance(output, (list, tuple)) else output, self.confidences)

    def _read(self, path: str, flags: int | None = None) -> np.ndarray | Raster | None:
        """Open an image that is to be read in windows, or read any other image; None if it cannot be read."""
        try:
            raster = open_raster(Path(path), self.channels, self.stretch)
        except DataError as error:
            self.unreadable[str(path)] = str(error)
            return None
        return super()._read(path, flags) if raster is None else raster

    def preprocess(self, im: list[np.ndarray]) -> torch.Tensor:
        """Return one empty tile, to warm the model up with; the engine prepares the images itself."""
        side, dtype = self.tiles.imgsz, torch.half if self.model.fp16 else torch.float
        return torch.zeros(1, self.channels, side, side, dtype=dtype, device=self.device)

    def inference(self, im: torch.Tensor, *args: Any, **keywords: Any) -> list[Merged]:
        """Return the merged detections in each image of the batch."""
        found = []
        for i, image in enumerate(list(self.batch[1])):
            if isinstance(image, Raster):
                if (merged := self._look_through(image)) is None:
                    for listed in (*self.batch, self.dataset.numbers):  # as if the image had not been read
                        del listed[i]
                    continue
                found.append(merged)
            elif self._missing(i):
                self.looked[i] = None
                found.append(self._nothing(image))
                continue
            else:
                found.append(self._look(i, image[..., None] if image.ndim == 2 else image))
            self.seams += found[-1].seams
            self.bar.image(len(found[-1].scores), self._gone_by(i))
        return found

    def _look_through(self, raster: Raster) -> Merged | None:
        """Return the detections in an image on disk, or None if the image cannot be read to its end."""
        try:
            found, empty = detect_in_raster(self.engine, raster, self.bar.tile)
        except DataError as error:
            self.unreadable[str(raster.path)] = str(error)
            return None
        height, width = raster.shape
        self.rasters[str(raster.path)] = {"width": width, "height": height, "empty_tiles": empty, "map": None}
        return found

    def _close_rasters(self) -> None:
        for raster in (image for image in self.batch[1] if isinstance(image, Raster)):
            raster.close()

    def _look(self, i: int, image: np.ndarray) -> Merged:
        """Return the detections in the image at place ``i`` of the batch; if time is short, in some of its tiles."""
        self.looked[i] = None
        if self.until is None:
            return self.engine(image, self.bar.tile)
        key = self._key(i)
        waiting = sum(not self._missing(other) for other in range(i, len(self.batch[1])))
        share = (self.until - time.monotonic()) / waiting
        timed = self.budget.next(key, self.engine.grid(image), image.shape[:2], time.monotonic() + share)
        found = self.engine(image, self.bar.tile, timed)
        self.looked[i] = self.budget.looked(key, timed)
        return found

    def _nothing(self, image: np.ndarray) -> Merged:
        """Return empty detections for an image."""
        grid = self.engine.grid(image)
        return merge(collect([self.engine.nothing()] * len(grid), grid), grid, self.tiles.merge)

    def _gone_by(self, i: int) -> float:
        """Return how many images or frames the bar advances by when one is done, with those skipped before it."""
        if self.dataset.mode != "video":
            return 1 + self._left_out()
        path, number = self.batch[0][i], self.dataset.numbers[i]
        before = self._numbers.get(path, self.begun.videos.get(path, Passage()).passed)
        self._numbers[path] = number
        return (number - before) / self.args.vid_stride

    def _left_out(self) -> int:
        """Return how many unreadable images have been left out since the last call."""
        before, self._unreadable = self._unreadable, len(self.unreadable)
        return self._unreadable - before

    def _missing(self, i: int) -> bool:
        """Return whether the stream at a place of the batch has no frame while others have one."""
        return self.dataset.mode == "stream" and self.dataset.numbers[i] == MISSING

    def _key(self, i: int) -> Any:
        """Return the key of the video or stream at a place of the batch: a path, or place and name of a stream."""
        return (i, self.batch[0][i]) if self.dataset.mode == "stream" else self.batch[0][i]

    def postprocess(self, preds: list[Merged], img: Any, orig_imgs: list[np.ndarray], **_: Any) -> list[Detections]:
        """Return the detections as results that can be drawn and saved."""
        shown = zip(preds, orig_imgs, self.batch[0], strict=True)
        names = self.model.names
        results = [self._result(found, image, path, names) for found, image, path in shown]
        for i, (result, found) in enumerate(zip(results, preds, strict=True)):
            result.notes = {"seams": asdict(found.seams)}
            if self.maps is not None:
                file = self.maps.write(result, orig_imgs[i])
                self.rasters.get(str(result.path), {})["map"] = file
            if raster := self.rasters.get(str(result.path)):
                result.notes["raster"] = raster
            if looked := self.looked.get(i):
                result.looked = looked
                result.notes["tiles"] = np.flatnonzero(looked.now).tolist()
                result.notes["turns"] = self.budget.told(self._key(i))
        return results

    def _result(self, found: Merged, image: np.ndarray | Raster, path: str, names: Mapping[int, str]) -> Detections:
        drawn = isinstance(image, Raster) and (self.args.save or self.args.show)
        return as_result(found, image, path, names, overview=image.overview(OVERVIEW) if drawn else None)


def _length(dataset: Any, stride: int, begun: Mapping[str, Passage]) -> int | None:
    """Return how many images and frames are to come, or None if a file does not state it or the source has no end."""
    if not isinstance(dataset, LoadImagesAndVideos):
        return None
    total = 0
    for file, is_video in zip(dataset.files, dataset.video_flag, strict=True):
        video = cv2.VideoCapture(file) if is_video else None
        if video is None:
            total += 1
        elif video.isOpened():
            frames = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
            if frames <= 0:
                return None
            total += max(0, frames // stride - begun.get(file, Passage()).passed // stride)
    return total
