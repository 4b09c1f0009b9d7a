"""The predictor for large images: everything as in plain detection, but every image is looked at in tiles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch
from ultralytics.data.loaders import LoadImagesAndVideos

from pixelkeep.tiling import Merged, Seams
from pixelkeep.ultra.predictors.boxes import Detections, Predictor, silence
from pixelkeep.ultra.tiled.images import TileEngine, Tiles, rows_of, suppressor, tiles_a_batch
from pixelkeep.ultra.tiled.progress import TileBar


class TiledPredictor(Predictor):
    """Detects in tiles and draws.

    Args:
        tiles: How images are cut.
        others: As :class:`pixelkeep.ultra.predictors.boxes.Predictor` takes them; ``batch`` in the settings is a
            number of tiles, and ``max_det`` counts in each tile.

    Attributes:
        seams: What became of the boxes of tiles, over all images so far.
        engine: Looks at one image; there once the model is.
        bar: Shows how many tiles, images and detections there are.
    """

    def __init__(self, tiles: Tiles, overrides: dict[str, Any], *others: Any, **keywords: Any):
        asked = overrides.get("batch")
        super().__init__({**overrides, "imgsz": tiles.imgsz, "batch": 1}, *others, **keywords)
        self.tiles = tiles
        self.asked = asked
        self.seams = Seams()
        self.engine: TileEngine | None = None
        self.bar = TileBar()

    def setup_model(self, model: Any, verbose: bool = True) -> None:
        """Load the model, and have the next image read while it looks at one."""
        super().setup_model(model, verbose)
        self.model.prefetch = True
        prepare = None if self.confidences is None else self._silence
        end2end = getattr(self.model, "end2end", False)
        suppress = suppressor(self.args, multi_label=False, end2end=end2end, prepare=prepare)
        self.engine = TileEngine(self.model, self.tiles, suppress, tiles_a_batch(self.asked, self.device))

    def setup_source(self, source: Any, *args: Any) -> None:
        """Open the source, and count what is in it where it has an end."""
        super().setup_source(source, *args)
        if not self.args.verbose:
            self.bar.start(_length(self.dataset, self.args.vid_stride))

    def stream_inference(self, *args: Any, **keywords: Any) -> Iterator[Detections]:
        """Detect image by image."""
        try:
            yield from super().stream_inference(*args, **keywords)
        finally:
            self.bar.close()

    def _silence(self, output: Any) -> None:
        silence(output[0] if isinstance(output, (list, tuple)) else output, self.confidences)

    def preprocess(self, im: list[np.ndarray]) -> torch.Tensor:
        """Return one empty tile, to warm up with; the engine prepares images itself."""
        side, dtype = self.tiles.imgsz, torch.half if self.model.fp16 else torch.float
        return torch.zeros(1, self.channels, side, side, dtype=dtype, device=self.device)

    def inference(self, im: torch.Tensor, *args: Any, **keywords: Any) -> list[Merged]:
        """Return what is found in each image of the batch."""
        found = []
        for image in self.batch[1]:
            image = image[..., None] if image.ndim == 2 else image
            found.append(self.engine(image, self.bar.tile))
            self.seams += found[-1].seams
            self.bar.image(len(found[-1].scores))
        return found

    def postprocess(self, preds: list[Merged], img: Any, orig_imgs: list[np.ndarray], **_: Any) -> list[Detections]:
        """Return what was found as results that can be drawn and saved."""
        shown = zip(preds, orig_imgs, self.batch[0], strict=True)
        names = self.model.names
        return [Detections(image, path=path, names=names, boxes=rows_of(found)) for found, image, path in shown]


def _length(dataset: Any, stride: int) -> int | None:
    """Return how many images and frames a source has, as far as its files say; None for a source without an end."""
    if not isinstance(dataset, LoadImagesAndVideos):
        return None
    videos = [file for file, is_video in zip(dataset.files, dataset.video_flag, strict=True) if is_video]
    frames = sum(int(cv2.VideoCapture(file).get(cv2.CAP_PROP_FRAME_COUNT)) // stride for file in videos)
    return len(dataset.files) - len(videos) + frames
