"""Ultralytics' trainer for semantic segmentation with this project's data and validator."""

from __future__ import annotations

from ultralytics.models.yolo.semantic import SemanticSegmentationTrainer
from ultralytics.utils.torch_utils import unwrap_model

from pixelkeep.ultra.data.mask_dataset import MaskDataset, build_mask_dataset
from pixelkeep.ultra.trainers.base import RunTrainer
from pixelkeep.ultra.validators.masks import MaskValidator


class MaskTrainer(RunTrainer, SemanticSegmentationTrainer):
    """A trainer for semantic segmentation that keeps the best epoch by mIoU or pixel accuracy."""

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> MaskDataset:
        """Build the dataset of one split."""
        stride = max(int(unwrap_model(self.model).stride.max()), 32)
        return build_mask_dataset(self.args, batch, self.data, train=mode == "train", stride=stride)

    def set_model_attributes(self) -> None:
        """Store in the model what semantic segmentation needs to know about the data."""
        super().set_model_attributes()
        self.model.yaml["stretch"] = self.data.get("stretch")

    def get_validator(self) -> MaskValidator:
        """Return the validator that training uses after each epoch."""
        return MaskValidator(
            self.test_loader,
            save_dir=self.save_dir,
            args=self._for_epochs(),
            _callbacks=self.callbacks,
            best=self.best_by,
        )
