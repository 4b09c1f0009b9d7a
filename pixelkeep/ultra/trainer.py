"""Ultralytics' detection trainer with our data, our validator, and a loss that learns nothing from what is ignored."""

from __future__ import annotations

from typing import Any

from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import LOGGER
from ultralytics.utils.checks import check_imgsz
from ultralytics.utils.torch_utils import unwrap_model

from pixelkeep.ultra import distributed
from pixelkeep.ultra.conversion_models import adapted
from pixelkeep.ultra.dataset import build_dataset
from pixelkeep.ultra.loss import ignoring
from pixelkeep.ultra.run_trainer import RunTrainer
from pixelkeep.ultra.tally import Tally, summary
from pixelkeep.ultra.validator import COLUMNS, Validator


class Trainer(RunTrainer, DetectionTrainer):
    """A detection trainer that reports AP and AP_S in every epoch and keeps the best epoch by either."""

    columns = COLUMNS

    def __init__(self, *args: Any, **keywords: Any):
        super().__init__(*args, **keywords)
        self.tally = Tally()

    def train(self) -> None:
        """Train, with the recipe's loss that leaves out what is ignored."""
        with ignoring(self.recipe):
            super().train()

    def get_model(self, cfg: str | dict | None = None, weights: Any = None, verbose: bool = True) -> Any:
        """Return the network to train; pretrained weights of another structure are converted to its own."""
        return super().get_model(cfg, adapted(weights, cfg, verbose), verbose)

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None):
        """Build the dataset of one split."""
        stride = max(int(unwrap_model(self.model).stride.max()), 32)
        if self.rectangle:
            self.rectangle = check_imgsz(self.rectangle, stride)
        return build_dataset(
            self._as_given(), batch, self.data, train=mode == "train", stride=stride, recipe=self.recipe
        )

    def set_model_attributes(self) -> None:
        """Attach to the model what detection needs to know of the data."""
        super().set_model_attributes()
        self.model.yaml["stretch"] = self.data.get("stretch")  # the pixels' own: see pixelkeep.datasets.pixels

    def get_validator(self) -> Validator:
        """Return the validator that training uses after each epoch."""
        return Validator(
            self.test_loader,
            save_dir=self.save_dir,
            args=self._as_given(),
            _callbacks=self.callbacks,
            best=self.best_by,
            limit=self.limit,
        )

    def run_callbacks(self, event: str) -> None:
        """Run the callbacks of an event, which every process meets."""
        if event == "on_train_epoch_start":
            self.tally = Tally()
        elif event == "on_train_epoch_end":
            self.tally.gather()
        super().run_callbacks(event)

    def preprocess_batch(self, batch: dict) -> dict:
        """Count what is ignored in a batch, and move it to the device."""
        self.tally.add(batch)
        return super().preprocess_batch(batch)

    def counted(self) -> dict[str, int]:
        """Return how many objects were learnt and ignored."""
        return self.tally.columns()

    def final_eval(self) -> None:
        """Strip the checkpoints, and say what was ignored."""
        if distributed.rank() < 1 and (ignored := summary(self.csv)):
            LOGGER.info(ignored)
        super().final_eval()
