"""Runs several processes of one command, each with its share of the cores, and ends them together in time.

The processes share the trainings by locks on the cells. Each stops by itself after an epoch when the time is over. One
that still runs some time later is interrupted and loses its current epoch.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pixelkeep.experiments.deadline import Deadline
from pixelkeep.ultra.running.environment import cpu_count

GRACE = 45.0  # seconds after the deadline that an epoch may still take
PATIENCE = 20.0  # seconds that an interrupted process has before it is killed
POLL = 0.5  # seconds between checks of the processes
PARENT = "PIXELKEEP_PARENT"


def shares(jobs: int, cores: int, gpu: bool) -> tuple[int, int]:
    """Return the numbers of compute threads and of data-loader processes that each job gets.

    With a GPU, the cores load images; without one, the network needs them.

    >>> shares(2, 2, gpu=False), shares(6, 16, gpu=True), shares(1, 16, gpu=False)
    ((1, 0), (1, 2), (16, 2))
    """
    each = max(1, cores // jobs)
    return (1, each) if gpu else (each, min(2, each - 1))


def side_by_side(
    command: list[str],
    jobs: int,
    until: Deadline,
    logs: Path,
    *,
    gpu: bool,
    watch: Callable[[], None] = lambda: None,
) -> list[int]:
    """Run a command in several processes at once, and return their exit statuses.

    Args:
        command: Arguments to the Python interpreter for each process; ``--job K`` is added.
        jobs: Number of processes.
        until: Deadline at which all should have ended.
        logs: Folder for the output of the processes, one file each.
        gpu: Whether the processes compute on a GPU.
        watch: Called repeatedly while processes run.

    Raises:
        KeyboardInterrupt: The user has stopped the run; all processes have ended by then.
    """
    logs.mkdir(parents=True, exist_ok=True)
    threads, _ = shares(jobs, cpu_count(), gpu)
    there = dict(os.environ) | {"OMP_NUM_THREADS": str(threads), PARENT: str(os.getpid()), "PYTHONUNBUFFERED": "1"}
    running: list[subprocess.Popen] = []
    with contextlib.ExitStack() as files:
        for job in range(jobs):
            log = files.enter_context((logs / f"job{job}.log").open("a", encoding="utf-8"))
            words = [sys.executable, *command, "--job", str(job)]
            own = {"start_new_session": True, "preexec_fn": _interruptible}
            running.append(subprocess.Popen(words, stdout=log, stderr=log, env=there, **own))
        try:
            while any(process.poll() is None for process in running) and (not until.passed or until.over < GRACE):
                time.sleep(POLL)
                watch()
        finally:
            _end(running)
    return [process.wait() for process in running]


def _interruptible() -> None:
    """Restore the default handling of SIGINT: processes in a shell's background, and their children, ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _end(running: list[subprocess.Popen]) -> None:
    """Interrupt the processes that still run, and kill those that do not end in time."""
    alive = [process for process in running if process.poll() is None]
    for process in alive:
        process.send_signal(signal.SIGINT)
    end = time.monotonic() + PATIENCE
    for process in alive:
        try:
            process.wait(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # the whole group, with its data loaders


def end_with_parent() -> None:
    """Have this process interrupt itself when its parent is gone, perhaps killed, and can no longer end it."""
    parent = int(os.environ.get(PARENT, 0))

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGINT)

    if parent:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # see _interruptible
        threading.Thread(target=watch, daemon=True).start()
