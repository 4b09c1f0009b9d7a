"""Training by several processes: one for each GPU, on one machine or on several, or on CPUs.

The processes start in one of two ways. With ``--device 0,1`` Ultralytics starts them: it pickles the trainer's class,
settings and callbacks, and each process builds its trainer from these alone. Whatever else they need travels in
:class:`Carried`, one of the callbacks. ``torchrun ... -m pixelkeep train`` starts the whole command in every process:
the processes agree on one run folder here, and only the first goes on once training is over.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import torch
from torch import distributed, nn
from ultralytics import utils

from pixelkeep.errors import OptionError, PixelkeepError
from pixelkeep.ultra.network.registry import REGISTRY, adopt
from pixelkeep.ultra.running import console
from pixelkeep.ultra.running.recipe import Recipe

EVENT = "on_pretrain_routine_start"  # the event under which Carried is kept; when it is called does not matter
TIMEOUT = timedelta(hours=3)  # as in Ultralytics: the others wait while the first process caches images or validates
_Value = TypeVar("_Value")


class Carried:
    """A callback that does nothing, but carries what the processes that Ultralytics starts would otherwise lose.

    Unpickling it registers the user's blocks and shortens the output, before any model is built.

    Args:
        recipe: Pixelkeep's own training settings.
        limit: Detections kept per image in validation; None for as many as the validation set needs.
        rectangle: Height and width in pixels that images are fitted into; None for a square.
    """

    def __init__(self, recipe: Recipe, limit: int | None, rectangle: list[int] | None):
        self.recipe = recipe
        self.limit = limit
        self.rectangle = rectangle

    def __call__(self, trainer: Any) -> None:
        """Do nothing: the trainer only looks for this object among its callbacks."""

    def __getstate__(self) -> dict:
        own = {"recipe": self.recipe, "limit": self.limit, "rectangle": self.rectangle}
        return {"own": own, "blocks": dict(REGISTRY), "console": console.taken()}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state["own"])
        for name, spec in state["blocks"].items():
            adopt(name, spec)
        for step in state["console"]:
            step()


def carry(callbacks: dict, recipe: Recipe | None, limit: int | None, rectangle: list[int] | None) -> Carried:
    """Put a `Carried` among the callbacks and return it; what is None is taken from the one that was there."""
    listed = callbacks.get(EVENT, [])
    former = next((c for c in listed if isinstance(c, Carried)), Carried(Recipe(), None, None))
    carried = Carried(recipe or former.recipe, former.limit if limit is None else limit, rectangle or former.rectangle)
    callbacks[EVENT] = [c for c in listed if not isinstance(c, Carried)] + [carried]
    return carried


@contextlib.contextmanager
def launching() -> Iterator[None]:
    """Send the output of processes started inside to standard error, if this process prints there as well."""
    if sys.stdout is not sys.stderr:
        yield
        return
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


def rank() -> int:
    """Return this process's rank among all processes that train together; -1 if it is the only one."""
    return utils.RANK


def world_size() -> int:
    """Return how many processes train together, on all machines."""
    return utils.WORLD_SIZE if rank() != -1 else 1


def join(settings: dict) -> Any:
    """Join the other processes that torchrun started; in a single process, only check the batch against the devices.

    Args:
        settings: Settings of the training.

    Returns:
        The setting ``device``, completed to the devices that the processes of this machine use.

    Raises:
        OptionError: The batch cannot be shared equally, or there is not one device for each process.
    """
    if rank() == -1:
        device = settings.get("device")
        _check_batch(settings, len(str(device).split(",")))
        return device
    device = _devices(settings.get("device"))
    _check_batch(settings, world_size())
    start(device)
    return device


