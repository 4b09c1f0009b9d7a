"""Parallel processes: all are run, share the cores, end in time, and end with the process that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pixelkeep.experiments import side_by_side as module
from pixelkeep.experiments.deadline import Deadline
from pixelkeep.experiments.side_by_side import shares, side_by_side

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import os, sys, time
from pathlib import Path
job = sys.argv[sys.argv.index("--job") + 1]
Path(sys.argv[1], job).write_text(os.environ["OMP_NUM_THREADS"] + " " + str(os.getpid()))
print("job", job)
try:
    time.sleep(float(sys.argv[2]))
except KeyboardInterrupt:
    Path(sys.argv[1], job + ".ended").touch()
    sys.exit(130)
"""


@pytest.fixture
def script(tmp_path) -> list[str]:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "out").mkdir()
    return [str(tmp_path / "script.py"), str(tmp_path / "out")]


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(module, "POLL", 0.02)
    monkeypatch.setattr(module, "GRACE", 0.0)


def test_run__all_jobs_with_their_share_of_the_cores(script, tmp_path, monkeypatch):
    """Each process gets its number and its threads, writes to a log file of its own, and is waited for."""
    monkeypatch.setattr(module, "cpu_count", lambda: 8)
    looks = []
    ended = side_by_side([*script, "0"], 3, Deadline(None), tmp_path / "logs", gpu=False, watch=lambda: looks.append(1))
    assert ended == [0, 0, 0] and looks
    threads = [(tmp_path / "out" / str(job)).read_text().split()[0] for job in range(3)]
    assert threads == ["2"] * 3
    assert [(tmp_path / "logs" / f"job{job}.log").read_text() for job in range(3)] == ["job 0\n", "job 1\n", "job 2\n"]


def test_run__what_is_still_there_is_interrupted(script, tmp_path, monkeypatch):
    """When the time is over, processes get the signal that Ctrl-C sends."""
    began = []

    def watch() -> None:
        began.extend((tmp_path / "out").glob("[01]"))
        if len(set(began)) == 2:
            until._end = 0.0

    until = Deadline(600)
    assert side_by_side([*script, "600"], 2, until, tmp_path / "logs", gpu=False, watch=watch) == [130, 130]
    assert len(list((tmp_path / "out").glob("*.ended"))) == 2


def test_run__what_does_not_end_is_killed(tmp_path, monkeypatch):
    """A process that ignores the interrupt is killed."""
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('deaf', flush=True)"
    deaf += "; time.sleep(600)"
    (tmp_path / "deaf.py").write_text(deaf)
    until = Deadline(600)

    def watch() -> None:
        if "deaf" in (tmp_path / "logs" / "job0.log").read_text():
            until._end = 0.0

    ended = side_by_side([str(tmp_path / "deaf.py")], 1, until, tmp_path / "logs", gpu=False, watch=watch)
    assert ended == [-signal.SIGKILL]


def test_orphans__end_by_themselves(tmp_path):
    """A process whose parent has been killed interrupts itself."""
    child = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import time\n"
        "from pixelkeep.experiments.side_by_side import end_with_parent\n"
        "end_with_parent(); print('ready', flush=True)\n"
        "try:\n    time.sleep(600)\nexcept KeyboardInterrupt:\n"
        f"    open({str(tmp_path / 'ended')!r}, 'w').close()\n"
    )
    parent = (
        "import os, subprocess, sys, time\n"
        f"there = dict(os.environ, {module.PARENT}=str(os.getpid()))\n"
        "subprocess.Popen([sys.executable, '-c', sys.argv[1]], env=there, start_new_session=True)\ntime.sleep(600)\n"
    )
    command = [sys.executable, "-c", parent, child]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as started:
        assert started.stdout.readline() == "ready\n"
        started.kill()
    for _ in range(600):
        if (tmp_path / "ended").exists():
            return
        time.sleep(0.05)
    pytest.fail("the orphan goes on")


@pytest.mark.parametrize(
    ("jobs", "cores", "gpu", "expected"),
    [
        (1, 2, False, (2, 1)),
        (2, 2, False, (1, 0)),
        (4, 2, False, (1, 0)),
        (6, 16, True, (1, 2)),
        (1, 16, True, (1, 16)),
    ],
)
def test_shares__of_threads_and_loaders(jobs, cores, gpu, expected):
    """On a CPU the cores go to the networks, on a GPU to the data loaders; each process has at least one thread."""
    assert shares(jobs, cores, gpu) == expected
