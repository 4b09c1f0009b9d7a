"""Several processes of one command, each with its share of the cores, ended together in time.

They share the trainings by the locks that the grid takes. Each stops by itself when the time is over, after an epoch;
one that is still there some time later is interrupted, which costs it the epoch it is in.
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

GRACE = 45.0  # seconds after the end that an epoch may still take
PATIENCE = 20.0  # seconds that an interrupted process has before it is killed
POLL = 0.5  # seconds between looks at them
PARENT = "PIXELKEEP_PARENT"


def shares(jobs: int, cores: int, gpu: bool) -> tuple[int, int]:
    """Return how many threads and how many processes that load images each job has.

    On a GPU images are what cores are for; without one they are wanted for the network.

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
    """Run a command several times at once, and return how the processes ended.

    Args:
        command: What each runs; ``--job K`` is added.
        jobs: How many.
        until: When all should have ended.
        logs: Folder for what they say, one file each.
        gpu: Whether they compute on a GPU.
        watch: Called now and then.

    Raises:
        KeyboardInterrupt: The user has stopped it; all have ended then.
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
    """Hear SIGINT again, which processes that a shell starts in the background ignore, and those that they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _end(running: list[subprocess.Popen]) -> None:
    """Interrupt what is still there, and kill what does not end."""
    alive = [process for process in running if process.poll() is None]
    for process in alive:
        process.send_signal(signal.SIGINT)
    end = time.monotonic() + PATIENCE
    for process in alive:
        try:
            process.wait(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with those that load images for it


def end_with_parent() -> None:
    """Interrupt this process when the one that started it is gone, killed perhaps, and cannot end it any more."""
    parent = int(os.environ.get(PARENT, 0))

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGINT)

    if parent:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # see _interruptible
        threading.Thread(target=watch, daemon=True).start()