def _check_batch(settings: dict, processes: int) -> None:
    batch = settings.get("batch", 16)
    if processes > 1 and (batch < processes or batch % processes):
        fitting = max((batch if batch > 0 else 16) // processes, 1) * processes
        raise OptionError(
            f"batch: {batch} cannot be shared by {processes} processes; give a multiple, such as {fitting}"
        )


def _devices(device: Any) -> str:
    """Return the devices of this machine's processes, one for each process, in Ultralytics' form."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if str(device) == "cpu" or not torch.cuda.is_available():
        return "cpu"
    named = utils.torch_utils.parse_device(device or ",".join(map(str, range(local))))
    gpus = [n for n in named.split(",") if n.isdecimal() and int(n) < torch.cuda.device_count()]
    if len(gpus) != local:
        raise OptionError(
            f"device: '{device or named}' is {len(gpus)} of this machine's {torch.cuda.device_count()} GPUs, but "
            f"torchrun started {local} processes; give one GPU for each, or change --nproc-per-node"
        )
    return named


def start(device: Any) -> torch.device:
    """Join the process group, unless this process has already joined it, and return this process's own device.

    Args:
        device: ``cpu``, the GPUs of this machine's processes, or None for the first GPUs.

    Raises:
        OptionError: There is not one GPU for each process.
    """
    place = torch.device("cpu")
    if (named := _devices(device)) != "cpu":
        place = torch.device("cuda", int(named.split(",")[utils.LOCAL_RANK]))
        torch.cuda.set_device(place)
        os.environ["TORCH_NCCL_BLOCKING_WAIT"] = "1"  # as in Ultralytics: enforces the timeout
    if not distributed.is_initialized():
        backend = "nccl" if place.type == "cuda" and distributed.is_nccl_available() else "gloo"
        distributed.init_process_group(backend, timeout=TIMEOUT)
    return place


def disband() -> None:
    """Leave the process group, if there is one.

    A process that fails on its own must not call this, since it would wait for the others.
    """
    if distributed.is_initialized():
        distributed.destroy_process_group()


def leave() -> None:
    """End every process but the first, which goes on as if it were the only one."""
    disband()
    if rank() > 0:
        sys.exit(0)
    for name, module in list(sys.modules.items()):  # Ultralytics reads the rank once, and its modules hold copies of it
        if name.split(".")[0] == "ultralytics":
            vars(module).update({key: -1 for key in ("RANK", "LOCAL_RANK") if key in vars(module)})


def in_turn(call: Callable[[], _Value]) -> _Value:
    """Run ``call`` in every process: in the first, then in one process of each other machine, then in the rest.

    So whatever it writes into a cache is written once, whether or not the machines share the cache.

    Raises:
        PixelkeepError: The error of the call. The processes in which it succeeded then exit quietly, with the same
            status.
    """
    if rank() == -1:
        return call()
    own = 0 if rank() == 0 else 1 if utils.LOCAL_RANK == 0 else 2
    outcome = None
    for turn in range(3):
        if turn == own:
            outcome = _attempt(call)
        failed = [False] * world_size()
        distributed.all_gather_object(failed, isinstance(outcome, PixelkeepError))
        if any(failed):
            _fail(outcome)
    return outcome


def by_first(call: Callable[[], _Value]) -> _Value:
    """Run ``call`` in the first process only, and return its value in all processes.

    Raises:
        PixelkeepError: The error of the call, in the first process. The others then exit quietly, with the same status.
    """
    if rank() == -1:
        return call()
    outcome = _attempt(call) if rank() == 0 else None
    shared = [outcome]
    distributed.broadcast_object_list(shared, src=0)
    if isinstance(shared[0], PixelkeepError):
        _fail(outcome)
    return shared[0]


def for_first(context: contextlib.AbstractContextManager) -> contextlib.AbstractContextManager:
    """Return the given context in the first process, and a context without effect in the others."""
    return contextlib.nullcontext() if rank() > 0 else context


def _attempt(call: Callable[[], _Value]) -> _Value | PixelkeepError:
    try:
        return call()
    except PixelkeepError as error:
        return error


def _fail(outcome: object) -> NoReturn:
    """End this process: raise its own error, or exit quietly if another process reports the error."""
    disband()  # all processes get here; one that exits as a member of the group may be aborted by its own threads
    if isinstance(outcome, PixelkeepError):
        raise outcome
    sys.exit(2)


def merged(part: dict) -> dict:
    """Return, in the first process, the mappings of all processes merged; in the others, their own mapping."""
    if not distributed.is_initialized():
        return part
    parts = [None] * distributed.get_world_size() if rank() == 0 else None
    distributed.gather_object(part, parts, dst=0)
    return {key: value for each in parts for key, value in each.items()} if parts else part


class _CpuParallel(nn.parallel.DistributedDataParallel):
    """DistributedDataParallel that ignores device numbers, which Ultralytics passes and torch refuses on a CPU."""

    def __init__(self, module: nn.Module, device_ids: list | None = None, **keywords: Any):
        super().__init__(module, **keywords)


@contextlib.contextmanager
def parallel_on(device: torch.device) -> Iterator[None]:
    """Let Ultralytics wrap a model in DistributedDataParallel on this device, inside the context."""
    original = nn.parallel.DistributedDataParallel
    if device.type == "cpu":
        nn.parallel.DistributedDataParallel = _CpuParallel
    try:
        yield
    finally:
        nn.parallel.DistributedDataParallel = original
