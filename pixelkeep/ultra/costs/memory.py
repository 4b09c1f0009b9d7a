"""How much memory a training step will take, predicted without taking it.

The network runs forward and backward on torch's meta device, where tensors have shapes and no data, and every tensor
that is alive is counted. The loss works on values, so it runs for real, on random outputs at a small size, and what it
holds is scaled by the number of anchors.
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

COPIES = 5  # of the parameters: themselves, gradients, their average (EMA), and the two states of Adam
SMALL_BATCH, SMALL_SIZE = 2, 128  # at which the loss is run


@dataclass(frozen=True)
class Memory:
    """Bytes that a training step takes at its peak, in single precision.

    Attributes:
        weights: Parameters, gradients, optimizer and averaged weights.
        activations: What the forward pass keeps for the backward pass, and what both hold for a moment.
        loss: What assigning objects to anchors and the losses hold at once.
        workspace: What convolutions hold besides: copies of the largest one's input and output, and of their
            gradients, in the library's own layout.
    """

    weights: int
    activations: int
    loss: int
    workspace: int

    @property
    def total(self) -> int:
        return self.weights + self.activations + self.loss + self.workspace


class Probe:
    """A detection network on the meta device, asked for its strides and its needs.

    Args:
        definition: As :func:`pixelkeep.ultra.weights.definitions.check_model` returns it.
        channels: Input channels.
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
        """Return the stride in pixels of each level of the head, the finest first."""
        size = 256
        levels = _branch(self._outputs(2, (size, size)))["feats"]
        return tuple(size // level.shape[-1] for level in levels)

    def parameters(self) -> int:
        """Return the number of parameters."""
        return sum(p.numel() for p in self.network.parameters())

    def training_memory(self, batch: int, size: tuple[int, int], objects: int) -> Memory:
        """Predict what a training step takes at its peak.

        Args:
            batch: Images.
            size: Height and width in pixels; each is rounded up to a whole number of the coarsest cells.
            objects: Of the image of a batch that has the most.
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
        """Collect the bytes of input and output of every convolution that runs inside."""
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
        """Return what the loss takes at a small size, for as many objects, scaled by the anchors."""
        small = self._outputs(SMALL_BATCH, (SMALL_SIZE, SMALL_SIZE))
        cells = SMALL_BATCH * _branch(small)["boxes"].shape[-1]
        return round(self._measured_loss(small, objects) * batch * anchors / cells)

    def _measured_loss(self, outputs: Any, objects: int) -> int:
        """Return how many bytes the loss holds at once for outputs of this shape."""
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
    """Counts the bytes of all tensors made inside that are still alive.

    Attributes:
        live: Bytes now.
        peak: The most at any time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        self._known: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run an operation and count the storages of its results."""
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
    """Return a head's outputs for the loss that all heads have: boxes, scores and feats."""
    return outputs.get("one2many", outputs)
