"""Training by several processes: one for each GPU, on one machine or on several, or on CPUs.

They start in one of two ways. ``--device 0,1`` lets Ultralytics start them: it pickles the trainer's class, settings
and callbacks, and each process builds its trainer from these alone, so :class:`Carried` travels among the callbacks
with what else is needed. ``torchrun ... -m pixelkeep train`` starts whole commands: they agree on one run folder here,
and only the first goes on once training is over.
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

EVENT = "on_pretrain_routine_start"  # where Carried is kept; nothing depends on when it is called
TIMEOUT = timedelta(hours=3)  # Ultralytics' own: others wait while the first caches images or validates
_Value = TypeVar("_Value")


class Carried:
    """What the processes that Ultralytics starts would lose, as a callback that does nothing.

    Unpickling it registers the user's blocks and shortens the output, before any model is built.

    Args:
        recipe: The training settings that are ours.
        limit: Detections kept per image in validation; None for what the validation set needs.
        rectangle: Height and width that images are fitted into; None for a square.
    """

    def __init__(self, recipe: Recipe, limit: int | None, rectangle: list[int] | None):
        self.recipe = recipe
        self.limit = limit
        self.rectangle = rectangle

    def __call__(self, trainer: Any) -> None:
        """Do nothing: the trainer looks for it among its callbacks."""

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
    """Put what is given among the callbacks, completed from what has been carried so far, and return it."""
    listed = callbacks.get(EVENT, [])
    former = next((c for c in listed if isinstance(c, Carried)), Carried(Recipe(), None, None))
    carried = Carried(recipe or former.recipe, former.limit if limit is None else limit, rectangle or former.rectangle)
    callbacks[EVENT] = [c for c in listed if not isinstance(c, Carried)] + [carried]
    return carried


@contextlib.contextmanager
def launching() -> Iterator[None]:
    """Let processes started inside write to standard error where this one's prints go there as well."""
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
    """Return this process's number among all that train together; -1 if it is the only one."""
    return utils.RANK


def world_size() -> int:
    """Return how many processes train together, on all machines."""
    return utils.WORLD_SIZE if rank() != -1 else 1


def join(settings: dict) -> Any:
    """Meet the other processes that torchrun started; alone, only check that the settings suit several GPUs.

    Returns:
        The setting ``device``, completed to what the processes of this machine use.

    Raises:
        OptionError: The batch cannot be shared, or there is not one device for each process.
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
    """Return the devices of this machine's processes, one for each, in Ultralytics' form."""
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
    """Join the process group, unless that has been done, and return this process's own device.

    Args:
        device: ``cpu``, the GPUs of this machine's processes, or None for the first ones.

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
    """Leave the process group, if there is one; not for a process that fails, which must not wait for the others."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def leave() -> None:
    """End every process but the first, which then goes on as if it were alone."""
    disband()
    if rank() > 0:
        sys.exit(0)
    for name, module in list(sys.modules.items()):  # Ultralytics reads the rank once, and modules hold it by name
        if name.split(".")[0] == "ultralytics":
            vars(module).update({key: -1 for key in ("RANK", "LOCAL_RANK") if key in vars(module)})


def in_turn(call: Callable[[], _Value]) -> _Value:
    """Call it in every process: in the first, then in one of each other machine, then in the rest.

    So what it writes into a cache is written once, shared cache or not.

    Raises:
        PixelkeepError: The call's own. The processes in which it went well end quietly then, with the same status.
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
    """Call it in the first process alone, and return its value in all of them.

    Raises:
        PixelkeepError: The call's own, in the first process; the others end quietly then, with the same status.
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
    """Return the context in the first process, and one without effect in the others."""
    return contextlib.nullcontext() if rank() > 0 else context


def _attempt(call: Callable[[], _Value]) -> _Value | PixelkeepError:
    try:
        return call()
    except PixelkeepError as error:
        return error


def _fail(outcome: object) -> NoReturn:
    """End this process: with its own error, or quietly where another process tells it."""
    disband()  # every process is here; one that ends as a member of the group may be aborted by its threads
    if isinstance(outcome, PixelkeepError):
        raise outcome
    sys.exit(2)


def merged(part: dict) -> dict:
    """Return the first process's mapping joined with that of every other; elsewhere, its own."""
    if not distributed.is_initialized():
        return part
    parts = [None] * distributed.get_world_size() if rank() == 0 else None
    distributed.gather_object(part, parts, dst=0)
    return {key: value for each in parts for key, value in each.items()} if parts else part


class _CpuParallel(nn.parallel.DistributedDataParallel):
    """DistributedDataParallel without the device numbers, which Ultralytics gives and torch refuses on a CPU."""

    def __init__(self, module: nn.Module, device_ids: list | None = None, **keywords: Any):
        super().__init__(module, **keywords)


@contextlib.contextmanager
def parallel_on(device: torch.device) -> Iterator[None]:
    """Let Ultralytics make a model parallel on this device inside."""
    original = nn.parallel.DistributedDataParallel
    if device.type == "cpu":
        nn.parallel.DistributedDataParallel = _CpuParallel
    try:
        yield
    finally:
        nn.parallel.DistributedDataParallel = original
