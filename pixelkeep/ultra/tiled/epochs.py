"""Validation after each epoch of a training in tiles, done as ``val --tile`` does it with the epoch's network."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from ultralytics.utils.torch_utils import autocast

from pixelkeep.ultra.running import distributed
from pixelkeep.ultra.tiled.images import TileEngine, Tiles
from pixelkeep.ultra.tiled.progress import TileBar
from pixelkeep.ultra.tiled.suppression import suppressor
from pixelkeep.ultra.tiled.validator import best_rows, read_ahead
from pixelkeep.ultra.validators.boxes import Validator

NAN = float("nan")


class TiledEpochs(Validator):
    """Scores merged boxes against whole images, so that the best epoch is chosen by the figure to trust.

    Losses, precision and recall, which Ultralytics measures on single samples, are not measured.

    Args:
        tile: Side of a tile in pixels.
        others: Positional arguments of :class:`Validator`. Only the image records of its loader are used.
    """

    def __init__(self, *others: Any, tile: int, **keywords: Any):
        super().__init__(*others, **keywords)
        self.tile = tile

    def __call__(self, trainer: Any = None, model: Any = None, **_: Any) -> dict[str, float] | None:
        """Look at every image with the averaged weights; return the metrics in the first process, None in others."""
        network = self.get_model(model, trainer).float().eval()
        if hasattr(network, "end2end"):
            network.end2end = self.args.nms is False
        self.device, self.data = trainer.device, trainer.data
        self.run_callbacks("on_val_start")
        self.init_metrics(network)
        self._look(self._engine(network, trainer))
        self._collected = distributed.merged(self._collected)
        if distributed.rank() > 0:
            return None
        scored = self.scored()
        self.print_results()
        self.run_callbacks("on_val_end")
        stats = dict.fromkeys(self.metrics.keys, NAN) | trainer.label_loss_items(
            dict.fromkeys(trainer.loss_items, NAN), prefix="val"
        )
        stats |= {"metrics/mAP50(B)": scored["AP50"], "metrics/mAP50-95(B)": scored["AP"]} | scored
        return {key: round(float(value), 5) for key, value in stats.items()}

    def _engine(self, network: nn.Module, trainer: Any) -> TileEngine:
        half = self.device.type != "cpu" and bool(trainer.amp)
        suppress = suppressor(self.args, multi_label=True, end2end=self.end2end)
        tiles = Tiles(size=self.tile, imgsz=trainer.args.imgsz)
        return TileEngine(_Running(network, self.device, half), tiles, suppress, self.dataloader.batch_size)

    def _look(self, engine: TileEngine) -> None:
        """Collect the detections in this process's share of the images."""
        dataset = self.dataloader.dataset
        first, step = max(distributed.rank(), 0), distributed.world_size()
        paths = [record.path for record in dataset.records[first::step]]
        categories = torch.from_numpy(self._category_ids)
        bar = TileBar()
        if first == 0:
            bar.start(len(paths))
        try:
            for path, image, _ in read_ahead(paths, dataset.spec) if paths else ():
                found = engine(image, bar.tile)
                number = self._image_ids[str(path)]
                self._collected[number] = best_rows(found, number, categories, self.args)
                bar.image(len(self._collected[number]))
        finally:
            bar.close()


class _Running:
    """A network in training, with the interface of Ultralytics' backends that a tile engine needs.

    Args:
        network: The network, in evaluation mode and single precision.
        device: Device of the network.
        half: Whether to compute in half precision where that is safe.
    """

    fp16 = False

    def __init__(self, network: nn.Module, device: torch.device, half: bool):
        self.network, self.device, self.half = network, device, half
        self.stride = network.stride

    def __call__(self, batch: torch.Tensor) -> Any:
        """Return the network's output."""
        with autocast(self.half, device=self.device.type):
            return self.network(batch)
