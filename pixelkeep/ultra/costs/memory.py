"""Predicts how much memory a training step takes, without allocating it.

The network runs forward and backward on torch's meta device, where tensors have shapes but no data, and the bytes of
all live tensors are counted. The loss depends on values, so it really runs, on random outputs at a small size, and the
memory it takes is scaled by the number of anchor points.
"""

from __future__ import annotations

import contextlib
import weakref
from argparse import Namespace
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from ultralytics.nn import tasks
from ultralytics.utils import DEFAULT_CFG
from ultralytics.utils.loss import E2ELoss, v8DetectionLoss

COPIES = 5  # copies of the parameters: themselves, gradients, moving average (EMA), and the two states of Adam
SMALL_BATCH, SMALL_SIZE = 2, 128  # number and side in pixels of the images for which the loss is run


@dataclass(frozen=True)
class Memory:
    """Bytes that a training step takes at its peak, in single precision.

    Attributes:
        weights: Bytes of parameters, gradients, optimizer states and averaged weights.
        activations: Bytes that the forward pass keeps for the backward pass, and that both hold temporarily.
        loss: Bytes that the assignment of objects to anchors and the losses hold at once.
        workspace: Bytes that convolutions hold in addition: copies of the input and output of the largest convolution,
            and of their gradients, in the library's own memory layout.
    """

    weights: int
    activations: int
    loss: int
    workspace: int

    @property
    def total(self) -> int:
        return self.weights + self.activations + self.loss + self.workspace


class Probe:
    """A detection network on the meta device that tells its strides, its parameters and its memory needs.

    Args:
        definition: The definition, as :func:`pixelkeep.ultra.weights.definitions.check_model` returns it.
        channels: Number of input channels.
        classes: Number of classes.
    """

    def __init__(self, definition: dict, channels: int, classes: int):
        self.channels = channels
        self.classes = classes
        self.network = tasks.BaseModel()
        with torch.device("meta"):
            rows = deepcopy(definition) | {"nc": classes}
            self.network.model, self.network.save = tasks.parse_model(rows, channels, False)
        self.network.train()

    def strides(self) -> tuple[int, ...]:
        """Return the stride in pixels of each level of the head, the finest level first."""
        size = 256
        levels = _branch(self._outputs(2, (size, size)))["feats"]
        return tuple(size // level.shape[-1] for level in levels)

    def parameters(self) -> int:
        """Return the number of parameters."""
        return sum(p.numel() for p in self.network.parameters())

    def training_memory(self, batch: int, size: tuple[int, int], objects: int) -> Memory:
        """Predict the memory that a training step takes at its peak.

        Args:
            batch: Number of images in a batch.
            size: Height and width in pixels; each is rounded up to a multiple of the largest stride.
            objects: Number of objects in the image of a batch that has the most.
        """
        step = max(self.strides())
        height, width = (-(-side // step) * step for side in size)
        with Tally() as tally, self._largest_convolution() as largest:
            outputs = self._outputs(batch, (height, width))
            kept = tally.live
            sum(leaf.sum() for leaf in tree_leaves(outputs) if leaf.requires_grad).backward()
        anchors = _branch(outputs)["boxes"].shape[-1]
        self.network.zero_grad(set_to_none=True)
        loss = self._loss_bytes(batch, anchors, objects)
        weights = COPIES * 4 * self.parameters()
        return Memory(weights, max(kept, tally.peak - 4 * self.parameters()), loss, 2 * max(largest, default=0))

    @contextlib.contextmanager
    def _largest_convolution(self) -> Iterator[list[int]]:
        """Yield a list that collects the bytes of input and output of every convolution run inside the context."""
        sizes: list[int] = []

        def note(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            sizes.append(inputs[0].nbytes + output.nbytes)

        hooks = [m.register_forward_hook(note) for m in self.network.modules() if isinstance(m, nn.Conv2d)]
        try:
            yield sizes
        finally:
            for hook in hooks:
                hook.remove()

    def _outputs(self, batch: int, size: tuple[int, int]) -> Any:
        return self.network(torch.empty(batch, self.channels, *size, device="meta"))

    def _loss_bytes(self, batch: int, anchors: int, objects: int) -> int:
        """Return the bytes that the loss takes, measured at a small size and scaled by the number of anchor points."""
        small = self._outputs(SMALL_BATCH, (SMALL_SIZE, SMALL_SIZE))
        cells = SMALL_BATCH * _branch(small)["boxes"].shape[-1]
        return round(self._measured_loss(small, objects) * batch * anchors / cells)

    def _measured_loss(self, outputs: Any, objects: int) -> int:
        """Return how many bytes the loss holds at its peak for outputs of these shapes."""
        generator = torch.Generator().manual_seed(0)

        def filled(leaf: torch.Tensor) -> torch.Tensor:
            return torch.rand(leaf.shape, generator=generator).requires_grad_(leaf.requires_grad)

        real = tree_map(filled, outputs)
        head = self.network.model[-1]
        strides = torch.tensor(self.strides(), dtype=torch.float32)
        facts = Namespace(stride=strides, nc=self.classes, reg_max=head.reg_max)
        model = Namespace(parameters=lambda: iter([torch.zeros(1)]), args=DEFAULT_CFG, model=[facts])
        criterion = (E2ELoss if "one2many" in real else v8DetectionLoss)(model)
        total = SMALL_BATCH * objects
        batch = {
            "cls": torch.zeros(total, 1),
            "bboxes": torch.rand(total, 4, generator=generator) * 0.2 + 0.3,
            "batch_idx": torch.arange(SMALL_BATCH).repeat_interleave(objects).float(),
        }
        with Tally() as tally:
            criterion(real, batch)[0].sum().backward()
        return tally.peak


class Tally(TorchDispatchMode):
    """Counts the bytes of all tensors that are created inside the context and still alive.

    Attributes:
        live: Bytes that are alive at present.
        peak: Largest value of ``live`` so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        self._known: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run an operation and count the storage of each tensor in its result."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()

        def forget(_: weakref.ref) -> None:
            del self._known[key]
            self.live -= size

        self._known[key] = weakref.ref(storage, forget)
        self.live += size
        self.peak = max(self.peak, self.live)


def _branch(outputs: Any) -> dict[str, Any]:
    """Return the outputs of a head's one-to-many branch, which every head has: boxes, scores and feats."""
    return outputs.get("one2many", outputs)
