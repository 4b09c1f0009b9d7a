"""Isolation for every test: folders of its own, no network, Ultralytics' settings of the user untouched."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path

import pytest

_HOME = Path(tempfile.mkdtemp(prefix="pixelkeep-tests-"))
os.environ.update(PIXELKEEP_HOME=str(_HOME / "home"), COLUMNS="80")

from pixelkeep.ultra.running import environment  # noqa: E402

environment.prepare()  # before any test imports Ultralytics


def pytest_unconfigure() -> None:
    """Leave nothing behind."""
    shutil.rmtree(_HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def home() -> Path:
    """The cache folder of this test session."""
    return _HOME / "home"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail any test that looks a host up."""

    def refuse(host: object, *_: object, **__: object) -> None:
        raise AssertionError(f"network access: {host}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
