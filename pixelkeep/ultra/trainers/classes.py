"""Ultralytics' classification trainer with this project's data and validator."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader
from ultralytics.data import build_dataloader
from ultralytics.models.yolo.classify import ClassificationTrainer
from ultralytics.utils.torch_utils import torch_distributed_zero_first

from pixelkeep.ultra.data.class_dataset import ClassImages, build_class_dataset
from pixelkeep.ultra.data.label_data import class_data
from pixelkeep.ultra.trainers.base import RunTrainer
from pixelkeep.ultra.validators.classes import ClassValidator


class ClassTrainer(RunTrainer, ClassificationTrainer):
    """A classification trainer that keeps the best epoch by top-1 or top-5 accuracy."""

    def get_dataset(self) -> dict[str, Any]:
        """Return the description of the dataset: its folders and its classes."""
        return class_data(self.args.data)

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> ClassImages:
        """Build the dataset of one split."""
        return build_class_dataset(self.args, self.data, train=mode == "train")

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> DataLoader:
        """Return the loader of one split; unlike Ultralytics', it leaves no transforms in the model to be pickled."""
        with torch_distributed_zero_first(rank):
            dataset = self.build_dataset(dataset_path, mode)
        train = mode == "train"
        return build_dataloader(
            dataset,
            batch_size,
            self.args.workers,
            shuffle=train,
            rank=rank,
            drop_last=self.args.compile and train,
            device=self.device,
        )

    def set_model_attributes(self) -> None:
        """Store in the model what classification needs to know about the data."""
        super().set_model_attributes()
        self.model.yaml["stretch"] = self.data.get("stretch")

    def get_validator(self) -> ClassValidator:
        """Return the validator that training uses after each epoch."""
        return ClassValidator(
            self.test_loader, self.save_dir, args=self._for_epochs(), _callbacks=self.callbacks, best=self.best_by
        )
