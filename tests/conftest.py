"""Isolation of every test: its own folders, no network, and the user's Ultralytics settings untouched."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_HOME = Path(tempfile.mkdtemp(prefix="pixelkeep-tests-"))
os.environ.update(PIXELKEEP_HOME=str(_HOME / "home"), COLUMNS="80")

from pixelkeep.ultra.running import environment  # noqa: E402
from pixelkeep.ultra.running.signal_stack import signal_stack  # noqa: E402

environment.prepare()  # before any test imports Ultralytics


def pytest_unconfigure() -> None:
    """Remove the temporary folder of this test session."""
    shutil.rmtree(_HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def home() -> Path:
    """The cache folder of this test session."""
    return _HOME / "home"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail any test that resolves a host name."""

    def refuse(host: object, *_: object, **__: object) -> None:
        raise AssertionError(f"network access: {host}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(autouse=True)
def same_signal_stack() -> Iterator[None]:
    """Fail any test that leaves another signal stack installed, which may be gone when the next signal arrives."""
    before = signal_stack().sp if sys.platform.startswith("linux") else None
    yield
    assert before is None or signal_stack().sp == before
