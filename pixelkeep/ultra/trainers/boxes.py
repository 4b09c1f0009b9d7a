"""Ultralytics' detection trainer with this project's data, validator and loss, which leaves out ignored objects."""

from __future__ import annotations

from typing import Any

from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import LOGGER
from ultralytics.utils.checks import check_imgsz
from ultralytics.utils.torch_utils import unwrap_model

from pixelkeep.ultra.conversion.pretrained import adapted
from pixelkeep.ultra.data.box_dataset import Dataset, build_dataset
from pixelkeep.ultra.data.window_dataset import WindowDataset, name_windows
from pixelkeep.ultra.running import distributed
from pixelkeep.ultra.tiled.epochs import TiledEpochs
from pixelkeep.ultra.trainers.base import RunTrainer
from pixelkeep.ultra.trainers.beginning import begin_with
from pixelkeep.ultra.trainers.loss import ignoring
from pixelkeep.ultra.trainers.tally import Tally, summary
from pixelkeep.ultra.validators.boxes import COLUMNS, Validator
from pixelkeep.ultra.validators.sheets import labelled, write_sheet

UNMET = 0.01  # box loss, weighted by overlap; at least 0.3 once predicted boxes overlap objects at all


class Trainer(RunTrainer, DetectionTrainer):
    """A detection trainer that reports AP and AP_S in every epoch and keeps the best epoch by either."""

    columns = COLUMNS

    def __init__(self, *args: Any, **keywords: Any):
        super().__init__(*args, **keywords)
        self.tally = Tally()

    def train(self) -> None:
        """Train with the recipe's loss, which leaves out ignored objects and regions."""
        with ignoring(self.recipe):
            super().train()

    def get_model(self, cfg: str | dict | None = None, weights: Any = None, verbose: bool = True) -> Any:
        """Return the network to train; pretrained weights of another structure are converted to its structure."""
        weights = adapted(weights, cfg, self.data["channels"], self.data["names"])[0]
        network = super().get_model(cfg, None, verbose)
        begin_with(network, self.recipe.initial_box)  # before the pretrained weights, which may overwrite the biases
        if weights:
            network.load(weights)
        return network

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None):
        """Build the dataset of one split."""
        stride = max(int(unwrap_model(self.model).stride.max()), 32)
        if self.rectangle:
            self.rectangle = check_imgsz(self.rectangle, stride)
        args, train = self._as_given(), mode == "train"
        in_tiles = self.recipe.tile is not None
        if in_tiles and not train:
            args.cache = False  # only the records of this dataset are used
        kind = WindowDataset if in_tiles and train else Dataset
        return build_dataset(args, batch, self.data, train=train, stride=stride, recipe=self.recipe, kind=kind)

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train"):
        """Build the loader of one split."""
        loader = super().get_dataloader(dataset_path, batch_size, rank, mode)
        if isinstance(loader.dataset, WindowDataset):
            name_windows(loader)
        return loader

    def _close_dataloader_mosaic(self) -> None:
        super()._close_dataloader_mosaic()
        self._begin_windows()

    def _begin_windows(self) -> None:
        """Start the windows of the current epoch: the loader starts anew, and what it has prefetched is dropped."""
        if isinstance(self.train_loader.dataset, WindowDataset):
            self.train_loader.sampler.begin(self.epoch)
            self.train_loader.reset()

    def set_model_attributes(self) -> None:
        """Store in the model what detection needs to know about the data."""
        super().set_model_attributes()
        self.model.yaml["stretch"] = self.data.get("stretch")  # for deep images: see pixelkeep.datasets.images.pixels
        self.model.yaml.pop("tile", None)  # that of the weights it starts from
        if self.recipe.tile is not None:
            self.model.yaml["tile"] = self.recipe.tile  # for --tile auto

    def get_validator(self) -> Validator:
        """Return the validator that training uses after each epoch."""
        own = {"save_dir": self.save_dir, "args": self._for_epochs(), "_callbacks": self.callbacks}
        own |= {"best": self.best_by, "limit": self.limit}
        if self.recipe.tile is not None:
            return TiledEpochs(self.test_loader, tile=self.recipe.tile, **own)
        return Validator(self.test_loader, **own)

    def run_callbacks(self, event: str) -> None:
        """Run the callbacks of an event, and update the tally and the windows; every process calls this method."""
        if event == "on_train_epoch_start":
            self.tally = Tally()
            if self.epoch == self.start_epoch:
                self._begin_windows()
        elif event == "on_train_epoch_end":
            self.tally.gather()
            self._warn_of_boxes_unmet()
        super().run_callbacks(event)

    def _warn_of_boxes_unmet(self) -> None:
        """Warn if an epoch taught nothing about boxes although it had objects; see `trainers/beginning.py`."""
        objects, loss = self.tally.columns()["train/objects"], float(self.tloss["box_loss"])
        if distributed.rank() < 1 and objects and loss < UNMET:
            LOGGER.warning(
                f"epoch {self.epoch + 1} had {objects:,} objects, but hardly any box of the network met one, so "
                "nothing was learnt about boxes: begin with smaller boxes (--set initial_box=2)"
            )

    def preprocess_batch(self, batch: dict) -> dict:
        """Count the objects and what is ignored in a batch, and move the batch to the device."""
        self.tally.add(batch)
        return super().preprocess_batch(batch)

    def plot_training_samples(self, batch: dict, ni: int) -> None:
        """Draw a batch with its labels."""
        write_sheet(labelled(batch), self.data["names"], self.save_dir / f"train_batch{ni}.jpg", self.on_plot)

    def counted(self) -> dict[str, int]:
        """Return how many objects and regions were shown and ignored in this epoch, by column name."""
        return self.tally.columns()

    def final_eval(self) -> None:
        """Log what was ignored in training, and strip the checkpoints."""
        if distributed.rank() < 1 and (ignored := summary(self.csv)):
            LOGGER.info(ignored)
        super().final_eval()
