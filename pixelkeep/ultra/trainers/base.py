"""What the trainers of all tasks share: checkpoints that are complete or absent, and a resume that loses nothing."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import time
from copy import copy
from pathlib import Path
from typing import Any

from torch import nn
from ultralytics.engine import trainer as engine
from ultralytics.nn import tasks
from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils import DEFAULT_CFG, LOGGER
from ultralytics.utils.torch_utils import get_torch_device_backend, strip_optimizer

from pixelkeep.errors import OptionError
from pixelkeep.report.tables import duration
from pixelkeep.ultra.running import distributed
from pixelkeep.ultra.running.console import name_losses
from pixelkeep.ultra.running.environment import use_all_cores
from pixelkeep.ultra.running.recipe import Recipe
from pixelkeep.ultra.running.whole import WholePlots, WholeYAML, replaced
from pixelkeep.ultra.trainers import cpu
from pixelkeep.ultra.trainers.curves import plot_epochs
from pixelkeep.ultra.weights.checkpoints import is_portable
from pixelkeep.ultra.weights.opening import portable_too
from pixelkeep.writing import PARTIAL, staged, write_text

STARVED = 10  # optimizer steps per epoch; with fewer, gradients are not accumulated


class RunTrainer(WholePlots):
    """Mixin for Ultralytics' trainers: how a run is saved, and which figure decides its best epoch.

    Args:
        cfg: Ultralytics' default settings.
        overrides: Settings that differ from the defaults.
        _callbacks: Callbacks by event. They carry ``recipe``, ``limit`` and a rectangle of ``imgsz`` into the
            processes started for several GPUs.
        recipe: Training settings of this project; None for those carried by the callbacks, else the defaults.
        limit: Detections kept per image in validation; None for the carried number, else what the validation set needs.

    Attributes:
        columns: Names of the columns that the validator adds to results.csv.
    """

    columns: tuple[str, ...] = ()

    def __init__(
        self,
        cfg: Any = DEFAULT_CFG,
        overrides: dict[str, Any] | None = None,
        _callbacks: dict | None = None,
        *,
        recipe: Recipe | None = None,
        limit: int | None = None,
    ):
        with replaced(engine, "YAML", WholeYAML):
            super().__init__(cfg, overrides, _callbacks)
        rectangle = self.args.imgsz if isinstance(self.args.imgsz, (list, tuple)) else None
        carried = distributed.carry(self.callbacks, recipe, limit, rectangle)
        self.recipe = carried.recipe
        self.best_by = carried.recipe.best
        self.limit = carried.limit
        self.rectangle = carried.rectangle
        self.model_given: str | None = None  # the model that a resumed run was started with
        self.spent = 0.0  # seconds that a resumed run took before
        if self.rectangle:
            # Ultralytics' trainer computes with one side. It is a multiple of 32 here, so that any message about
            # rounding is about the rectangle.
            self.args.imgsz = -(-max(self.rectangle) // 32) * 32
        self.innermost = self.device.type == "cpu" and cpu.innermost(self.args)
        self.halved = self.device.type == "cpu" and str(self.args.amp).lower() == cpu.BF16
        if self.halved:
            self.args.amp = False  # Ultralytics' own amp is for CUDA only
        if distributed.rank() != -1:
            self._be_one_of_several()

    def _be_one_of_several(self) -> None:
        """Prepare for training in several processes.

        The world size counts the processes of all machines, also those on CPUs; Ultralytics counts this machine's GPUs.
        """
        self.world_size = distributed.world_size()
        if self.args.rect:  # rect fixes the order of images: processes would have different numbers of batches
            LOGGER.warning("rect=True has no effect in training with several processes: setting rect=False")
            self.args.rect = False

    def train(self) -> None:
        """Train the model; for several GPUs, in processes that this method starts."""
        if self.ddp:
            self.resume = True  # in the launching process its only effect is that the run folder is not removed
        with distributed.launching() if self.ddp else contextlib.nullcontext(), self._precision():
            super().train()
        distributed.disband()

    def _precision(self) -> contextlib.AbstractContextManager:
        """Return a context in which networks train in bf16 on a CPU, if that was requested."""
        if not self.halved:
            return contextlib.nullcontext()
        return replaced(tasks.BaseModel, "predict", cpu.in_bf16(tasks.BaseModel.predict))

    def _tell_of_bf16(self) -> None:
        """Log that this CPU supports bf16, unless amp is off: nothing saves more training time on such a CPU."""
        if self.args.amp and cpu.has_bf16() and distributed.rank() < 1:
            LOGGER.info("This CPU multiplies in bf16: --set amp=bf16 would save a third of the time (docs/speed.md)")

    def _as_given(self) -> Any:
        """Return the settings with image size, model and precision as the user gave them.

        In a resumed run, Ultralytics' own settings name last.pt as the model.
        """
        args = copy(self.args)
        if self.halved:
            args.amp = cpu.BF16
        args.imgsz = self.rectangle or args.imgsz
        args.model = self.model_given or args.model
        return args

    def _for_epochs(self) -> Any:
        """Return the settings for the validation after each epoch, without plots: the best epoch is plotted later."""
        args = self._as_given()
        args.plots = False
        return args

    def _setup_ddp(self) -> None:
        if self.device.type not in {"cpu", "cuda"}:
            super()._setup_ddp()
            return
        self.device = distributed.start(self.args.device)
        if self.device.type == "cuda":
            self.accelerator = get_torch_device_backend(self.device)

    def _setup_train(self) -> None:
        if self.device.type == "cpu":
            use_all_cores()
            self._tell_of_bf16()
        # Ultralytics would report that it ignores channels_last on a CPU, but setup_model() applies it.
        args = replaced(self.args, "channels_last", None) if self.innermost else contextlib.nullcontext()
        with distributed.parallel_on(self.device), portable_too(), args:
            super()._setup_train()
        if distributed.rank() < 1:  # every row of results.csv has the same columns, even if its epoch is not validated
            self.metrics.update(dict.fromkeys(self.columns, float("nan")))

    def setup_model(self) -> dict | None:
        """Load or build the network, with channels innermost in memory if CPU training uses that layout."""
        checkpoint = self._load_model()
        if self.innermost:
            self.model = cpu.with_channels_innermost(self.model)
        return checkpoint

    def _load_model(self) -> dict | None:
        """Load or build the network, also from a portable checkpoint, which Ultralytics would take for a YAML file."""
        if isinstance(self.model, nn.Module) or not is_portable(self.model):
            return super().setup_model()
        weights, given = load_checkpoint(self.model)[0], self.args.pretrained
        definition = weights.yaml
        if isinstance(given, (str, Path)):
            weights = load_checkpoint(given)[0]
        elif given is False:
            weights = None
        self.model = self.get_model(cfg=definition, weights=weights, verbose=distributed.rank() < 1)
        return None

    def _build_train_pipeline(self) -> None:
        try:
            super()._build_train_pipeline()
        except ValueError as error:
            if "BatchNorm" not in str(error):
                raise
            raise OptionError(
                f"batch {self.args.batch} leaves one image for the last batch of {self.train_loader.batch_size}, "
                f"too few for batch norm at imgsz {self.args.imgsz}; take another batch, or imgsz {2 * self.stride} "
                "or more"
            ) from error

    def auto_batch(self, *others: Any, **keywords: Any) -> int:
        """Return the batch size that fits the memory of a GPU.

        On a CPU, whose memory takes too long to fill, return the default batch size.
        """
        if self.device.type == "cpu":
            LOGGER.info(f"batch -1 measures the memory of a GPU; on a CPU, batch is {DEFAULT_CFG.batch}")
            return DEFAULT_CFG.batch
        return super().auto_batch(*others, **keywords)

    def progress_string(self) -> str:
        """Return an empty header, as the progress bar itself names the losses that it shows."""
        name_losses(self.loss_names)
        return ""

    def resume_training(self, ckpt: dict | None) -> None:
        """Continue after the last complete epoch, and drop the rows of later epochs from results.csv."""
        super().resume_training(ckpt)
        if self.resume and ckpt:
            self.model_given = ckpt.get("train_args", {}).get("model")
        if self.resume and self.csv.is_file() and distributed.rank() < 1:
            with self.csv.open(newline="", encoding="utf-8") as file:
                header, *rows = csv.reader(file)
            kept = [row for row in rows if len(row) == len(header) and int(row[0]) <= self.start_epoch]
            write_text(self.csv, "".join(",".join(row) + "\n" for row in [header, *kept]))
            self.spent = float(kept[-1][header.index("time")]) if kept else 0.0

    def counted(self) -> dict[str, int]:
        """Return the counts of this epoch by their column names in results.csv."""
        return {}

    def save_metrics(self, metrics: dict) -> None:
        """Add an epoch to results.csv; the file is rewritten, so that it ends with a complete row at every moment."""
        path, since = self.csv, self.train_time_start - self.spent  # column "time" counts the whole run
        with staged(path) as self.csv, replaced(self, "train_time_start", since):
            try:
                if path.exists():
                    shutil.copyfile(path, self.csv)
                super().save_metrics(metrics | self.counted())
            finally:
                self.csv = path

    def plot_training_samples(self, batch: dict[str, Any], ni: int) -> None:
        """Draw a batch with its labels."""
        with self.plotting():
            super().plot_training_samples(batch, ni)

    def plot_training_labels(self) -> None:
        """Draw the distribution of the labels."""
        with self.plotting():
            super().plot_training_labels()

    def plot_metrics(self) -> None:
        """Draw the columns of results.csv."""
        self.on_plot(plot_epochs(self.csv))

    def save_model(self) -> bool:
        """Save the checkpoints to a temporary folder, then move them to their names."""
        folder, last, best = self.wdir, self.last, self.best
        partial = folder / PARTIAL
        shutil.rmtree(partial, ignore_errors=True)  # left by a killed run: nothing of it may be moved
        partial.mkdir(parents=True)
        self.wdir, self.last, self.best = partial, partial / last.name, partial / best.name
        try:
            with replaced(self, "args", self._as_given()):
                saved = super().save_model()
        finally:
            self.wdir, self.last, self.best = folder, last, best
        # best.pt is moved first: after a crash in between, last.pt is still the previous epoch, and this one is rerun.
        for path in sorted(partial.iterdir()):
            os.replace(path, folder / path.name)
        partial.rmdir()
        return saved

    def final_eval(self) -> None:
        """Strip the checkpoints; the caller runs the final validation, in full precision and with every figure."""
        if distributed.rank() > 0:
            return
        epochs, seconds = self.epoch - self.start_epoch + 1, time.time() - self.train_time_start
        LOGGER.info(f"{epochs} epoch{'s' * (epochs > 1)} in {duration(seconds)}")
        results = strip_whole(self.last).get("train_results") if self.last.exists() else None
        if self.best.exists():
            strip_whole(self.best, {"train_results": results})


def strip_whole(path: Path, updates: dict | None = None) -> dict:
    """Remove the optimizer from a checkpoint file, which is complete at every moment, and return its content."""
    with staged(path) as partial:
        return strip_optimizer(path, s=str(partial), updates=updates)


def nominal_batch(images: int, batch: int) -> int:
    """Return the nominal batch size ``nbs``: 64 as in Ultralytics, or the batch size if the dataset is small.

    Ultralytics accumulates gradients over 64 images; with 64 images in all, that is one optimizer step per epoch.
    """
    return 64 if images / 64 >= STARVED or batch <= 0 else batch
